-- The size of each table and index, and the growth of each day.
--
-- Usage:     psql -X "$DATABASE_URL" -f sizes.sql
-- Variables: days  days of growth to show (default 14)
-- Role:      readonly
-- Safety:    read only; reads daily_usage whole. Safe while serving.

\set ON_ERROR_STOP on
\set variables 'days'
\if :{?days} \else \set days 14 \endif
\ir ../prepare.psql
\ir ../one_node.psql

BEGIN READ ONLY;

\echo 'Tables; rows as of the last ANALYZE, changes since the statistics were reset'
SELECT c.relname AS table, c.reltuples::bigint AS rows,
       pg_size_pretty(pg_total_relation_size(c.oid)) AS total,
       pg_size_pretty(pg_relation_size(c.oid)) AS rows_size,
       pg_size_pretty(pg_total_relation_size(nullif(c.reltoastrelid, 0))) AS toast,
       pg_size_pretty(pg_indexes_size(c.oid)) AS indexes,
       (pg_total_relation_size(c.oid) / nullif(GREATEST(c.reltuples, 0), 0))::bigint AS bytes_per_row,
       s.n_tup_ins AS inserted, s.n_tup_upd AS updated, s.n_tup_del AS deleted
  FROM pg_class AS c
  JOIN pg_stat_user_tables AS s ON s.relid = c.oid
 WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r'
 ORDER BY pg_total_relation_size(c.oid) DESC, c.relname;

\echo 'Indexes'
SELECT i.relname AS table, i.indexrelname AS index, pg_size_pretty(pg_relation_size(i.indexrelid)) AS size,
       (pg_relation_size(i.indexrelid) / nullif(GREATEST(c.reltuples, 0), 0))::bigint AS bytes_per_row
  FROM pg_stat_user_indexes AS i
  JOIN pg_class AS c ON c.oid = i.relid
 WHERE i.schemaname = 'public'
 ORDER BY pg_relation_size(i.indexrelid) DESC, i.indexrelname;

\echo 'Messages of each day, UTC; what was deleted since is not among them'
SELECT d.day, count(DISTINCT d.user_id) AS users, count(*) AS sessions, sum(d.message_count) AS messages,
       sum(d.token_count)::bigint AS tokens
  FROM daily_usage AS d
 WHERE d.part = 'total' AND d.message_count > 0 AND d.day > (now() AT TIME ZONE 'UTC')::date - :days
 GROUP BY d.day
 ORDER BY d.day DESC;

COMMIT;
