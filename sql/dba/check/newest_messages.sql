-- Sessions whose newest_seq or last_message_preview does not match their newest message or head.
--
-- Usage:     psql -X "$DATABASE_URL" -f newest_messages.sql
-- Variables: user_id  check only this user's rows (default: all users)
-- Role:      readonly
-- Safety:    read only; reads all sessions, and the newest message of each. Safe while serving.
--            maintain/repair_counters.sql corrects them.

\set ON_ERROR_STOP on
\set variables 'user_id'
\ir ../prepare.psql

BEGIN READ ONLY;
SELECT s.user_id, s.id AS session_id, s.newest_seq, m.seq,
       s.last_message_preview IS NOT DISTINCT FROM h.preview AS preview_is_right
  FROM sessions AS s
  LEFT JOIN LATERAL (
       SELECT seq
         FROM messages
        WHERE user_id = s.user_id AND session_id = s.id
        ORDER BY user_id DESC, session_id DESC, seq DESC
        LIMIT 1) AS m ON true
  LEFT JOIN LATERAL (
       SELECT left(content, 100) AS preview, status
         FROM messages
        WHERE user_id = s.user_id AND session_id = s.id
          AND seq = CASE WHEN s.is_branched THEN s.head_seq ELSE m.seq END
        LIMIT 1) AS h ON true
 WHERE (:'user_id' = '' OR s.user_id = :'user_id')
   AND (s.newest_seq IS DISTINCT FROM m.seq
        -- The PATCH that ends the streaming writes the preview.
        OR (s.last_message_preview IS DISTINCT FROM h.preview AND h.status IS DISTINCT FROM 'streaming'))
 ORDER BY s.user_id, s.id;
\set found :ROW_COUNT
COMMIT;
