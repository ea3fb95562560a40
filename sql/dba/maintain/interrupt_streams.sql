-- Marks messages that are still streaming after some hours as interrupted; their content stays.
--
-- Usage:     psql -X "$DATABASE_URL" -f interrupt_streams.sql                 counts them
--            psql -X "$DATABASE_URL" -v apply=1 -f interrupt_streams.sql      marks them
-- Variables: apply  1 to mark them (default 0)
--            hours  time since the last PATCH after which a stream is abandoned (default 1)
-- Role:      maintenance
-- Safety:    writes; row locks on the messages that it marks. Safe while serving, may be stopped and run again. The service does this
--            by itself, and writes their words, too; `mai-sessions reindex` writes the words of those that are marked here.

\set ON_ERROR_STOP on
\set variables 'apply hours'
\if :{?hours} \else \set hours 1 \endif
\ir ../prepare.psql

SELECT count(*) AS streaming,
       count(*) FILTER (WHERE coalesce(updated_at, created_at) < now() - make_interval(hours => :hours)) AS abandoned
  FROM messages
 WHERE status = 'streaming';

\if :apply
UPDATE messages
   SET status = 'interrupted', updated_at = now()
 WHERE status = 'streaming' AND created_at < now() - make_interval(hours => :hours)
   AND coalesce(updated_at, created_at) < now() - make_interval(hours => :hours);
SELECT :ROW_COUNT AS messages_marked;
\else
\echo 'Nothing was marked. To mark them: -v apply=1'
\endif
