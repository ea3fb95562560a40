-- What the analytics read instead of the messages: their sums by session and day, and those parts of them that they
-- tell apart by agent and model.
-- The rows hang on a session, whose lock every writer of its messages holds already: no two writers queue here that would not queue
-- there, and what removes a session removes its sums.

CREATE TABLE daily_usage (
    user_id          text COLLATE "C" NOT NULL,
    session_id       uuid             NOT NULL,
    first_at         timestamptz      NOT NULL,
    last_at          timestamptz      NOT NULL,
    token_count      bigint           NOT NULL,
    day              date             NOT NULL,
    first_seq        integer          NOT NULL,
    last_seq         integer          NOT NULL,
    message_count    integer          NOT NULL,
    error_count      integer          NOT NULL,
    timed_count      integer          NOT NULL,
    part             text COLLATE "C" NOT NULL,
    agent_name       text COLLATE "C" NOT NULL,
    model_id         text COLLATE "C" NOT NULL,
    response_time_ms numeric          NOT NULL,
    CONSTRAINT daily_usage_pkey PRIMARY KEY (user_id, session_id, day, part, agent_name, model_id),
    CONSTRAINT daily_usage_session_fkey FOREIGN KEY (user_id, session_id) REFERENCES sessions (user_id, id) ON DELETE CASCADE,
    CONSTRAINT daily_usage_part_check CHECK (part IN ('total', 'assistant', 'other'))
) WITH (fillfactor = 80); -- room for the new version of a row beside the old one, so that an append enters no index

COMMENT ON TABLE daily_usage IS 'Sums of the messages of a session on a day; moved by the statements that write messages';
COMMENT ON COLUMN daily_usage.part
    IS 'Of which messages: all of the day (total), those of an assistant, or those of another role with a model (other)';
COMMENT ON COLUMN daily_usage.first_at IS 'No message of these was made before; after a removal it may be earlier than the first of them';
COMMENT ON COLUMN daily_usage.last_at IS 'No message of these was made after; after a removal it may be later than the last of them';
COMMENT ON COLUMN daily_usage.day IS 'Day of created_at in UTC';
COMMENT ON COLUMN daily_usage.first_seq IS 'No message of these has a lower seq';
COMMENT ON COLUMN daily_usage.last_seq IS 'No message of these has a higher seq';
COMMENT ON COLUMN daily_usage.message_count IS 'How many messages these are; 0 when all were removed';
COMMENT ON COLUMN daily_usage.error_count IS 'How many of them are an error';
COMMENT ON COLUMN daily_usage.timed_count IS 'How many of them have a response_time_ms';
COMMENT ON COLUMN daily_usage.agent_name IS 'Empty for none, and in a total';
COMMENT ON COLUMN daily_usage.model_id IS 'Empty for none, and in a total';
COMMENT ON COLUMN daily_usage.response_time_ms IS 'Sum over them; numeric, so that what was added can be taken away again without a trace';

-- Serves the analytics: the sums of a user's days.
CREATE INDEX daily_usage_user_id_part_day_idx ON daily_usage (user_id, part, day);

INSERT INTO daily_usage (user_id, session_id, day, part, agent_name, model_id, first_at, last_at, first_seq, last_seq,
                         message_count, token_count, error_count, timed_count, response_time_ms)
SELECT m.user_id, m.session_id, (m.created_at AT TIME ZONE 'UTC')::date, p.part, p.agent_name, p.model_id,
       min(m.created_at), max(m.created_at), min(m.seq), max(m.seq), count(*), sum(m.token_count),
       count(*) FILTER (WHERE m.is_error), count(m.response_time_ms), coalesce(sum(m.response_time_ms::numeric), 0)
  FROM messages AS m
 CROSS JOIN LATERAL (
       SELECT 'total' AS part, '' AS agent_name, '' AS model_id
        UNION ALL
       SELECT CASE m.role WHEN 'assistant' THEN 'assistant' ELSE 'other' END, coalesce(m.agent_name, ''), coalesce(m.model_id, '')
        WHERE m.role = 'assistant' OR m.model_id <> '') AS p
 GROUP BY 1, 2, 3, 4, 5, 6;
