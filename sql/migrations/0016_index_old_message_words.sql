-- migrate: no-transaction
-- Serves rewrite_message_words and count_old_words: messages whose words are by older rules, which have no lexeme _2. An append enters
-- it only where the release before wrote the words.
CREATE INDEX CONCURRENTLY IF NOT EXISTS messages_old_words_idx ON messages (user_id, session_id, seq) WHERE NOT words @@ '''_2''';
