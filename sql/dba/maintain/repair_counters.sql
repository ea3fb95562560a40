-- Corrects all derived values: heads of sessions, daily_usage, counters of sessions, users and attachments.
--
-- Usage:     psql -X "$DATABASE_URL" -f repair_counters.sql                  prints what is wrong
--            psql -X "$DATABASE_URL" -v apply=1 -f repair_counters.sql       corrects it
-- Variables: apply    1 to write (default 0)
--            user_id  only this user's rows (default: all users)
-- Role:      maintenance
-- Safety:    writes; reads one user at a time, and locks one wrong row at a time, as an append does. Safe
--            while serving, may be stopped and run again. A corrected session gets a new ETag.

\set ON_ERROR_STOP on
\set variables 'apply user_id'
\ir ../prepare.psql

SELECT set_config('mai_sessions.apply', :'apply', false) AS apply,
       set_config('mai_sessions.user_id', :'user_id', false) AS user_id
\gset

DO $$
DECLARE
    apply          boolean := current_setting('mai_sessions.apply')::boolean;
    only_user      text    := current_setting('mai_sessions.user_id');
    owner          text    := '';
    wrong          record;
    stored         record;
    head           record;
    new_version    uuid;
    wrong_users    bigint  := 0;
    wrong_sessions bigint  := 0;
    wrong_sums     bigint  := 0;
    wrong_images   bigint  := 0;
