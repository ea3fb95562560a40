-- migrate: no-transaction
-- messages_attachments_idx serves the statements that this index served.
DROP INDEX CONCURRENTLY IF EXISTS messages_images_idx;
