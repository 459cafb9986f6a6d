-- Notifications: tasks that tell of ends of tasks, in the same transaction, within their limit, never of themselves.
SELECT no_plan();
CREATE ROLE notify_a LOGIN;
CREATE ROLE notify_b LOGIN;
SELECT dts.grant_usage(r) FROM unnest(ARRAY['notify_a', 'notify_b']) r;
GRANT CREATE, USAGE ON SCHEMA public TO notify_a, notify_b;
SELECT dts.create_queue('notify loud', history => 'none');
SET ROLE notify_a;
CREATE TABLE told (n serial, what jsonb);
CREATE FUNCTION tell(what jsonb) RETURNS void LANGUAGE sql AS 'INSERT INTO told (what) VALUES (what)';
SELECT dts.create_handler('notify tell', 'SELECT tell($1)');

-- Bad input.
CREATE TABLE bad (call text, state text, says text);
INSERT INTO bad VALUES
    ($$dts.create_notification(NULL, '{"channel": "x"}')$$, '22004', 'notification name must not be null'),
    ($$dts.create_notification('', '{"channel": "x"}')$$, '22023', 'notification name'),
    ($$dts.create_notification('n', '{"channel": "x"}', task => 0)$$, '42704', 'task 0 does not exist'),
    ($$dts.create_notification('n', NULL)$$, '22004', 'argument "target" must not be null'),
    ($$dts.create_notification('n', '[]')$$, '22023', 'argument "target" must be a JSON object'),
    ($$dts.create_notification('n', '{}')$$, '22023', ''),
    ($$dts.create_notification('n', '{"channel": ""}')$$, '22023', '"channel" in argument "target"'),
    ($$dts.create_notification('n', '{"channel": "x", "sql": "SELECT 1"}')$$, '22023', '"channel" in argument "target"'),
    ($$dts.create_notification('n', '{"sql": "SELEC"}')$$, '42601', 'syntax error'),
    ($$dts.create_notification('n', '{"sql": "SELECT $2", "args": [1]}')$$, '42P02', ''),
    ($$dts.create_notification('n', '{"sql": "SELECT 1", "quue": "x"}')$$, '22023', 'unknown key "quue"'),
    ($$dts.create_notification('n', '{"sql": "SELECT 1", "owner": "postgres"}')$$, '22023', 'argument "target" must not say'),
    ($$dts.create_notification('n', '{"sql": "SELECT 1", "delay": "1 h"}')$$, '22023', 'argument "target" must not say'),
    ($$dts.create_notification('n', '{"handler": "nope"}')$$, '42704', 'handler "nope" does not exist'),
    ($$dts.create_notification('n', '{"channel": "x"}', '{}')$$, '22023', 'argument "events" must name'),
    ($$dts.create_notification('n', '{"channel": "x"}', NULL)$$, '22023', 'argument "events" must name'),
    ($$dts.create_notification('n', '{"channel": "x"}', '{boom}')$$, '22023', 'invalid value in argument "events": "boom"'),
    ($$dts.create_notification('n', '{"channel": "x"}', '{late}')$$, '22023', 'event "late" and argument "longer_than" go together'),
    ($$dts.create_notification('n', '{"channel": "x"}', longer_than => '1 h')$$, '22023', 'event "late" and argument "longer_than" go together'),
    ($$dts.create_notification('n', '{"channel": "x"}', '{late}', longer_than => '-1 s')$$, '22023', 'argument "longer_than"'),
    ($$dts.create_notification('n', '{"channel": "x"}', per_minute => 0)$$, '22023', 'argument "per_minute"'),
    ($$dts.create_notification('n', '{"channel": "x"}', per_minute => 1001)$$, '22023', 'argument "per_minute"'),
    ($$dts.create_notification('n', '{"channel": "x"}', labels => '[1]')$$, '22023', 'argument "labels"'),
    ($$dts.create_notification('n', '{"channel": "x"}', queue => 'nope')$$, '42704', 'queue "nope" does not exist'),
    ($$dts.create_notification('n', '{"channel": "x"}', handler => 'nope')$$, '42704', 'handler "nope" does not exist'),
    ($$dts.create_notification('n', '{"channel": "x"}', schedule => 'nope')$$, '42704', 'schedule "nope" does not exist'),
    ($$dts.create_notification('n', '{"channel": "x"}', workflow => 'nope')$$, '42704', 'workflow "nope" does not exist'),
    ($$dts.alter_notification(NULL)$$, '22004', 'notification name must not be null'),
    ($$dts.alter_notification('nope')$$, '42704', 'notification "nope" does not exist'),
    ($$dts.drop_notification('nope')$$, '42704', 'notification "nope" does not exist'),
    ($$dts.drop_notification(NULL)$$, '22004', 'notification name must not be null');
