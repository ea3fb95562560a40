-- The state of the database on one screen, with a remark at each value that needs attention.
--
-- Usage:     psql -X "$DATABASE_URL" -f health.sql
-- Variables: none
-- Role:      readonly
-- Safety:    read only; reads catalogs, statistics, and an index each of idempotency_keys and messages. Safe
--            while serving.

\set ON_ERROR_STOP on
\set variables ''
\ir ../prepare.psql
\ir ../one_node.psql

BEGIN READ ONLY;
-- Queries of their own: one that also names a Citus table may read these catalog views as a superuser only.
SELECT count(*) AS overdue_keys
  FROM (SELECT 1 FROM idempotency_keys WHERE created_at < now() - interval '25 hours' LIMIT 100000) AS k
\gset
SELECT count(*) AS overdue_streams
  FROM (SELECT 1 FROM messages
         WHERE status = 'streaming' AND created_at < now() - interval '2 hours'
           AND coalesce(updated_at, created_at) < now() - interval '2 hours'
         LIMIT 100000) AS m
\gset
SELECT name AS newest_migration FROM schema_migrations ORDER BY version DESC LIMIT 1
\gset
WITH connected AS (
    SELECT count(*) FILTER (WHERE backend_type = 'client backend') AS connections,
           max(clock_timestamp() - xact_start)
               FILTER (WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()) AS oldest,
           count(*) FILTER (WHERE wait_event_type = 'Lock') AS blocked
      FROM pg_stat_activity),
here AS (
    SELECT d.numbackends, d.blks_hit, d.blks_read, d.deadlocks, d.temp_bytes, d.checksum_failures,
           age(p.datfrozenxid) AS oldest_row, pg_database_size(p.oid) AS bytes
      FROM pg_stat_database AS d
      JOIN pg_database AS p ON p.oid = d.datid
     WHERE p.datname = current_database()),
tables AS (
    SELECT max(n_live_tup) FILTER (WHERE relname = 'users') AS users,
           max(n_live_tup) FILTER (WHERE relname = 'sessions') AS sessions,
           max(n_live_tup) FILTER (WHERE relname = 'messages') AS messages,
           max(n_live_tup) FILTER (WHERE relname = 'attachments') AS attachments
      FROM pg_stat_user_tables
     WHERE schemaname = 'public'),
replicas AS (
    SELECT count(*) AS replicas, max(replay_lag) AS lag,
           max(pg_wal_lsn_diff(sent_lsn, replay_lsn)) AS bytes
      FROM pg_stat_replication),
slots AS (
    SELECT count(*) FILTER (WHERE NOT active) AS idle,
           max(pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_receive_lsn()
                               ELSE pg_current_wal_lsn() END,
                               restart_lsn)) AS bytes
      FROM pg_replication_slots),
archiver AS (
    SELECT last_archived_time AS last, last_failed_time > coalesce(last_archived_time, '-infinity') AS fails
      FROM pg_stat_archiver),
dead AS (
    SELECT s.relname || ', ' || round(100.0 * s.n_dead_tup / (s.n_live_tup + s.n_dead_tup)) || ' %' AS table,
           s.n_dead_tup AS rows, s.n_dead_tup > 10000 AND s.n_dead_tup > 0.3 * s.n_live_tup AS are_many
      FROM pg_stat_user_tables AS s
     WHERE s.schemaname = 'public' AND s.n_dead_tup > 0
     ORDER BY s.n_dead_tup > 10000 AND s.n_dead_tup > 0.3 * s.n_live_tup DESC, s.n_dead_tup DESC
     LIMIT 1),
expiry AS (
    SELECT :overdue_keys AS keys, :overdue_streams AS streams),
behind AS (
    SELECT pg_is_in_recovery() AS is_replica,
           pg_wal_lsn_diff(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()) AS bytes,
           -- Null before the first transaction that was replayed since the start.
           clock_timestamp() - pg_last_xact_replay_timestamp() AS lag,
           pg_last_wal_receive_lsn() IS NOT NULL
           AND NOT EXISTS (SELECT FROM pg_stat_wal_receiver) AS is_disconnected),
invalid AS (
    SELECT string_agg(indexrelid::regclass::text, ', ') AS indexes FROM pg_index WHERE NOT indisvalid)
