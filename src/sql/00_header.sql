-- dts: the install script is made from src/sql/*.sql, in the order of their names.
-- Every name is qualified and nothing is replaced: an object planted beforehand makes the installation fail.
\echo Use "CREATE EXTENSION dts" to load this file. \quit

SET LOCAL search_path TO pg_catalog, pg_temp;
CREATE SCHEMA dts;
COMMENT ON SCHEMA dts IS 'Distributed task scheduler: functions to submit and steer tasks, views to watch them.';
REVOKE ALL ON SCHEMA dts FROM PUBLIC;
