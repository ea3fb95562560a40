-- migrate: no-transaction
-- session_titles_user_id_created_at_title_idx serves the statements that this index served.
DROP INDEX CONCURRENTLY IF EXISTS session_titles_user_id_created_at_idx;
