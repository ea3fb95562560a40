-- migrate: no-transaction
-- Serves list_sessions filtered by a part of most titles, which counts them without reading their rows, and list_exported_sessions.
CREATE INDEX CONCURRENTLY IF NOT EXISTS session_titles_user_id_created_at_title_idx ON session_titles (user_id, created_at, session_id) INCLUDE (title);
