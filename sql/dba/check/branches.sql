-- Sessions whose head is not one of their messages, or whose branches are marked wrong.
--
-- Usage:     psql -X "$DATABASE_URL" -f branches.sql
-- Variables: user_id  check only this user's rows (default: all users)
-- Role:      readonly
-- Safety:    read only; reads sessions and messages whole. Safe while serving.
--            maintain/repair_counters.sql corrects them.

\set ON_ERROR_STOP on
\set variables 'user_id'
\ir ../prepare.psql

BEGIN READ ONLY;
-- Release 0.1 moves only newest_seq: a session that it wrote last has an older head_seq, and is right.
SELECT s.user_id, s.id AS session_id, NULL::integer AS seq,
       CASE WHEN s.is_branched AND h.id IS NULL THEN 'head_seq names no message'
            ELSE 'head_id names another message' END AS problem
  FROM sessions AS s
  LEFT JOIN messages AS h ON h.user_id = s.user_id AND h.session_id = s.id
                         AND h.seq = CASE WHEN s.is_branched THEN s.head_seq ELSE s.newest_seq END
 WHERE (:'user_id' = '' OR s.user_id = :'user_id')
   AND (s.is_branched OR s.head_seq IS NOT DISTINCT FROM s.newest_seq)
   AND (s.head_id IS DISTINCT FROM h.id OR (h.id IS NULL AND s.newest_seq IS NOT NULL))
 UNION ALL
SELECT m.user_id, m.session_id, m.seq,
       CASE WHEN m.is_lost THEN 'parent_seq names no message' ELSE 'is_branched is false' END
  FROM (SELECT m.user_id, m.session_id, m.seq, m.parent_seq > 0 AND p.seq IS NULL AS is_lost,
               m.parent_seq IS DISTINCT FROM coalesce((
                   SELECT max(b.seq)
                     FROM messages AS b
                    WHERE b.user_id = m.user_id AND b.session_id = m.session_id
                      AND b.seq < m.seq), 0) AS is_elsewhere
          FROM messages AS m
          LEFT JOIN messages AS p
            ON p.user_id = m.user_id AND p.session_id = m.session_id AND p.seq = m.parent_seq
         WHERE (:'user_id' = '' OR m.user_id = :'user_id') AND m.parent_seq IS NOT NULL) AS m
  JOIN sessions AS s ON s.user_id = m.user_id AND s.id = m.session_id
 WHERE m.is_lost OR (m.is_elsewhere AND NOT s.is_branched)
 ORDER BY user_id, session_id, seq;
\set found :ROW_COUNT
COMMIT;
