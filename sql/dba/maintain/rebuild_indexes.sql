-- Rebuilds indexes concurrently: removes bloat, and replaces the invalid index of an interrupted build.
--
-- Usage:     psql -X "$DATABASE_URL" -f rebuild_indexes.sql                 lists them with their sizes
--            psql -X "$DATABASE_URL" -v apply=1 -f rebuild_indexes.sql      rebuilds all, smallest first
--            psql -X "$DATABASE_URL" -v apply=1 -v like='messages%' -f rebuild_indexes.sql
-- Variables: apply  1 to rebuild (default 0)
--            like   pattern of the names of the indexes (default %)
-- Role:      owner
-- Safety:    writes; REINDEX CONCURRENTLY, which waits for older transactions and blocks neither reads nor
--            writes. Safe while serving, may be stopped and run again. Needs disk space for a copy of the
--            largest index, and much I/O: avoid peak hours.

\set ON_ERROR_STOP on
\set variables 'apply like'
\if :{?like} \else \set like % \endif
\ir ../prepare.psql

SELECT i.indexrelid::regclass AS index, pg_size_pretty(pg_relation_size(i.indexrelid)) AS size,
       i.indisvalid AS valid
  FROM pg_index AS i
  JOIN pg_class AS c ON c.oid = i.indexrelid
 WHERE c.relnamespace = 'public'::regnamespace AND c.relname LIKE :'like'
 ORDER BY pg_relation_size(i.indexrelid);

\if :apply
-- The remains of an interrupted rebuild: PostgreSQL calls them <name>_ccnew or <name>_ccold.
SELECT format('DROP INDEX CONCURRENTLY %s', i.indexrelid::regclass)
  FROM pg_index AS i
  JOIN pg_class AS c ON c.oid = i.indexrelid
 WHERE c.relnamespace = 'public'::regnamespace AND c.relname LIKE :'like' AND c.relname ~ '_cc(new|old)\d*$'
   AND NOT i.indisvalid
\gexec

\set ECHO queries
SELECT format('REINDEX INDEX CONCURRENTLY %s', i.indexrelid::regclass)
  FROM pg_index AS i
  JOIN pg_class AS c ON c.oid = i.indexrelid
 WHERE c.relnamespace = 'public'::regnamespace AND c.relname LIKE :'like'
 ORDER BY pg_relation_size(i.indexrelid)
\gexec
\set ECHO none

SELECT i.indexrelid::regclass AS index, pg_size_pretty(pg_relation_size(i.indexrelid)) AS size,
       i.indisvalid AS valid
  FROM pg_index AS i
  JOIN pg_class AS c ON c.oid = i.indexrelid
 WHERE c.relnamespace = 'public'::regnamespace AND c.relname LIKE :'like'
 ORDER BY pg_relation_size(i.indexrelid);
\else
\echo 'Nothing was rebuilt. To rebuild them: -v apply=1'
\endif
