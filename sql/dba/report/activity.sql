-- Statements that run long or wait for a lock now, and what blocks them.
--
-- Usage:     psql -X "$DATABASE_URL" -f activity.sql
-- Variables: seconds  minimum duration (default 1)
-- Role:      readonly
-- Safety:    read only. Safe while serving. Never shows what users wrote: the service passes it as
--            parameters.

\set ON_ERROR_STOP on
\set variables 'seconds'
\if :{?seconds} \else \set seconds 1 \endif
\ir ../prepare.psql
\ir ../one_node.psql

BEGIN READ ONLY;

\echo 'Connections'
SELECT application_name, usename AS role, state, count(*) AS connections,
       max(date_trunc('second', now() - state_change)) AS longest
  FROM pg_stat_activity
 WHERE datname = current_database() AND pid <> pg_backend_pid()
 GROUP BY application_name, usename, state
 ORDER BY connections DESC, application_name, role, state;

\echo 'Long or blocked'
SELECT a.pid, a.usename AS role, a.application_name, a.state, pg_blocking_pids(a.pid) AS blocked_by,
       date_trunc('milliseconds', clock_timestamp() - a.query_start) AS statement_for,
       date_trunc('milliseconds', clock_timestamp() - a.xact_start) AS transaction_for,
       a.wait_event_type || ' ' || a.wait_event AS waits_for,
       coalesce(substring(a.query FROM '/\* *(.*?) *\*/'),
                left(regexp_replace(a.query, '\s+', ' ', 'g'), 60)) AS statement
  FROM pg_stat_activity AS a
 WHERE a.datname = current_database() AND a.pid <> pg_backend_pid() AND a.backend_type = 'client backend'
   AND (cardinality(pg_blocking_pids(a.pid)) > 0
        OR a.pid IN (SELECT unnest(pg_blocking_pids(w.pid))
                       FROM pg_stat_activity AS w
                      WHERE w.wait_event_type = 'Lock')
        OR (a.state <> 'idle' AND a.xact_start < clock_timestamp() - make_interval(secs => :seconds)))
 ORDER BY a.xact_start;

COMMIT;
