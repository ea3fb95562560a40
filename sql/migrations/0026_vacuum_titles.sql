-- An index counts titles without reading their rows only where VACUUM has been since they were written.
ALTER TABLE session_titles SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 0.02);
COMMENT ON INDEX session_titles_user_id_created_at_title_idx IS 'Serves list_sessions filtered by `search`, to count the titles that hold a part of most of them without reading their rows; and list_exported_sessions: a page of a user''s sessions, oldest first';
