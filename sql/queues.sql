-- Queues: create, alter, pause, resume, drop, and what of it is in the audit log.
CREATE EXTENSION dts;
\set VERBOSITY terse
-- Right after the installation a notice may say that the scheduler has not started yet.
SET client_min_messages = warning;
SELECT dts.submit('SELECT 1') AS id \gset
CALL dts.wait(:id, '30 s');
RESET client_min_messages;
SELECT name, paused, batch_size, durable, history, retention, priority, max_attempts, retry, timeout, expires, description FROM dts.queues;
SELECT dts.create_queue('plain');
SELECT dts.create_queue('full', paused => true, batch_size => 60, durable => true, history => 'failures', retention => '7 days', priority => 9, max_attempts => 1,
                        retry => '{"strategy": "fixed"}', timeout => '1 min', expires => '1 day', description => 'all settings');
SELECT name, paused, batch_size, durable, history, retention, priority, max_attempts, retry, timeout, expires, description FROM dts.queues ORDER BY name;
SELECT dts.create_queue('full');
SELECT dts.create_queue('bad', batch_size => 61);
SELECT dts.create_queue('');

-- What is left out stays.
SELECT dts.alter_queue('full', priority => 0);
SELECT dts.alter_queue('full', batch_size => 1, history => 'all', description => 'changed');
SELECT name, paused, batch_size, durable, history, priority, description FROM dts.queues WHERE name = 'full';
SELECT dts.alter_queue('nope', priority => 0);

-- Pause and resume.
SELECT dts.pause('plain');
SELECT dts.pause('plain');
SELECT dts.submit('SELECT 1', queue => 'plain') AS id \gset
SELECT name, paused, ready, scheduled, running, dead FROM dts.queues WHERE name = 'plain';
SELECT dts.explain(:id);
SELECT dts.drop_queue('plain');
SELECT dts.resume('plain');
SELECT dts.resume('plain');
CALL dts.wait(:id, '30 s');
SELECT name, paused, ready, running, submitted, succeeded, failed FROM dts.queues WHERE name = 'plain';

-- A batch: tasks of their own, one of them fails.
SELECT dts.alter_queue('full', batch_size => 60, max_attempts => 1);
CREATE TABLE done (i int);
SELECT count(*) FROM dts.submit_many('INSERT INTO done SELECT $1::int / ($1::int - 50) * 0 + $1::int', (SELECT array_agg(jsonb_build_array(i)) FROM generate_series(1, 100) i), queue => 'full');
SELECT dts.resume('full');
DO $$ DECLARE i bigint; s text; BEGIN FOR i IN SELECT id FROM dts.tasks WHERE state IN ('ready', 'running') LOOP CALL dts.wait(i, '60 s', s); END LOOP; END $$;
SELECT count(*), count(DISTINCT i), min(i), max(i) FROM done;
SELECT outcome, sqlstate, count(*) FROM dts.runs WHERE queue = 'full' GROUP BY outcome, sqlstate ORDER BY outcome;
SELECT name, dead, submitted, succeeded, failed FROM dts.queues WHERE name = 'full';
SELECT dts.redrive_queue('full');
DO $$ DECLARE i bigint; s text; BEGIN FOR i IN SELECT id FROM dts.tasks WHERE state IN ('ready', 'running') LOOP CALL dts.wait(i, '60 s', s); END LOOP; END $$;

-- Drop: history stays, the name is free again.
SELECT dts.drop_queue('plain');
SELECT dts.submit('SELECT 1', queue => 'plain');
SELECT regexp_replace(queue, '\d+', 'N') AS queue, state FROM dts.tasks WHERE id = :id;
SELECT dts.create_queue('plain');
SELECT dts.drop_queue('plain');
SELECT dts.drop_queue('default');
SELECT name FROM dts.queues ORDER BY name;

-- In a transaction that is rolled back nothing has changed.
BEGIN;
SELECT dts.create_queue('undone'), dts.pause('default');
SELECT name, paused FROM dts.queues ORDER BY name;
ROLLBACK;
SELECT name, paused FROM dts.queues ORDER BY name;
SELECT dts.submit('SELECT 1') AS id \gset
CALL dts.wait(:id, '30 s');

SELECT action, regexp_replace(object, '\d+', 'N') AS object, before -> 'priority' AS before, after -> 'priority' AS after, who = current_user AS mine FROM dts.audit ORDER BY at;
DROP TABLE done;
DROP EXTENSION dts;
