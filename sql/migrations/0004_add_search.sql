-- What is searched. The service cuts texts into words itself (mai_sessions/words.py says how and why), so that PostgreSQL's locale and
-- version do not matter, and writes them with the row. Rows that stand here already are not found until they are written again.

CREATE EXTENSION IF NOT EXISTS btree_gin;

ALTER TABLE messages ADD COLUMN words tsvector NOT NULL DEFAULT '';

COMMENT ON COLUMN messages.words IS 'The words of the content, and keys of its session and week; written with the content';

-- Not on sessions: each append moves updated_at there, which an index orders by, and would enter every index of the row again.
CREATE TABLE session_titles (
    user_id    text COLLATE "C" NOT NULL,
    session_id uuid             NOT NULL,
    created_at timestamptz      NOT NULL,
    title      text COLLATE "C" NOT NULL,
    words      tsvector         NOT NULL,
    CONSTRAINT session_titles_pkey PRIMARY KEY (user_id, session_id),
    CONSTRAINT session_titles_session_fkey FOREIGN KEY (user_id, session_id) REFERENCES sessions (user_id, id) ON DELETE CASCADE,
    CONSTRAINT session_titles_user_id_check CHECK (char_length(user_id) BETWEEN 1 AND 255)
);

COMMENT ON TABLE session_titles IS 'The title of each session, as it is searched; written by the statements that make and rename sessions';
COMMENT ON COLUMN session_titles.created_at IS 'Of the session';
COMMENT ON COLUMN session_titles.title IS 'In folded case';
COMMENT ON COLUMN session_titles.words IS 'The words of the title, and its pieces of one to three characters';

INSERT INTO session_titles (user_id, session_id, created_at, title, words)
SELECT user_id, id, created_at, lower(title), '' FROM sessions;

-- Serves search, and list_sessions with search. Trigrams (pg_trgm) would read the whole index for a part of one or two characters.
CREATE INDEX session_titles_user_id_words_idx ON session_titles USING gin (user_id, words);
