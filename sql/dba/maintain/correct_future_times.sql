-- Sets the times of sessions that lie in the future, as a wrong clock wrote them, to now.
--
-- Usage:     psql -X "$DATABASE_URL" -f correct_future_times.sql               counts them
--            psql -X "$DATABASE_URL" -v apply=1 -f correct_future_times.sql    corrects them
-- Variables: apply    1 to write (default 0)
--            user_id  only this user's sessions (default: all users)
-- Role:      maintenance
-- Safety:    writes; locks one session at a time, as an append does. Safe while serving, may be stopped and
--            run again. A corrected session gets a new ETag. The next write to a session corrects it, too.

\set ON_ERROR_STOP on
\set variables 'apply user_id'
\ir ../prepare.psql

SELECT count(*) AS sessions, max(updated_at) AS newest
  FROM sessions
 WHERE updated_at > now() + interval '1 minute' AND (:'user_id' = '' OR user_id = :'user_id');

\if :apply
SELECT set_config('mai_sessions.user_id', :'user_id', false) AS user_id
\gset

DO $$
DECLARE
    only_user   text   := current_setting('mai_sessions.user_id');
    owners      text[];
    ids         uuid[];
    owner       text;
    session     uuid;
    new_version uuid;
    corrected   bigint := 0;
    changed     bigint;
BEGIN
    SELECT array_agg(s.user_id), array_agg(s.id)
      INTO owners, ids
      FROM sessions AS s
     WHERE s.updated_at > now() + interval '1 minute' AND (only_user = '' OR s.user_id = only_user);
    FOR place IN 1 .. coalesce(cardinality(ids), 0) LOOP
        owner       := owners[place];
        session     := ids[place];
        new_version := gen_random_uuid();
        UPDATE sessions AS s
           SET updated_at = now(),
               version    = new_version
         WHERE s.user_id = owner AND s.id = session AND s.updated_at > now() + interval '1 minute';
        GET DIAGNOSTICS changed = ROW_COUNT;
        COMMIT;
        corrected := corrected + changed;
    END LOOP;
    PERFORM set_config('mai_sessions.result', corrected::text, false);
END
$$;

SELECT current_setting('mai_sessions.result')::bigint AS sessions_corrected;
\else
\echo 'Nothing was corrected. To correct the sessions: -v apply=1'
\endif
