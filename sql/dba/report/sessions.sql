-- The longest sessions, by messages.
--
-- Usage:     psql -X "$DATABASE_URL" -f sessions.sql
-- Variables: top      how many (default 20)
--            user_id  whose (default: everybody's)
-- Role:      readonly
-- Safety:    read only; reads sessions whole, and the messages of the sessions that it shows. Safe while serving.
--            Bytes are as stored, compressed, without indexes. No titles: they are the users'.

\set ON_ERROR_STOP on
\set variables 'top user_id'
\if :{?top} \else \set top 20 \endif
\ir ../prepare.psql

BEGIN READ ONLY;
SELECT s.user_id, s.id AS session_id, s.message_count AS messages, s.last_seq - s.message_count AS removed, m.tokens,
       pg_size_pretty(coalesce(m.bytes, 0)) AS bytes, m.images, date_trunc('second', s.created_at) AS created,
       date_trunc('second', s.updated_at) AS last_written
  FROM (SELECT user_id, id, message_count, last_seq, created_at, updated_at
          FROM sessions
         WHERE :'user_id' = '' OR user_id = :'user_id'
         ORDER BY message_count DESC, user_id, id
         LIMIT :top) AS s
 CROSS JOIN LATERAL (
       SELECT sum(token_count) AS tokens, sum(pg_column_size(content) + pg_column_size(words)) AS bytes,
              sum(cardinality(images)) AS images
         FROM messages
        WHERE user_id = s.user_id AND session_id = s.id) AS m
 ORDER BY s.message_count DESC, s.user_id, s.id;
COMMIT;
