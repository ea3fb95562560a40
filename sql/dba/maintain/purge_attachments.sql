-- Deletes attachments without references.
--
-- Usage:     psql -X "$DATABASE_URL" -f purge_attachments.sql                counts what it would delete
--            psql -X "$DATABASE_URL" -v apply=1 -f purge_attachments.sql     deletes
-- Variables: apply    1 to delete (default 0)
--            user_id  only this user's rows (default: all users)
--            batch    attachments deleted in one transaction (default 100)
-- Role:      maintenance
-- Safety:    writes; locks only the rows it deletes, one batch at a time. Safe while serving, may be stopped
--            and run again. Run repair_counters.sql first: the service deletes such attachments itself,
--            unless their count was wrong. An attachment that a message names is kept, whatever its count
--            says.

\set ON_ERROR_STOP on
\set variables 'apply user_id batch'
\if :{?batch} \else \set batch 100 \endif
\ir ../prepare.psql

SELECT count(*) AS attachments, coalesce(sum(size), 0) AS bytes
  FROM attachments
 WHERE reference_count = 0 AND (:'user_id' = '' OR user_id = :'user_id');

\if :apply
SELECT set_config('mai_sessions.user_id', :'user_id', false) AS user_id,
       set_config('mai_sessions.batch', :'batch', false) AS batch
\gset

-- One user at a time, so that on Citus each statement runs on one shard.
DO $$
DECLARE
    only_user text    := current_setting('mai_sessions.user_id');
    batch     integer := current_setting('mai_sessions.batch')::int;
    owner     text    := '';
    total     bigint  := 0;
    deleted   bigint;
BEGIN
    LOOP
        SELECT min(a.user_id) INTO owner
          FROM attachments AS a
         WHERE a.reference_count = 0 AND a.user_id > owner AND (only_user = '' OR a.user_id = only_user);
        EXIT WHEN owner IS NULL;
        LOOP
            DELETE FROM attachments AS a
             USING (SELECT u.sha256
                      FROM attachments AS u
                     WHERE u.user_id = owner AND u.reference_count = 0
                       AND NOT EXISTS (SELECT FROM messages AS m
                                        WHERE m.user_id = owner
                                          AND (m.images <> '{}' OR m.part_attachments <> '{}')
                                          AND u.sha256 = ANY (m.images || m.part_attachments))
                     LIMIT batch FOR UPDATE SKIP LOCKED) AS unreferenced
             WHERE a.user_id = owner AND a.sha256 = unreferenced.sha256;
            GET DIAGNOSTICS deleted = ROW_COUNT;
            COMMIT;
            total := total + deleted;
            EXIT WHEN deleted < batch;
        END LOOP;
    END LOOP;
    PERFORM set_config('mai_sessions.result', total::text, false);
END
$$;

SELECT current_setting('mai_sessions.result')::bigint AS attachments_deleted;
\else
\echo 'Nothing was deleted. To delete them: -v apply=1'
\endif
