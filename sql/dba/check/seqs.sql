-- Messages with a seq above their session's last_seq, or with a duplicate seq or id.
--
-- Usage:     psql -X "$DATABASE_URL" -f seqs.sql
-- Variables: user_id  check only this user's rows (default: all users)
-- Role:      readonly
-- Safety:    read only; reads messages whole, three times. Safe while serving. A gap is normal: a message was
--            deleted there. maintain/repair_counters.sql raises last_seq. Duplicates are the work of a
--            damaged index: delete one row of each by hand, then rebuild the index.

\set ON_ERROR_STOP on
\set variables 'user_id'
\ir ../prepare.psql

BEGIN READ ONLY;
-- Read the tables: the indexes may be damaged.
SET LOCAL enable_indexscan = off;
SET LOCAL enable_indexonlyscan = off;
SET LOCAL enable_bitmapscan = off;

SELECT m.user_id, m.session_id, m.seq, m.id, 'above last_seq' AS problem
  FROM messages AS m
  JOIN sessions AS s ON s.user_id = m.user_id AND s.id = m.session_id
 WHERE (:'user_id' = '' OR m.user_id = :'user_id') AND m.seq > s.last_seq
 UNION ALL
SELECT m.user_id, m.session_id, m.seq, NULL, 'duplicate seq'
  FROM messages AS m
 WHERE :'user_id' = '' OR m.user_id = :'user_id'
 GROUP BY m.user_id, m.session_id, m.seq
HAVING count(*) > 1
 UNION ALL
SELECT m.user_id, m.session_id, NULL, m.id, 'duplicate id'
  FROM messages AS m
 WHERE :'user_id' = '' OR m.user_id = :'user_id'
 GROUP BY m.user_id, m.session_id, m.id
HAVING count(*) > 1
 ORDER BY user_id, session_id, seq;
\set found :ROW_COUNT
COMMIT;
