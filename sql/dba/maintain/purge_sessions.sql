-- Deletes sessions that were not written to for some days, with their messages and attachments.
--
-- Usage:     psql -X "$DATABASE_URL" -v days=365 -f purge_sessions.sql            counts what it would delete
--            psql -X "$DATABASE_URL" -v days=365 -v apply=1 -f purge_sessions.sql deletes
-- Variables: days     age of updated_at from which a session is deleted (no default)
--            apply    1 to delete (default 0)
--            user_id  only this user's rows (default: all users)
--            batch    sessions of one user deleted in one transaction (default 100)
-- Role:      maintenance
-- Safety:    writes; locks the sessions of a batch and their attachments, one batch at a time. Safe while
--            serving, may be stopped and run again. Deletion is final: subject/export_user.sql writes a copy
--            first.

\set ON_ERROR_STOP on
\set variables 'days! apply user_id batch'
\if :{?batch} \else \set batch 100 \endif
\ir ../prepare.psql

SELECT count(*) AS sessions, coalesce(sum(message_count), 0) AS messages
  FROM sessions
 WHERE updated_at < now() - make_interval(days => :days) AND (:'user_id' = '' OR user_id = :'user_id');

\if :apply
SELECT set_config('mai_sessions.days', :'days', false) AS days,
       set_config('mai_sessions.user_id', :'user_id', false) AS user_id,
       set_config('mai_sessions.batch', :'batch', false) AS batch
\gset

DO $$
DECLARE
    until     timestamptz := now() - make_interval(days => current_setting('mai_sessions.days')::int);
    only_user text        := current_setting('mai_sessions.user_id');
    batch     integer     := current_setting('mai_sessions.batch')::int;
    owner     text        := only_user;
    total     bigint      := 0;
    ids       uuid[];
BEGIN
    LOOP
        IF only_user = '' THEN
            SELECT min(user_id) INTO owner FROM sessions WHERE user_id > owner;
            EXIT WHEN owner IS NULL;
        END IF;
        LOOP
            -- Lock in the order in which the service locks: sessions, the count of the user, attachments.
            ids := ARRAY(SELECT id FROM sessions
                          WHERE user_id = owner AND updated_at < until
                            AND id = ANY (ARRAY(SELECT id FROM sessions
                                                 WHERE user_id = owner AND updated_at < until
                                                 ORDER BY updated_at, id
                                                 LIMIT batch))
                          ORDER BY id FOR UPDATE);
            EXIT WHEN ids = '{}';
            UPDATE users AS u
               SET session_count  = u.session_count - cardinality(ids),
                   archived_count = u.archived_count - deleted.archived
              FROM (SELECT count(*) FILTER (WHERE s.archived) AS archived
                      FROM sessions AS s WHERE s.user_id = owner AND s.id = ANY (ids)) AS deleted
             WHERE u.user_id = owner;
            PERFORM FROM attachments AS a
              WHERE a.user_id = owner
                AND a.sha256 IN (SELECT unnest(m.images || m.part_attachments) FROM messages AS m
                                  WHERE m.user_id = owner AND m.session_id = ANY (ids)
                                    AND (m.images <> '{}' OR m.part_attachments <> '{}'))
              ORDER BY a.sha256 FOR UPDATE;
            UPDATE attachments AS a
               SET reference_count = a.reference_count - named.messages
              FROM (SELECT i AS sha256, count(DISTINCT (m.session_id, m.seq)) AS messages
                      FROM messages AS m, unnest(m.images || m.part_attachments) AS i
                     WHERE m.user_id = owner AND m.session_id = ANY (ids)
                       AND (m.images <> '{}' OR m.part_attachments <> '{}')
                     GROUP BY i) AS named
             WHERE a.user_id = owner AND a.sha256 = named.sha256;
            DELETE FROM attachments WHERE user_id = owner AND reference_count = 0;
            DELETE FROM sessions WHERE user_id = owner AND id = ANY (ids);
            COMMIT;
            total := total + cardinality(ids);
        END LOOP;
        COMMIT;
        EXIT WHEN only_user <> '';
    END LOOP;
    PERFORM set_config('mai_sessions.result', total::text, false);
END
$$;

SELECT current_setting('mai_sessions.result')::bigint AS sessions_deleted;
\else
\echo 'Nothing was deleted. To delete them: -v apply=1'
\endif
