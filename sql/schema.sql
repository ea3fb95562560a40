-- The schema after all migrations, to be read. `make schema` writes it.

CREATE EXTENSION IF NOT EXISTS btree_gin WITH SCHEMA public;

COMMENT ON EXTENSION btree_gin IS 'support for indexing common datatypes in GIN';

CREATE TABLE public.attachments (
    user_id text NOT NULL COLLATE pg_catalog."C",
    sha256 text NOT NULL COLLATE pg_catalog."C",
    content_type text NOT NULL,
    size integer NOT NULL,
    reference_count integer NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    content bytea NOT NULL,
    file_name text,
    CONSTRAINT attachments_content_type_check CHECK (((content_type ~ '^[!-~]+/[!-~]+$'::text) AND (char_length(content_type) <= 255))),
    CONSTRAINT attachments_file_name_check CHECK (((char_length(file_name) >= 1) AND (char_length(file_name) <= 255))),
    CONSTRAINT attachments_reference_count_check CHECK ((reference_count >= 0)),
    CONSTRAINT attachments_sha256_check CHECK ((sha256 ~ '^[0-9a-f]{64}$'::text)),
    CONSTRAINT attachments_size_check CHECK ((size = octet_length(content))),
    CONSTRAINT attachments_user_id_check CHECK (((char_length(user_id) >= 1) AND (char_length(user_id) <= 255)))
);
ALTER TABLE ONLY public.attachments ALTER COLUMN content SET STORAGE EXTERNAL;

COMMENT ON TABLE public.attachments IS 'An image or file that came with messages of its user';

COMMENT ON COLUMN public.attachments.sha256 IS 'Of the content, in lower-case hexadecimal';

COMMENT ON COLUMN public.attachments.reference_count IS 'Messages that name it; moved by the statements that make and delete them, and gone in the transaction that makes it 0';

COMMENT ON COLUMN public.attachments.file_name IS 'The name that a download is offered under; the first that a message gave it';

CREATE TABLE public.daily_usage (
    user_id text NOT NULL COLLATE pg_catalog."C",
    session_id uuid NOT NULL,
    first_at timestamp with time zone NOT NULL,
    last_at timestamp with time zone NOT NULL,
    token_count bigint NOT NULL,
    day date NOT NULL,
    first_seq integer NOT NULL,
    last_seq integer NOT NULL,
    message_count integer NOT NULL,
    error_count integer NOT NULL,
    timed_count integer NOT NULL,
    part text NOT NULL COLLATE pg_catalog."C",
    agent_name text NOT NULL COLLATE pg_catalog."C",
    model_id text NOT NULL COLLATE pg_catalog."C",
    response_time_ms numeric NOT NULL,
    CONSTRAINT daily_usage_part_check CHECK ((part = ANY (ARRAY['total'::text, 'assistant'::text, 'other'::text])))
)
WITH (fillfactor='80');

COMMENT ON TABLE public.daily_usage IS 'Sums of the messages of a session on a day; moved by the statements that write messages';

COMMENT ON COLUMN public.daily_usage.first_at IS 'No message of these was made before; after a removal it may be earlier than the first of them';

COMMENT ON COLUMN public.daily_usage.last_at IS 'No message of these was made after; after a removal it may be later than the last of them';

COMMENT ON COLUMN public.daily_usage.day IS 'Day of created_at in UTC';

COMMENT ON COLUMN public.daily_usage.first_seq IS 'No message of these has a lower seq';

COMMENT ON COLUMN public.daily_usage.last_seq IS 'No message of these has a higher seq';

COMMENT ON COLUMN public.daily_usage.message_count IS 'How many messages these are; 0 when all were removed';

COMMENT ON COLUMN public.daily_usage.error_count IS 'How many of them are an error';

COMMENT ON COLUMN public.daily_usage.timed_count IS 'How many of them have a response_time_ms';

COMMENT ON COLUMN public.daily_usage.part IS 'Of which messages: all of the day (total), those of an assistant, or those of another role with a model (other)';

COMMENT ON COLUMN public.daily_usage.agent_name IS 'Empty for none, and in a total';

COMMENT ON COLUMN public.daily_usage.model_id IS 'Empty for none, and in a total';

COMMENT ON COLUMN public.daily_usage.response_time_ms IS 'Sum over them; numeric, so that what was added can be taken away again without a trace';

