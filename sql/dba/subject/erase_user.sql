-- Erases all rows of one user, and prints a receipt with the number of rows.
--
-- Usage:     psql -X "$DATABASE_URL" -v user_id=ann -f erase_user.sql             counts what it would erase
--            psql -X "$DATABASE_URL" -v user_id=ann -v apply=1 -f erase_user.sql  erases
-- Variables: user_id  the user to erase (no default)
--            apply    1 to erase (default 0)
--            batch    sessions erased in one transaction (default 100)
-- Role:      maintenance
-- Safety:    writes; locks only the user's rows, one batch at a time. Safe while serving, may be stopped and
--            run again; a receipt counts its own run. Stop the user from writing first, or new sessions may
--            appear. Backups, the WAL and pages not yet vacuumed still hold the data.

\set ON_ERROR_STOP on
\set variables 'user_id! apply batch'
\if :{?batch} \else \set batch 100 \endif
\ir ../prepare.psql
\set required_user :user_id
\ir ../require_user.psql

\if :apply
SELECT set_config('mai_sessions.user_id', :'user_id', false) AS user_id,
       set_config('mai_sessions.batch', :'batch', false) AS batch
\gset

DO $$
DECLARE
    erased   text    := current_setting('mai_sessions.user_id');
    batch    integer := current_setting('mai_sessions.batch')::int;
    ids      uuid[];
    counted  bigint;
    sessions bigint  := 0;
    titles   bigint  := 0;
    messages bigint  := 0;
    sums     bigint  := 0;
    images   bigint  := 0;
    keys     bigint  := 0;
    users    bigint  := 0;
BEGIN
    LOOP
        ids := ARRAY(SELECT s.id
                       FROM sessions AS s
                      WHERE s.user_id = erased
                      ORDER BY s.id
                      LIMIT batch FOR UPDATE);
        IF ids = '{}' THEN
            -- Lock in the order in which a creation locks: its key, the count of the user.
            DELETE FROM idempotency_keys AS k WHERE k.user_id = erased;
            GET DIAGNOSTICS counted = ROW_COUNT;
            keys := keys + counted;
            -- A new session needs a lock of this row, so none can appear after the check below.
            PERFORM FROM users AS u WHERE u.user_id = erased FOR UPDATE;
            EXIT WHEN NOT EXISTS (SELECT FROM sessions AS s WHERE s.user_id = erased);
            COMMIT;
            CONTINUE;
        END IF;
        DELETE FROM messages AS m WHERE m.user_id = erased AND m.session_id = ANY (ids);
        GET DIAGNOSTICS counted = ROW_COUNT;
        messages := messages + counted;
        DELETE FROM daily_usage AS d WHERE d.user_id = erased AND d.session_id = ANY (ids);
        GET DIAGNOSTICS counted = ROW_COUNT;
        sums := sums + counted;
        DELETE FROM session_titles AS t WHERE t.user_id = erased AND t.session_id = ANY (ids);
        GET DIAGNOSTICS counted = ROW_COUNT;
        titles := titles + counted;
        UPDATE users AS u
           SET session_count  = u.session_count - cardinality(ids),
               archived_count = u.archived_count - deleted.archived
          FROM (SELECT count(*) FILTER (WHERE s.archived) AS archived
                  FROM sessions AS s WHERE s.user_id = erased AND s.id = ANY (ids)) AS deleted
         WHERE u.user_id = erased;
        DELETE FROM sessions AS s WHERE s.user_id = erased AND s.id = ANY (ids);
        COMMIT;
        sessions := sessions + cardinality(ids);
    END LOOP;

    DELETE FROM attachments AS a WHERE a.user_id = erased;
    GET DIAGNOSTICS images = ROW_COUNT;
    DELETE FROM idempotency_keys AS k WHERE k.user_id = erased;
    GET DIAGNOSTICS counted = ROW_COUNT;
    keys := keys + counted;
    DELETE FROM users AS u WHERE u.user_id = erased;
    GET DIAGNOSTICS users = ROW_COUNT;

    PERFORM set_config('mai_sessions.receipt', json_build_object(
        'users', users, 'sessions', sessions, 'session_titles', titles, 'messages', messages,
        'daily_usage', sums, 'attachments', images, 'idempotency_keys', keys)::text, false);
END
$$;

SELECT :'user_id' AS user_id, now() AS erased_at, r.users, r.sessions, r.session_titles, r.messages,
       r.daily_usage, r.attachments, r.idempotency_keys
  FROM json_to_record(current_setting('mai_sessions.receipt')::json)
       AS r (users bigint, sessions bigint, session_titles bigint, messages bigint, daily_usage bigint,
             attachments bigint, idempotency_keys bigint);
\else
SELECT :'user_id' AS user_id,
       (SELECT count(*) FROM users            WHERE user_id = :'user_id') AS users,
       (SELECT count(*) FROM sessions         WHERE user_id = :'user_id') AS sessions,
       (SELECT count(*) FROM session_titles   WHERE user_id = :'user_id') AS session_titles,
       (SELECT count(*) FROM messages         WHERE user_id = :'user_id') AS messages,
       (SELECT count(*) FROM daily_usage      WHERE user_id = :'user_id') AS daily_usage,
       (SELECT count(*) FROM attachments      WHERE user_id = :'user_id') AS attachments,
       (SELECT count(*) FROM idempotency_keys WHERE user_id = :'user_id') AS idempotency_keys;
\echo 'Nothing was erased. To erase everything: -v apply=1'
\endif
