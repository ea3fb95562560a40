-- Creates the roles owner (schema), maintenance (repair, purge, erasure), app (service), readonly (reports).
--
-- Usage:     psql -X "$DATABASE_URL" -f roles.sql
--            then give each its password with \password, or its line in pg_hba.conf
-- Variables: owner        name of the role that migrates, and owns the tables (default mai_sessions_owner)
--            maintenance  name of the role that runs maintain/, subject/ (default mai_sessions_maintenance)
--            app          name of the role of the service (default mai_sessions_app); start it with
--                         MAI_SESSIONS_MIGRATE=check
--            readonly     name of the role that reads all tables, chats included
--                         (default mai_sessions_readonly)
--            statement_timeout  longest run of a statement of the service behind a pooler; elsewhere
--                               MAI_SESSIONS_STATEMENT_TIMEOUT says (default 10s)
-- Role:      administrator: a superuser, or a role with CREATEROLE that owns the database
-- Safety:    writes; the first run locks each table exclusively for a moment, and gives up after 5 s. Safe
--            while serving. Run it before the first migration, and again after each migration that creates a
--            table. An existing role of the name gets the rights. The former owner of the tables becomes a
--            member of the owner, so that a service that connects as it keeps working.

\set ON_ERROR_STOP on
\set variables 'owner maintenance app readonly statement_timeout'
\if :{?owner} \else \set owner mai_sessions_owner \endif
\if :{?maintenance} \else \set maintenance mai_sessions_maintenance \endif
\if :{?app} \else \set app mai_sessions_app \endif
\if :{?readonly} \else \set readonly mai_sessions_readonly \endif
\if :{?statement_timeout} \else \set statement_timeout 10s \endif
\ir prepare.psql

SET lock_timeout = '5s';

BEGIN;

SELECT rolsuper AS is_superuser,
       rolsuper OR CASE WHEN current_setting('server_version_num')::int >= 160000
                        THEN pg_has_role(current_user, 'pg_monitor', 'MEMBER WITH ADMIN OPTION')
                        ELSE rolcreaterole END AS may_grant_monitor,
       current_setting('server_version_num')::int >= 170000 AS has_maintain,
       (SELECT coalesce(string_agg(name, ', '), 'none, all were there')
          FROM unnest(ARRAY[:'owner', :'maintenance', :'app', :'readonly']) AS name
         WHERE to_regrole(quote_ident(name)) IS NULL) AS created_roles
  FROM pg_roles
 WHERE rolname = current_user
\gset

SELECT format('CREATE ROLE %I LOGIN', name)
  FROM unnest(ARRAY[:'owner', :'maintenance', :'app', :'readonly']) AS name
 WHERE to_regrole(quote_ident(name)) IS NULL
\gexec

-- The existing tables, the rights that the service needs on each, and the role that owns it.
SELECT coalesce(json_agg(json_build_object('name', t.name, 'privileges', t.privileges,
                                           'owner', p.tableowner)), '[]') AS tables,
       count(*) AS table_count, count(*) FILTER (WHERE p.tableowner <> :'owner') AS moved_count
  FROM (VALUES ('users',             'SELECT, INSERT, UPDATE'),
               ('sessions',          'SELECT, INSERT, UPDATE, DELETE'),
               ('session_titles',    'SELECT, INSERT, UPDATE'),
               ('messages',          'SELECT, INSERT, UPDATE, DELETE'),
               ('daily_usage',       'SELECT, INSERT, UPDATE, DELETE'),
               ('attachments',       'SELECT, INSERT, UPDATE, DELETE'),
               ('idempotency_keys',  'SELECT, INSERT, DELETE'),
               ('schema_migrations', 'SELECT')) AS t (name, privileges)
  JOIN pg_tables AS p ON p.schemaname = 'public' AND p.tablename = t.name
\gset

