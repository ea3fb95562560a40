-- migrate: no-transaction
-- Serves delete_expired_keys, and sql/dba/maintain/purge_idempotency_keys.sql.
CREATE INDEX CONCURRENTLY IF NOT EXISTS idempotency_keys_created_at_idx ON idempotency_keys (created_at);
