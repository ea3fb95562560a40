-- Whether autovacuum keeps up: dead rows, the last run on each table, runs in progress, transaction age.
--
-- Usage:     psql -X "$DATABASE_URL" -f vacuum.sql
-- Variables: none
-- Role:      readonly
-- Safety:    read only. Safe while serving. Autovacuum starts at 100 percent of `due`. A table far above it
--            is blocked by an old transaction, or by too few workers.

\set ON_ERROR_STOP on
\set variables ''
\ir ../prepare.psql
\ir ../one_node.psql

BEGIN READ ONLY;

\echo 'Tables'
SELECT s.relname AS table, s.n_live_tup AS live, s.n_dead_tup AS dead,
       round((100 * s.n_dead_tup / (o.threshold + o.scale_factor * GREATEST(c.reltuples, 0)))::numeric)
           AS percent_of_due,
       round(100.0 * s.n_tup_hot_upd / nullif(s.n_tup_upd, 0), 1) AS hot_percent,
       date_trunc('second', GREATEST(s.last_vacuum, s.last_autovacuum)) AS last_vacuum,
       s.autovacuum_count AS autovacuums,
       date_trunc('second', GREATEST(s.last_analyze, s.last_autoanalyze)) AS last_analyze,
       age(c.relfrozenxid) AS oldest_row
  FROM pg_stat_user_tables AS s
  JOIN pg_class AS c ON c.oid = s.relid
 CROSS JOIN LATERAL (
       SELECT coalesce(max(option_value) FILTER (WHERE option_name = 'autovacuum_vacuum_threshold'),
                       current_setting('autovacuum_vacuum_threshold'))::float8 AS threshold,
              coalesce(max(option_value) FILTER (WHERE option_name = 'autovacuum_vacuum_scale_factor'),
                       current_setting('autovacuum_vacuum_scale_factor'))::float8 AS scale_factor
         FROM pg_options_to_table(c.reloptions)) AS o
 WHERE s.schemaname = 'public'
 ORDER BY s.n_dead_tup DESC, s.relname;

\echo 'Running now'
SELECT p.pid, p.relid::regclass AS table, p.phase,
       round(100.0 * p.heap_blks_scanned / nullif(p.heap_blks_total, 0)) AS percent,
       date_trunc('second', now() - a.xact_start) AS for
  FROM pg_stat_progress_vacuum AS p
  JOIN pg_stat_activity AS a ON a.pid = p.pid
 WHERE p.datname = current_database()
 ORDER BY a.xact_start;

\echo 'What keeps dead rows from going: the oldest transactions, replicas and slots'
SELECT h.held_by, h.who, h.transactions_ago
  FROM (SELECT 'transaction' AS held_by, a.pid || ' ' || coalesce(a.application_name, '') AS who,
               age(a.backend_xmin) AS transactions_ago
          FROM pg_stat_activity AS a
         WHERE a.backend_xmin IS NOT NULL AND a.pid <> pg_backend_pid()
         UNION ALL
        SELECT 'replica', r.application_name, age(r.backend_xmin)
          FROM pg_stat_replication AS r
         WHERE r.backend_xmin IS NOT NULL
         UNION ALL
        SELECT 'slot', s.slot_name, GREATEST(age(s.xmin), age(s.catalog_xmin)) FROM pg_replication_slots AS s
         WHERE s.xmin IS NOT NULL OR s.catalog_xmin IS NOT NULL
         UNION ALL
        SELECT 'prepared transaction', p.gid, age(p.transaction) FROM pg_prepared_xacts AS p) AS h
 ORDER BY h.transactions_ago DESC
 LIMIT 10;

COMMIT;
