-- migrate: no-transaction
-- sessions_user_id_archived_updated_at_id_idx serves every statement that this index served.
DROP INDEX CONCURRENTLY IF EXISTS sessions_user_id_updated_at_id_idx;
