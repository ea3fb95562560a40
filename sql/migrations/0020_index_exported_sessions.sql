-- migrate: no-transaction
-- Serves list_exported_sessions: a page of a user's sessions, oldest first.
CREATE INDEX CONCURRENTLY IF NOT EXISTS session_titles_user_id_created_at_idx ON session_titles (user_id, created_at, session_id);
