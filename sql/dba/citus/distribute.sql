-- Distributes the tables over a Citus cluster by user_id, and copies schema_migrations to every node.
--
-- Usage:     psql -X "$DATABASE_URL" -f distribute.sql                           lists what would move
--            psql -X "$DATABASE_URL" -v apply=1 -v shards=128 -f distribute.sql  distributes them
-- Variables: apply   1 to distribute them (default 0)
--            shards  number of shards, and so the most nodes that can hold users (default 64)
-- Role:      superuser
-- Safety:    writes; copies every row to its node in one transaction, which blocks all writers. Not safe
--            while serving: stop the service first. May be stopped and run again. Run it on the coordinator;
--            docs/citus.md says what a cluster needs before.

\set ON_ERROR_STOP on
\set variables 'apply shards'
\if :{?shards} \else \set shards 64 \endif
\ir ../prepare.psql

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_extension WHERE extname = 'citus') THEN
        RAISE EXCEPTION 'this database has no Citus: CREATE EXTENSION citus, and add the nodes';
    END IF;
    IF (SELECT groupid FROM pg_dist_local_group) <> 0 THEN
        RAISE EXCEPTION 'this node is a worker: run the script on the coordinator';
    END IF;
END
$$;

CREATE TEMPORARY TABLE undistributed AS
SELECT c.oid, c.relname AS name
  FROM pg_class AS c
 WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r'
   AND (c.relname = 'schema_migrations'
        OR EXISTS (SELECT FROM pg_attribute AS a WHERE a.attrelid = c.oid AND a.attname = 'user_id'))
   AND NOT EXISTS (SELECT FROM pg_dist_partition AS p WHERE p.logicalrelid = c.oid);

\if :apply
-- Connections between nodes do not inherit the service's session settings, and they format the values of its
-- JSON.
DO $$
DECLARE
    failed record;
BEGIN
    SELECT n.nodename, n.nodeport, r.result INTO failed
      FROM unnest(ARRAY[format('ALTER DATABASE %I SET timezone = %L', current_database(), 'UTC'),
                        format('ALTER DATABASE %I SET datestyle = %L', current_database(), 'ISO, MDY'),
                        format('ALTER DATABASE %I SET extra_float_digits = 1', current_database()),
                        format('ALTER DATABASE %I SET array_nulls = on', current_database()),
                        format('ALTER DATABASE %I SET gin_fuzzy_search_limit = 0', current_database()),
                        format('ALTER DATABASE %I SET standard_conforming_strings = on', current_database()),
                        format('ALTER DATABASE %I SET default_transaction_isolation = %L',
                               current_database(), 'read committed'),
                        format('ALTER DATABASE %I SET jit = off', current_database()),
                        format('ALTER DATABASE %I SET max_parallel_workers_per_gather = 0',
                               current_database()),
                        format('ALTER DATABASE %I SET random_page_cost = 1.1', current_database())])
                        AS command
     CROSS JOIN LATERAL run_command_on_all_nodes(command) AS r
      JOIN pg_dist_node AS n USING (nodeid)
     WHERE NOT r.success
     LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'node %:%: %', failed.nodename, failed.nodeport, failed.result;
    END IF;
END
$$;

\o /dev/null
BEGIN;
-- One connection to each node: a second one would not see the rows that the first has copied, and its foreign
-- keys would fail.
SET LOCAL citus.multi_shard_modify_mode = 'sequential';

-- A distributed table cannot refer to one that is not distributed yet.
CREATE TEMPORARY TABLE foreign_keys ON COMMIT DROP AS
SELECT u.name, k.conname, pg_get_constraintdef(k.oid) AS definition
  FROM pg_constraint AS k
  JOIN undistributed AS u ON u.oid = k.conrelid
 WHERE k.contype = 'f';

SELECT format('ALTER TABLE public.%I DROP CONSTRAINT %I', name, conname)
  FROM foreign_keys
\gexec
-- Colocate the tables: all rows of a user are on one node.
SELECT CASE name
       WHEN 'schema_migrations' THEN 'SELECT create_reference_table(''public.schema_migrations'')'
       WHEN 'sessions' THEN
            format('SELECT create_distributed_table(%L, %L, colocate_with => %L, shard_count => %s)',
                   'public.sessions', 'user_id', 'none', :'shards'::int)
       ELSE format('SELECT create_distributed_table(%L, %L, colocate_with => %L)',
                   'public.' || name, 'user_id', 'public.sessions')
       END
  FROM undistributed
 ORDER BY name <> 'sessions', name
\gexec
SELECT format('ALTER TABLE public.%I ADD CONSTRAINT %I %s', name, conname, definition)
  FROM foreign_keys
\gexec
COMMIT;

-- The coordinator's tables still hold the copied rows, invisible to every statement.
SELECT format('SELECT truncate_local_data_after_distributing_table(%L)', logicalrelid::regclass)
  FROM pg_dist_partition
 WHERE partmethod = 'h'
 ORDER BY logicalrelid::regclass::text
\gexec
\o
\endif

SELECT c.relname AS table, coalesce(max(t.citus_table_type), 'not distributed yet') AS kind,
       count(DISTINCT s.shardid) AS shards, count(DISTINCT s.groupid) AS nodes
  FROM pg_class AS c
  LEFT JOIN citus_tables AS t ON t.table_name = c.oid
  LEFT JOIN (SELECT logicalrelid, shardid, groupid FROM pg_dist_shard
             JOIN pg_dist_placement USING (shardid)) AS s
    ON s.logicalrelid = c.oid
 WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r'
 GROUP BY c.relname
 ORDER BY c.relname;

\if :apply \else
\echo 'Nothing was distributed. To distribute the tables: -v apply=1'
\endif
