-- The schema after all migrations, for reading: `make schema` writes it from a migrated database.
-- docs/architecture.md says why there are no partitions and no row-level security.
--
--     users               (user_id)
--      ├─< sessions       (user_id, id)
--      │    ├── session_titles   (user_id, session_id)
--      │    ├─< messages         (user_id, session_id, seq)
--      │    └─< daily_usage      (user_id, session_id, day, part, agent_name, model_id)
--      ├─< attachments    (user_id, sha256)       named in messages.images and messages.part_attachments
--      └─< idempotency_keys      (user_id, path, key)
--     schema_migrations   (version)
--
--     ─< one to many    ── one to one
--
-- The tables below sessions have a foreign key to it with ON DELETE CASCADE. Every key begins with user_id,
-- so no row can refer to another user's, and Citus distributes all tables by it. Keys of type text compare by
-- bytes (COLLATE "C"): an upgrade of the operating system's collations cannot break their indexes.

CREATE EXTENSION btree_gin;

-- A row for each user who has ever had a session, with the counts of the session list
CREATE TABLE users (
    -- The user, as named by the authentication; compared byte by byte
    user_id        text COLLATE "C" NOT NULL,
    -- Number of the user's rows in sessions; the statements that add and delete sessions maintain it
    session_count  bigint NOT NULL,
    -- Number of those that are archived
    archived_count bigint NOT NULL DEFAULT 0,
    -- Serves list_sessions, for `total`, and the statements that maintain the counts
    CONSTRAINT users_pkey PRIMARY KEY (user_id),
    CONSTRAINT users_session_count_check CHECK (session_count >= 0),
    CONSTRAINT users_user_id_check CHECK (char_length(user_id) >= 1 AND char_length(user_id) <= 255)
);

-- A chat, with everything that a list shows of it
CREATE TABLE sessions (
    user_id              text COLLATE "C" NOT NULL,
    id                   uuid NOT NULL,
    title                text NOT NULL,
    agent_name           text NOT NULL,
    model_id             text,
    created_at           timestamptz NOT NULL DEFAULT now(),
    -- Time of the last change of its title, agent, model or messages; the list is ordered by it
    updated_at           timestamptz NOT NULL DEFAULT now(),
    -- Replaced by every write to the session or its messages; its ETag
    version              uuid NOT NULL,
    -- Number of its rows in messages; the statements that add and delete messages maintain it
    message_count        integer NOT NULL DEFAULT 0,
    -- Highest seq that any of its messages has had, deleted ones included
    last_seq             integer NOT NULL DEFAULT 0,
    -- Highest seq of the messages that exist; null without messages
    newest_seq           integer,
    -- First 100 characters of the head's content
    last_message_preview text,
    -- True if the default list leaves the session out
    archived             boolean NOT NULL DEFAULT false,
    -- True if a message has another parent than the message before it, or the head is not the newest message
    is_branched          boolean NOT NULL DEFAULT false,
    -- True if session_titles has metadata of the session; if false, a list does not read that row
    has_metadata         boolean NOT NULL DEFAULT false,
    -- seq of the head, the newest message of the branch that is shown; valid only if is_branched, otherwise
    -- the head is at newest_seq
    head_seq             integer,
    -- id of the message at head_seq
    head_id              uuid,
    -- Serves every statement on one session, and the foreign keys
    CONSTRAINT sessions_pkey PRIMARY KEY (user_id, id),
    CONSTRAINT sessions_agent_name_check CHECK (char_length(agent_name) <= 100),
    CONSTRAINT sessions_last_message_preview_check CHECK (char_length(last_message_preview) <= 100),
    CONSTRAINT sessions_message_count_check CHECK (message_count >= 0 AND message_count <= last_seq),
    CONSTRAINT sessions_model_id_check CHECK (char_length(model_id) <= 255),
    CONSTRAINT sessions_title_check CHECK (char_length(title) <= 255),
    CONSTRAINT sessions_user_id_check CHECK (char_length(user_id) >= 1 AND char_length(user_id) <= 255)
) WITH (autovacuum_vacuum_scale_factor=0.02);

-- Serves list_sessions: open sessions, archived ones, or both ranges merged, newest first
CREATE INDEX sessions_user_id_archived_updated_at_id_idx
    ON sessions (user_id, archived, updated_at DESC, id DESC);

