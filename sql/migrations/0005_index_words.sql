-- migrate: no-transaction
-- Serves search. user_id is in it so that the planner sees how few rows are meant.
CREATE INDEX CONCURRENTLY IF NOT EXISTS messages_user_id_words_idx ON messages USING gin (user_id, words);
