-- migrate: no-transaction
-- Serves list_sessions with a filter by metadata.
CREATE INDEX CONCURRENTLY IF NOT EXISTS session_titles_user_id_metadata_idx ON session_titles USING gin (user_id, metadata jsonb_path_ops) WHERE metadata <> '{}';