-- The columns of a session that an append does not change: kept apart, so that an append does not write to
-- their indexes
CREATE TABLE session_titles (
    user_id    text COLLATE "C" NOT NULL,
    session_id uuid NOT NULL,
    -- created_at of the session
    created_at timestamptz NOT NULL,
    -- The title in folded case, as the filter `search` of list_sessions compares it
    title      text COLLATE "C" NOT NULL,
    -- Lexemes of the title: its words, and its substrings of one to three characters
    words      tsvector NOT NULL,
    -- JSON object that the client stores with the session
    metadata   jsonb NOT NULL DEFAULT '{}'::jsonb,
    -- Serves the statements that read or change a title or metadata
    CONSTRAINT session_titles_pkey PRIMARY KEY (user_id, session_id),
    CONSTRAINT session_titles_session_fkey
        FOREIGN KEY (user_id, session_id) REFERENCES sessions(user_id, id)
        ON DELETE CASCADE,
    CONSTRAINT session_titles_user_id_check
        CHECK (char_length(user_id) >= 1 AND char_length(user_id) <= 255)
) WITH (autovacuum_vacuum_scale_factor=0.02, autovacuum_vacuum_insert_scale_factor=0.02);

-- Serves rewrite_title_words and count_old_words: titles whose lexemes were made by older rules
CREATE INDEX session_titles_old_words_idx
    ON session_titles (user_id, session_id)
    WHERE NOT words @@ '''_2'''::tsquery;

-- Serves list_sessions filtered by `search`, to count the titles that hold a part of most of them without
-- reading their rows; and list_exported_sessions: a page of a user's sessions, oldest first
CREATE INDEX session_titles_user_id_created_at_title_idx
    ON session_titles (user_id, created_at, session_id) INCLUDE (title);

-- Serves list_sessions filtered by `metadata`
CREATE INDEX session_titles_user_id_metadata_idx
    ON session_titles USING gin (user_id, metadata jsonb_path_ops)
    WHERE metadata <> '{}'::jsonb;

-- Serves search, and list_sessions filtered by `search`
CREATE INDEX session_titles_user_id_words_idx
    ON session_titles USING gin (user_id, words)
    WITH (gin_pending_list_limit='1024');

-- The messages of a session, in the order of seq
CREATE TABLE messages (
    user_id          text COLLATE "C" NOT NULL,
    session_id       uuid NOT NULL,
    -- UUIDv7, or the id that the client chose; unique in the session
    id               uuid NOT NULL,
    created_at       timestamptz NOT NULL,
    response_time_ms double precision,
    -- Place in the session: 1, 2, 3 …; never changed, and not reused after a deletion
    seq              integer NOT NULL,
    token_count      integer NOT NULL,
    is_error         boolean NOT NULL,
    role             text NOT NULL,
    content          text NOT NULL,
    model_id         text,
    agent_name       text,
    -- SHA-256 of each image, in lower-case hexadecimal, a key of attachments
    images           text[] NOT NULL,
    -- Names of the documents of the message; their contents are not stored
    documents        text[] NOT NULL,
    -- Lexemes of the content, of the session and of the week; empty while the message streams
    words            tsvector NOT NULL DEFAULT ''::tsvector,
    -- Structured content, an array of objects as the client sent it; large data: URLs are replaced by links
    -- to attachments
    parts            json,
    -- JSON object that the client stores with the message
    metadata         jsonb NOT NULL DEFAULT '{}'::jsonb,
    -- streaming while the message grows and has no lexemes or sums; then complete or interrupted
    status           text NOT NULL DEFAULT 'complete'::text,
    -- Time of the last change; null if the message has not changed since created_at
    updated_at       timestamptz,
    -- seq of the message before it in its branch; 0 if it is the first; null if that is the message with the
    -- next lower seq
    parent_seq       integer,
    -- SHA-256 of each attachment that parts link to
    part_attachments text[] NOT NULL DEFAULT '{}'::text[],
    -- Serves list_messages and get_session: a range of a session, or the walk up a branch
    CONSTRAINT messages_pkey PRIMARY KEY (user_id, session_id, seq),
    CONSTRAINT messages_session_fkey
        FOREIGN KEY (user_id, session_id) REFERENCES sessions(user_id, id)
        ON DELETE CASCADE,
    CONSTRAINT messages_agent_name_check CHECK (char_length(agent_name) <= 100),
    CONSTRAINT messages_model_id_check CHECK (char_length(model_id) <= 255),
    CONSTRAINT messages_parent_seq_check CHECK (parent_seq >= 0 AND parent_seq < seq),
    CONSTRAINT messages_response_time_ms_check CHECK (response_time_ms >= 0::double precision),
    CONSTRAINT messages_role_check CHECK (role = ANY (ARRAY['user', 'assistant', 'system', 'tool'])),
    CONSTRAINT messages_seq_check CHECK (seq > 0),
    CONSTRAINT messages_status_check CHECK (status = ANY (ARRAY['complete', 'streaming', 'interrupted'])),
    CONSTRAINT messages_token_count_check CHECK (token_count >= 0)
) WITH (autovacuum_vacuum_scale_factor=0.02);

