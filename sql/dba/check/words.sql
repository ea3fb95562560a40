-- Messages and titles whose lexemes are missing, belong to another user, or follow rules of older releases.
--
-- Usage:     psql -X "$DATABASE_URL" -f words.sql
-- Variables: user_id  check only this user's rows (default: all users)
-- Role:      readonly
-- Safety:    read only; reads the words of every message, which may take long. Safe while serving. A
--            message that is `streaming` has none yet. `mai-sessions reindex` rewrites the lexemes of older
--            rules, and writes those of messages older than migration 0004.

\set ON_ERROR_STOP on
\set variables 'user_id'
\ir ../prepare.psql

BEGIN READ ONLY;
SELECT w.user_id, w.session_id, w.seq,
       CASE WHEN w.words = '' THEN 'no words'
            WHEN l.old_key = ANY (l.lexemes) THEN 'words of older rules'
            ELSE 'words of another user or session'
             END AS problem
  FROM (SELECT user_id, session_id, seq, words FROM messages WHERE status <> 'streaming'
         UNION ALL
        SELECT user_id, session_id, NULL, words FROM session_titles) AS w
 CROSS JOIN LATERAL (
       SELECT translate(left(encode(decode(md5(w.user_id), 'hex'), 'base64'), 3), '+/', '-_') AS prefix) AS u
 CROSS JOIN LATERAL (
       SELECT u.prefix || '_s'
              || translate(encode(substr(uuid_send(w.session_id), 14), 'base64'), '+/', '-_') AS key,
              left(md5(w.user_id), 5) || '_s' || right(w.session_id::text, 12) AS old_key,
              tsvector_to_array(w.words) AS lexemes) AS l
 WHERE (:'user_id' = '' OR w.user_id = :'user_id')
   AND (NOT ARRAY['_2', l.key] <@ l.lexemes
        OR EXISTS (SELECT FROM unnest(l.lexemes) AS lexeme
                    WHERE lexeme <> '_2' AND NOT starts_with(lexeme, u.prefix)))
 ORDER BY w.user_id, w.session_id, w.seq;
\set found :ROW_COUNT
COMMIT;
