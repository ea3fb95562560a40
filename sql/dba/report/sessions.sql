-- The longest sessions, by messages.
--
-- Usage:     psql -X "$DATABASE_URL" -f sessions.sql
-- Variables: top      number of sessions (default 20)
--            user_id  only this user's rows (default: all users)
-- Role:      readonly
-- Safety:    read only; reads sessions whole, and the messages of the sessions that it shows. Safe while
--            serving. Bytes are as stored, compressed, without indexes. Titles are left out, as users wrote
--            them.

\set ON_ERROR_STOP on
\set variables 'top user_id'
\if :{?top} \else \set top 20 \endif
\ir ../prepare.psql

BEGIN READ ONLY;
WITH shown AS MATERIALIZED (
    SELECT user_id, id, message_count, last_seq, created_at, updated_at
      FROM sessions
     WHERE :'user_id' = '' OR user_id = :'user_id'
     ORDER BY message_count DESC, user_id, id
     LIMIT :top),
measured AS (
    SELECT m.user_id, m.session_id, sum(m.token_count) AS tokens,
           sum(pg_column_size(m.content) + pg_column_size(m.words)) AS bytes,
           sum(cardinality(m.images)) AS images
      FROM shown AS s
      JOIN messages AS m ON m.user_id = s.user_id AND m.session_id = s.id
     GROUP BY m.user_id, m.session_id)
SELECT s.user_id, s.id AS session_id, s.message_count AS messages, s.last_seq - s.message_count AS removed,
       m.tokens, pg_size_pretty(coalesce(m.bytes, 0)) AS bytes, m.images,
       date_trunc('second', s.created_at) AS created, date_trunc('second', s.updated_at) AS last_written
  FROM shown AS s
  LEFT JOIN measured AS m ON m.user_id = s.user_id AND m.session_id = s.id
 ORDER BY s.message_count DESC, s.user_id, s.id;
COMMIT;
