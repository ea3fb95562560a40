-- Makes the roles owner (changes the schema), app (the service) and readonly (reports and checks), and gives each what it needs.
--
-- Usage:     psql "$DATABASE_URL" -f roles.sql
--            then give each its password with \password, or its line in pg_hba.conf
-- Variables: owner     name of the role that migrates, and owns the tables (default mai_sessions_owner)
--            app       name of the role of the service, to be started with MAI_SESSIONS_MIGRATE=check (default mai_sessions_app)
--            readonly  name of the role that reads, chats too (default mai_sessions_readonly)
--            statement_timeout  longest run of a statement of the service behind a pooler; elsewhere
--                               MAI_SESSIONS_STATEMENT_TIMEOUT says (default 10s)
-- Role:      superuser
-- Safety:    writes; the first run takes each table exclusively for a moment, and gives up after 5 s. Safe while serving. Run it
--            before the first migration, and again after each that makes a table.

\set ON_ERROR_STOP on
\set QUIET on
\if :{?owner} \else \set owner mai_sessions_owner \endif
\if :{?app} \else \set app mai_sessions_app \endif
\if :{?readonly} \else \set readonly mai_sessions_readonly \endif
\if :{?statement_timeout} \else \set statement_timeout 10s \endif

SET client_min_messages = warning;
SET lock_timeout = '5s';

BEGIN;

SELECT format('CREATE ROLE %I LOGIN', name)
  FROM unnest(ARRAY[:'owner', :'app', :'readonly']) AS name
 WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name)
\gexec

SELECT format('GRANT CONNECT ON DATABASE %I TO %I, %I, %I', current_database(), :'owner', :'app', :'readonly')
\gexec
-- An extension is a schema change, too.
SELECT format('GRANT CREATE ON DATABASE %I TO %I', current_database(), :'owner')
\gexec
GRANT USAGE, CREATE ON SCHEMA public TO :"owner";
GRANT USAGE ON SCHEMA public TO :"app", :"readonly";
GRANT pg_monitor TO :"readonly";

-- What the service sets on each of its connections, for those that come through a pooler, where it cannot. Citus finds the shard by
-- the values, so there a plan for any value is none at all.
SELECT format('ALTER ROLE %I SET %I = %L', :'app', s.name, s.value)
  FROM (VALUES ('TimeZone',          'UTC'),
               ('statement_timeout', :'statement_timeout'),
               ('plan_cache_mode',   CASE WHEN EXISTS (SELECT FROM pg_extension WHERE extname = 'citus') THEN 'auto'
                                          ELSE 'force_generic_plan' END),
               ('jit',               'off')) AS s (name, value)
 WHERE NOT EXISTS (
       SELECT FROM pg_db_role_setting AS r
        WHERE r.setrole = to_regrole(quote_ident(:'app')) AND r.setdatabase = 0 AND s.name || '=' || s.value = ANY (r.setconfig))
\gexec

-- Tables that a later migration makes serve at once; running this again cuts them down to what is below.
ALTER DEFAULT PRIVILEGES FOR ROLE :"owner" IN SCHEMA public GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO :"app";
ALTER DEFAULT PRIVILEGES FOR ROLE :"owner" IN SCHEMA public GRANT SELECT ON TABLES TO :"readonly";

CREATE TEMPORARY TABLE needed ON COMMIT DROP AS
SELECT t.name, t.privileges
  FROM (VALUES ('users',             'SELECT, INSERT, UPDATE'),
               ('sessions',          'SELECT, INSERT, UPDATE, DELETE'),
               ('session_titles',    'SELECT, INSERT, UPDATE'),
               ('messages',          'SELECT, INSERT, UPDATE, DELETE'),
               ('daily_usage',       'SELECT, INSERT, UPDATE, DELETE'),
               ('attachments',       'SELECT, INSERT, UPDATE, DELETE'),
               ('idempotency_keys',  'SELECT, INSERT'),
               ('schema_migrations', 'SELECT')) AS t (name, privileges)
 WHERE to_regclass('public.' || t.name) IS NOT NULL;

SELECT format('ALTER TABLE public.%I OWNER TO %I', n.name, :'owner')
  FROM needed AS n
  JOIN pg_tables AS t ON t.schemaname = 'public' AND t.tablename = n.name
 WHERE t.tableowner <> :'owner'
\gexec
SELECT format('REVOKE ALL ON public.%I FROM PUBLIC, %I, %I', name, :'app', :'readonly')
  FROM needed
\gexec
SELECT format('GRANT %s ON public.%I TO %I', privileges, name, :'app')
  FROM needed
\gexec
SELECT format('GRANT SELECT ON public.%I TO %I', name, :'readonly')
  FROM needed
\gexec

COMMIT;
