-- What the web's and the mail's roles need, where neither owns the tables. Change the names where yours are others.
BEGIN;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO "www-data";
GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO "www-data";
GRANT SELECT ON patchwork_project, patchwork_state, patchwork_person, patchwork_patch TO "nobody";
GRANT INSERT ON patchwork_person, patchwork_patch TO "nobody";
GRANT USAGE ON patchwork_person_id_seq, patchwork_patch_id_seq TO "nobody";
COMMIT;
