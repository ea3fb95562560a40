-- Who has the most messages or the largest images, with the bytes that they take.
--
-- Usage:     psql -X "$DATABASE_URL" -f users.sql
-- Variables: top  how many of each (default 20)
-- Role:      readonly
-- Safety:    read only; reads sessions whole, and the messages of the users that it shows. Safe while serving.
--            Bytes are as stored, compressed, without indexes.

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
shown AS (
    (SELECT user_id FROM written ORDER BY messages DESC, user_id LIMIT :top)
     UNION
    (SELECT user_id FROM stored ORDER BY bytes DESC, user_id LIMIT :top))
SELECT u.user_id, w.sessions, w.messages, coalesce(s.attachments, 0) AS attachments,
       date_trunc('second', w.last_written) AS last_written,
       pg_size_pretty(coalesce(m.bytes, 0)) AS message_bytes, pg_size_pretty(coalesce(s.bytes, 0)) AS attachment_bytes
  FROM shown AS u
  LEFT JOIN written AS w ON w.user_id = u.user_id
  LEFT JOIN stored AS s ON s.user_id = u.user_id
 CROSS JOIN LATERAL (
       SELECT sum(pg_column_size(content) + pg_column_size(words)) AS bytes FROM messages WHERE user_id = u.user_id) AS m
 ORDER BY coalesce(m.bytes, 0) + coalesce(s.bytes, 0) DESC, u.user_id;
COMMIT;
