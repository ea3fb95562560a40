-- migrate: no-transaction
-- Serves clear_messages and delete_session: the messages of a session that name attachments, which are few.
CREATE INDEX CONCURRENTLY IF NOT EXISTS messages_attachments_idx ON messages (user_id, session_id) WHERE images <> '{}' OR part_attachments <> '{}';
