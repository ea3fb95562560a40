-- The comments of the whole schema, in the words of the documentation, and one on each index that says which statement it
-- serves. They appear in psql's \d+ and in sql/schema.sql.

COMMENT ON TABLE users IS 'A row for each user who has ever had a session, with the counts of the session list';
COMMENT ON COLUMN users.user_id IS 'The user, as named by the authentication; compared byte by byte';
COMMENT ON COLUMN users.session_count IS 'Number of the user''s rows in sessions; the statements that add and delete sessions maintain it';
COMMENT ON COLUMN users.archived_count IS 'Number of those that are archived';
COMMENT ON INDEX users_pkey IS 'Serves list_sessions, for `total`, and the statements that maintain the counts';

COMMENT ON TABLE sessions IS 'A chat, with everything that a list shows of it';
COMMENT ON COLUMN sessions.updated_at IS 'Time of the last change of its title, agent, model or messages; the list is ordered by it';
COMMENT ON COLUMN sessions.version IS 'Replaced by every write to the session or its messages; its ETag';
COMMENT ON COLUMN sessions.message_count IS 'Number of its rows in messages; the statements that add and delete messages maintain it';
COMMENT ON COLUMN sessions.last_seq IS 'Highest seq that any of its messages has had, deleted ones included';
COMMENT ON COLUMN sessions.newest_seq IS 'Highest seq of the messages that exist; null without messages';
COMMENT ON COLUMN sessions.last_message_preview IS 'First 100 characters of the head''s content';
COMMENT ON COLUMN sessions.archived IS 'True if the default list leaves the session out';
COMMENT ON COLUMN sessions.is_branched IS 'True if a message has another parent than the message before it, or the head is not the newest message';
COMMENT ON COLUMN sessions.has_metadata IS 'True if session_titles has metadata of the session; if false, a list does not read that row';
COMMENT ON COLUMN sessions.head_seq IS 'seq of the head, the newest message of the branch that is shown; valid only if is_branched, otherwise the head is at newest_seq';
COMMENT ON COLUMN sessions.head_id IS 'id of the message at head_seq';
COMMENT ON INDEX sessions_pkey IS 'Serves every statement on one session, and the foreign keys';
COMMENT ON INDEX sessions_user_id_archived_updated_at_id_idx
    IS 'Serves list_sessions: open sessions, archived ones, or both ranges merged, newest first';

COMMENT ON TABLE session_titles
    IS 'The columns of a session that an append does not change: kept apart, so that an append does not write to their indexes';
COMMENT ON COLUMN session_titles.created_at IS 'created_at of the session';
COMMENT ON COLUMN session_titles.title IS 'The title in folded case, as the filter `search` of list_sessions compares it';
COMMENT ON COLUMN session_titles.words IS 'Lexemes of the title: its words, and its substrings of one to three characters';
COMMENT ON COLUMN session_titles.metadata IS 'JSON object that the client stores with the session';
COMMENT ON INDEX session_titles_pkey IS 'Serves the statements that read or change a title or metadata';
COMMENT ON INDEX session_titles_user_id_words_idx IS 'Serves search, and list_sessions filtered by `search`';
COMMENT ON INDEX session_titles_user_id_metadata_idx IS 'Serves list_sessions filtered by `metadata`';
COMMENT ON INDEX session_titles_user_id_created_at_idx IS 'Serves list_exported_sessions: a page of a user''s sessions, oldest first';
COMMENT ON INDEX session_titles_old_words_idx IS 'Serves rewrite_title_words and count_old_words: titles whose lexemes were made by older rules';

COMMENT ON TABLE messages IS 'The messages of a session, in the order of seq';
COMMENT ON COLUMN messages.id IS 'UUIDv7, or the id that the client chose; unique in the session';
COMMENT ON COLUMN messages.seq IS 'Place in the session: 1, 2, 3 …; never changed, and not reused after a deletion';
COMMENT ON COLUMN messages.images IS 'SHA-256 of each image, in lower-case hexadecimal, a key of attachments';
COMMENT ON COLUMN messages.documents IS 'Names of the documents of the message; their contents are not stored';
COMMENT ON COLUMN messages.words IS 'Lexemes of the content, of the session and of the week; empty while the message streams';
COMMENT ON COLUMN messages.parts IS 'Structured content, an array of objects as the client sent it; large data: URLs are replaced by links to attachments';
COMMENT ON COLUMN messages.part_attachments IS 'SHA-256 of each attachment that parts link to';
COMMENT ON COLUMN messages.metadata IS 'JSON object that the client stores with the message';
COMMENT ON COLUMN messages.status IS 'streaming while the message grows and has no lexemes or sums; then complete or interrupted';
COMMENT ON COLUMN messages.updated_at IS 'Time of the last change; null if the message has not changed since created_at';
COMMENT ON COLUMN messages.parent_seq IS 'seq of the message before it in its branch; 0 if it is the first; null if that is the message with the next lower seq';
COMMENT ON INDEX messages_pkey IS 'Serves list_messages and get_session: a range of a session, or the walk up a branch';
COMMENT ON INDEX messages_user_id_session_id_id_key IS 'Serves get_message, patch_message, delete_message, and all that name a message by its id';
COMMENT ON INDEX messages_user_id_words_idx IS 'Serves search; user_id lets the planner estimate how few rows match';
COMMENT ON INDEX messages_attachments_idx IS 'Serves clear_messages and delete_sessions: the few messages of a session with attachments';
COMMENT ON INDEX messages_streaming_idx IS 'Serves list_abandoned_streams; a PATCH to a streaming message changes none of its columns and stays HOT';
COMMENT ON INDEX messages_old_words_idx IS 'Serves rewrite_message_words and count_old_words: messages whose lexemes were made by older rules';
COMMENT ON STATISTICS messages_user_id_session_id_stat
    IS 'Tells the planner that a session_id has one user_id: otherwise it expects one message a session, and reads whole sessions by the wrong index';

