-- Sums in daily_usage that differ from those of the messages.
--
-- Usage:     psql -X "$DATABASE_URL" -f daily_usage.sql
-- Variables: user_id  check only this user's rows (default: all users)
-- Role:      readonly
-- Safety:    read only; reads messages and daily_usage whole. Safe while serving.
--            maintain/repair_counters.sql corrects them.

\set ON_ERROR_STOP on
\set variables 'user_id'
\ir ../prepare.psql

BEGIN READ ONLY;
WITH counted AS (
    SELECT m.user_id, m.session_id, (m.created_at AT TIME ZONE 'UTC')::date AS day,
           CASE WHEN p.is_total THEN 'total'
                WHEN m.role = 'assistant' THEN 'assistant'
                ELSE 'other' END AS part,
           CASE WHEN p.is_total THEN '' ELSE coalesce(m.agent_name, '') END AS agent_name,
           CASE WHEN p.is_total THEN '' ELSE coalesce(m.model_id, '') END AS model_id,
           min(m.created_at) AS first_at, max(m.created_at) AS last_at,
           min(m.seq) AS first_seq, max(m.seq) AS last_seq,
           count(*) AS message_count, sum(m.token_count) AS token_count,
           count(*) FILTER (WHERE m.is_error) AS error_count, count(m.response_time_ms) AS timed_count,
           coalesce(sum(m.response_time_ms::numeric), 0) AS response_time_ms
      FROM messages AS m
      JOIN (VALUES (true), (false)) AS p (is_total) ON p.is_total OR m.role = 'assistant' OR m.model_id <> ''
     WHERE :'user_id' = '' OR m.user_id = :'user_id'
     GROUP BY 1, 2, 3, 4, 5, 6)
SELECT user_id, session_id, day, part, agent_name, model_id,
       d.message_count, coalesce(c.message_count, 0) AS messages,
       d.token_count, coalesce(c.token_count, 0) AS tokens
  FROM counted AS c
  FULL JOIN (SELECT user_id, session_id, day, part, agent_name, model_id, first_at, last_at,
                     first_seq, last_seq, message_count, token_count, error_count,
                     timed_count, response_time_ms
                FROM daily_usage
               WHERE :'user_id' = '' OR user_id = :'user_id') AS d
       USING (user_id, session_id, day, part, agent_name, model_id)
 WHERE (d.message_count, d.token_count, d.error_count, d.timed_count, d.response_time_ms)
       IS DISTINCT FROM (coalesce(c.message_count, 0), coalesce(c.token_count, 0), coalesce(c.error_count, 0),
                         coalesce(c.timed_count, 0), coalesce(c.response_time_ms, 0))
    OR c.first_at < d.first_at OR c.last_at > d.last_at
    OR c.first_seq < d.first_seq OR c.last_seq > d.last_seq
 ORDER BY user_id, session_id, day, part, agent_name, model_id;
\set found :ROW_COUNT
COMMIT;
