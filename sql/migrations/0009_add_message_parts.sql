-- What frontends and agents keep of a message beside its text, and branches.
-- Each column is nullable or has a constant default, so no row is written and the release before goes on.

ALTER TABLE messages
    ADD COLUMN parts            json,
    ADD COLUMN metadata         jsonb  NOT NULL DEFAULT '{}',
    ADD COLUMN status           text   NOT NULL DEFAULT 'complete',
    ADD COLUMN updated_at       timestamptz,
    ADD COLUMN parent_seq       integer,
    ADD COLUMN part_attachments text[] NOT NULL DEFAULT '{}';

COMMENT ON COLUMN messages.parts IS 'The structured content as the client gave it, an array of objects; a large data: URL in it is a link';
COMMENT ON COLUMN messages.metadata IS 'What the client keeps about the message; merged by a PATCH';
COMMENT ON COLUMN messages.status IS 'complete, or streaming while its PATCHes write no words and no sums, or interrupted';
COMMENT ON COLUMN messages.updated_at IS 'When it was last changed; null: never since created_at';
COMMENT ON COLUMN messages.parent_seq IS 'seq of the message before it in its branch; 0: none; null: the one with the next lower seq';
COMMENT ON COLUMN messages.part_attachments IS 'The sha256 of each attachment that parts link to';

-- One at a time: on Citus an ADD CONSTRAINT stands alone.
ALTER TABLE messages ADD CONSTRAINT messages_status_check CHECK (status IN ('complete', 'streaming', 'interrupted')) NOT VALID;
ALTER TABLE messages ADD CONSTRAINT messages_parent_seq_check CHECK (parent_seq >= 0 AND parent_seq < seq) NOT VALID;

ALTER TABLE sessions
    ADD COLUMN archived     boolean NOT NULL DEFAULT false,
    ADD COLUMN is_branched  boolean NOT NULL DEFAULT false,
    ADD COLUMN has_metadata boolean NOT NULL DEFAULT false,
    ADD COLUMN head_seq     integer,
    ADD COLUMN head_id      uuid;

COMMENT ON COLUMN sessions.archived IS 'A default list leaves it out';
COMMENT ON COLUMN sessions.is_branched IS 'Some message has another parent than the one before it, or the head is not the newest message';
COMMENT ON COLUMN sessions.has_metadata IS 'session_titles has metadata of it: without, a list need not look there';
COMMENT ON COLUMN sessions.head_seq IS 'seq of the newest message of the branch that is shown; where nothing is branched newest_seq counts';
COMMENT ON COLUMN sessions.head_id IS 'The id of the message at head_seq';

ALTER TABLE session_titles ADD COLUMN metadata jsonb NOT NULL DEFAULT '{}';

COMMENT ON TABLE session_titles IS 'What stands still while a session grows: its title as it is searched, and its metadata';
COMMENT ON COLUMN session_titles.metadata IS 'What the client keeps about the session; merged by a PATCH, filtered by a list';

ALTER TABLE users ADD COLUMN archived_count bigint NOT NULL DEFAULT 0;

COMMENT ON COLUMN users.archived_count IS 'How many of the sessions are archived';

ALTER TABLE attachments ADD COLUMN file_name text;

COMMENT ON TABLE attachments IS 'An image or file that came with messages of its user';
COMMENT ON COLUMN attachments.file_name IS 'The name that a download is offered under; the first that a message gave it';

-- squawk-ignore ban-drop-constraint
ALTER TABLE attachments DROP CONSTRAINT attachments_content_type_check;
ALTER TABLE attachments
    ADD CONSTRAINT attachments_content_type_check
        CHECK (content_type ~ '^[!-~]+/[!-~]+$' AND char_length(content_type) <= 255) NOT VALID;
ALTER TABLE attachments ADD CONSTRAINT attachments_file_name_check CHECK (char_length(file_name) BETWEEN 1 AND 255) NOT VALID;

ALTER TABLE idempotency_keys ADD COLUMN reply json;

COMMENT ON COLUMN idempotency_keys.reply IS 'What the body of a retry cannot tell of the first reply';