CREATE TABLE public.idempotency_keys (
    user_id text NOT NULL COLLATE pg_catalog."C",
    path text NOT NULL COLLATE pg_catalog."C",
    key text NOT NULL COLLATE pg_catalog."C",
    fingerprint bytea NOT NULL,
    id uuid NOT NULL,
    seq integer,
    created_at timestamp with time zone NOT NULL,
    reply json,
    CONSTRAINT idempotency_keys_key_check CHECK (((char_length(key) >= 1) AND (char_length(key) <= 255))),
    CONSTRAINT idempotency_keys_user_id_check CHECK (((char_length(user_id) >= 1) AND (char_length(user_id) <= 255)))
);

COMMENT ON TABLE public.idempotency_keys IS 'An Idempotency-Key that was used; forgotten after a day by sql/dba/maintain/purge_idempotency_keys.sql';

COMMENT ON COLUMN public.idempotency_keys.path IS 'What was posted to: sessions, or sessions/<id>/messages';

COMMENT ON COLUMN public.idempotency_keys.fingerprint IS 'SHA-256 of the body, as it was understood';

COMMENT ON COLUMN public.idempotency_keys.id IS 'Of the session or message that was made';

COMMENT ON COLUMN public.idempotency_keys.seq IS 'Of the message that was made';

COMMENT ON COLUMN public.idempotency_keys.created_at IS 'Of what was made';

COMMENT ON COLUMN public.idempotency_keys.reply IS 'What the body of a retry cannot tell of the first reply';

CREATE TABLE public.messages (
    user_id text NOT NULL COLLATE pg_catalog."C",
    session_id uuid NOT NULL,
    id uuid NOT NULL,
    created_at timestamp with time zone NOT NULL,
    response_time_ms double precision,
    seq integer NOT NULL,
    token_count integer NOT NULL,
    is_error boolean NOT NULL,
    role text NOT NULL,
    content text NOT NULL,
    model_id text,
    agent_name text,
    images text[] NOT NULL,
    documents text[] NOT NULL,
    words tsvector DEFAULT ''::tsvector NOT NULL,
    parts json,
    metadata jsonb DEFAULT '{}'::jsonb NOT NULL,
    status text DEFAULT 'complete'::text NOT NULL,
    updated_at timestamp with time zone,
    parent_seq integer,
    part_attachments text[] DEFAULT '{}'::text[] NOT NULL,
    CONSTRAINT messages_agent_name_check CHECK ((char_length(agent_name) <= 100)),
    CONSTRAINT messages_model_id_check CHECK ((char_length(model_id) <= 255)),
    CONSTRAINT messages_parent_seq_check CHECK (((parent_seq >= 0) AND (parent_seq < seq))),
    CONSTRAINT messages_response_time_ms_check CHECK ((response_time_ms >= (0)::double precision)),
    CONSTRAINT messages_role_check CHECK ((role = ANY (ARRAY['user'::text, 'assistant'::text, 'system'::text, 'tool'::text]))),
    CONSTRAINT messages_seq_check CHECK ((seq > 0)),
    CONSTRAINT messages_status_check CHECK ((status = ANY (ARRAY['complete'::text, 'streaming'::text, 'interrupted'::text]))),
    CONSTRAINT messages_token_count_check CHECK ((token_count >= 0))
)
WITH (autovacuum_vacuum_scale_factor='0.02');

COMMENT ON TABLE public.messages IS 'What was said in a session, in the order of seq';

COMMENT ON COLUMN public.messages.seq IS 'Place in the session: 1, 2, 3 …; never moved or given again';

COMMENT ON COLUMN public.messages.images IS 'The sha256 of each image that came with the message, in lower-case hexadecimal';

COMMENT ON COLUMN public.messages.documents IS 'Names of the documents that came with the message';

COMMENT ON COLUMN public.messages.words IS 'The words of the content, and keys of its session and week; written with the content';

COMMENT ON COLUMN public.messages.parts IS 'The structured content as the client gave it, an array of objects; a large data: URL in it is a link';

COMMENT ON COLUMN public.messages.metadata IS 'What the client keeps about the message; merged by a PATCH';

COMMENT ON COLUMN public.messages.status IS 'complete, or streaming while its PATCHes write no words and no sums, or interrupted';

COMMENT ON COLUMN public.messages.updated_at IS 'When it was last changed; null: never since created_at';

COMMENT ON COLUMN public.messages.parent_seq IS 'seq of the message before it in its branch; 0: none; null: the one with the next lower seq';

