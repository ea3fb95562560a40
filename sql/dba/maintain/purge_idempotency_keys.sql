-- Deletes the Idempotency-Keys that are older than some hours, and nothing that was made with them.
--
-- Usage:     psql -X "$DATABASE_URL" -f purge_idempotency_keys.sql               counts what it would delete
--            psql -X "$DATABASE_URL" -v apply=1 -f purge_idempotency_keys.sql    deletes
-- Variables: apply  1 to delete (default 0)
--            hours  age from which a key is deleted (default 24)
--            batch  keys deleted in one transaction (default 1000)
-- Role:      maintenance
-- Safety:    writes; locks only old keys, one batch at a time. Safe while serving, may be stopped and run
--            again. The service does this by itself, unless MAI_SESSIONS_EXPIRY is off. A retry after its key
--            is deleted writes again.

\set ON_ERROR_STOP on
\set variables 'apply hours batch'
\if :{?hours} \else \set hours 24 \endif
\if :{?batch} \else \set batch 1000 \endif
\ir ../prepare.psql

SELECT count(*) AS keys,
       count(*) FILTER (WHERE created_at < now() - make_interval(hours => :hours)) AS old_keys
  FROM idempotency_keys;

\if :apply
SELECT set_config('mai_sessions.hours', :'hours', false) AS hours,
       set_config('mai_sessions.batch', :'batch', false) AS batch
\gset

DO $$
DECLARE
    batch   integer     := current_setting('mai_sessions.batch')::int;
    expired timestamptz := now() - make_interval(hours => current_setting('mai_sessions.hours')::int);
    newest  timestamptz;
    deleted bigint;
    total   bigint      := 0;
BEGIN
    LOOP
        -- The newest key of this batch. Keys of the same time are deleted with it.
        SELECT k.created_at
          INTO newest
          FROM (SELECT created_at
                  FROM idempotency_keys
                 WHERE created_at < expired
                 ORDER BY created_at
                 LIMIT batch) AS k
         ORDER BY k.created_at DESC
         LIMIT 1;
        EXIT WHEN newest IS NULL;
        DELETE FROM idempotency_keys WHERE created_at <= newest;
        GET DIAGNOSTICS deleted = ROW_COUNT;
        COMMIT;
        total := total + deleted;
    END LOOP;
    PERFORM set_config('mai_sessions.result', total::text, false);
END
$$;

SELECT current_setting('mai_sessions.result')::bigint AS keys_deleted;
\else
\echo 'Nothing was deleted. To delete the old keys: -v apply=1'
\endif
