-- What looks odd but is right: names that need quoting, empty lists, nulls, bounds of ranges; and sessions that may only read.
SELECT no_plan();

SELECT 'CREATE ROLE "bad ""quoted"" rôle" LOGIN' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'bad "quoted" rôle') \gexec
SELECT dts.create_queue('Mixed "case" – queue');
SELECT dts.create_handler('h', 'SELECT $1');
SELECT dts.submit('SELECT 1', delay => '1 day', key => 'taken') AS waiting \gset

SELECT dts.submit('SELECT 1', queue => 'Mixed "case" – queue', owner => 'bad "quoted" rôle', tenant => 'tén''ant "x"', key => E'key "\t'' é', labels => '{"a ''\"b": [1, {"c": null}]}') AS id \gset
CALL dts.wait(:id, '30 s') \gset
SELECT is(:'state'::text, 'succeeded', 'names that need quoting: it ran');
SELECT is((SELECT row(queue, owner, tenant)::text FROM dts.tasks WHERE id = :id), row('Mixed "case" – queue', 'bad "quoted" rôle', 'tén''ant "x"')::text, 'and they are shown');
SELECT dts.submit('SELECT 1; SELECT 2') AS id \gset
CALL dts.wait(:id, '30 s') \gset
SELECT is(:'state'::text, 'succeeded', 'several statements without arguments');
SELECT dts.submit('SELECT 1', '[]', run_at => '2000-01-01', priority => 0, max_attempts => 1000, tenant => '', labels => '{}', retry => '{}') AS id \gset
CALL dts.wait(:id, '30 s') \gset
SELECT is(:'state'::text, 'succeeded', 'empty arguments, a due time in the past, bounds of ranges');
SELECT is((SELECT count(*) FROM dts.submit_many('[]'::jsonb)), 0::bigint, 'no tasks as JSON');
SELECT is((SELECT count(*) FROM dts.submit_many(ARRAY[]::text[])), 0::bigint, 'no texts');
SELECT is((SELECT count(*) FROM dts.submit_many('SELECT $1', ARRAY[]::jsonb[])), 0::bigint, 'no arguments');
SELECT is((SELECT count(*) FROM dts.submit_handler_many('h', ARRAY[]::jsonb[])), 0::bigint, 'no payloads');
SELECT lives_ok($$SELECT dts.submit_many(tasks => '[{"sql": "SELECT 1", "queue": null, "priority": null, "labels": null, "retry": null}]')$$, 'null in JSON is as if left out');
SELECT lives_ok($$SELECT dts.submit('SELECT 1', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)$$, 'NULL for each option is as if left out');
SELECT lives_ok($$SELECT dts.submit_many(tasks => '[{"sql": "SELECT 1", "delay": 1.5, "timeout": "1 min", "key": "j", "key_ttl": 0}]')$$, 'intervals as numbers of seconds and as text');
SET default_transaction_read_only = on;
SELECT throws_ok($$SELECT dts.submit('SELECT 1')$$, '25006');
SELECT throws_ok($$SELECT dts.submit_many(ARRAY['SELECT 1'])$$, '25006');
SELECT throws_ok(format('SELECT dts.cancel(%s)', :waiting), '25006');
SELECT throws_ok(format('SELECT dts.set_priority(%s, 3)', :waiting), '25006');
RESET default_transaction_read_only;
SELECT is(dts.cancel(:waiting), 'cancelled', 'the good task is still whole');

SELECT * FROM finish();
