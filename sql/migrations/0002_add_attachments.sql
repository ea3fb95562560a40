-- The images that come with messages: one row per user and content, however many messages name it.

CREATE TABLE attachments (
    user_id         text COLLATE "C" NOT NULL,
    sha256          text COLLATE "C" NOT NULL,
    content_type    text             NOT NULL,
    size            integer          NOT NULL,
    reference_count integer          NOT NULL,
    created_at      timestamptz      NOT NULL DEFAULT now(),
    content         bytea            NOT NULL,
    CONSTRAINT attachments_pkey PRIMARY KEY (user_id, sha256),
    CONSTRAINT attachments_user_id_check CHECK (char_length(user_id) BETWEEN 1 AND 255),
    CONSTRAINT attachments_sha256_check CHECK (sha256 ~ '^[0-9a-f]{64}$'),
    CONSTRAINT attachments_content_type_check
        CHECK (content_type IN ('image/png', 'image/jpeg', 'image/gif', 'image/webp', 'image/avif')),
    CONSTRAINT attachments_size_check CHECK (size = octet_length(content)),
    CONSTRAINT attachments_reference_count_check CHECK (reference_count >= 0)
);

COMMENT ON TABLE attachments IS 'An image that came with messages of its user';
COMMENT ON COLUMN attachments.sha256 IS 'Of the content, in lower-case hexadecimal';
COMMENT ON COLUMN attachments.reference_count
    IS 'Messages that name it; moved by the statements that make and delete them, and gone in the transaction that makes it 0';

-- Images are compressed as they are.
ALTER TABLE attachments ALTER COLUMN content SET STORAGE EXTERNAL;

-- Serves sweep_attachments: what a removal has left without a reference.
CREATE INDEX attachments_unreferenced_idx ON attachments (user_id) WHERE reference_count = 0;
