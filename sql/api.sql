-- The functions that people call first, one after the other, with what they answer.
CREATE EXTENSION dts;
\set VERBOSITY terse
CREATE TABLE greeting (id int PRIMARY KEY, words text);

-- A statement, with arguments.
-- Right after the installation a notice may say that the scheduler has not started yet.
SET client_min_messages = warning;
SELECT dts.submit('INSERT INTO greeting VALUES ($1, $2) RETURNING words', '[1, "hello"]') AS id \gset
CALL dts.wait(:id, '30 s');
RESET client_min_messages;
SELECT dts.result(:id), dts.state(:id);
SELECT kind, queue, priority, attempts, max_attempts, state, sql, args, error, labels FROM dts.tasks WHERE id = :id;
SELECT attempt, outcome, row_count, result, result_truncated, sqlstate, error, notices, started_at >= due_at AS late, ended_at >= started_at AS ran FROM dts.runs WHERE task = :id;

-- All options at once.
SELECT dts.submit('SELECT $1::int + 1 AS n', '[41]', queue => 'default', priority => 9, delay => '10 ms', max_attempts => 3,
                  retry => '{"strategy": "linear", "base": 1, "cap": 60, "jitter": "none", "on": ["40", "55P03"], "not_on": ["22"]}',
                  timeout => '1 min', expires => now() + interval '1 hour', key => 'once', on_conflict => 'error', key_ttl => '1 hour',
                  transactional => true, capture => true, labels => '{"team": "a"}', tenant => 'acme', owner => current_user) AS id \gset
CALL dts.wait(:id, '30 s');
SELECT result, priority, tenant, labels, key FROM dts.tasks WHERE id = :id;
SELECT dts.submit('SELECT 1', key => 'once') = :id AS same;

-- Several statements; a notice; an error with a retry; one outside a transaction.
SELECT dts.submit('CREATE TABLE made (i int); INSERT INTO made SELECT generate_series(1, 3); SELECT count(*) FROM made') AS id \gset
CALL dts.wait(:id, '30 s');
SELECT dts.result(:id);
SELECT dts.submit('DO $x$ BEGIN RAISE NOTICE ''careful''; RAISE EXCEPTION ''broken'' USING ERRCODE = ''P0002'', DETAIL = ''how'', HINT = ''what to do''; END $x$',
                  max_attempts => 2, retry => '{"base": 0.01}') AS id \gset
CALL dts.wait(:id, '30 s');
SELECT attempt, outcome, sqlstate, error, error_fields ->> 'detail' AS detail, error_fields ->> 'hint' AS hint, notices FROM dts.runs WHERE task = :id ORDER BY attempt;
SELECT attempts, sqlstate, error FROM dts.dead_letters WHERE id = :id;
SELECT dts.redrive(:id);
CALL dts.wait(:id, '30 s');
SELECT dts.submit('VACUUM made', transactional => false) AS id \gset
CALL dts.wait(:id, '30 s');

-- Many at once, three ways.
SELECT array_agg(x) AS ids FROM dts.submit_many('INSERT INTO greeting VALUES ($1, $2)', ARRAY['[10, "a"]', '[11, "b"]', '[12, null]']::jsonb[]) x \gset
SELECT array_agg(x) || :'ids' AS ids FROM dts.submit_many(ARRAY['INSERT INTO greeting VALUES (20)', 'INSERT INTO greeting VALUES (21)'], priority => 8) x \gset
SELECT array_agg(x) || :'ids' AS ids FROM dts.submit_many(tasks => '[{"sql": "INSERT INTO greeting VALUES ($1, $2)", "args": [30, "json"], "priority": 1, "labels": {"a": 1}}, {"sql": "INSERT INTO greeting VALUES (31)", "delay": 0.01}]') x \gset
DO $$ DECLARE i bigint; s text; BEGIN FOR i IN SELECT id FROM dts.tasks WHERE state IN ('ready', 'scheduled', 'running') LOOP CALL dts.wait(i, '60 s', s); END LOOP; END $$;
SELECT state, count(*) FROM dts.tasks WHERE id = ANY (:'ids') GROUP BY state;
SELECT * FROM greeting ORDER BY id;

-- A handler.
SELECT dts.create_handler('greet', 'INSERT INTO greeting SELECT ($1 ->> ''id'')::int, $1 ->> ''words'' RETURNING id', priority => 7, description => 'says hello');
SELECT name, owner = current_user AS mine, shared, sql, priority, transactional, capture, description FROM dts.handlers;
SELECT dts.submit_handler('greet', '{"id": 40, "words": "hi"}') AS id \gset
CALL dts.wait(:id, '30 s');
SELECT handler, priority, result FROM dts.tasks WHERE id = :id;
SELECT count(*) FROM dts.submit_handler_many('greet', ARRAY['{"id": 41}', '{"id": 42}']::jsonb[], delay => '1 day');
SELECT dts.drop_handler('greet');
SELECT dts.alter_handler('greet', 'SELECT $1 AS payload', capture => false);
SELECT dts.retry(id) FROM dts.tasks WHERE handler = 'greet' AND state = 'scheduled' ORDER BY id;
DO $$ DECLARE i bigint; s text; BEGIN FOR i IN SELECT id FROM dts.tasks WHERE state IN ('ready', 'scheduled', 'running') LOOP CALL dts.wait(i, '60 s', s); END LOOP; END $$;
SELECT dts.drop_handler('greet');
SELECT count(*) FROM dts.handlers;
SELECT dts.submit_handler('greet');

-- Steering.
SELECT dts.submit('SELECT 1', delay => '1 day') AS id \gset
SELECT dts.set_priority(:id, 0), dts.reschedule(:id, delay => '2 days'), dts.state(:id);
SELECT dts.cancel(:id);
SELECT dts.state(:id);
BEGIN;
CALL dts.wait(:id, '1 s');
ROLLBACK;

-- Figures.
SELECT name, value FROM dts.stats() WHERE queue = 'default' AND name IN ('tasks_cancelled_total', 'tasks_failed_total', 'tasks_retried_total', 'tasks_expired_total') ORDER BY name;
SELECT count(*) FROM dts.stuck();
SELECT line FROM regexp_split_to_table(dts.metrics(), E'\n') line WHERE line ~ '^dts_tasks_(cancelled|failed)_total|^# TYPE dts_(run|wait)_seconds';
SELECT dts.version() ~ '^\d+\.\d+' AS version;
DROP TABLE greeting, made;
DROP EXTENSION dts;
SELECT count(*) FROM pg_namespace WHERE nspname = 'dts';
