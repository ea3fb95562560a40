-- Sessions whose title has no row in session_titles, or an outdated one.
--
-- Usage:     psql -X "$DATABASE_URL" -f session_titles.sql
-- Variables: user_id  check only this user's rows (default: all users)
-- Role:      readonly
-- Safety:    read only; reads sessions and session_titles whole. Safe while serving. `mai-sessions reindex`
--            writes the row again, and maintain/repair_counters.sql corrects has_metadata. Before
--            PostgreSQL 18 only ASCII titles are compared.

\set ON_ERROR_STOP on
\set variables 'user_id'
\ir ../prepare.psql

BEGIN READ ONLY;
SELECT CASE WHEN current_setting('server_version_num')::int >= 180000
            THEN 'normalize(replace(replace(casefold(normalize(s.title, NFD) COLLATE pg_unicode_fast),'
                 '                          ''i'' || chr(775), ''i''), ''ı'', ''i''), NFC)'
            ELSE 'CASE WHEN s.title ~ ''^[\x01-\x7f]*$'' THEN lower(s.title) ELSE t.title END'
            END AS folded_title
\gset

SELECT s.user_id, s.id AS session_id, s.title, t.title AS searched,
       CASE WHEN t.title IS NULL THEN 'missing'
            WHEN t.words = '' THEN 'no words'
            WHEN t.created_at <> s.created_at THEN 'another created_at'
            WHEN t.metadata <> '{}' AND NOT s.has_metadata THEN 'has_metadata is false'
            ELSE 'another title' END AS problem
  FROM sessions AS s
  LEFT JOIN session_titles AS t ON t.user_id = s.user_id AND t.session_id = s.id
 WHERE (:'user_id' = '' OR s.user_id = :'user_id')
   AND (t.title IS NULL OR t.words = '' OR t.created_at <> s.created_at
        OR (t.metadata <> '{}' AND NOT s.has_metadata) OR t.title <> :folded_title)
 ORDER BY s.user_id, s.id;
\set found :ROW_COUNT
COMMIT;
