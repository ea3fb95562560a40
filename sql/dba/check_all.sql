-- Runs every check of check/ and ends with one line for monitoring; exits with 0 if no check found a row.
--
-- Usage:     psql -X "$DATABASE_URL" -f check_all.sql
-- Variables: user_id  check only this user's rows (default: all users)
-- Role:      readonly
-- Safety:    read only; reads all tables, contents of attachments included, which may take long. Safe while
--            serving. Exit codes: 0 if no check found a row, 3 if one did or failed, 2 without a connection.

\set ON_ERROR_STOP on
\set variables 'user_id'
\ir prepare.psql
\set is_checked t

\o /dev/null
\ir check/attachment_contents.sql
\set attachment_contents :found
\ir check/attachments.sql
\set attachments :found
\ir check/branches.sql
\set branches :found
\ir check/daily_usage.sql
\set daily_usage :found
\ir check/message_counts.sql
\set message_counts :found
\ir check/newest_messages.sql
\set newest_messages :found
\ir check/orphans.sql
\set orphans :found
\ir check/seqs.sql
\set seqs :found
\ir check/session_counts.sql
\set session_counts :found
\ir check/session_titles.sql
\set session_titles :found
\ir check/words.sql
\set words :found
\o
\unset is_checked

SELECT set_config('mai_sessions.problem',
                  coalesce(string_agg(name || ' ' || rows, ', ' ORDER BY name), ''), false) AS problem
  FROM (VALUES ('attachment_contents', :attachment_contents),
               ('attachments', :attachments),
               ('branches', :branches),
               ('daily_usage', :daily_usage),
               ('message_counts', :message_counts),
               ('newest_messages', :newest_messages),
               ('orphans', :orphans),
               ('seqs', :seqs),
               ('session_counts', :session_counts),
               ('session_titles', :session_titles),
               ('words', :words)) AS f (name, rows)
 WHERE rows > 0
\gset

DO $$
BEGIN
    IF current_setting('mai_sessions.problem') <> '' THEN
        RAISE EXCEPTION 'rows found by the scripts of check/: %', current_setting('mai_sessions.problem');
    END IF;
END
$$;
\echo 'OK: no check found a row'
