-- Words are gathered before they enter an index, and each search reads what has been gathered. 4 MB of that, PostgreSQL's default, had a
-- search take fourteen times as long, and whoever sorted it in wait for 80 to 150 ms. sql/dba/tuning.md has what was measured.

ALTER INDEX messages_user_id_words_idx SET (gin_pending_list_limit = 1024);
ALTER INDEX session_titles_user_id_words_idx SET (gin_pending_list_limit = 1024);