-- Serves clear_messages and delete_sessions: the few messages of a session with attachments
CREATE INDEX messages_attachments_idx
    ON messages (user_id, session_id)
    WHERE images <> '{}'::text[] OR part_attachments <> '{}'::text[];

-- Serves rewrite_message_words and count_old_words: messages whose lexemes were made by older rules
CREATE INDEX messages_old_words_idx
    ON messages (user_id, session_id, seq)
    WHERE NOT words @@ '''_2'''::tsquery;

-- Serves list_messages, get_session and delete_message of branched sessions: the messages that name their
-- parent, where a walk leaves the range that it reads
CREATE INDEX messages_parents_idx
    ON messages (user_id, session_id, seq) INCLUDE (parent_seq)
    WHERE parent_seq IS NOT NULL;

-- Serves list_abandoned_streams; a PATCH to a streaming message changes none of its columns and stays HOT
CREATE INDEX messages_streaming_idx
    ON messages (created_at)
    WHERE status = 'streaming';

-- Serves list_messages with max_tokens: system messages, whose tokens count before those of all others
CREATE INDEX messages_system_idx
    ON messages (user_id, session_id, seq)
    WHERE role = 'system';

-- Serves get_message, patch_message, delete_message, and all that name a message by its id
CREATE UNIQUE INDEX messages_user_id_session_id_id_key
    ON messages (user_id, session_id, id);

-- Serves search; user_id lets the planner estimate how few rows match
CREATE INDEX messages_user_id_words_idx
    ON messages USING gin (user_id, words)
    WITH (gin_pending_list_limit='1024');

-- Tells the planner that a session_id has one user_id: otherwise it expects one message a session, and reads
-- whole sessions by the wrong index
CREATE STATISTICS messages_user_id_session_id_stat (dependencies)
    ON user_id, session_id FROM messages;

-- An image or other file of a user's messages, stored once for each user and content
CREATE TABLE attachments (
    user_id         text COLLATE "C" NOT NULL,
    -- SHA-256 of the content, in lower-case hexadecimal
    sha256          text COLLATE "C" NOT NULL,
    -- Media type: of images found from their bytes, of other files as the client declared it
    content_type    text NOT NULL,
    size            integer NOT NULL,
    -- Number of messages that name it; the statement that makes it 0 is followed by one that deletes the row
    reference_count integer NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT now(),
    -- The bytes; images are compressed already, so PostgreSQL does not try to
    content         bytea NOT NULL,
    -- Name of a download: the first one that a message gave
    file_name       text,
    -- Serves get_attachment, and the statements that count references
    CONSTRAINT attachments_pkey PRIMARY KEY (user_id, sha256),
    CONSTRAINT attachments_content_type_check
        CHECK (content_type ~ '^[!-~]+/[!-~]+$' AND char_length(content_type) <= 255),
    CONSTRAINT attachments_file_name_check
        CHECK (char_length(file_name) >= 1 AND char_length(file_name) <= 255),
    CONSTRAINT attachments_reference_count_check CHECK (reference_count >= 0),
    CONSTRAINT attachments_sha256_check CHECK (sha256 ~ '^[0-9a-f]{64}$'),
    CONSTRAINT attachments_size_check CHECK (size = octet_length(content)),
    CONSTRAINT attachments_user_id_check CHECK (char_length(user_id) >= 1 AND char_length(user_id) <= 255)
);

ALTER TABLE attachments ALTER COLUMN content SET STORAGE EXTERNAL;