SELECT l.what, l.value, l.remark
  FROM connected AS c
 CROSS JOIN here AS h
 CROSS JOIN tables AS t
 CROSS JOIN replicas AS r
 CROSS JOIN slots AS s
 CROSS JOIN archiver AS a
 CROSS JOIN invalid AS i
 CROSS JOIN expiry AS e
 CROSS JOIN behind AS b
  LEFT JOIN dead AS d ON true
 CROSS JOIN LATERAL (VALUES
           (1, 'server', 'PostgreSQL ' || current_setting('server_version')
               || CASE WHEN pg_is_in_recovery() THEN ', a replica' ELSE '' END, ''),
           (2, 'up since', date_trunc('second', pg_postmaster_start_time())::text, ''),
           (3, 'schema', :'newest_migration', ''),
           (4, 'size', pg_size_pretty(h.bytes), ''),
           (5, 'users, about', t.users::text, ''),
           (6, 'sessions, about', t.sessions::text, ''),
           (7, 'messages, about', t.messages::text, ''),
           (8, 'attachments, about', t.attachments::text, ''),
           (9, 'connections', c.connections || ' of ' || current_setting('max_connections'),
               CASE WHEN c.connections > 0.8 * current_setting('max_connections')::int
                    THEN 'nearly all' ELSE '' END),
           (10, 'oldest transaction', coalesce(date_trunc('milliseconds', c.oldest)::text, 'none'),
               CASE WHEN c.oldest > interval '5 minutes' THEN 'see activity.sql' ELSE '' END),
           (11, 'waiting for locks', c.blocked::text,
               CASE WHEN c.blocked > 0 THEN 'see activity.sql' ELSE '' END),
           (12, 'deadlocks', h.deadlocks::text, ''),
           (13, 'read from cache',
               coalesce(round(100.0 * h.blks_hit / nullif(h.blks_hit + h.blks_read, 0), 1) || ' %',
                        'nothing read'),
               CASE WHEN h.blks_hit < 0.9 * (h.blks_hit + h.blks_read)
                    THEN 'more shared_buffers?' ELSE '' END),
           (14, 'spilled to disk', pg_size_pretty(h.temp_bytes), ''),
           (15, 'dead rows, most', coalesce(d.rows || ' of ' || d.table, 'none'),
               CASE WHEN d.are_many THEN 'see vacuum.sql' ELSE '' END),
           (16, 'oldest row', h.oldest_row || ' transactions',
               CASE WHEN h.oldest_row > 1.5 * current_setting('autovacuum_freeze_max_age')::bigint
                    THEN 'see vacuum.sql' ELSE '' END),
           (17, 'invalid indexes', coalesce(i.indexes, 'none'),
               CASE WHEN i.indexes IS NULL THEN '' ELSE 'rebuild_indexes.sql' END),
           (18, 'broken pages', coalesce(h.checksum_failures::text, 'no checksums'),
               CASE WHEN h.checksum_failures > 0 THEN 'restore a backup' ELSE '' END),
           (19, 'replicas', concat(r.replicas, ', behind by ' || pg_size_pretty(nullif(r.bytes, 0)),
                                   ', ' || date_trunc('milliseconds', r.lag)),
               CASE WHEN r.lag > interval '10 seconds' THEN 'behind' ELSE '' END),
           (20, 'slots without a reader', s.idle || coalesce(', keeping ' || pg_size_pretty(s.bytes), ''),
               CASE WHEN s.idle > 0 THEN 'they keep the WAL' ELSE '' END),
           (21, 'WAL archived',
               CASE WHEN current_setting('archive_mode') = 'off' THEN 'off'
                    ELSE coalesce('until ' || date_trunc('second', a.last), 'none yet') END,
               CASE WHEN a.fails THEN 'archive_command fails: the WAL stays' ELSE '' END),
           (22, 'behind the primary',
               CASE WHEN NOT b.is_replica THEN 'not a replica'
                    WHEN b.bytes > 0 THEN concat(pg_size_pretty(b.bytes),
                                                 ', ' || date_trunc('milliseconds', b.lag))
                    ELSE 'no' END,
               CASE WHEN b.is_disconnected THEN 'not connected to the primary'
                    WHEN b.bytes > 0 AND coalesce(b.lag > interval '10 seconds', true) THEN 'behind'
                    ELSE '' END),
           (23, 'keys older than 25 hours',
               CASE WHEN e.keys < 100000 THEN e.keys::text ELSE '100000 or more' END,
               CASE WHEN e.keys > 0 THEN 'expiry does not run: see docs/runbook.md' ELSE '' END),
           (24, 'streams idle for 2 hours',
               CASE WHEN e.streams < 100000 THEN e.streams::text ELSE '100000 or more' END,
               CASE WHEN e.streams > 0 THEN 'expiry does not run: see docs/runbook.md' ELSE '' END)
       ) AS l (place, what, value, remark)
 ORDER BY l.place;
COMMIT;
