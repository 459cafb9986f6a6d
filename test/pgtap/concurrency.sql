-- How many runs of a workflow may be under way at once: order, keys, what to do instead of waiting, retries, steering of runs that wait.
SELECT no_plan();
CREATE FUNCTION runs(w text) RETURNS text LANGUAGE sql AS $$ SELECT string_agg(COALESCE(key, id::text) || ' ' || state, ', ' ORDER BY id) FROM dts.workflow_runs WHERE workflow = w $$;
CREATE FUNCTION become(w text, wanted text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN
    FOR i IN 1 .. 2000 LOOP EXIT WHEN runs(w) = wanted; PERFORM pg_sleep(0.01); END LOOP; RETURN is(runs(w), wanted, format('%s: %s', w, wanted)); END $$;
CREATE FUNCTION starts(w text, keys text[], params jsonb DEFAULT '{}') RETURNS void LANGUAGE sql AS $$ SELECT dts.start(w, params, key => k) FROM unnest(keys) k $$;
CREATE FUNCTION go(w text, k text) RETURNS void LANGUAGE sql AS $$ SELECT dts.signal(id, 'go', '{"ok": true}') FROM dts.workflow_runs WHERE workflow = w AND key = k $$;
CREATE FUNCTION run(w text, k text) RETURNS bigint LANGUAGE sql AS $$ SELECT id FROM dts.workflow_runs WHERE workflow = w AND key = k $$;
CREATE FUNCTION explained(w text, k text) RETURNS text LANGUAGE plpgsql AS $$ DECLARE t bigint; BEGIN
    FOR i IN 1 .. 1000 LOOP SELECT task INTO t FROM dts.workflow_nodes WHERE run = run(w, k) AND state = 'waiting' ORDER BY task LIMIT 1; EXIT WHEN FOUND; PERFORM pg_sleep(0.01); END LOOP;
    RETURN dts.explain(t); END $$;

-- ---- what is refused
CREATE FUNCTION findings(c text) RETURNS text LANGUAGE sql AS $$
    SELECT COALESCE(string_agg(pointer || ': ' || message, E'\n' ORDER BY pointer, message), 'none')
    FROM dts.validate_workflow(jsonb_build_object('nodes', '{"a": {"noop": 1}}'::jsonb, 'params', '{"p": {"type": "string"}}'::jsonb, 'concurrency', c::jsonb)) $$;
SELECT is(findings(c), says, c) FROM (VALUES
    ('3', 'none'), ('{"limit": 2, "key": "x-${params.p}", "on_conflict": "skip"}', 'none'),
    ('"x"', '/concurrency: "concurrency" must be a number or an object'), ('[1]', '/concurrency: "concurrency" must be a number or an object'),
    ('{}', '/concurrency/limit: "limit" must be a whole number from 1 to 10000'), ('0', '/concurrency/limit: "limit" must be a whole number from 1 to 10000'),
    ('1.5', '/concurrency/limit: "limit" must be a whole number from 1 to 10000'), ('1e9', '/concurrency/limit: "limit" must be a whole number from 1 to 10000'),
    ('{"limit": "${params.p}"}', '/concurrency/limit: "limit" must be a whole number from 1 to 10000'),
    ('{"limit": 1, "key": 7}', '/concurrency/key: "key" must be a string'),
    ('{"limit": 1, "key": "${params.q}"}', '/concurrency/key: ${params.q} is not known when the run starts'),
    ('{"limit": 1, "key": "${nodes.a.output}"}', '/concurrency/key: ${nodes.a.output} is not known when the run starts'),
    ('{"limit": 1, "on_conflict": "queue"}', '/concurrency/on_conflict: invalid value for "on_conflict"'),
    ('{"limit": 1, "on_conflict": null}', '/concurrency/on_conflict: invalid value for "on_conflict"'),
    ('{"limit": 1, "max": 2}', '/concurrency/max: unknown key "max"')) v(c, says);
SELECT throws_ok($$SELECT dts.create_workflow('x', dts.node('a', 'SELECT 1'), dts.workflow_options(concurrency => 0))$$, '22023', NULL, 'without JSON, too');
SELECT throws_ok($$SELECT dts.create_workflow('x', dts.node('a', 'SELECT 1'), dts.node('a', 'SELECT 2'))$$, '42710', 'node "a" is given twice', 'two nodes of one name');
SELECT throws_ok($$SELECT dts.create_workflow('x', dts.node('a', 'SELECT 1'), '7')$$, '22023', NULL, 'a number is no node');
SELECT throws_ok($$SELECT dts.create_workflow('x', dts.node('a', 'SELECT 1'), dts.workflow_options(deadline => '1 h'), dts.workflow_options(deadline => '2 h'))$$, '42710', 'option "deadline" is given twice', 'an option twice');

-- ---- order, one at a time
SELECT dts.create_workflow('one', dts.workflow_options(concurrency => 1, output => '${nodes.go.output}', description => 'one at a time'), dts.node('go', signal => 'go'), dts.node('then', 'SELECT 1', needs => '{go}'), dts.node('beside', 'SELECT 2')) AS v \gset
SELECT is((SELECT definition -> 'concurrency' FROM dts.workflows WHERE name = 'one'), '{"limit": 1}', 'the definition');
SELECT starts('one', '{a,b,c,d}');
SELECT become('one', 'a running, b waiting, c waiting, d waiting');
SELECT matches(dts.explain(run('one', 'a')), '^run of workflow "one", version 1: running', 'the first');
SELECT matches(dts.explain(run('one', 'c')), 'waiting for its turn: its workflow lets 1 run\(s\) be under way at once: run ' || run('one', 'a') || ', under way for .*; 1 more wait before it', 'why the third waits');
SELECT is((SELECT count(*) FROM dts.workflow_nodes WHERE run = run('one', 'b') AND (state = 'succeeded' OR started_at IS NOT NULL)), 0::bigint, 'nothing of a run that waits has run');
SELECT is((SELECT begun_at IS NOT NULL FROM dts.workflow_runs WHERE key = 'a'), true, 'begun_at');
SELECT is((SELECT begun_at IS NULL FROM dts.workflow_runs WHERE key = 'b'), true, 'not yet');
-- One that waits is cancelled, one is paused: the next one passes by.
SELECT is(dts.cancel_run(run('one', 'b')), 'cancelling', 'a run that waits is cancelled');
SELECT become('one', 'a running, b cancelled, c waiting, d waiting');
SELECT dts.pause_run(run('one', 'c'));
SELECT go('one', 'a');
SELECT become('one', 'a succeeded, b cancelled, c paused, d running');
SELECT dts.resume_run(run('one', 'c'));
SELECT become('one', 'a succeeded, b cancelled, c waiting, d running');
SELECT matches(explained('one', 'c'), '^waiting: its workflow lets 1 run.*run ' || run('one', 'd'), 'a node says so');
-- A retry waits, too.
SELECT ok(dts.retry_run(run('one', 'b')) > 0, 'retried');
SELECT become('one', 'a succeeded, b waiting, c waiting, d running');
SELECT go('one', 'd');
SELECT become('one', 'a succeeded, b waiting, c running, d succeeded');
SELECT go('one', 'b'), go('one', 'c');
SELECT become('one', 'a succeeded, b succeeded, c succeeded, d succeeded');
SELECT ok((SELECT bool_and(begun_at >= before) FROM (SELECT begun_at, lag(ended_at) OVER (ORDER BY begun_at) AS before FROM dts.workflow_runs WHERE workflow = 'one') x WHERE before IS NOT NULL), 'one after the other');

-- ---- keys, and more than one
SELECT dts.create_workflow('two', '{"params": {"region": {"type": "string"}}, "concurrency": {"limit": 2, "key": "r-${params.region}"}, "nodes": {"go": {"signal": "go"}}}') AS v \gset
SELECT starts('two', '{e1,e2,e3,e4}', '{"region": "eu"}'), starts('two', '{u1}', '{"region": "us"}');
SELECT become('two', 'e1 running, e2 running, e3 waiting, e4 waiting, u1 running');
SELECT is((SELECT array_agg(DISTINCT concurrency_key ORDER BY concurrency_key)::text FROM dts.workflow_runs WHERE workflow = 'two'), '{r-eu,r-us}', 'keys are shown');
SELECT matches(explained('two', 'e3'), 'lets 2 run\(s\) of key "r-eu" be under way at once: run .*; run ', 'both are named');
SELECT go('two', 'e2');
SELECT become('two', 'e1 running, e2 succeeded, e3 running, e4 waiting, u1 running');
-- The limit of the new version counts all that are under way.
SELECT dts.create_workflow('two', '{"params": {"region": {"type": "string"}}, "concurrency": {"limit": 3, "key": "r-${params.region}"}, "nodes": {"go": {"signal": "go"}}}') AS v \gset
SELECT starts('two', '{e5}', '{"region": "eu"}');
SELECT become('two', 'e1 running, e2 succeeded, e3 running, e4 waiting, u1 running, e5 waiting');
SELECT go('two', 'e1');
SELECT become('two', 'e1 succeeded, e2 succeeded, e3 running, e4 running, u1 running, e5 running');
SELECT go('two', k) FROM unnest('{e3,e4,e5,u1}'::text[]) k;
SELECT become('two', 'e1 succeeded, e2 succeeded, e3 succeeded, e4 succeeded, u1 succeeded, e5 succeeded');

-- ---- instead of waiting
SELECT dts.create_workflow('skips', '{"concurrency": {"limit": 1, "on_conflict": "skip"}, "nodes": {"a": {"noop": 1}, "go": {"needs": ["a"], "signal": "go"}}, "on": {"cancel": {"sql": "SELECT 1"}}}') AS v \gset
SELECT starts('skips', '{a}');
SELECT become('skips', 'a running');
SELECT starts('skips', '{b}');
SELECT become('skips', 'a running, b cancelled');
SELECT matches((SELECT error FROM dts.workflow_nodes WHERE run = run('skips', 'b') AND node = 'a'), 'its workflow says "skip"', 'which says why');
SELECT go('skips', 'a');
SELECT become('skips', 'a succeeded, b cancelled');
SELECT dts.create_workflow('replaces', '{"concurrency": {"limit": 1, "on_conflict": "replace"}, "nodes": {"go": {"signal": "go"}, "long": {"sql": "SELECT pg_sleep(CASE WHEN ${run.key} = $$a$$ THEN 100 ELSE 0 END)"}}}') AS v \gset
SELECT starts('replaces', '{a}');
SELECT become('replaces', 'a running');
SELECT starts('replaces', '{b}');
SELECT become('replaces', 'a cancelled, b running');
SELECT is((SELECT count(*) FROM dts.audit WHERE action = 'cancel_run' AND object = 'run ' || run('replaces', 'a')), 1::bigint, 'it is in the audit log');
SELECT starts('replaces', '{c}');
SELECT become('replaces', 'a cancelled, b cancelled, c running');
SELECT go('replaces', 'c');
SELECT become('replaces', 'a cancelled, b cancelled, c succeeded');

-- ---- a run is under way until its compensation and handlers have ended
CREATE TABLE did (n int GENERATED ALWAYS AS IDENTITY, what text);
SELECT dts.create_workflow('undone', '{"concurrency": 1, "nodes": {"a": {"sql": "INSERT INTO did (what) VALUES ($$a $$ || ${run.key})", "compensate": {"sql": "INSERT INTO did (what) SELECT $$undo $$ || ${run.key} FROM pg_sleep(0.2)"}},
    "b": {"needs": ["a"], "sql": "SELECT 1/0", "max_attempts": 1}}, "on": {"exit": {"sql": "INSERT INTO did (what) VALUES ($$exit $$ || ${run.key})"}}}') AS v \gset
