-- The statements that take the most time of the server, and the indexes that these read from disk.
--
-- Usage:     psql -X "$DATABASE_URL" -f statements.sql
-- Variables: top  number of statements (default 20)
-- Role:      readonly
-- Safety:    read only. Safe while serving. Needs pg_stat_statements in shared_preload_libraries and CREATE
--            EXTENSION. A name is that of a function in mai_sessions/repository/, and a comment in its
--            statements.

\set ON_ERROR_STOP on
\set variables 'top'
\if :{?top} \else \set top 20 \endif
\ir ../prepare.psql
\ir ../one_node.psql

SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'pg_stat_statements')
       AND current_setting('shared_preload_libraries') LIKE '%pg_stat_statements%' AS is_there
\gset

\if :is_there
BEGIN READ ONLY;
SELECT coalesce(substring(s.query FROM '/\* *(.*?) *\*/'),
                left(regexp_replace(s.query, '\s+', ' ', 'g'), 60)) AS statement,
       sum(s.calls) AS calls,
       round(sum(s.total_exec_time)::numeric) AS total_ms,
       round(100 * (sum(s.total_exec_time) / nullif(sum(sum(s.total_exec_time)) OVER (), 0))::numeric, 1)
           AS percent,
       round((sum(s.total_exec_time) / sum(s.calls))::numeric, 3) AS mean_ms,
       round(max(s.max_exec_time)::numeric, 1) AS max_ms,
       round(sum(s.rows)::numeric / sum(s.calls), 1) AS rows_per_call,
       round(100.0 * sum(s.shared_blks_hit) / nullif(sum(s.shared_blks_hit + s.shared_blks_read), 0), 1)
           AS cached_percent,
       pg_size_pretty(round(sum(s.wal_bytes) / sum(s.calls))) AS wal_per_call
  FROM pg_stat_statements AS s
 WHERE s.dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) AND s.calls > 0
 GROUP BY 1
 ORDER BY sum(s.total_exec_time) DESC
 LIMIT :top;

\echo 'Indexes, by what was read of them from disk, and the statements that each serves'
SELECT b.relname AS table, b.indexrelname AS index, a.amname AS kind, s.idx_scan AS scans,
       pg_size_pretty(b.idx_blks_read * current_setting('block_size')::int) AS read_from_disk,
       round(100.0 * b.idx_blks_hit / nullif(b.idx_blks_hit + b.idx_blks_read, 0), 1) AS cached_percent,
       substring(obj_description(b.indexrelid, 'pg_class') FROM '^Serves ([^;:]*)') AS serves
  FROM pg_statio_user_indexes AS b
  JOIN pg_stat_user_indexes AS s ON s.indexrelid = b.indexrelid
  JOIN pg_class AS c ON c.oid = b.indexrelid
  JOIN pg_am AS a ON a.oid = c.relam
 WHERE b.schemaname = 'public'
 ORDER BY b.idx_blks_read DESC, b.indexrelname
 LIMIT :top;
COMMIT;
\else
\echo 'pg_stat_statements is not installed: add it to shared_preload_libraries, restart PostgreSQL,'
\echo 'and run CREATE EXTENSION pg_stat_statements'
\endif
