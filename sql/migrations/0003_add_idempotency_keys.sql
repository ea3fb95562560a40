-- What a retry of a POST needs to be answered as the first time. The row holds nothing of what was said: the retry brings its body with
-- it, and the fingerprint proves that it is the same.

CREATE TABLE idempotency_keys (
    user_id     text COLLATE "C" NOT NULL,
    path        text COLLATE "C" NOT NULL,
    key         text COLLATE "C" NOT NULL,
    fingerprint bytea            NOT NULL,
    id          uuid             NOT NULL,
    seq         integer,
    created_at  timestamptz      NOT NULL,
    CONSTRAINT idempotency_keys_pkey PRIMARY KEY (user_id, path, key),
    CONSTRAINT idempotency_keys_user_id_check CHECK (char_length(user_id) BETWEEN 1 AND 255),
    CONSTRAINT idempotency_keys_key_check CHECK (char_length(key) BETWEEN 1 AND 255)
);

COMMENT ON TABLE idempotency_keys IS 'An Idempotency-Key that was used; forgotten after a day by sql/dba/maintain/purge_idempotency_keys.sql';
COMMENT ON COLUMN idempotency_keys.path IS 'What was posted to: sessions, or sessions/<id>/messages';
COMMENT ON COLUMN idempotency_keys.fingerprint IS 'SHA-256 of the body, as it was understood';
COMMENT ON COLUMN idempotency_keys.id IS 'Of the session or message that was made';
COMMENT ON COLUMN idempotency_keys.seq IS 'Of the message that was made';
COMMENT ON COLUMN idempotency_keys.created_at IS 'Of what was made';
