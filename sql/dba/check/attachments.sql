-- Attachments without references or with a wrong reference_count, and missing images of messages.
--
-- Usage:     psql -X "$DATABASE_URL" -f attachments.sql
-- Variables: user_id  check only this user's rows (default: all users)
-- Role:      readonly
-- Safety:    read only; reads the messages with images, and attachments without their contents. Safe while
--            serving. maintain/repair_counters.sql corrects the counts, maintain/purge_attachments.sql
--            deletes attachments without references.

\set ON_ERROR_STOP on
\set variables 'user_id'
\ir ../prepare.psql

BEGIN READ ONLY;
WITH named AS (
    SELECT user_id, i AS sha256, count(DISTINCT (session_id, seq)) AS messages
      FROM messages, unnest(images || part_attachments) AS i
     WHERE images <> '{}' OR part_attachments <> '{}'
     GROUP BY user_id, i)
SELECT user_id, sha256, a.reference_count, coalesce(n.messages, 0) AS messages,
       CASE WHEN a.reference_count IS NULL THEN 'missing'
            WHEN n.messages IS NULL THEN 'not referenced'
            ELSE 'counted wrong' END AS problem
  FROM named AS n
  FULL JOIN attachments AS a USING (user_id, sha256)
 WHERE (:'user_id' = '' OR user_id = :'user_id')
   AND (a.reference_count = 0 OR a.reference_count IS DISTINCT FROM coalesce(n.messages, 0))
 ORDER BY user_id, sha256;
\set found :ROW_COUNT
COMMIT;
