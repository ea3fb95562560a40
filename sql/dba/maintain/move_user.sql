-- Moves all rows of one user to another user id, which may have rows. Not on Citus: export and import.
--
-- Usage:     psql -X "$DATABASE_URL" -v from=ann -v to=bob -f move_user.sql            counts what would move
--            psql -X "$DATABASE_URL" -v from=ann -v to=bob -v apply=1 -f move_user.sql moves
-- Variables: from   the user id to move from (no default)
--            to     the user id to move to (no default)
--            apply  1 to move (default 0)
-- Role:      maintenance
-- Safety:    writes; one transaction for each session, which locks the session and its attachments. Safe
--            while serving: afterwards the session is a 404 for its old owner. May be stopped and run again.
--            Stops at a session id that the other user has too. If both users have used an Idempotency-Key,
--            the key of the other user is kept.

\set ON_ERROR_STOP on
\set variables 'from! to! apply'
\ir ../prepare.psql

DO $$
BEGIN
    IF to_regclass('pg_catalog.pg_dist_node') IS NOT NULL THEN
        RAISE EXCEPTION 'not on Citus, where a user_id cannot change: use mai-sessions export and import';
    END IF;
END
$$;

\set required_user :from
\ir ../require_user.psql

SELECT u.user_id,
       (SELECT count(*) FROM sessions AS s WHERE s.user_id = u.user_id) AS sessions,
       (SELECT count(*) FROM messages AS m WHERE m.user_id = u.user_id) AS messages,
       (SELECT count(*) FROM attachments AS a WHERE a.user_id = u.user_id) AS attachments,
       (SELECT count(*) FROM idempotency_keys AS k WHERE k.user_id = u.user_id) AS idempotency_keys
  FROM unnest(ARRAY[:'from', :'to']) AS u (user_id);

\if :apply
SELECT set_config('mai_sessions.from', :'from', false) AS source,
       set_config('mai_sessions.to', :'to', false) AS target
\gset

DO $$
DECLARE
    source text    := current_setting('mai_sessions.from');
    target text    := current_setting('mai_sessions.to');
    -- The prefixes of a user's lexemes in mai_sessions/content/lexemes.py: the present one, and that of 0.1.
    old_target text := left(md5(current_setting('mai_sessions.to')), 5);
    new_target text :=
        translate(left(encode(decode(md5(current_setting('mai_sessions.to')), 'hex'), 'base64'), 3),
                  '+/', '-_');
    moving uuid;
    is_archived integer;
    total  bigint  := 0;
