-- Messages whose seq is beyond their session's last_seq, or whose seq or id is there twice.
--
-- Usage:     psql -X "$DATABASE_URL" -f seqs.sql
-- Variables: user_id  whose rows are checked (default: everybody's)
-- Role:      readonly
-- Safety:    read only; reads messages whole, three times. Safe while serving.
--            A gap is no fault: there a message was removed. maintain/repair_counters.sql lifts last_seq; what is there
--            twice got past a damaged index: REINDEX finds it, and somebody has to choose.

\set ON_ERROR_STOP on
\set variables 'user_id'
\ir ../prepare.psql

BEGIN READ ONLY;
-- The tables and not the indexes, for it is these that are in question.
SET LOCAL enable_indexscan = off;
SET LOCAL enable_indexonlyscan = off;
SET LOCAL enable_bitmapscan = off;

SELECT m.user_id, m.session_id, m.seq, m.id, 'beyond last_seq' AS problem
  FROM messages AS m
  JOIN sessions AS s ON s.user_id = m.user_id AND s.id = m.session_id
 WHERE (:'user_id' = '' OR m.user_id = :'user_id') AND m.seq > s.last_seq
 UNION ALL
SELECT m.user_id, m.session_id, m.seq, NULL, 'seq is there twice'
  FROM messages AS m
 WHERE :'user_id' = '' OR m.user_id = :'user_id'
 GROUP BY m.user_id, m.session_id, m.seq
HAVING count(*) > 1
 UNION ALL
SELECT m.user_id, m.session_id, NULL, m.id, 'id is there twice'
  FROM messages AS m
 WHERE :'user_id' = '' OR m.user_id = :'user_id'
 GROUP BY m.user_id, m.session_id, m.id
HAVING count(*) > 1
 ORDER BY user_id, session_id, seq;
\set found :ROW_COUNT
COMMIT;
