-- Writes all rows of one user as JSON lines: sessions with messages, attachments in base64, idempotency keys.
--
-- Usage:     psql -X "$DATABASE_URL" -v user_id=ann -f export_user.sql > ann.jsonl
-- Variables: user_id  the user to export (no default)
-- Role:      readonly
-- Safety:    read only; one snapshot, streamed row by row. Safe while serving, but VACUUM cannot remove rows
--            that died during a long export. Each line has a type. Derived rows, lexemes and daily_usage, are
--            left out.

\set ON_ERROR_STOP on
\set variables 'user_id!'
\ir ../prepare.psql
\set required_user :user_id
\ir ../require_user.psql

BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
SET LOCAL timezone = 'UTC';

-- CSV with a quote character that JSON never contains: the text format would double backslashes.
COPY (
    SELECT row_to_json(r)
      FROM (SELECT 'user' AS type, u.user_id, u.session_count, u.archived_count
              FROM users AS u
             WHERE u.user_id = :'user_id') AS r
) TO STDOUT (FORMAT csv, QUOTE E'\x01', DELIMITER E'\x02');

COPY (
    SELECT row_to_json(r)
      FROM (SELECT 'session' AS type, s.id, s.title, s.agent_name, s.model_id, s.created_at, s.updated_at,
                   s.version, s.message_count, s.last_seq, s.newest_seq, s.last_message_preview, s.archived,
                   s.is_branched, s.head_seq, s.head_id, t.metadata
              FROM sessions AS s
              LEFT JOIN session_titles AS t ON t.user_id = s.user_id AND t.session_id = s.id
             WHERE s.user_id = :'user_id'
             ORDER BY s.id) AS r
) TO STDOUT (FORMAT csv, QUOTE E'\x01', DELIMITER E'\x02');

COPY (
    SELECT row_to_json(r)
      FROM (SELECT 'message' AS type, m.session_id, m.seq, m.id, m.role, m.content, m.token_count, m.model_id,
                   m.agent_name, m.response_time_ms, m.is_error, m.images, m.documents, m.parts,
                   m.part_attachments, m.metadata, m.status, m.parent_seq, m.created_at, m.updated_at
              FROM messages AS m
             WHERE m.user_id = :'user_id'
             ORDER BY m.session_id, m.seq) AS r
) TO STDOUT (FORMAT csv, QUOTE E'\x01', DELIMITER E'\x02');

COPY (
    SELECT row_to_json(r)
      FROM (SELECT 'attachment' AS type, a.sha256, a.content_type, a.size, a.reference_count, a.created_at,
                   a.file_name, translate(encode(a.content, 'base64'), E'\n', '') AS content
              FROM attachments AS a
             WHERE a.user_id = :'user_id'
             ORDER BY a.sha256) AS r
) TO STDOUT (FORMAT csv, QUOTE E'\x01', DELIMITER E'\x02');

COPY (
    SELECT row_to_json(r)
      FROM (SELECT 'idempotency_key' AS type, k.path, k.key, k.id, k.seq, k.reply, k.created_at
              FROM idempotency_keys AS k
             WHERE k.user_id = :'user_id'
             ORDER BY k.path, k.key) AS r
) TO STDOUT (FORMAT csv, QUOTE E'\x01', DELIMITER E'\x02');

COMMIT;