COMMENT ON COLUMN public.messages.part_attachments IS 'The sha256 of each attachment that parts link to';

CREATE TABLE public.schema_migrations (
    version integer NOT NULL,
    name text NOT NULL,
    sha256 text NOT NULL,
    breaking boolean NOT NULL,
    applied_at timestamp with time zone DEFAULT now() NOT NULL,
    applied_by text DEFAULT CURRENT_USER NOT NULL,
    CONSTRAINT schema_migrations_sha256_check CHECK ((sha256 ~ '^[0-9a-f]{64}$'::text)),
    CONSTRAINT schema_migrations_version_check CHECK ((version > 0))
);

COMMENT ON TABLE public.schema_migrations IS 'One row for each file of sql/migrations that this database has';

CREATE TABLE public.session_titles (
    user_id text NOT NULL COLLATE pg_catalog."C",
    session_id uuid NOT NULL,
    created_at timestamp with time zone NOT NULL,
    title text NOT NULL COLLATE pg_catalog."C",
    words tsvector NOT NULL,
    metadata jsonb DEFAULT '{}'::jsonb NOT NULL,
    CONSTRAINT session_titles_user_id_check CHECK (((char_length(user_id) >= 1) AND (char_length(user_id) <= 255)))
);

COMMENT ON TABLE public.session_titles IS 'What stands still while a session grows: its title as it is searched, and its metadata';

COMMENT ON COLUMN public.session_titles.created_at IS 'Of the session';

COMMENT ON COLUMN public.session_titles.title IS 'In folded case';

COMMENT ON COLUMN public.session_titles.words IS 'The words of the title, and its pieces of one to three characters';

COMMENT ON COLUMN public.session_titles.metadata IS 'What the client keeps about the session; merged by a PATCH, filtered by a list';

CREATE TABLE public.sessions (
    user_id text NOT NULL COLLATE pg_catalog."C",
    id uuid NOT NULL,
    title text NOT NULL,
    agent_name text NOT NULL,
    model_id text,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    version uuid NOT NULL,
    message_count integer DEFAULT 0 NOT NULL,
    last_seq integer DEFAULT 0 NOT NULL,
    newest_seq integer,
    last_message_preview text,
    archived boolean DEFAULT false NOT NULL,
    is_branched boolean DEFAULT false NOT NULL,
    has_metadata boolean DEFAULT false NOT NULL,
    head_seq integer,
    head_id uuid,
    CONSTRAINT sessions_agent_name_check CHECK ((char_length(agent_name) <= 100)),
    CONSTRAINT sessions_last_message_preview_check CHECK ((char_length(last_message_preview) <= 100)),
    CONSTRAINT sessions_message_count_check CHECK (((message_count >= 0) AND (message_count <= last_seq))),
    CONSTRAINT sessions_model_id_check CHECK ((char_length(model_id) <= 255)),
    CONSTRAINT sessions_title_check CHECK ((char_length(title) <= 255)),
    CONSTRAINT sessions_user_id_check CHECK (((char_length(user_id) >= 1) AND (char_length(user_id) <= 255)))
)
WITH (autovacuum_vacuum_scale_factor='0.02');

COMMENT ON TABLE public.sessions IS 'A chat; what a list shows of it stands on its row';

COMMENT ON COLUMN public.sessions.version IS 'A new value with every write to the session or its messages; the ETag';

COMMENT ON COLUMN public.sessions.message_count IS 'Rows of this session in messages; moved by the statements that make and delete them';

COMMENT ON COLUMN public.sessions.last_seq IS 'The highest seq ever given to a message of this session';

COMMENT ON COLUMN public.sessions.newest_seq IS 'The seq of the newest message that is still there';

COMMENT ON COLUMN public.sessions.last_message_preview IS 'The first 100 characters of that message';

COMMENT ON COLUMN public.sessions.archived IS 'A default list leaves it out';

COMMENT ON COLUMN public.sessions.is_branched IS 'Some message has another parent than the one before it, or the head is not the newest message';

COMMENT ON COLUMN public.sessions.has_metadata IS 'session_titles has metadata of it: without, a list need not look there';

COMMENT ON COLUMN public.sessions.head_seq IS 'seq of the newest message of the branch that is shown; where nothing is branched newest_seq counts';

COMMENT ON COLUMN public.sessions.head_id IS 'The id of the message at head_seq';