COMMENT ON TABLE attachments IS 'An image or other file of a user''s messages, stored once for each user and content';
COMMENT ON COLUMN attachments.sha256 IS 'SHA-256 of the content, in lower-case hexadecimal';
COMMENT ON COLUMN attachments.content_type IS 'Media type: of images found from their bytes, of other files as the client declared it';
COMMENT ON COLUMN attachments.reference_count IS 'Number of messages that name it; the statement that makes it 0 is followed by one that deletes the row';
COMMENT ON COLUMN attachments.content IS 'The bytes; images are compressed already, so PostgreSQL does not try to';
COMMENT ON COLUMN attachments.file_name IS 'Name of a download: the first one that a message gave';
COMMENT ON INDEX attachments_pkey IS 'Serves get_attachment, and the statements that count references';
COMMENT ON INDEX attachments_unreferenced_idx IS 'Serves sweep_attachments: attachments that no message names any more';

COMMENT ON TABLE idempotency_keys IS 'An Idempotency-Key that was used; removed after a day';
COMMENT ON COLUMN idempotency_keys.path IS 'The collection of the POST: sessions, sessions/batch, or sessions/<id>/messages';
COMMENT ON COLUMN idempotency_keys.fingerprint IS 'SHA-256 of the parsed request body, which a retry must match';
COMMENT ON COLUMN idempotency_keys.id IS 'id of the session or first message that the request made';
COMMENT ON COLUMN idempotency_keys.seq IS 'seq of that message, written by releases before 0.2';
COMMENT ON COLUMN idempotency_keys.created_at IS 'Time of the first request';
COMMENT ON COLUMN idempotency_keys.reply IS 'The parts of the first response that cannot be made from the body of a retry';
COMMENT ON INDEX idempotency_keys_pkey IS 'Serves every request with an Idempotency-Key';
COMMENT ON INDEX idempotency_keys_created_at_idx IS 'Serves delete_expired_keys, and sql/dba/maintain/purge_idempotency_keys.sql';

COMMENT ON TABLE daily_usage
    IS 'Sums over the messages of a session on a day, by agent and model; the statements that write messages maintain them';
COMMENT ON COLUMN daily_usage.day IS 'Date of created_at in UTC';
COMMENT ON COLUMN daily_usage.part
    IS 'Messages of the sum: total, all of the day; assistant, those of the assistant; other, those of other roles that have a model';
COMMENT ON COLUMN daily_usage.agent_name IS 'Empty if the messages have none, and for total';
COMMENT ON COLUMN daily_usage.model_id IS 'Empty if the messages have none, and for total';
COMMENT ON COLUMN daily_usage.first_at IS 'Lower bound of their created_at; exact until a message is deleted';
COMMENT ON COLUMN daily_usage.last_at IS 'Upper bound of their created_at; exact until a message is deleted';
COMMENT ON COLUMN daily_usage.first_seq IS 'Lower bound of their seq';
COMMENT ON COLUMN daily_usage.last_seq IS 'Upper bound of their seq';
COMMENT ON COLUMN daily_usage.message_count IS 'Number of messages; 0 after all are deleted';
COMMENT ON COLUMN daily_usage.error_count IS 'Number of messages with is_error';
COMMENT ON COLUMN daily_usage.timed_count IS 'Number of messages with a response_time_ms';
COMMENT ON COLUMN daily_usage.response_time_ms IS 'Sum of response_time_ms; numeric, so that subtracting a deleted message leaves no rounding error';
COMMENT ON INDEX daily_usage_pkey IS 'Serves the statements that add to the sums of a session and day';
COMMENT ON INDEX daily_usage_user_id_part_day_idx IS 'Serves the analytics: a user''s sums over a range of days';

COMMENT ON TABLE schema_migrations IS 'A row for each migration of sql/migrations that this database has';
COMMENT ON COLUMN schema_migrations.sha256 IS 'SHA-256 of the file; a released file never changes';
COMMENT ON COLUMN schema_migrations.breaking IS 'True if releases without this migration must not run on the schema';
COMMENT ON INDEX schema_migrations_pkey IS 'Serves the comparison of the schema with the code at start';
