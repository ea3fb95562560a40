-- The comments of the indexes that the two migrations before made.
COMMENT ON INDEX messages_parents_idx IS 'Serves list_messages, get_session and delete_message of branched sessions: the messages that name their parent, where a walk leaves the range that it reads';
COMMENT ON INDEX messages_system_idx IS 'Serves list_messages with max_tokens: system messages, whose tokens count before those of all others';
