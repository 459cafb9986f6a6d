-- What pg_dump keeps beside the definition of the extension, the default queue, and the word to the launcher.
SELECT pg_catalog.pg_extension_config_dump('dts.site', '');
SELECT pg_catalog.pg_extension_config_dump('dts.queue', '');
SELECT pg_catalog.pg_extension_config_dump('dts.queue_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('dts.lane', '');
SELECT pg_catalog.pg_extension_config_dump('dts.lane_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('dts.handler', '');
SELECT pg_catalog.pg_extension_config_dump('dts.handler_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('dts.limit_entry', '');
SELECT pg_catalog.pg_extension_config_dump('dts.limit_entry_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('dts.task', '');
SELECT pg_catalog.pg_extension_config_dump('dts.task_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('dts.dependency', '');
SELECT pg_catalog.pg_extension_config_dump('dts.workflow', '');
SELECT pg_catalog.pg_extension_config_dump('dts.workflow_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('dts.workflow_version', '');
SELECT pg_catalog.pg_extension_config_dump('dts.workflow_run', '');
SELECT pg_catalog.pg_extension_config_dump('dts.workflow_node', '');
SELECT pg_catalog.pg_extension_config_dump('dts.signal', '');
SELECT pg_catalog.pg_extension_config_dump('dts.signal_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('dts.dead_letter', '');
SELECT pg_catalog.pg_extension_config_dump('dts.key', '');
SELECT pg_catalog.pg_extension_config_dump('dts.request', '');
SELECT pg_catalog.pg_extension_config_dump('dts.calendar', '');
SELECT pg_catalog.pg_extension_config_dump('dts.schedule', '');
SELECT pg_catalog.pg_extension_config_dump('dts.schedule_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('dts.schedule_clock', '');
SELECT pg_catalog.pg_extension_config_dump('dts.schedule_run', '');
SELECT pg_catalog.pg_extension_config_dump('dts.fire', '');
SELECT pg_catalog.pg_extension_config_dump('dts.backfill', '');
SELECT pg_catalog.pg_extension_config_dump('dts.backfill_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('dts.backfill_due', '');
SELECT pg_catalog.pg_extension_config_dump('dts.audit_entry', '');

-- With an id of its own: under wal_level = minimal a number drawn where the sequence is made is forgotten by a crash, and given out twice.
INSERT INTO dts.queue (id, name, description) OVERRIDING SYSTEM VALUE VALUES (1, 'default', 'Tasks submitted without a queue.');
SELECT dts._changed('install', 0);
