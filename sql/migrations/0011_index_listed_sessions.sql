-- migrate: no-transaction
-- Serves list_sessions: a page of a user's open, archived or (merging the two ranges) all sessions, newest first.
CREATE INDEX CONCURRENTLY IF NOT EXISTS sessions_user_id_archived_updated_at_id_idx ON sessions (user_id, archived, updated_at DESC, id DESC);