BEGIN
    LOOP
        SELECT min(u.user_id) INTO owner
          FROM (SELECT min(user_id) AS user_id FROM users WHERE user_id > owner
                 UNION ALL
                SELECT min(user_id) FROM sessions WHERE user_id > owner
                 UNION ALL
                SELECT min(user_id) FROM attachments WHERE user_id > owner) AS u
         WHERE only_user = '';
        IF only_user <> '' THEN
            owner := only_user;
        END IF;
        EXIT WHEN owner IS NULL;

        FOR wrong IN
            SELECT s.id
              FROM sessions AS s
              LEFT JOIN (SELECT m.session_id, count(*) AS messages, max(m.seq) AS seq,
                                bool_or(m.is_elsewhere) AS is_branched,
                                bool_or(m.parent_seq > 0 AND NOT EXISTS (
                                    SELECT FROM messages AS p
                                     WHERE p.user_id = owner AND p.session_id = m.session_id
                                       AND p.seq = m.parent_seq)) AS has_lost
                           FROM (SELECT session_id, seq, parent_seq,
                                        parent_seq <> coalesce(lag(seq) OVER (
                                            PARTITION BY session_id ORDER BY seq), 0) AS is_elsewhere
                                   FROM messages WHERE user_id = owner) AS m
                          GROUP BY m.session_id) AS c
                ON c.session_id = s.id
              LEFT JOIN messages AS m
                ON m.user_id = owner AND m.session_id = s.id
               AND m.seq = CASE WHEN s.is_branched THEN s.head_seq ELSE c.seq END
              LEFT JOIN session_titles AS t ON t.user_id = owner AND t.session_id = s.id
             WHERE s.user_id = owner
               AND ((s.message_count, s.newest_seq) IS DISTINCT FROM (coalesce(c.messages, 0), c.seq)
                    OR (s.last_message_preview IS DISTINCT FROM left(m.content, 100)
                        AND m.status IS DISTINCT FROM 'streaming')
                    OR s.last_seq < c.seq
                    OR (s.head_id IS DISTINCT FROM m.id
                        AND (s.is_branched OR s.head_seq IS NOT DISTINCT FROM s.newest_seq))
                    OR (s.is_branched AND m.id IS NULL AND c.messages > 0)
                    OR (c.is_branched AND NOT s.is_branched) OR c.has_lost
                    OR (t.metadata <> '{}' AND NOT s.has_metadata))
        LOOP
            wrong_sessions := wrong_sessions + 1;
            CONTINUE WHEN NOT apply;
            -- Lock first, then count in a new snapshot: no append can come between the two.
            SELECT s.is_branched, s.head_seq INTO stored
              FROM sessions AS s WHERE s.user_id = owner AND s.id = wrong.id FOR UPDATE;
            -- A reader takes the nearest older message in place of a parent that is gone.
            UPDATE messages AS m
               SET parent_seq = coalesce((SELECT max(p.seq) FROM messages AS p
                                           WHERE p.user_id = owner AND p.session_id = wrong.id
                                             AND p.seq < m.parent_seq), 0)
             WHERE m.user_id = owner AND m.session_id = wrong.id AND m.parent_seq > 0
               AND NOT EXISTS (SELECT FROM messages AS p
                                WHERE p.user_id = owner AND p.session_id = wrong.id AND p.seq = m.parent_seq);
            -- The head that is stored, if that is a message and counts, or else the newest message.
            SELECT m.seq, m.id, left(m.content, 100) AS preview INTO head
              FROM messages AS m
             WHERE m.user_id = owner AND m.session_id = wrong.id
             ORDER BY (stored.is_branched AND m.seq = stored.head_seq) IS TRUE DESC, m.seq DESC
             LIMIT 1;
            new_version := gen_random_uuid();
            UPDATE sessions AS s
               SET message_count        = c.messages,
                   last_seq             = GREATEST(s.last_seq, c.seq),
                   newest_seq           = c.seq,
                   head_seq             = head.seq,
                   head_id              = head.id,
                   last_message_preview = head.preview,
                   is_branched          = s.is_branched OR c.is_branched,
                   has_metadata         = s.has_metadata OR c.has_metadata,
                   version              = new_version
              FROM (SELECT count(*) AS messages, max(m.seq) AS seq,
                           coalesce(bool_or(m.is_elsewhere), false) AS is_branched,
                           EXISTS (SELECT FROM session_titles AS t
                                    WHERE t.user_id = owner AND t.session_id = wrong.id
                                      AND t.metadata <> '{}') AS has_metadata
                      FROM (SELECT seq,
                                   parent_seq <> coalesce(lag(seq) OVER (ORDER BY seq), 0) AS is_elsewhere
                              FROM messages WHERE user_id = owner AND session_id = wrong.id) AS m) AS c
             WHERE s.user_id = owner AND s.id = wrong.id;
            COMMIT;
        END LOOP;

        FOR wrong IN
            WITH counted AS (
                SELECT m.session_id, (m.created_at AT TIME ZONE 'UTC')::date AS day,
                       p.part, p.agent_name, p.model_id,
                       min(m.created_at) AS first_at, max(m.created_at) AS last_at,
                       min(m.seq) AS first_seq, max(m.seq) AS last_seq,
                       count(*) AS message_count, sum(m.token_count) AS token_count,
                       count(*) FILTER (WHERE m.is_error) AS error_count,
                       count(m.response_time_ms) AS timed_count,
                       coalesce(sum(m.response_time_ms::numeric), 0) AS response_time_ms
                  FROM messages AS m
                 CROSS JOIN LATERAL (
                       SELECT 'total' AS part, '' AS agent_name, '' AS model_id
                        UNION ALL
                       SELECT CASE m.role WHEN 'assistant' THEN 'assistant' ELSE 'other' END,
                              coalesce(m.agent_name, ''), coalesce(m.model_id, '')
                        WHERE m.role = 'assistant' OR m.model_id <> '') AS p
                 WHERE m.user_id = owner
                 GROUP BY 1, 2, 3, 4, 5)
            SELECT DISTINCT session_id AS id
              FROM counted AS c
              FULL JOIN (SELECT session_id, day, part, agent_name, model_id, first_at, last_at,
                                first_seq, last_seq, message_count, token_count, error_count,
                                timed_count, response_time_ms
                           FROM daily_usage
                          WHERE user_id = owner) AS d
                   USING (session_id, day, part, agent_name, model_id)
             WHERE (d.message_count, d.token_count, d.error_count, d.timed_count, d.response_time_ms)
                   IS DISTINCT FROM (coalesce(c.message_count, 0), coalesce(c.token_count, 0),
                                     coalesce(c.error_count, 0), coalesce(c.timed_count, 0),
                                     coalesce(c.response_time_ms, 0))
                OR c.first_at < d.first_at OR c.last_at > d.last_at
                OR c.first_seq < d.first_seq OR c.last_seq > d.last_seq
        LOOP
            wrong_sums := wrong_sums + 1;
            CONTINUE WHEN NOT apply;
            PERFORM FROM sessions AS s WHERE s.user_id = owner AND s.id = wrong.id FOR UPDATE;
            CONTINUE WHEN NOT FOUND;
            DELETE FROM daily_usage WHERE user_id = owner AND session_id = wrong.id;
            INSERT INTO daily_usage (user_id, session_id, day, part, agent_name, model_id, first_at, last_at,
                                     first_seq, last_seq, message_count, token_count, error_count,
                                     timed_count, response_time_ms)
            SELECT m.user_id, m.session_id, (m.created_at AT TIME ZONE 'UTC')::date,
                   p.part, p.agent_name, p.model_id,
                   min(m.created_at), max(m.created_at), min(m.seq), max(m.seq), count(*), sum(m.token_count),
                   count(*) FILTER (WHERE m.is_error), count(m.response_time_ms),
                   coalesce(sum(m.response_time_ms::numeric), 0)
              FROM messages AS m
             CROSS JOIN LATERAL (
                   SELECT 'total' AS part, '' AS agent_name, '' AS model_id
                    UNION ALL
                   SELECT CASE m.role WHEN 'assistant' THEN 'assistant' ELSE 'other' END,
                          coalesce(m.agent_name, ''), coalesce(m.model_id, '')
                    WHERE m.role = 'assistant' OR m.model_id <> '') AS p
             WHERE m.user_id = owner AND m.session_id = wrong.id
             GROUP BY 1, 2, 3, 4, 5, 6;
            COMMIT;
        END LOOP;

        FOR wrong IN
            SELECT a.sha256
              FROM attachments AS a
              LEFT JOIN (SELECT i AS sha256, count(DISTINCT (session_id, seq)) AS messages
                           FROM messages, unnest(images || part_attachments) AS i
                          WHERE user_id = owner AND (images <> '{}' OR part_attachments <> '{}')
                          GROUP BY i) AS c
                ON c.sha256 = a.sha256
             WHERE a.user_id = owner AND a.reference_count <> coalesce(c.messages, 0)
        LOOP
            wrong_images := wrong_images + 1;
            CONTINUE WHEN NOT apply;
            PERFORM FROM attachments AS a WHERE a.user_id = owner AND a.sha256 = wrong.sha256 FOR UPDATE;
            UPDATE attachments AS a
               SET reference_count = (SELECT count(*) FROM messages
                                       WHERE user_id = owner AND (images <> '{}' OR part_attachments <> '{}')
                                         AND wrong.sha256 = ANY (images || part_attachments))
             WHERE a.user_id = owner AND a.sha256 = wrong.sha256;
            COMMIT;
        END LOOP;

        IF EXISTS (
            SELECT FROM (SELECT count(*) AS sessions, count(*) FILTER (WHERE s.archived) AS archived
                           FROM sessions AS s WHERE s.user_id = owner) AS c
              LEFT JOIN users AS u ON u.user_id = owner
             WHERE (c.sessions, c.archived)
                   IS DISTINCT FROM (coalesce(u.session_count, 0), coalesce(u.archived_count, 0))) THEN
            wrong_users := wrong_users + 1;
            IF apply THEN
                INSERT INTO users (user_id, session_count) VALUES (owner, 0) ON CONFLICT (user_id) DO NOTHING;
                PERFORM FROM users AS u WHERE u.user_id = owner FOR UPDATE;
                UPDATE users AS u
                   SET session_count  = (SELECT count(*) FROM sessions AS s WHERE s.user_id = owner),
                       archived_count = (SELECT count(*) FROM sessions AS s
                                          WHERE s.user_id = owner AND s.archived)
                 WHERE u.user_id = owner;
            END IF;
        END IF;
        COMMIT;
        EXIT WHEN only_user <> '';
    END LOOP;
    PERFORM set_config('mai_sessions.result', json_build_object(
        'sessions', wrong_sessions, 'daily_usage', wrong_sums,
        'attachments', wrong_images, 'users', wrong_users)::text, false);
END
$$;

SELECT r.sessions, r.daily_usage AS sessions_in_daily_usage, r.attachments, r.users,
       CASE WHEN :'apply' THEN 'repaired' ELSE 'found' END AS state
  FROM json_to_record(current_setting('mai_sessions.result')::json)
       AS r (sessions bigint, daily_usage bigint, attachments bigint, users bigint);

\if :apply \else \echo 'Nothing was written. To correct the values: -v apply=1' \endif