SELECT starts('undone', '{1,2}');
SELECT become('undone', '1 failed, 2 failed');
DO $$ BEGIN FOR i IN 1 .. 1000 LOOP EXIT WHEN (SELECT count(*) FROM did) = 6; PERFORM pg_sleep(0.01); END LOOP; END $$;
SELECT is((SELECT string_agg(what, ', ' ORDER BY n) FROM did), 'a 1, undo 1, exit 1, a 2, undo 2, exit 2', 'what is undone is not overlapped');
SELECT is_empty($$SELECT FROM dts.workflow_nodes WHERE node ~ '^\('$$, 'and nothing of this is to be seen');

-- ---- sub-workflows: a run is not in its own way
SELECT dts.create_workflow('inner', '{"concurrency": 1, "params": {"d": {"type": "integer", "default": 0}}, "nodes": {"deeper": {"workflow": "inner", "params": {"d": 1}, "when": "$.params.d == 0"}, "a": {"sql": "SELECT 1"}}}') AS v \gset
SELECT dts.create_workflow('outer', '{"nodes": {"m": {"map": [1, 2, 3], "workflow": "inner"}}}') AS v \gset
SELECT starts('outer', '{o}');
SELECT become('outer', 'o succeeded');
SELECT is((SELECT count(*) FROM dts.workflow_runs WHERE workflow = 'inner' AND state = 'succeeded'), 6::bigint, 'three, each with one inside');