CREATE TABLE public.users (
    user_id text NOT NULL COLLATE pg_catalog."C",
    session_count bigint NOT NULL,
    archived_count bigint DEFAULT 0 NOT NULL,
    CONSTRAINT users_session_count_check CHECK ((session_count >= 0)),
    CONSTRAINT users_user_id_check CHECK (((char_length(user_id) >= 1) AND (char_length(user_id) <= 255)))
);

COMMENT ON TABLE public.users IS 'One row for each user who ever had a session';

COMMENT ON COLUMN public.users.session_count IS 'Rows of this user in sessions; moved by the statements that make and delete them';

COMMENT ON COLUMN public.users.archived_count IS 'How many of the sessions are archived';

ALTER TABLE ONLY public.attachments
    ADD CONSTRAINT attachments_pkey PRIMARY KEY (user_id, sha256);

ALTER TABLE ONLY public.daily_usage
    ADD CONSTRAINT daily_usage_pkey PRIMARY KEY (user_id, session_id, day, part, agent_name, model_id);

ALTER TABLE ONLY public.idempotency_keys
    ADD CONSTRAINT idempotency_keys_pkey PRIMARY KEY (user_id, path, key);

ALTER TABLE ONLY public.messages
    ADD CONSTRAINT messages_pkey PRIMARY KEY (user_id, session_id, seq);

ALTER TABLE ONLY public.schema_migrations
    ADD CONSTRAINT schema_migrations_pkey PRIMARY KEY (version);

ALTER TABLE ONLY public.session_titles
    ADD CONSTRAINT session_titles_pkey PRIMARY KEY (user_id, session_id);

ALTER TABLE ONLY public.sessions
    ADD CONSTRAINT sessions_pkey PRIMARY KEY (user_id, id);

ALTER TABLE ONLY public.users
    ADD CONSTRAINT users_pkey PRIMARY KEY (user_id);

CREATE INDEX attachments_unreferenced_idx ON public.attachments USING btree (user_id) WHERE (reference_count = 0);

CREATE INDEX daily_usage_user_id_part_day_idx ON public.daily_usage USING btree (user_id, part, day);

CREATE INDEX idempotency_keys_created_at_idx ON public.idempotency_keys USING btree (created_at);

CREATE INDEX messages_attachments_idx ON public.messages USING btree (user_id, session_id) WHERE ((images <> '{}'::text[]) OR (part_attachments <> '{}'::text[]));

CREATE INDEX messages_old_words_idx ON public.messages USING btree (user_id, session_id, seq) WHERE (NOT (words @@ '''_2'''::tsquery));

CREATE INDEX messages_streaming_idx ON public.messages USING btree (created_at) WHERE (status = 'streaming'::text);

CREATE UNIQUE INDEX messages_user_id_session_id_id_key ON public.messages USING btree (user_id, session_id, id);

CREATE INDEX messages_user_id_words_idx ON public.messages USING gin (user_id, words) WITH (gin_pending_list_limit='1024');

CREATE INDEX session_titles_old_words_idx ON public.session_titles USING btree (user_id, session_id) WHERE (NOT (words @@ '''_2'''::tsquery));

CREATE INDEX session_titles_user_id_created_at_idx ON public.session_titles USING btree (user_id, created_at, session_id);

CREATE INDEX session_titles_user_id_metadata_idx ON public.session_titles USING gin (user_id, metadata jsonb_path_ops) WHERE (metadata <> '{}'::jsonb);

CREATE INDEX session_titles_user_id_words_idx ON public.session_titles USING gin (user_id, words) WITH (gin_pending_list_limit='1024');

CREATE INDEX sessions_user_id_archived_updated_at_id_idx ON public.sessions USING btree (user_id, archived, updated_at DESC, id DESC);

CREATE STATISTICS public.messages_user_id_session_id_stat (dependencies) ON user_id, session_id FROM public.messages;

ALTER TABLE ONLY public.daily_usage
    ADD CONSTRAINT daily_usage_session_fkey FOREIGN KEY (user_id, session_id) REFERENCES public.sessions(user_id, id) ON DELETE CASCADE;

ALTER TABLE ONLY public.messages
    ADD CONSTRAINT messages_session_fkey FOREIGN KEY (user_id, session_id) REFERENCES public.sessions(user_id, id) ON DELETE CASCADE;

ALTER TABLE ONLY public.session_titles
    ADD CONSTRAINT session_titles_session_fkey FOREIGN KEY (user_id, session_id) REFERENCES public.sessions(user_id, id) ON DELETE CASCADE;