-- Extended statistics have an owner of their own.
SELECT coalesce(json_agg(json_build_object('name', s.stxname, 'owner', pg_get_userbyid(s.stxowner))), '[]')
           AS statistics
  FROM pg_statistic_ext AS s
  JOIN json_to_recordset(:'tables') AS t (name text) ON s.stxrelid = format('public.%I', t.name)::regclass
\gset

-- Without superuser rights, an administrator can give a table only from and to roles it is a member of: join
-- these until the end.
SELECT coalesce(json_agg(name), '[]') AS joined
  FROM (SELECT :'owner'
         UNION
        SELECT owner FROM json_to_recordset(:'tables') AS t (owner text)
         UNION
        SELECT owner FROM json_to_recordset(:'statistics') AS s (owner text)) AS r (name)
 WHERE NOT pg_has_role(current_user, name, 'USAGE')
\gset
SELECT format('GRANT %I TO CURRENT_USER', name) FROM json_array_elements_text(:'joined') AS name
\gexec
-- A service that connects as the former owner keeps working until it is restarted as another role.
SELECT coalesce(json_agg(DISTINCT t.owner), '[]') AS former_owners
  FROM json_to_recordset(:'tables') AS t (owner text)
  JOIN pg_roles AS r ON r.rolname = t.owner AND NOT r.rolsuper
 WHERE t.owner NOT IN (:'owner', :'maintenance', :'app', :'readonly')
\gset
SELECT format('GRANT %I TO %I', :'owner', name) FROM json_array_elements_text(:'former_owners') AS name
\gexec

SELECT format('GRANT CONNECT ON DATABASE %I TO %I, %I, %I, %I',
              current_database(), :'owner', :'maintenance', :'app', :'readonly')
\gexec
-- Creating an extension is a schema change too.
SELECT format('GRANT CREATE ON DATABASE %I TO %I', current_database(), :'owner')
\gexec
-- No role needs temporary tables, which can fill the disk.
SELECT format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC, %I, %I', current_database(), :'app', :'readonly')
\gexec
SELECT 'REVOKE CREATE ON SCHEMA public FROM PUBLIC'
  FROM pg_namespace AS n
 CROSS JOIN aclexplode(n.nspacl) AS a
 WHERE n.nspname = 'public' AND a.grantee = 0 AND a.privilege_type = 'CREATE'
\gexec
GRANT USAGE, CREATE ON SCHEMA public TO :"owner";
GRANT USAGE ON SCHEMA public TO :"maintenance", :"app", :"readonly";
\if :is_superuser
-- Large objects can fill the disk too.
REVOKE EXECUTE ON FUNCTION lo_creat(integer), lo_create(oid), lo_from_bytea(oid, bytea) FROM PUBLIC;
\endif
\if :may_grant_monitor
GRANT pg_monitor TO :"readonly";
\endif

-- The session settings of the service, for connections through a pooler, where the service cannot set them.
-- Citus finds the shard by the values, so a generic plan cannot work there.
SELECT format('ALTER ROLE %I SET %I = %L', :'app', s.name, s.value)
  FROM (VALUES ('TimeZone',                      'UTC'),
               ('DateStyle',                     'ISO, MDY'),
               ('client_encoding',               'UTF8'),
               ('extra_float_digits',            '1'),
               ('bytea_output',                  'hex'),
               ('array_nulls',                   'on'),
               ('gin_fuzzy_search_limit',        '0'),
               ('standard_conforming_strings',   'on'),
               ('default_transaction_isolation', 'read committed'),
               ('search_path',                   'public'),
               ('statement_timeout',             :'statement_timeout'),
               ('plan_cache_mode',
                   CASE WHEN EXISTS (SELECT FROM pg_extension WHERE extname = 'citus')
                        THEN 'auto' ELSE 'force_generic_plan' END),
               ('jit',                           'off'),
               ('max_parallel_workers_per_gather', '0'),
               ('random_page_cost',              '1.1'),
               ('enable_seqscan',                'off')) AS s (name, value)
 WHERE NOT EXISTS (
       SELECT FROM pg_db_role_setting AS r
        WHERE r.setrole = to_regrole(quote_ident(:'app')) AND r.setdatabase = 0
          AND s.name || '=' || s.value = ANY (r.setconfig))