-- ---- the concurrency key of a node: known with the run, at its turn, or for each item
SELECT dts.create_workflow('keyed', dts.param('p', 'string', '"x"'), dts.node('plain', 'SELECT 1', concurrency_key => 'a-${params.p}'), dts.node('turn', 'SELECT ${nodes.plain.output}', needs => '{plain}', concurrency_key => 'b-${params.p}'),
    dts.node('own', 'SELECT 7 AS seven', needs => '{turn}', concurrency_key => 'c-${nodes.plain.output.?column?}'), dts.node('items', 'SELECT ${item}::int', map => '[1, 2]', concurrency_key => 'd-${item}', options => '{"labels": {"n": "${index}"}}'),
    dts.node('after', 'SELECT ${nodes.own.output.seven}::int AS x', needs => '{own}', options => '{"labels": {"p": "${params.p}", "run": "mine"}, "priority": 7}')) AS v \gset
SELECT dts.pause('default');
SELECT dts.start('keyed', key => 'k') AS r \gset
CREATE FUNCTION keys(r bigint, n text) RETURNS text LANGUAGE plpgsql AS $$ DECLARE k text; BEGIN
    FOR i IN 1 .. 500 LOOP SELECT string_agg(t.extra ->> 'concurrency_key', ' ' ORDER BY t.id) INTO k FROM dts.workflow_node x JOIN dts.task t ON t.id = x.task WHERE x.run = r AND x.node = n; EXIT WHEN k IS NOT NULL; PERFORM pg_sleep(0.01); END LOOP;
    RETURN k; END $$;
