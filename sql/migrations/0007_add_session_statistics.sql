-- That a session_id has one user_id. Without it the planner expects one message of a session, and then takes either index of messages
-- for one of them: by the wrong one a PATCH, a removal or a page read every message of the session.

CREATE STATISTICS messages_user_id_session_id_stat (dependencies) ON user_id, session_id FROM messages;

-- They come with the next ANALYZE, which may be far away where the table is large.
ANALYZE messages (user_id, session_id);
