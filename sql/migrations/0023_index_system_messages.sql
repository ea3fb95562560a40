-- migrate: no-transaction
-- Serves list_messages with max_tokens: the messages of the system, which count before all others.
CREATE INDEX CONCURRENTLY IF NOT EXISTS messages_system_idx ON messages (user_id, session_id, seq) WHERE role = 'system';
