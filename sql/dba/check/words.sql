-- Messages and titles that a search does not find, or finds for another user.
--
-- Usage:     psql -X "$DATABASE_URL" -f words.sql
-- Variables: user_id  whose rows are checked (default: everybody's)
-- Role:      readonly
-- Safety:    read only; reads the words of every message, which may take long. Safe while serving.
--            A PATCH of the content or title writes them anew; messages older than migration 0004 have none.

\set ON_ERROR_STOP on
\set variables 'user_id'
\ir ../prepare.psql

BEGIN READ ONLY;
SELECT w.user_id, w.session_id, w.seq,
       CASE WHEN w.words = '' THEN 'no words' ELSE 'words of another user or session' END AS problem
  FROM (SELECT user_id, session_id, seq, words FROM messages
         UNION ALL
        SELECT user_id, session_id, NULL, words FROM session_titles) AS w
 CROSS JOIN LATERAL (SELECT left(md5(w.user_id), 5) AS scope, tsvector_to_array(w.words) AS lexemes) AS l
 WHERE (:'user_id' = '' OR w.user_id = :'user_id')
   AND (l.scope || '_s' || right(w.session_id::text, 12) <> ALL (l.lexemes)
        OR EXISTS (SELECT FROM unnest(l.lexemes) AS lexeme WHERE NOT starts_with(lexeme, l.scope)))
 ORDER BY w.user_id, w.session_id, w.seq;
\set found :ROW_COUNT
COMMIT;