CREATE FUNCTION refused(call text, OUT state text, OUT says text, OUT hint text) LANGUAGE plpgsql AS $$
BEGIN EXECUTE 'SELECT ' || call; state := '00000';
EXCEPTION WHEN OTHERS THEN GET STACKED DIAGNOSTICS state := RETURNED_SQLSTATE, says := MESSAGE_TEXT, hint := PG_EXCEPTION_HINT; END $$;
SELECT is(r.state, b.state, b.call || ': ' || r.says) FROM bad b, refused(b.call) r;
SELECT ok(strpos(r.says, b.says) > 0, b.call || ': says ' || b.says) FROM bad b, refused(b.call) r;
SELECT isnt(r.hint, '', b.call || ': hint') FROM bad b, refused(b.call) r WHERE b.state <> '42601';
SELECT is((SELECT count(*) FROM dts.notifications), 0::bigint, 'nothing was made');

-- Each kind of end, as a whole event.
SELECT dts.create_notification('all', '{"sql": "SELECT tell($1)"}', '{success,failure,retry,cancel,skip}', per_minute => 1000);
SELECT dts.submit('SELECT 1 / 0', max_attempts => 2, retry => '{"base": 0.05}', labels => '{"k": 1}') AS t \gset
CALL dts.wait(:t, '30 s') \gset
SELECT dts.submit('SELECT 2', depends_on => dts.after(:t)) AS s \gset
SELECT dts.submit('SELECT 3', run_at => 'tomorrow') AS c \gset
SELECT dts.cancel(:c) \gset
SELECT dts.submit('SELECT 4 AS four') AS g \gset
CALL dts.wait(:g, '30 s') \gset
DO $$ BEGIN FOR i IN 1 .. 300 LOOP EXIT WHEN (SELECT count(*) FROM told) = 5; COMMIT; PERFORM pg_sleep(0.1); END LOOP; END $$;
SELECT set_eq('SELECT what ->> ''event'', (what ->> ''task'')::bigint FROM told', format($$VALUES ('retry', %1$s::bigint), ('failure', %1$s), ('skip', %2$s), ('cancel', %3$s), ('success', %4$s)$$, :t, :s, :c, :g), 'each end');
SELECT is((SELECT what #>> '{error,message}' FROM told WHERE what ->> 'event' = 'failure'), 'division by zero', 'with the error');
SELECT is((SELECT what -> 'labels' || (what -> 'attempt') FROM told WHERE what ->> 'event' = 'failure'), '[{"k": 1}, 2]', 'labels, attempt');
SELECT is((SELECT what #> '{result,0,four}' FROM told WHERE what ->> 'event' = 'success'), '4', 'result');
SELECT is((SELECT array_agg(DISTINCT what ->> 'owner') FROM told), ARRAY['notify_a'], 'owner');
SELECT is((SELECT count(*) FROM dts.tasks WHERE labels ? 'notification'), 5::bigint, 'a notification never tells of itself');
SELECT dts.alter_notification('all', paused => true);
TRUNCATE told;

-- Which tasks, and what is said.
SELECT dts.create_notification('bound', '{"sql": "SELECT tell(jsonb_build_object(''task'', $1::bigint, ''text'', $2::text))", "args": ["${event.task}", "${event.queue}: ${event.error.message}"]}', '{dead}', queue => 'notify loud');
SELECT dts.create_notification('labelled', '{"handler": "notify tell"}', '{success}', labels => '{"vip": true}');
SELECT dts.create_notification('of a handler', '{"handler": "notify tell"}', '{failure}', handler => 'notify tell');
SELECT dts.create_workflow('notify flow', dts.node('a', 'SELECT 1/0', max_attempts => 1));
SELECT dts.create_notification('of a workflow', '{"handler": "notify tell"}', '{failure}', workflow => 'notify flow');
SELECT dts.submit('SELECT 1 / 0', max_attempts => 1) AS other \gset
SELECT dts.submit('SELECT 1 / 0', max_attempts => 1, queue => 'notify loud') AS loud \gset
SELECT dts.submit('SELECT 5', labels => '{"vip": true, "x": 1}') AS vip \gset
SELECT dts.submit('SELECT 6', labels => '{"vip": false}') AS plain \gset
SELECT dts.start('notify flow') AS run \gset
CALL dts.wait(:run, '30 s') \gset
CALL dts.wait(:other, '30 s') \gset
CALL dts.wait(:plain, '30 s') \gset
DO $$ BEGIN FOR i IN 1 .. 300 LOOP EXIT WHEN (SELECT count(*) FROM told) = 3; COMMIT; PERFORM pg_sleep(0.1); END LOOP; PERFORM pg_sleep(0.2); END $$;
SELECT is((SELECT count(*) FROM told), 3::bigint, 'only what is asked for');
SELECT is((SELECT what - 'task' FROM told WHERE what ->> 'task' = :'loud'), '{"text": "notify loud: division by zero"}', 'bound into the target, also where the queue keeps no history');
SELECT is((SELECT what ->> 'notification' FROM told WHERE what ->> 'task' = :'vip'), 'labelled', 'by label');
SELECT is((SELECT what #>> '{workflow}' || (what ->> 'run') FROM told WHERE what ->> 'notification' = 'of a workflow'), 'notify flow' || :run, 'the end of a run, once');

-- Within the limit; what is above is counted in the next.
TRUNCATE told;
SELECT dts.create_notification('few', '{"handler": "notify tell"}', '{success}', labels => '{"few": true}', per_minute => 2);
SELECT count(*) FROM dts.submit_many('SELECT 1', array_fill('[]'::jsonb, ARRAY[20]), labels => '{"few": true}') \gset
DO $$ BEGIN FOR i IN 1 .. 300 LOOP EXIT WHEN (SELECT (sent, held) = (2, 18) FROM dts.notifications WHERE name = 'few'); COMMIT; PERFORM pg_sleep(0.1); END LOOP; END $$;
SELECT is((SELECT (sent, held)::text FROM dts.notifications WHERE name = 'few'), '(2,18)', 'two are sent, the others are held back');
RESET ROLE;
UPDATE dts.notification_place SET free_at = '-infinity' WHERE notification = (SELECT id FROM dts.notification WHERE name = 'few');
SET ROLE notify_a;
SELECT dts.submit('SELECT 1', labels => '{"few": true}') AS last \gset
DO $$ BEGIN FOR i IN 1 .. 300 LOOP EXIT WHEN (SELECT count(*) FROM told) = 3; COMMIT; PERFORM pg_sleep(0.1); END LOOP; END $$;
SELECT is((SELECT what -> 'held' FROM told WHERE what ->> 'task' = :'last'), '18', 'the next one counts them');
SELECT is((SELECT held FROM dts.notifications WHERE name = 'few'), 0::bigint, 'once');

-- A notification that fails is a failed task of its own; one that cannot be sent harms nobody.
SELECT dts.create_notification('fails', '{"sql": "SELECT 1 / 0", "max_attempts": 1}', '{success}', labels => '{"fails": true}');
SELECT dts.submit('SELECT 1', labels => '{"fails": true}') AS good \gset
CALL dts.wait(:good, '30 s') \gset
SELECT is(:'state'::text, 'succeeded', 'the task that it tells of');
SELECT dts.create_handler('notify gone', 'SELECT 1');
SELECT dts.create_notification('unsent', '{"handler": "notify gone"}', '{success}', labels => '{"unsent": true}');
SELECT dts.drop_handler('notify gone');
SELECT dts.submit('SELECT 1', labels => '{"unsent": true}') AS good \gset
CALL dts.wait(:good, '30 s') \gset
SELECT is(:'state'::text, 'succeeded', 'what cannot be sent harms nobody');

-- In the transaction of the state change, or not at all.
BEGIN;
SELECT dts.create_notification('cancels', '{"handler": "notify tell"}', '{cancel}', labels => '{"c": 1}');
COMMIT;
SELECT dts.submit('SELECT 1', run_at => 'tomorrow', labels => '{"c": 1}') AS c \gset
BEGIN;
SELECT dts.cancel(:c) \gset
SELECT is((SELECT count(*) FROM dts.tasks WHERE labels ->> 'of' = :'c'), 1::bigint, 'submitted in the transaction that cancels');
ROLLBACK;
SELECT is((SELECT count(*) FROM dts.tasks WHERE labels ->> 'of' = :'c'), 0::bigint, 'and gone with it');
SELECT dts.cancel(:c) \gset

-- Of one task, and of no other; it goes when that is gone.
TRUNCATE told;
SELECT dts.submit('SELECT 8', run_at => 'tomorrow') AS one \gset
SELECT dts.create_notification('this one', '{"handler": "notify tell"}', '{success}', task => :one);
SELECT is((SELECT task FROM dts.notifications WHERE name = 'this one'), :one::bigint, 'which task');
SELECT dts.submit('SELECT 9') AS other \gset
CALL dts.wait(:other, '30 s') \gset
SELECT dts.reschedule(:one) \gset
CALL dts.wait(:one, '30 s') \gset
DO $$ BEGIN FOR i IN 1 .. 300 LOOP EXIT WHEN EXISTS (SELECT FROM told WHERE what ->> 'notification' = 'this one'); COMMIT; PERFORM pg_sleep(0.1); END LOOP; END $$;
SELECT is((SELECT array_agg(what ->> 'task') FROM told WHERE what ->> 'notification' = 'this one'), ARRAY[:'one'], 'of one task');
SELECT dts.submit('SELECT 10', run_at => 'tomorrow') AS soon \gset
SELECT dts.create_notification('soon gone', '{"handler": "notify tell"}', '{failure}', task => :soon);
SET ROLE notify_b;
SELECT throws_ok(format($$SELECT dts.create_notification('not mine', '{"channel": "x"}', task => %s)$$, :'soon'), '42704', NULL, 'not of a task of somebody else');
RESET ROLE;
SELECT dts._purge(10);
SET ROLE notify_a;
SELECT is((SELECT array_agg(name) FROM dts.notifications WHERE task IS NOT NULL), ARRAY['soon gone'], 'what told of a task that has ended is removed');
SELECT dts.cancel(task), dts.drop_notification(name) FROM dts.notifications WHERE task IS NOT NULL;

-- Late ones.
TRUNCATE told;
SELECT dts.create_notification('late', '{"handler": "notify tell"}', '{late}', longer_than => '1 s', labels => '{"slow": 1}');
SELECT dts.submit('SELECT pg_sleep(600)', labels => '{"slow": 1}', max_attempts => 1) AS slow \gset
DO $$ BEGIN FOR i IN 1 .. 300 LOOP EXIT WHEN (SELECT count(*) FROM told WHERE what ->> 'event' = 'late') = 1; COMMIT; PERFORM pg_sleep(0.1); END LOOP; END $$;
SELECT is((SELECT what ->> 'task' FROM told WHERE what ->> 'event' = 'late'), :'slow', 'a task that runs long');
SELECT ok((SELECT (what ->> 'seconds')::numeric >= 1 FROM told WHERE what ->> 'event' = 'late'), 'how long');
SELECT dts.cancel(:slow) \gset

-- Another role's tasks are none of one's business.
SET ROLE notify_b;
SELECT is((SELECT count(*) FROM dts.notifications), 0::bigint, 'notifications of others are not seen');
SELECT throws_ok($$SELECT dts.drop_notification('late')$$, '42501', NULL, 'nor dropped');
SELECT dts.create_notification('b', '{"sql": "SELECT 1"}', '{success}', per_minute => 1000);
SET ROLE notify_a;
SELECT dts.submit('SELECT 7') AS t \gset
CALL dts.wait(:t, '30 s') \gset
SET ROLE notify_b;
SELECT is((SELECT sent FROM dts.notifications WHERE name = 'b'), 0::bigint, 'nobody is told of the tasks of others');
RESET ROLE;
SELECT is((SELECT count(*) FROM dts.audit WHERE action = 'create_notification' AND object = 'few'), 1::bigint, 'in the audit log');
SELECT is((SELECT count(*) FROM dts.stuck()), 0::bigint, 'nothing is stuck');
SELECT dts.drop_notification(name) FROM dts.notifications;
SELECT is((SELECT count(*) FROM dts.notification_place), 0::bigint, 'dropped whole');
SELECT * FROM finish();
