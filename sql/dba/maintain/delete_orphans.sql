-- Deletes messages, titles and sums whose session does not exist.
--
-- Usage:     psql -X "$DATABASE_URL" -f delete_orphans.sql                 counts them
--            psql -X "$DATABASE_URL" -v apply=1 -f delete_orphans.sql      deletes them
-- Variables: apply    1 to delete (default 0)
--            user_id  only this user's rows (default: all users)
-- Role:      maintenance
-- Safety:    writes; locks only the rows it deletes. Safe while serving, may be stopped and run again. If a
--            backup has the sessions and they are needed, restore them first. Run repair_counters.sql
--            afterwards.

\set ON_ERROR_STOP on
\set variables 'apply user_id'
\ir ../prepare.psql

SELECT (SELECT count(*) FROM messages AS m
         WHERE (:'user_id' = '' OR m.user_id = :'user_id')
           AND NOT EXISTS (SELECT FROM sessions AS s
                            WHERE s.user_id = m.user_id AND s.id = m.session_id)) AS messages,
       (SELECT count(*) FROM session_titles AS t
         WHERE (:'user_id' = '' OR t.user_id = :'user_id')
           AND NOT EXISTS (SELECT FROM sessions AS s
                            WHERE s.user_id = t.user_id AND s.id = t.session_id)) AS session_titles,
       (SELECT count(*) FROM daily_usage AS d
         WHERE (:'user_id' = '' OR d.user_id = :'user_id')
           AND NOT EXISTS (SELECT FROM sessions AS s
                            WHERE s.user_id = d.user_id AND s.id = d.session_id)) AS daily_usage;

\if :apply
BEGIN;
DELETE FROM messages AS m
 WHERE (:'user_id' = '' OR m.user_id = :'user_id')
   AND NOT EXISTS (SELECT FROM sessions AS s WHERE s.user_id = m.user_id AND s.id = m.session_id);
DELETE FROM session_titles AS t
 WHERE (:'user_id' = '' OR t.user_id = :'user_id')
   AND NOT EXISTS (SELECT FROM sessions AS s WHERE s.user_id = t.user_id AND s.id = t.session_id);
DELETE FROM daily_usage AS d
 WHERE (:'user_id' = '' OR d.user_id = :'user_id')
   AND NOT EXISTS (SELECT FROM sessions AS s WHERE s.user_id = d.user_id AND s.id = d.session_id);
COMMIT;
\else
\echo 'Nothing was deleted. To delete them: -v apply=1'
\endif
