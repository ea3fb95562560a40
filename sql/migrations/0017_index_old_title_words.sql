-- migrate: no-transaction
-- Serves rewrite_title_words and count_old_words, as the index before this one.
CREATE INDEX CONCURRENTLY IF NOT EXISTS session_titles_old_words_idx ON session_titles (user_id, session_id) WHERE NOT words @@ '''_2''';