\gexec

-- Default rights let the service use tables of later migrations at once. The next run of this script reduces
-- them to the list below.
ALTER DEFAULT PRIVILEGES FOR ROLE :"owner" IN SCHEMA public
    GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO :"maintenance", :"app";
ALTER DEFAULT PRIVILEGES FOR ROLE :"owner" IN SCHEMA public GRANT SELECT ON TABLES TO :"readonly";
\if :has_maintain
ALTER DEFAULT PRIVILEGES FOR ROLE :"owner" IN SCHEMA public GRANT MAINTAIN ON TABLES TO :"maintenance";
\endif

SELECT format('ALTER TABLE public.%I OWNER TO %I', name, :'owner')
  FROM json_to_recordset(:'tables') AS t (name text, owner text)
 WHERE owner <> :'owner'
\gexec
SELECT format('ALTER STATISTICS public.%I OWNER TO %I', name, :'owner')
  FROM json_to_recordset(:'statistics') AS s (name text, owner text)
 WHERE owner <> :'owner'
\gexec
SELECT format(command, t.name)
  FROM json_to_recordset(:'tables') AS t (name text, privileges text)
 CROSS JOIN LATERAL (VALUES
       (1, format('REVOKE ALL ON public.%%I FROM PUBLIC, %I, %I, %I', :'maintenance', :'app', :'readonly')),
       (2, format('GRANT %s ON public.%%I TO %I', t.privileges, :'app')),
       (3, format('GRANT SELECT ON public.%%I TO %I, %I', :'readonly', :'maintenance')),
       (4, CASE WHEN t.name <> 'schema_migrations'
                THEN format('GRANT INSERT, UPDATE, DELETE ON public.%%I TO %I', :'maintenance') END),
       (5, CASE WHEN :'has_maintain'
                THEN format('GRANT MAINTAIN ON public.%%I TO %I', :'maintenance') END)
       ) AS c (place, command)
 WHERE command IS NOT NULL
 ORDER BY t.name, c.place
\gexec

SELECT format('REVOKE %I FROM CURRENT_USER', name)
  FROM json_array_elements_text(:'joined') AS name
 WHERE NOT (name = :'owner' AND :'former_owners'::jsonb ? current_user)
\gexec

COMMIT;

SELECT what, which
  FROM (VALUES
       (1, 'roles created', :'created_roles'),
       (2, 'owner', format('%s owns %s tables, %s of them since now', :'owner', :table_count, :moved_count)),
       (3, 'maintenance', format('%s reads and writes rows%s', :'maintenance',
                                 CASE WHEN :'has_maintain' THEN ', vacuums and reindexes'
                                      ELSE '; only the owner reindexes before PostgreSQL 17' END)),
       (4, 'app',
           format('%s serves: reads and writes rows, statement_timeout %s', :'app', :'statement_timeout')),
       (5, 'readonly', format('%s reads rows%s', :'readonly',
                              CASE WHEN :'may_grant_monitor' THEN ' and statistics'
                                   ELSE '; statistics only after GRANT pg_monitor by somebody who may' END)),
       (6, 'everybody', 'no temporary tables'
                         || CASE WHEN :'is_superuser' THEN ', no large objects'
                                 ELSE '; large objects are revoked only when a superuser runs this' END),
       (7, 'former owner', (
           SELECT format('%1$s keeps its rights as a member of %2$I; when nothing connects as %1$s: '
                         'REVOKE %2$I FROM %1$s', string_agg(quote_ident(name), ', '), :'owner')
             FROM json_array_elements_text(:'former_owners') AS name
           HAVING count(*) > 0)))
       AS r (place, what, which)
 WHERE which IS NOT NULL
 ORDER BY place;
