-- Forgets the Idempotency-Keys that are older than some hours; what was made under them stays.
--
-- Usage:     psql -X "$DATABASE_URL" -f purge_idempotency_keys.sql                     counts what would go
--            psql -X "$DATABASE_URL" -v apply=1 -f purge_idempotency_keys.sql          forgets
-- Variables: apply  1 to delete (default 0)
--            hours  age from which a key is forgotten (default 24)
--            batch  keys looked at in one transaction (default 10000)
-- Role:      maintenance
-- Safety:    writes; row locks on old keys only, released after each batch. Safe while serving, may be stopped and run again.
--            A retry that comes after its key is forgotten does its work anew.

\set ON_ERROR_STOP on
\set variables 'apply hours batch'
\if :{?hours} \else \set hours 24 \endif
\if :{?batch} \else \set batch 10000 \endif
\ir ../prepare.psql

SELECT count(*) AS keys, count(*) FILTER (WHERE created_at < now() - make_interval(hours => :hours)) AS old_keys
  FROM idempotency_keys;

\if :apply
SELECT set_config('mai_sessions.hours', :'hours', false) AS hours, set_config('mai_sessions.batch', :'batch', false) AS batch \gset

DO $$
DECLARE
    last_key  idempotency_keys;
    until     timestamptz := now() - make_interval(hours => current_setting('mai_sessions.hours')::int);
    batch     integer     := current_setting('mai_sessions.batch')::int;
    forgotten bigint      := 0;
    deleted   bigint;
    next_key  idempotency_keys;
BEGIN
    last_key.user_id := '';
    last_key.path    := '';
    last_key.key     := '';
    LOOP
        -- The key that ends this batch; none: the batch is the last one.
        SELECT * INTO next_key
          FROM idempotency_keys
         WHERE (user_id, path, key) > (last_key.user_id, last_key.path, last_key.key)
         ORDER BY user_id, path, key
        OFFSET batch - 1 LIMIT 1;
        DELETE FROM idempotency_keys
         WHERE (user_id, path, key) > (last_key.user_id, last_key.path, last_key.key)
           AND (next_key.user_id IS NULL OR (user_id, path, key) <= (next_key.user_id, next_key.path, next_key.key))
           AND created_at < until;
        GET DIAGNOSTICS deleted = ROW_COUNT;
        forgotten := forgotten + deleted;
        COMMIT;
        EXIT WHEN next_key.user_id IS NULL;
        last_key := next_key;
    END LOOP;
    PERFORM set_config('mai_sessions.result', forgotten::text, false);
END
$$;

SELECT current_setting('mai_sessions.result')::bigint AS keys_deleted;
\else
\echo 'Nothing was deleted. To forget the old keys: -v apply=1'
\endif
