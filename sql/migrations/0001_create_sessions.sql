-- Sessions, their messages, and a counter row per user.
-- user_id leads every key: it is what the rows are distributed by, and no row can hang on a stranger's.
-- Identifiers of users compare as bytes (COLLATE "C"): faster, and no upgrade of the system's collations can break an index.

CREATE TABLE users (
    user_id       text COLLATE "C" NOT NULL,
    session_count bigint           NOT NULL,
    CONSTRAINT users_pkey PRIMARY KEY (user_id),
    CONSTRAINT users_user_id_check CHECK (char_length(user_id) BETWEEN 1 AND 255),
    CONSTRAINT users_session_count_check CHECK (session_count >= 0)
);

COMMENT ON TABLE users IS 'One row for each user who ever had a session';
COMMENT ON COLUMN users.session_count IS 'Rows of this user in sessions; moved by the statements that make and delete them';

CREATE TABLE sessions (
    user_id              text COLLATE "C" NOT NULL,
    id                   uuid             NOT NULL,
    title                text             NOT NULL,
    agent_name           text             NOT NULL,
    model_id             text,
    created_at           timestamptz      NOT NULL DEFAULT now(),
    updated_at           timestamptz      NOT NULL DEFAULT now(),
    version              uuid             NOT NULL,
    message_count        integer          NOT NULL DEFAULT 0,
    last_seq             integer          NOT NULL DEFAULT 0,
    newest_seq           integer,
    last_message_preview text,
    CONSTRAINT sessions_pkey PRIMARY KEY (user_id, id),
    CONSTRAINT sessions_user_id_check CHECK (char_length(user_id) BETWEEN 1 AND 255),
    CONSTRAINT sessions_title_check CHECK (char_length(title) <= 255),
    CONSTRAINT sessions_agent_name_check CHECK (char_length(agent_name) <= 100),
    CONSTRAINT sessions_model_id_check CHECK (char_length(model_id) <= 255),
    CONSTRAINT sessions_message_count_check CHECK (message_count BETWEEN 0 AND last_seq),
    CONSTRAINT sessions_last_message_preview_check CHECK (char_length(last_message_preview) <= 100)
) WITH (autovacuum_vacuum_scale_factor = 0.02); -- every append leaves a dead version: clean up at 2 % of them, not at 20 %

COMMENT ON TABLE sessions IS 'A chat; what a list shows of it stands on its row';
COMMENT ON COLUMN sessions.version IS 'A new value with every write to the session or its messages; the ETag';
COMMENT ON COLUMN sessions.message_count IS 'Rows of this session in messages; moved by the statements that make and delete them';
COMMENT ON COLUMN sessions.last_seq IS 'The highest seq ever given to a message of this session';
COMMENT ON COLUMN sessions.newest_seq IS 'The seq of the newest message that is still there';
COMMENT ON COLUMN sessions.last_message_preview IS 'The first 100 characters of that message';

-- Serves list_sessions: a page of a user's sessions, newest first.
CREATE INDEX sessions_user_id_updated_at_id_idx ON sessions (user_id, updated_at DESC, id DESC);

CREATE TABLE messages (
    user_id          text COLLATE "C" NOT NULL,
    session_id       uuid             NOT NULL,
    id               uuid             NOT NULL,
    created_at       timestamptz      NOT NULL,
    response_time_ms double precision,
    seq              integer          NOT NULL,
    token_count      integer          NOT NULL,
    is_error         boolean          NOT NULL,
    role             text             NOT NULL,
    content          text             NOT NULL,
    model_id         text,
    agent_name       text,
    images           text[]           NOT NULL,
    documents        text[]           NOT NULL,
    CONSTRAINT messages_pkey PRIMARY KEY (user_id, session_id, seq),
    CONSTRAINT messages_session_fkey FOREIGN KEY (user_id, session_id) REFERENCES sessions (user_id, id) ON DELETE CASCADE,
    CONSTRAINT messages_seq_check CHECK (seq > 0),
    CONSTRAINT messages_token_count_check CHECK (token_count >= 0),
    CONSTRAINT messages_response_time_ms_check CHECK (response_time_ms >= 0),
    CONSTRAINT messages_role_check CHECK (role IN ('user', 'assistant', 'system', 'tool')),
    CONSTRAINT messages_model_id_check CHECK (char_length(model_id) <= 255),
    CONSTRAINT messages_agent_name_check CHECK (char_length(agent_name) <= 100)
) WITH (autovacuum_vacuum_scale_factor = 0.02); -- an answer that streams in is written twenty times a second

COMMENT ON TABLE messages IS 'What was said in a session, in the order of seq';
COMMENT ON COLUMN messages.seq IS 'Place in the session: 1, 2, 3 …; never moved or given again';
COMMENT ON COLUMN messages.images IS 'The sha256 of each image that came with the message, in lower-case hexadecimal';
COMMENT ON COLUMN messages.documents IS 'Names of the documents that came with the message';

-- Serves the statements that read, change and delete one message.
CREATE UNIQUE INDEX messages_user_id_session_id_id_key ON messages (user_id, session_id, id);

-- Serves clear_messages and delete_session: the messages of a session that name images, which are few.
CREATE INDEX messages_images_idx ON messages (user_id, session_id) WHERE images <> '{}';
