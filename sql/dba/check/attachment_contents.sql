-- Attachments whose content does not match their sha256.
--
-- Usage:     psql -X "$DATABASE_URL" -f attachment_contents.sql
-- Variables: user_id  check only this user's rows (default: all users)
-- Role:      readonly
-- Safety:    read only; reads every image, which may take long. Safe while serving. Restore the image from a
--            backup: docs/backup.md.

\set ON_ERROR_STOP on
\set variables 'user_id'
\ir ../prepare.psql

BEGIN READ ONLY;
SELECT user_id, sha256, size, encode(sha256(content), 'hex') AS sha256_of_content
  FROM attachments
 WHERE (:'user_id' = '' OR user_id = :'user_id')
   AND sha256 <> encode(sha256(content), 'hex')
 ORDER BY user_id, sha256;
\set found :ROW_COUNT
COMMIT;