SELECT is(keys(:r, 'plain'), 'a-x', 'a key from parameters');
SELECT is(keys(:r, 'turn'), 'b-x', 'of a node that is asked at its turn');
SELECT is((SELECT extra -> 'labels' FROM dts.task t JOIN dts.workflow_node x ON x.task = t.id WHERE x.run = :r AND x.node = 'after'), jsonb_build_object('p', 'x', 'run', :r, 'node', 'after'), 'labels are bound, too');
SELECT dts.resume('default');
SELECT become('keyed', 'k succeeded');
SELECT is((SELECT string_agg(output::text, '; ' ORDER BY node, item) FROM dts.workflow_nodes WHERE run = :r AND node IN ('own', 'after') AND item IS NULL), '[{"x": 7}]; {"seven": 7}', 'the key of an output: a task of its own');
SELECT is((SELECT string_agg(t.labels ->> 'n', ' ' ORDER BY t.id) FROM dts.tasks t JOIN dts.workflow_nodes n ON n.task = t.id WHERE n.run = :r AND n.node = 'items' AND n.item IS NOT NULL), '0 1', 'items');
SELECT throws_ok($$SELECT dts.create_workflow('x', dts.node('a', 'SELECT 1', concurrency_key => '${nodes.b.output}'))$$, '22023', NULL, 'a key of nothing');

-- ---- deadline, a later start, a node set by hand
SELECT dts.create_workflow('late', dts.workflow_options(concurrency => 1, deadline => '0.5 s'), dts.node('a', 'SELECT pg_sleep(1)')) AS v \gset
SELECT starts('late', '{a,b}');
SELECT become('late', 'a succeeded, b failed');
SELECT is((SELECT state FROM dts.workflow_nodes WHERE run = run('late', 'b')), 'expired', 'it did not get its turn in time');
SELECT dts.create_workflow('later', dts.workflow_options(concurrency => 1), dts.node('a', 'SELECT 1')) AS v \gset
SELECT dts.start('later', key => 'tomorrow', run_at => now() + interval '1 day') AS r \gset
SELECT starts('later', '{now}');
SELECT become('later', 'tomorrow running, now succeeded');
SELECT dts.cancel_run(:r);
SELECT become('later', 'tomorrow cancelled, now succeeded');

-- ---- a run whose tasks are gone has no place
SELECT dts.create_workflow('gone', dts.workflow_options(concurrency => 1), dts.node('go', signal => 'go')) AS v \gset
SELECT starts('gone', '{a}');
SELECT become('gone', 'a running');
SELECT starts('gone', '{b}');
SELECT become('gone', 'a running, b waiting');
BEGIN;  -- the sweep mends it as soon as it sees it
DELETE FROM dts.task t USING dts.workflow_node n WHERE n.task = t.id AND n.run = run('gone', 'a');
SELECT is((SELECT string_agg(reason, '') FROM dts.stuck() WHERE task = run('gone', 'b')), NULL, 'not stuck yet');
SELECT is((SELECT count(*) FROM dts._holders((SELECT r FROM dts.workflow_run r WHERE r.id = run('gone', 'b')))), 0::bigint, 'nobody is in its way');
UPDATE dts.workflow_run SET due_at = due_at - interval '1 hour' WHERE id = run('gone', 'b');
SELECT is((SELECT reason FROM dts.stuck() WHERE task = run('gone', 'b')), 'this run may begin, and does not', 'dts.stuck says so');
COMMIT;
SELECT dts._changed('gate', 0);
SELECT become('gone', 'a running, b running');
SELECT go('gone', 'b');
SELECT become('gone', 'a running, b succeeded');
SELECT matches(dts.preview('two', '{"region": "eu"}'), 'at most 3 at once of key "r-eu", otherwise it waits', 'dts.preview says it');
SELECT throws_ok($$SELECT dts.start('two', jsonb_build_object('region', repeat('x', 1000)))$$, '22023', 'the concurrency key of the run is longer than 1000 bytes', 'a key that is too long');
SELECT is_empty('SELECT * FROM dts.stuck()', 'nothing is stuck');

SELECT * FROM finish();
