-- migrate: no-transaction
-- Serves list_messages, get_session and delete_message of branched sessions: the messages that name their parent. Another append enters
-- nothing in it, and no PATCH changes its columns.
CREATE INDEX CONCURRENTLY IF NOT EXISTS messages_parents_idx ON messages (user_id, session_id, seq) INCLUDE (parent_seq) WHERE parent_seq IS NOT NULL;
