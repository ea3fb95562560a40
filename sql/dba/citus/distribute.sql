-- Spreads the tables over the nodes of a Citus cluster, by user_id; schema_migrations stays on the coordinator.
--
-- Usage:     psql -X "$DATABASE_URL" -f distribute.sql                            names the tables that are not spread yet
--            psql -X "$DATABASE_URL" -v apply=1 -v shards=128 -f distribute.sql   spreads them
-- Variables: apply   1 to spread them (default 0)
--            shards  parts that the users are divided into, and most nodes that can hold some (default 64)
-- Role:      superuser
-- Safety:    writes; copies every row to its node in one transaction, which holds off all who write. Not safe while serving: stop the
--            service first. May be stopped and run again, and is to be run again after each migration that makes a table.
--            citus/rebalance.md says what a cluster needs before.

\set ON_ERROR_STOP on
\set variables 'apply shards'
\if :{?shards} \else \set shards 64 \endif
\ir ../prepare.psql

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_extension WHERE extname = 'citus') THEN
        RAISE EXCEPTION 'this database has no Citus: CREATE EXTENSION citus, and add the nodes';
    END IF;
END
$$;

CREATE TEMPORARY TABLE waiting AS
SELECT c.oid, c.relname AS name
  FROM pg_class AS c
  JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attname = 'user_id'
 WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r'
   AND NOT EXISTS (SELECT FROM pg_dist_partition AS p WHERE p.logicalrelid = c.oid);

SELECT name AS table, pg_size_pretty(pg_total_relation_size(oid)) AS size FROM waiting ORDER BY name;

\if :apply
-- Sessions on the nodes do not inherit what the service sets on its own, and they write the timestamps of its JSON.
SELECT w.nodename, w.nodeport, w.result
  FROM unnest(ARRAY['CREATE EXTENSION IF NOT EXISTS btree_gin',
                    format('ALTER DATABASE %I SET timezone = %L', current_database(), 'UTC'),
                    format('ALTER DATABASE %I SET jit = off', current_database())]) AS command
 CROSS JOIN LATERAL run_command_on_workers(command) AS w
 WHERE NOT w.success;

BEGIN;
-- Over one connection to each node: a second one would not see what the first has copied, and so could not check a foreign key.
SET LOCAL citus.multi_shard_modify_mode = 'sequential';

-- A table that is spread cannot refer to one that is not yet.
CREATE TEMPORARY TABLE foreign_keys ON COMMIT DROP AS
SELECT w.name, k.conname, pg_get_constraintdef(k.oid) AS definition
  FROM pg_constraint AS k
  JOIN waiting AS w ON w.oid = k.conrelid
 WHERE k.contype = 'f';

\set ECHO queries
SELECT format('ALTER TABLE public.%I DROP CONSTRAINT %I', name, conname)
  FROM foreign_keys
\gexec
-- The rows of a user lie on one node, whatever table they are of.
SELECT format('SELECT create_distributed_table(%L, %L, colocate_with => %s)', 'public.' || name, 'user_id',
              CASE name WHEN 'sessions' THEN format('%L, shard_count => %s', 'none', :'shards'::int) ELSE quote_literal('public.sessions') END)
  FROM waiting
 ORDER BY name <> 'sessions', name
\gexec
SELECT format('ALTER TABLE public.%I ADD CONSTRAINT %I %s', name, conname, definition)
  FROM foreign_keys
\gexec
COMMIT;

-- The rows that were copied still lie in the tables of the coordinator, where no statement sees them.
SELECT format('SELECT truncate_local_data_after_distributing_table(%L)', p.logicalrelid::regclass)
  FROM pg_dist_partition AS p
  JOIN pg_class AS c ON c.oid = p.logicalrelid
 WHERE c.relnamespace = 'public'::regnamespace
 ORDER BY c.relname
\gexec
\set ECHO none
\else
\echo 'Nothing was distributed. To distribute them: -v apply=1'
\endif
