-- The users with the most messages and with the largest attachments, and the bytes that these take.
--
-- Usage:     psql -X "$DATABASE_URL" -f users.sql
-- Variables: top  number of users in each list (default 20)
-- Role:      readonly
-- Safety:    read only; reads sessions whole, and the messages of the users that it shows. Safe while
--            serving. Bytes are as stored, compressed, without indexes.

\set ON_ERROR_STOP on
\set variables 'top'
\if :{?top} \else \set top 20 \endif
\ir ../prepare.psql

BEGIN READ ONLY;
WITH written AS (
    SELECT user_id, count(*) AS sessions, sum(message_count) AS messages, max(updated_at) AS last_written
      FROM sessions
     GROUP BY user_id),
stored AS (
    SELECT user_id, count(*) AS attachments, sum(size) AS bytes
      FROM attachments
     GROUP BY user_id),
shown AS MATERIALIZED (
    (SELECT user_id FROM written ORDER BY messages DESC, user_id LIMIT :top)
     UNION
    (SELECT user_id FROM stored ORDER BY bytes DESC, user_id LIMIT :top)),
measured AS (
    SELECT m.user_id, sum(pg_column_size(m.content) + pg_column_size(m.words)) AS bytes
      FROM shown AS u
      JOIN messages AS m ON m.user_id = u.user_id
     GROUP BY m.user_id)
SELECT u.user_id, w.sessions, w.messages, coalesce(s.attachments, 0) AS attachments,
       date_trunc('second', w.last_written) AS last_written,
       pg_size_pretty(coalesce(m.bytes, 0)) AS message_bytes,
       pg_size_pretty(coalesce(s.bytes, 0)) AS attachment_bytes
  FROM shown AS u
  LEFT JOIN written AS w ON w.user_id = u.user_id
  LEFT JOIN stored AS s ON s.user_id = u.user_id
  LEFT JOIN measured AS m ON m.user_id = u.user_id
 ORDER BY coalesce(m.bytes, 0) + coalesce(s.bytes, 0) DESC, u.user_id;
COMMIT;
