-- migrate: no-transaction
-- Serves list_abandoned_streams. A PATCH while a message streams changes none of its columns, so the update stays HOT.
CREATE INDEX CONCURRENTLY IF NOT EXISTS messages_streaming_idx ON messages (created_at) WHERE status = 'streaming';