-- Serves sweep_attachments: attachments that no message names any more
CREATE INDEX attachments_unreferenced_idx
    ON attachments (user_id)
    WHERE reference_count = 0;

-- An Idempotency-Key that was used; removed after a day
CREATE TABLE idempotency_keys (
    user_id     text COLLATE "C" NOT NULL,
    -- The collection of the POST: sessions, sessions/batch, or sessions/<id>/messages
    path        text COLLATE "C" NOT NULL,
    key         text COLLATE "C" NOT NULL,
    -- SHA-256 of the parsed request body, which a retry must match
    fingerprint bytea NOT NULL,
    -- id of the session or first message that the request made
    id          uuid NOT NULL,
    -- seq of that message, written by releases before 0.2
    seq         integer,
    -- Time of the first request
    created_at  timestamptz NOT NULL,
    -- The parts of the first response that cannot be made from the body of a retry
    reply       json,
    -- Serves every request with an Idempotency-Key
    CONSTRAINT idempotency_keys_pkey PRIMARY KEY (user_id, path, key),
    CONSTRAINT idempotency_keys_key_check CHECK (char_length(key) >= 1 AND char_length(key) <= 255),
    CONSTRAINT idempotency_keys_user_id_check
        CHECK (char_length(user_id) >= 1 AND char_length(user_id) <= 255)
);

-- Serves delete_expired_keys, and sql/dba/maintain/purge_idempotency_keys.sql
CREATE INDEX idempotency_keys_created_at_idx
    ON idempotency_keys (created_at);

-- Sums over the messages of a session on a day, by agent and model; the statements that write messages
-- maintain them
CREATE TABLE daily_usage (
    user_id          text COLLATE "C" NOT NULL,
    session_id       uuid NOT NULL,
    -- Lower bound of their created_at; exact until a message is deleted
    first_at         timestamptz NOT NULL,
    -- Upper bound of their created_at; exact until a message is deleted
    last_at          timestamptz NOT NULL,
    token_count      bigint NOT NULL,
    -- Date of created_at in UTC
    day              date NOT NULL,
    -- Lower bound of their seq
    first_seq        integer NOT NULL,
    -- Upper bound of their seq
    last_seq         integer NOT NULL,
    -- Number of messages; 0 after all are deleted
    message_count    integer NOT NULL,
    -- Number of messages with is_error
    error_count      integer NOT NULL,
    -- Number of messages with a response_time_ms
    timed_count      integer NOT NULL,
    -- Messages of the sum: total, all of the day; assistant, those of the assistant; other, those of other
    -- roles that have a model
    part             text COLLATE "C" NOT NULL,
    -- Empty if the messages have none, and for total
    agent_name       text COLLATE "C" NOT NULL,
    -- Empty if the messages have none, and for total
    model_id         text COLLATE "C" NOT NULL,
    -- Sum of response_time_ms; numeric, so that subtracting a deleted message leaves no rounding error
    response_time_ms numeric NOT NULL,
    -- Serves the statements that add to the sums of a session and day
    CONSTRAINT daily_usage_pkey PRIMARY KEY (user_id, session_id, day, part, agent_name, model_id),
    CONSTRAINT daily_usage_session_fkey
        FOREIGN KEY (user_id, session_id) REFERENCES sessions(user_id, id)
        ON DELETE CASCADE,
    CONSTRAINT daily_usage_part_check CHECK (part = ANY (ARRAY['total', 'assistant', 'other']))
) WITH (fillfactor=80);

-- Serves the analytics: a user's sums over a range of days
CREATE INDEX daily_usage_user_id_part_day_idx
    ON daily_usage (user_id, part, day);

-- A row for each migration of sql/migrations that this database has
CREATE TABLE schema_migrations (
    version    integer NOT NULL,
    name       text NOT NULL,
    -- SHA-256 of the file; a released file never changes
    sha256     text NOT NULL,
    -- True if releases without this migration must not run on the schema
    breaking   boolean NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now(),
    applied_by text NOT NULL DEFAULT CURRENT_USER,
    -- Serves the comparison of the schema with the code at start
    CONSTRAINT schema_migrations_pkey PRIMARY KEY (version),
    CONSTRAINT schema_migrations_sha256_check CHECK (sha256 ~ '^[0-9a-f]{64}$'),
    CONSTRAINT schema_migrations_version_check CHECK (version > 0)
);
