-- Which indexes are invalid, unused or bloated, and the statements that each serves.
--
-- Usage:     psql -X "$DATABASE_URL" -f indexes.sql
-- Variables: none
-- Role:      readonly
-- Safety:    read only. Safe while serving. With the extension pgstattuple it reads each B-tree whole.
--            "Unused" counts since the last reset of the statistics, on this server alone: run it on the
--            replicas too. A B-tree in use is 50 to 90 percent full; below that, maintain/rebuild_indexes.sql
--            frees space. `serves` names statements as statements.sql does. Keep an index that serves a rare
--            one, such as count_old_words.

\set ON_ERROR_STOP on
\set variables ''
\ir ../prepare.psql
\ir ../one_node.psql

BEGIN READ ONLY;

SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'pgstattuple') AS can_measure
\gset

SELECT s.relname AS table, s.indexrelname AS index, a.amname AS kind,
       pg_size_pretty(pg_relation_size(s.indexrelid)) AS size,
       s.idx_scan AS scans, s.idx_tup_read AS entries_read,
       round(100.0 * b.idx_blks_hit / nullif(b.idx_blks_hit + b.idx_blks_read, 0), 1) AS cached_percent,
       CASE WHEN NOT i.indisvalid THEN 'invalid: rebuild'
            WHEN s.idx_scan = 0 AND NOT i.indisunique THEN 'unused'
            WHEN a.amname = 'gin' AND b.idx_blks_read > 10000
                 AND b.idx_blks_read > 0.1 * (b.idx_blks_hit + b.idx_blks_read)
            THEN 'read from disk: more memory?'
            ELSE '' END AS remark,
       substring(obj_description(s.indexrelid, 'pg_class') FROM '^Serves ([^;:]*)') AS serves
  FROM pg_stat_user_indexes AS s
  JOIN pg_statio_user_indexes AS b ON b.indexrelid = s.indexrelid
  JOIN pg_index AS i ON i.indexrelid = s.indexrelid
  JOIN pg_class AS c ON c.oid = s.indexrelid
  JOIN pg_am AS a ON a.oid = c.relam
 WHERE s.schemaname = 'public'
 ORDER BY i.indisvalid, pg_relation_size(s.indexrelid) DESC, s.indexrelname;

\if :can_measure
\echo 'B-trees'
SELECT c.relname AS index, pg_size_pretty(p.index_size) AS size,
       round(p.avg_leaf_density::numeric, 1) AS percent_full,
       round(p.leaf_fragmentation::numeric, 1) AS percent_fragmented,
       p.empty_pages + p.deleted_pages AS empty_pages,
       CASE WHEN p.avg_leaf_density < 50 AND p.index_size > 10 * 1024 * 1024
            THEN 'rebuild_indexes.sql wins room'
            ELSE '' END AS remark
  FROM pg_class AS c
  JOIN pg_am AS a ON a.oid = c.relam AND a.amname = 'btree'
  JOIN pg_index AS i ON i.indexrelid = c.oid AND i.indisvalid
 CROSS JOIN LATERAL pgstatindex(c.oid) AS p
 WHERE c.relnamespace = 'public'::regnamespace
 ORDER BY p.index_size DESC, c.relname;

\echo 'GIN indexes, with the pending entries, all of which each search reads'
SELECT c.relname AS index, pg_size_pretty(pg_relation_size(c.oid)) AS size,
       (pg_relation_size(c.oid) / nullif(GREATEST(t.reltuples, 0), 0))::bigint AS bytes_per_row,
       pg_size_pretty(p.pending_pages::bigint * current_setting('block_size')::int) AS pending,
       p.pending_tuples AS pending_entries
  FROM pg_class AS c
  JOIN pg_am AS a ON a.oid = c.relam AND a.amname = 'gin'
  JOIN pg_index AS i ON i.indexrelid = c.oid AND i.indisvalid
  JOIN pg_class AS t ON t.oid = i.indrelid
 CROSS JOIN LATERAL pgstatginindex(c.oid) AS p
 WHERE c.relnamespace = 'public'::regnamespace
 ORDER BY pg_relation_size(c.oid) DESC, c.relname;
\else
\echo 'How full they are is not measured: CREATE EXTENSION pgstattuple'
\endif

COMMIT;
