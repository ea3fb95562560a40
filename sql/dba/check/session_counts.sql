-- Users whose session_count differs from the number of their sessions.
--
-- Usage:     psql -X "$DATABASE_URL" -f session_counts.sql
-- Variables: user_id  check only this user's rows (default: all users)
-- Role:      readonly
-- Safety:    read only; reads users, and an index of sessions. Safe while serving.
--            maintain/repair_counters.sql corrects them.

\set ON_ERROR_STOP on
\set variables 'user_id'
\ir ../prepare.psql

BEGIN READ ONLY;
SELECT user_id, u.session_count, coalesce(s.sessions, 0) AS sessions, u.archived_count,
       coalesce(s.archived, 0) AS archived
  FROM users AS u
  FULL JOIN (SELECT user_id, count(*) AS sessions, count(*) FILTER (WHERE archived) AS archived
                FROM sessions GROUP BY user_id) AS s USING (user_id)
 WHERE (:'user_id' = '' OR user_id = :'user_id')
   AND (u.session_count, u.archived_count) IS DISTINCT FROM (coalesce(s.sessions, 0), coalesce(s.archived, 0))
 ORDER BY user_id;
\set found :ROW_COUNT
COMMIT;
