DROP TABLE used;
DROP TABLE refresh_families;
DROP TABLE grants;
