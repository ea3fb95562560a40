-- Messages, titles and sums whose session does not exist.
--
-- Usage:     psql -X "$DATABASE_URL" -f orphans.sql
-- Variables: user_id  check only this user's rows (default: all users)
-- Role:      readonly
-- Safety:    read only; reads indexes of messages, session_titles, daily_usage and sessions. Safe while
--            serving. The foreign keys prevent such rows, so they were disabled, or a restore was incomplete.
--            maintain/delete_orphans.sql deletes the rows.

\set ON_ERROR_STOP on
\set variables 'user_id'
\ir ../prepare.psql

BEGIN READ ONLY;
SELECT o.user_id, o.session_id, o.rows_of, o.rows
  FROM (SELECT user_id, session_id, 'messages' AS rows_of, count(*) AS rows FROM messages GROUP BY 1, 2
         UNION ALL
        SELECT user_id, session_id, 'session_titles', count(*) FROM session_titles GROUP BY 1, 2
         UNION ALL
        SELECT user_id, session_id, 'daily_usage', count(*) FROM daily_usage GROUP BY 1, 2) AS o
 WHERE (:'user_id' = '' OR o.user_id = :'user_id')
   AND NOT EXISTS (SELECT FROM sessions AS s WHERE s.user_id = o.user_id AND s.id = o.session_id)
 ORDER BY o.user_id, o.session_id, o.rows_of;
\set found :ROW_COUNT
COMMIT;