BEGIN
    -- The last step, so that no role fails there, after it has moved the sessions.
    IF NOT has_table_privilege('users', 'DELETE') THEN
        RAISE EXCEPTION 'permission denied: only the role maintenance and the owner may move a user';
    END IF;

    LOOP
        -- Lock in the order in which the service locks: the session, the counts of the users, attachments.
        SELECT id, archived::int INTO moving, is_archived
          FROM sessions WHERE user_id = source ORDER BY id LIMIT 1 FOR UPDATE;
        EXIT WHEN moving IS NULL;

        INSERT INTO sessions (user_id, id, title, agent_name, model_id, created_at, updated_at, version,
                              message_count, last_seq, newest_seq, last_message_preview, archived, head_seq,
                              head_id, is_branched, has_metadata)
        SELECT target, id, title, agent_name, model_id, created_at, updated_at, version, message_count,
               last_seq, newest_seq, last_message_preview, archived, head_seq, head_id,
               is_branched, has_metadata
          FROM sessions
         WHERE user_id = source AND id = moving;
        INSERT INTO users (user_id, session_count, archived_count) VALUES (target, 1, is_archived)
            ON CONFLICT (user_id) DO UPDATE
           SET session_count  = users.session_count + 1,
               archived_count = users.archived_count + excluded.archived_count;
        UPDATE users
           SET session_count  = session_count - 1,
               archived_count = archived_count - is_archived
         WHERE user_id = source;

        PERFORM FROM attachments AS a
          WHERE a.user_id = source
            AND a.sha256 IN (SELECT unnest(m.images || m.part_attachments) FROM messages AS m
                              WHERE m.user_id = source AND m.session_id = moving
                                AND (m.images <> '{}' OR m.part_attachments <> '{}'))
          ORDER BY a.sha256 FOR UPDATE;
        INSERT INTO attachments (user_id, sha256, content_type, size, reference_count, created_at, content,
                                 file_name)
        SELECT target, a.sha256, a.content_type, a.size, named.messages, a.created_at, a.content, a.file_name
          FROM (SELECT i AS sha256, count(DISTINCT m.seq) AS messages
                  FROM messages AS m, unnest(m.images || m.part_attachments) AS i
                 WHERE m.user_id = source AND m.session_id = moving
                   AND (m.images <> '{}' OR m.part_attachments <> '{}')
                 GROUP BY i) AS named
          JOIN attachments AS a ON a.user_id = source AND a.sha256 = named.sha256
         ORDER BY a.sha256
            ON CONFLICT (user_id, sha256) DO UPDATE
           SET reference_count = attachments.reference_count + excluded.reference_count;
        UPDATE attachments AS a
           SET reference_count = a.reference_count - named.messages
          FROM (SELECT i AS sha256, count(DISTINCT m.seq) AS messages
                  FROM messages AS m, unnest(m.images || m.part_attachments) AS i
                 WHERE m.user_id = source AND m.session_id = moving
                   AND (m.images <> '{}' OR m.part_attachments <> '{}')
                 GROUP BY i) AS named
         WHERE a.user_id = source AND a.sha256 = named.sha256;
        DELETE FROM attachments WHERE user_id = source AND reference_count = 0;

        UPDATE messages AS m
           SET user_id = target,
               words   = coalesce((
                   SELECT string_agg('''' || replace(replace(lexeme, '\', '\\'), '''', '''''') || ''''
                                     || coalesce(':' || (SELECT string_agg(p || w, ',')
                                                           FROM unnest(positions, weights) AS u (p, w)), ''),
                                     ' ')
                     FROM unnest(m.words) AS word (old_lexeme, positions, weights),
                          LATERAL (
                          SELECT CASE WHEN old_lexeme = '_2' THEN old_lexeme
                                      WHEN m.words @@ '''_2''' THEN new_target || substr(old_lexeme, 4)
                                      ELSE old_target || substr(old_lexeme, 6) END AS lexeme) AS l
                   )::tsvector, '')
         WHERE m.user_id = source AND m.session_id = moving;
        UPDATE session_titles AS t
           SET user_id = target,
               words   = coalesce((
                   SELECT string_agg('''' || replace(replace(lexeme, '\', '\\'), '''', '''''') || ''''
                                     || coalesce(':' || (SELECT string_agg(p || w, ',')
                                                           FROM unnest(positions, weights) AS u (p, w)), ''),
                                     ' ')
                     FROM unnest(t.words) AS word (old_lexeme, positions, weights),
                          LATERAL (
                          SELECT CASE WHEN old_lexeme = '_2' THEN old_lexeme
                                      WHEN t.words @@ '''_2''' THEN new_target || substr(old_lexeme, 4)
                                      ELSE old_target || substr(old_lexeme, 6) END AS lexeme) AS l
                   )::tsvector, '')
         WHERE t.user_id = source AND t.session_id = moving;
        UPDATE daily_usage SET user_id = target WHERE user_id = source AND session_id = moving;
        DELETE FROM sessions WHERE user_id = source AND id = moving;
        COMMIT;
        total := total + 1;
    END LOOP;

    WITH deleted AS (
        DELETE FROM idempotency_keys
         WHERE user_id = source
        RETURNING path, key, fingerprint, id, seq, created_at, reply)
    INSERT INTO idempotency_keys (user_id, path, key, fingerprint, id, seq, created_at, reply)
    SELECT target, path, key, fingerprint, id, seq, created_at, reply FROM deleted
        ON CONFLICT (user_id, path, key) DO NOTHING;
    DELETE FROM users WHERE user_id = source AND session_count = 0;
    PERFORM set_config('mai_sessions.result', total::text, false);
END
$$;

SELECT current_setting('mai_sessions.result')::bigint AS sessions_moved;
\else
\echo 'Nothing was moved. To move everything: -v apply=1'
\endif
