-- Sessions whose message_count differs from the number of their messages.
--
-- Usage:     psql -X "$DATABASE_URL" -f message_counts.sql
-- Variables: user_id  check only this user's rows (default: all users)
-- Role:      readonly
-- Safety:    read only; reads sessions, and an index of messages. Safe while serving.
--            maintain/repair_counters.sql corrects them.

\set ON_ERROR_STOP on
\set variables 'user_id'
\ir ../prepare.psql

BEGIN READ ONLY;
SELECT s.user_id, s.id AS session_id, s.message_count, coalesce(m.messages, 0) AS messages
  FROM sessions AS s
  LEFT JOIN (SELECT user_id, session_id, count(*) AS messages FROM messages GROUP BY user_id, session_id) AS m
    ON m.user_id = s.user_id AND m.session_id = s.id
 WHERE (:'user_id' = '' OR s.user_id = :'user_id')
   AND s.message_count <> coalesce(m.messages, 0)
 ORDER BY s.user_id, s.id;
\set found :ROW_COUNT
COMMIT;
