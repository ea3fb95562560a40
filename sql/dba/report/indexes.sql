-- Which indexes are invalid, unused or bloated.
--
-- Usage:     psql -X "$DATABASE_URL" -f indexes.sql
-- Variables: none
-- Role:      readonly
-- Safety:    read only. Safe while serving. With the extension pgstattuple it reads each B-tree whole.
--            Unused counts since the statistics were reset, on this server alone: ask the replicas, too. A B-tree in use is 50 to
--            90 percent full; below that maintain/rebuild_indexes.sql wins room.

\set ON_ERROR_STOP on
\set variables ''
\ir ../prepare.psql

BEGIN READ ONLY;

SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'pgstattuple') AS can_measure
\gset

SELECT s.relname AS table, s.indexrelname AS index, pg_size_pretty(pg_relation_size(s.indexrelid)) AS size, s.idx_scan AS scans,
       s.idx_tup_read AS entries_read,
       CASE WHEN NOT i.indisvalid THEN 'invalid: rebuild'
            WHEN s.idx_scan = 0 AND NOT i.indisunique THEN 'unused'
            ELSE '' END AS remark
  FROM pg_stat_user_indexes AS s
  JOIN pg_index AS i ON i.indexrelid = s.indexrelid
 WHERE s.schemaname = 'public'
 ORDER BY i.indisvalid, pg_relation_size(s.indexrelid) DESC, s.indexrelname;

\if :can_measure
SELECT c.relname AS index, pg_size_pretty(p.index_size) AS size, p.avg_leaf_density AS percent_full, p.leaf_fragmentation,
       p.empty_pages + p.deleted_pages AS empty_pages
  FROM pg_class AS c
  JOIN pg_am AS a ON a.oid = c.relam AND a.amname = 'btree'
  JOIN pg_index AS i ON i.indexrelid = c.oid AND i.indisvalid
 CROSS JOIN LATERAL pgstatindex(c.oid) AS p
 WHERE c.relnamespace = 'public'::regnamespace
 ORDER BY p.index_size DESC, c.relname;
\else
\echo 'How full they are is not measured: CREATE EXTENSION pgstattuple'
\endif

COMMIT;
