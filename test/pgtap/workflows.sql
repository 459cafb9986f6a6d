-- Workflows: what is refused, what each kind of node does, failures, retries, signals, approvals, cancel.
SELECT no_plan();
CREATE ROLE wf_a LOGIN;
CREATE ROLE wf_b LOGIN;
CREATE ROLE wf_boss LOGIN;
SELECT dts.grant_usage(r) FROM unnest(ARRAY['wf_a', 'wf_b', 'wf_boss']) r;
CREATE FUNCTION ended(r bigint) RETURNS text LANGUAGE plpgsql AS $$ DECLARE s text; BEGIN
    FOR i IN 1 .. 3000 LOOP
        SELECT state INTO s FROM dts.workflow_runs WHERE id = r;
        IF s NOT IN ('running', 'cancelling', 'paused') AND NOT EXISTS (SELECT FROM dts.workflow_nodes n WHERE n.run = r AND n.state IN ('blocked', 'ready', 'scheduled', 'running', 'waiting')) THEN RETURN s; END IF;
        PERFORM pg_sleep(0.01);
    END LOOP;
    RETURN format('still %s: %s', s, (SELECT string_agg(n.node || ' ' || n.state || COALESCE(' ' || n.error, ''), ', ') FROM dts.workflow_nodes n WHERE n.run = r AND n.item IS NULL));
END $$;
CREATE FUNCTION reaches(r bigint, n text, s text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
    FOR i IN 1 .. 3000 LOOP
        IF EXISTS (SELECT FROM dts.workflow_nodes x WHERE x.run = r AND x.node = n AND x.item IS NULL AND x.state = s) THEN RETURN true; END IF;
        PERFORM pg_sleep(0.01);
    END LOOP;
    RETURN false;
END $$;
CREATE FUNCTION states(r bigint) RETURNS text LANGUAGE sql AS $$ SELECT string_agg(node || ' ' || state, ', ' ORDER BY node) FROM dts.workflow_nodes WHERE run = r AND item IS NULL $$;
CREATE FUNCTION out_of(r bigint, n text) RETURNS jsonb LANGUAGE sql AS $$ SELECT output FROM dts.workflow_nodes WHERE run = r AND node = n AND item IS NULL $$;
CREATE TABLE did (n int GENERATED ALWAYS AS IDENTITY, what text);
CREATE FUNCTION does(what text) RETURNS int LANGUAGE sql AS 'INSERT INTO did (what) VALUES (what) RETURNING n';
CREATE TABLE switchboard (name text PRIMARY KEY, up boolean);
CREATE FUNCTION unless_down(name text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN
    IF EXISTS (SELECT FROM switchboard s WHERE s.name = unless_down.name AND NOT s.up) THEN RAISE EXCEPTION '% is down', name; END IF; PERFORM does(name); RETURN name; END $$;

-- ---- definitions: all findings at once, with pointers
CREATE FUNCTION findings(d text) RETURNS text LANGUAGE sql AS $$ SELECT COALESCE(string_agg(pointer || ': ' || message, E'\n' ORDER BY pointer, message), 'none') FROM dts.validate_workflow(d::jsonb) $$;
CREATE TABLE bad (d text, says text);
INSERT INTO bad VALUES
    ('[]', '/nodes: a workflow needs nodes'), ('{"nodes": {}}', '/nodes: a workflow needs nodes'), ('null', '/nodes: a workflow needs nodes'),
    ('{"nodes": {"a": 1}}', '/nodes/a: a node must be a JSON object'),
    ('{"nodes": {"a": {}}}', '/nodes/a: the node does nothing'),
    ('{"nodes": {"a": {"sql": "SELECT 1", "noop": 1}}}', '/nodes/a: the node does several things: sql, noop'),
    ('{"nodes": {"a b": {"sql": "SELECT 1"}}}', '/nodes/a b: invalid node name "a b"'),
    ('{"nodes": {"a": {"sql": "SELECT 1", "timout": 5}}}', '/nodes/a/timout: unknown key "timout"'),
    ('{"nodes": {"a": {"sql": "SELECT 1"}}, "node": 1}', '/node: unknown key "node"'),
    ('{"nodes": {"a": {"sql": "SELEC 1"}}}', '/nodes/a/sql: syntax error at or near "SELEC"'),
    ('{"nodes": {"a": {"sql": 1}}}', '/nodes/a/sql: "sql" must be a string'),
    ('{"nodes": {"a": {"sql": "COMMIT"}}}', '/nodes/a/sql: argument "sql" must not control transactions'),
    ('{"nodes": {"a": {"sql": "SELECT ''x ${params.p}''"}}, "params": {"p": {"type": "string"}}}', '/nodes/a/sql: reference ${params.p} inside a literal or quoted name'),
    ('{"nodes": {"a": {"sql": "SELECT $tag$ ${params.p} $tag$"}}, "params": {"p": {"type": "string"}}}', '/nodes/a/sql: reference ${params.p} inside a literal or quoted name'),
    ('{"nodes": {"a": {"sql": "SELECT ${params.q}"}}, "params": {"p": {"type": "string"}}}', '/nodes/a/sql: unknown parameter in ${params.q}'),
    ('{"nodes": {"a": {"sql": "SELECT ${nodes.b.output}"}, "b": {"sql": "SELECT 1"}}}', '/nodes/a: node "a" reads "b", which need not have ended before it'),
    ('{"nodes": {"a": {"sql": "SELECT 1", "when": "$.nodes.b.output.x == 1"}, "b": {"sql": "SELECT 1"}}}', '/nodes/a: node "a" reads "b", which need not have ended before it'),
    ('{"nodes": {"a": {"sql": "SELECT ${nodes.c.output}"}}}', '/nodes/a/sql: unknown node in ${nodes.c.output}'),
    ('{"nodes": {"a": {"sql": "SELECT 1"}, "b": {"needs": ["a"], "sql": "SELECT ${nodes.a.result}"}}}', '/nodes/b/sql: unknown part of a node in ${nodes.a.result}'),
    ('{"nodes": {"a": {"sql": "SELECT ${item}"}}}', '/nodes/a/sql: ${item} outside of a map'),
    ('{"nodes": {"a": {"sql": "SELECT ${secret.x}"}}}', '/nodes/a/sql: unknown reference ${secret.x}'),
    ('{"nodes": {"a": {"sql": "SELECT 1", "needs": ["b"]}}}', '/nodes/a/needs/0: unknown node "b"'),
    ('{"nodes": {"a": {"sql": "SELECT 1"}, "b": {"sql": "SELECT 1", "needs": ["a:done"]}}}', '/nodes/b/needs/0: unknown outcome "done"'),
    ('{"nodes": {"a": {"sql": "SELECT 1", "needs": 7}}}', '/nodes/a/needs: "needs" must be an array of nodes'),
    ('{"nodes": {"a": {"sql": "SELECT 1", "needs": ["c"]}, "b": {"sql": "SELECT 1", "needs": ["a"]}, "c": {"sql": "SELECT 1", "needs": ["b"]}}}', '/nodes: the nodes form a cycle: % -> % -> % -> %'),
    ('{"nodes": {"a": {"sql": "SELECT 1", "needs": ["a"]}}}', '/nodes: the nodes form a cycle: a -> a'),
    ('{"nodes": {"a": {"sql": "SELECT 1", "when": "$.x =="}}}', '/nodes/a/when: syntax error%'),
    ('{"nodes": {"a": {"sql": "SELECT 1", "when": 7}}}', '/nodes/a/when: a condition is a text%'),
    ('{"nodes": {"a": {"switch": {"x": "1 == 1"}}}}', '/nodes/a/switch/x: the condition looks at nothing%'),
    ('{"nodes": {"a": {"switch": {"x": true}}, "b": {"needs": ["a.y"], "sql": "SELECT 1"}}}', '/nodes/b/needs: unreachable: "a" has no case "y"'),
    ('{"nodes": {"a": {"sql": "SELECT 1", "join": "some"}}}', '/nodes/a/join: invalid join rule'),
    ('{"nodes": {"a": {"sql": "SELECT 1", "on_unsatisfied": "wait"}}}', '/nodes/a/on_unsatisfied: invalid value%'),
    ('{"nodes": {"a": {"sql": "SELECT 1", "map": {"max_parallel": 1}}}}', '/nodes/a/map: "map" must have "items"'),
    ('{"nodes": {"a": {"sql": "SELECT 1", "map": {"items": "${params.p}"}}}, "params": {"p": {"type": "integer"}}}', '/nodes/a/map/items: the items of a map cannot be a integer'),
    ('{"nodes": {"a": {"sql": "SELECT 1", "repeat": {"limit": 3}}}}', '/nodes/a/repeat: "repeat" must have "until" or "while"'),
    ('{"nodes": {"a": {"sleep": "1 s", "map": {"items": [1]}}}}', '/nodes/a: a node of kind sleep cannot be repeated or mapped'),
    ('{"nodes": {"a": {"sql": "SELECT 1"}}, "on": {"error": {"sql": "SELECT 1"}}}', '/on/error: unknown handler "error"'),
    ('{"nodes": {"a": {"sql": "SELECT 1"}}, "params": {"p": {"type": "text"}}}', '/params/p: parameter "p" has no known type'),
    ('{"nodes": {"a": {"sql": "SELECT 1"}}, "params": {"p": {"type": "integer", "default": "x"}}}', '/params/p/default: it must be of type integer, and is of type string'),
    ('{"nodes": {"a": {"sql": "SELECT 1; SELECT ''${x}"}}}', '/nodes/a/sql: %');
SELECT ok(findings(d) LIKE says || '%' OR findings(d) LIKE '%' || E'\n' || says || '%', format('%s: %s', says, findings(d))) FROM bad;
-- Values that do not fit their place, one by one, in a node that is good otherwise.
SELECT is(findings(jsonb_build_object('params', '{"s": {"type": "string"}, "o": {"type": "object"}, "i": {"type": "integer"}}'::jsonb, 'nodes', jsonb_build_object('b', '{"noop": 1}'::jsonb, 'a', '{"sql": "SELECT 1"}'::jsonb || v.more::jsonb))::text), v.says, v.more)
FROM (VALUES
    ('{"priority": "high"}', '/nodes/a/priority: invalid value for "priority"'), ('{"priority": 10}', '/nodes/a/priority: invalid value for "priority"'), ('{"priority": "${params.s}"}', '/nodes/a/priority: "priority" cannot be a parameter of type string'),
    ('{"priority": "${params.i}", "timeout": "1 min", "max_attempts": 3, "labels": {"a": "${params.o}"}, "queue": "default", "tenant": "${params.i}", "capture": true}', 'none'),
    ('{"timeout": "soon"}', '/nodes/a/timeout: invalid value for "timeout"'), ('{"timeout": "-1 s"}', '/nodes/a/timeout: invalid value for "timeout"'), ('{"timeout": "${params.o}"}', '/nodes/a/timeout: "timeout" cannot be a parameter of type object'),
    ('{"max_attempts": 0}', '/nodes/a/max_attempts: invalid value for "max_attempts"'), ('{"retry": {"x": 1}}', '/nodes/a/retry: unknown key "x" in argument "retry"'), ('{"queue": "nope"}', '/nodes/a/queue: queue "nope" does not exist'),
    ('{"concurrency_key": 7}', '/nodes/a/concurrency_key: invalid value for "concurrency_key"'), ('{"concurrency_key": "${params.o}"}', '/nodes/a/concurrency_key: "concurrency_key" cannot be a parameter of type object'),
    ('{"labels": [1]}', '/nodes/a/labels: invalid value for "labels"'), ('{"transactional": "no"}', '/nodes/a/transactional: invalid value for "transactional"'),
    ('{"continue_on": "failure"}', '/nodes/a/continue_on: invalid value for "continue_on"'), ('{"continue_on": {"fail": true}}', '/nodes/a/continue_on/fail: unknown key "fail"'),
    ('{"map": {"items": [1], "max_parallel": 0, "parallel": 2}}', E'/nodes/a/map/max_parallel: invalid value for "max_parallel"\n/nodes/a/map/parallel: unknown key "parallel"'),
    ('{"map": {"items": [1], "on_empty": "stop", "tolerate": -1}}', E'/nodes/a/map/on_empty: invalid value for "on_empty"\n/nodes/a/map/tolerate: invalid value for "tolerate"'),
    ('{"repeat": {"until": "$.turn > 1", "interval": "x", "limit": 0}}', E'/nodes/a/repeat/interval: invalid value for "interval"\n/nodes/a/repeat/limit: invalid value for "limit"'),
    ('{"needs": ["b"], "join": 2}', '/nodes/a/join: "join" is more than the node needs, or less than one'), ('{"compensate": "SELECT 1"}', '/nodes/a/compensate: a node must be a JSON object'),
    ('{"compensate": {"sql": "SELECT 1", "priority": 99}}', '/nodes/a/compensate/priority: invalid value for "priority"'),
    ('{"when": "$.params.s > 5 && $.params.i == 3"}', '/nodes/a: "$.params.s > 5" compares a parameter of type string with 5'), ('{"when": "$.params.i == \"x\""}', '/nodes/a: "$.params.i == "x"" compares a parameter of type integer with "x"'),
    ('{"args": ["${params.x}"]}', '/nodes/a/args: unknown parameter in ${params.x}')) v(more, says);
SELECT is(findings(d), says, d) FROM (VALUES
    ('{"nodes": {"a": {"sleep": "abc"}, "b": {"until": "noon-ish"}, "c": {"signal": 7}, "d": {"approval": "x"}, "e": {"switch": []}, "f": {"switch": {}}, "g": {"workflow": 7}}}',
     E'/nodes/a/sleep: invalid value for "sleep"\n/nodes/b/until: invalid value for "until"\n/nodes/c/signal: invalid value for "signal"\n/nodes/d/approval: invalid value for "approval"\n/nodes/e/switch: invalid value for "switch"\n/nodes/f/switch: "switch" has no case\n/nodes/g/workflow: invalid value for "workflow"'),
    ('{"nodes": {"a": {"signal": {"name": "x", "expires": "soon"}}, "b": {"approval": {"quorum": 0, "roles": "ops", "who": 1}}}}',
     E'/nodes/a/signal/expires: invalid value for "expires"\n/nodes/b/approval/quorum: invalid value for "quorum"\n/nodes/b/approval/roles: invalid value for "roles"\n/nodes/b/approval/who: unknown key "who"'),
    ('{"nodes": {"a": {"http": 7}, "b": {"mail": {"to": 5}}, "c": {"http": "ftp://x"}}}', E'/nodes/a/http: a request must be a JSON object\n/nodes/b/mail: invalid value for argument "to"\n/nodes/c/http: argument "url" must begin with http:// or https://'),
    ('{"nodes": {"a": {"noop": 1}}, "deadline": "x", "on": 7, "params": [], "labels": 3, "description": 5, "output": {"x": "${nodes.z.output} ${params.q}"}}',
     E'/deadline: invalid value for "deadline"\n/description: invalid value for "description"\n/labels: invalid value for "labels"\n/on: invalid value for "on"\n/output: unknown node in ${nodes.z.output}\n/output: unknown parameter in ${params.q}\n/params: invalid value for "params"')) v(d, says);
SELECT is(findings('{"nodes": {"b": {"needs": ["x"], "sqll": "y"}, "c": {"sql": "oops"}}}'), E'/nodes/b: the node does nothing\n/nodes/b/needs/0: unknown node "x"\n/nodes/b/sqll: unknown key "sqll"\n/nodes/c/sql: syntax error at or near "oops"', 'all at once');
SELECT throws_ok($$SELECT dts.create_workflow('x', '{"nodes": {"a": {}}}')$$, '22023', 'the definition of workflow "x" is not valid: the node does nothing', 'nothing bad is created');
SELECT throws_ok($$SELECT dts.create_workflow('x', NULL::jsonb)$$, '22004', NULL, 'no definition');
SELECT throws_ok($$SELECT dts.create_workflow('', '{"nodes": {"a": {"noop": 1}}}')$$, '22023', NULL, 'no name');
SELECT throws_ok($$SELECT dts.create_workflow('x', '{"nodes": {"a": {"handler": "nope"}}}')$$, '42704', NULL, 'an unknown handler');
SELECT throws_ok($$SELECT dts.create_workflow('x', '{"nodes": {"a": {"noop": 1}}, "on": {"exit": {"handler": "nope"}}}')$$, '42704', NULL, 'also behind a run');
SELECT throws_ok($$SELECT dts.create_workflow('x', '{"nodes": {"a": {"noop": 1, "compensate": {"handler": "nope"}}}}')$$, '42704', NULL, 'or in a compensation');
SELECT throws_ok($$SELECT dts.start('nope')$$, '42704', NULL, 'an unknown workflow');
SELECT throws_ok($$SELECT dts.start(NULL)$$, '22004', NULL, 'no workflow');

-- ---- values are bound, typed, and come from where they are said to
SELECT dts.create_workflow('values', dts.param('n', 'integer'), dts.param('t', 'string', '"it''s; DROP"'), dts.param('o', 'object', '{"k": [1, 2]}'),
    dts.node('a', 'SELECT ${params.n}::int + 1 AS n, ${params.t} AS t, /* ${params.n} */ ''$'' AS d, ${params.o} -> ''k'' AS k'),
    dts.node('b', 'SELECT $1::int AS n, $2::text AS t, $3::jsonb AS all', needs => '{a}', args => '["${nodes.a.output.n}", "<${nodes.a.output.t}> ${params.n} ${nodes.a.output.nope?} ${run.nope:-no}", "${nodes.a.rows}"]'),
    dts.node('c', 'SELECT ${nodes.b.output.n}::int * ${nodes.b.output.n}::int AS n', needs => '{b}')) AS version \gset
SELECT is(:version, 1, 'version 1');
SELECT throws_ok($$SELECT dts.start('values')$$, '22023', 'parameter "n" is missing', 'a parameter is missing');
SELECT throws_ok($$SELECT dts.start('values', '{"n": "x"}')$$, '22023', 'invalid value for parameter "n"', 'of the wrong type');
SELECT throws_ok($$SELECT dts.start('values', '{"n": 1.5}')$$, '22023', NULL, 'no integer');
SELECT throws_ok($$SELECT dts.start('values', '{"n": 1, "m": 1}')$$, '22023', 'unknown parameter "m"', 'unknown');
SELECT throws_ok($$SELECT dts.start('values', '[]')$$, '22023', NULL, 'no object');
SELECT dts.start('values', '{"n": 6}') AS r \gset
SELECT is(ended(:r), 'succeeded', 'values');
SELECT is(out_of(:r, 'a'), '[{"n": 7, "t": "it''s; DROP", "d": "$", "k": [1, 2]}]', 'parameters');
SELECT is(out_of(:r, 'b') #>> '{0,t}', '<it''s; DROP> 6  no', 'inside a text; missing ones');
SELECT is(out_of(:r, 'c'), '[{"n": 49}]', 'an output used twice');
SELECT is(dts.create_workflow('values', (SELECT definition FROM dts.workflows WHERE name = 'values')), 1, 'the same definition is the same version');

-- ---- idempotent, transactional, versioned
SELECT dts.create_workflow('v', dts.node('a', 'SELECT pg_sleep(0.2)'), dts.node('b', 'SELECT 1 AS v', needs => '{a}')) AS v1 \gset
SELECT dts.start('v', key => 'order 1') AS r \gset
SELECT is(dts.start('v', key => 'order 1'), :r::bigint, 'the same key is the same run');
SELECT is(dts.create_workflow('v', dts.node('a', 'SELECT pg_sleep(0.2)'), dts.node('b', 'SELECT 2 AS v', needs => '{a}')), 2, 'version 2');
SELECT dts.start('v') AS r2 \gset
SELECT is(ended(:r) || ended(:r2), 'succeededsucceeded', 'both end');
SELECT is(out_of(:r, 'b') || out_of(:r2, 'b'), '[{"v": 1}, {"v": 2}]', 'each with its version');
BEGIN;
SELECT dts.start('v') AS gone \gset
ROLLBACK;
SELECT is_empty(format('SELECT FROM dts.workflow_runs WHERE id = %s', :gone), 'a rollback takes a start back');

-- ---- a run among tasks
SELECT id AS t FROM dts.submit_many('[{"workflow": "values", "params": {"n": 1}, "key": "w"}, {"sql": "SELECT 1"}]'::jsonb) WITH ORDINALITY x(id, n) WHERE n = 1 \gset
SELECT dts.submit('SELECT 1', depends_on => dts.after(:t)) AS after \gset
SELECT is(ended((SELECT id FROM dts.workflow_runs WHERE key = 'w')), 'succeeded', 'a run started by dts.submit_many');
SELECT is(dts.state(:t), 'succeeded', 'its id is the task that ends it');
SELECT throws_ok($$SELECT dts.submit_many('[{"workflow": "values", "params": {"n": 1}, "sql": "SELECT 1"}]'::jsonb)$$, '22023', NULL, 'either or');
SELECT throws_ok($$SELECT dts.submit_many('[{"workflow": "nope"}]'::jsonb)$$, '42704', NULL, 'unknown');
SELECT throws_ok($$SELECT dts.submit_many('[{"workflow": 7}]'::jsonb)$$, '22023', NULL, 'no name');

-- ---- conditions, switch, join
SELECT dts.create_workflow('ways', '{"params": {"n": {"type": "integer"}}, "nodes": {
    "s": {"switch": {"big": "$.params.n > 10", "else": true}},
    "big": {"needs": ["s.big"], "sql": "SELECT ''big'' AS way"}, "small": {"needs": ["s.else"], "sql": "SELECT ''small'' AS way"},
    "join": {"needs": ["big?", "small?"], "sql": "SELECT ${nodes.big.state} AS big, ${nodes.small.output.way?} AS small"},
    "never": {"needs": ["join"], "when": "$.nodes.join.output.big == \"nothing\"", "sql": "SELECT 1/0"},
    "after": {"needs": ["never"], "sql": "SELECT 1/0"}, "first": {"needs": ["big", "small"], "join": "any", "noop": {"way": "${params.n}"}}}, "output": {"big": "${nodes.join.output.big}"}}') \gset
SELECT dts.start('ways', '{"n": 11}') AS r \gset
SELECT is(ended(:r), 'succeeded', 'skipped branches do not fail a run');
SELECT is(states(:r), 'after skipped, big succeeded, first succeeded, join succeeded, never skipped, s succeeded, small skipped', 'one way');
SELECT is((SELECT output FROM dts.workflow_runs WHERE id = :r), '{"big": "succeeded"}', 'output of the run');
SELECT dts.start('ways', '{"n": 1}') AS r \gset
SELECT is(ended(:r), 'succeeded', 'the other way');
SELECT is(states(:r), 'after skipped, big skipped, first succeeded, join succeeded, never skipped, s succeeded, small succeeded', 'is the other one');

-- ---- maps and loops
SELECT dts.create_workflow('maps', '{"nodes": {
    "list": {"sql": "SELECT jsonb_agg(i) AS ids, ''{\"x\": 1, \"y\": 2}''::jsonb AS o, ''[]''::jsonb AS none FROM generate_series(1, 7) i"},
    "m": {"needs": ["list"], "map": {"items": "${nodes.list.output.ids}", "max_parallel": 2}, "sql": "SELECT ${item}::int * 2 AS v, ${index}::int AS i"},
    "o": {"needs": ["list"], "map": {"items": "${nodes.list.output.o}"}, "sql": "SELECT ${item.key}::text AS k, ${item.value}::jsonb AS v"},
    "empty": {"needs": ["list"], "map": {"items": "${nodes.list.output.none}"}, "sql": "SELECT ${item}"},
    "nothing": {"needs": ["list"], "map": {"items": [], "on_empty": "skip"}, "sql": "SELECT ${item}"},
    "tolerant": {"map": {"items": [1, 0, 2], "tolerate": 1}, "sql": "SELECT 10 / ${item}::int AS q", "max_attempts": 1},
    "loop": {"repeat": {"until": "$.output.n >= 3", "interval": "0.01 s"}, "sql": "INSERT INTO did (what) VALUES (''turn'') RETURNING (SELECT count(*) FROM did WHERE what = ''turn'') + 1 AS n"},
    "sum": {"needs": ["m"], "sql": "SELECT sum((e ->> ''v'')::int) AS s FROM jsonb_array_elements(${nodes.m.output}) e"}}}') \gset
SELECT dts.start('maps') AS r \gset
SELECT is(ended(:r), 'succeeded', 'maps');
SELECT is(states(:r), 'empty succeeded, list succeeded, loop succeeded, m succeeded, nothing skipped, o succeeded, sum succeeded, tolerant succeeded', 'their states');
SELECT is(out_of(:r, 'sum'), '[{"s": 56}]', 'outputs of items, in order');
SELECT is(jsonb_path_query_array(out_of(:r, 'm'), '$[*].i'), '[0, 1, 2, 3, 4, 5, 6]', 'index');
SELECT is(out_of(:r, 'o'), '[{"k": "x", "v": 1}, {"k": "y", "v": 2}]', 'an object');
SELECT is(out_of(:r, 'empty'), '[]', 'an empty map');
SELECT is(out_of(:r, 'tolerant'), '[{"q": 10}, null, {"q": 5}]', 'tolerated failures');

-- ---- failure: continue_on, handlers, compensation, retry
INSERT INTO switchboard VALUES ('payment', false);
TRUNCATE did;
SELECT dts.create_workflow('order', '{"nodes": {
    "reserve": {"sql": "SELECT unless_down(''reserve'')", "compensate": {"sql": "SELECT does(''release'')"}},
    "optional": {"sql": "SELECT 1/0", "max_attempts": 1, "continue_on": {"failure": true}},
    "pack": {"needs": ["reserve", "optional"], "sql": "SELECT unless_down(''pack'')", "compensate": {"sql": "SELECT does(''unpack '' || ${nodes.reserve.output.unless_down})"}},
    "pay": {"needs": ["pack"], "sql": "SELECT unless_down(''payment'')", "max_attempts": 1, "compensate": {"sql": "SELECT does(''refund'')"}},
    "ship": {"needs": ["pay"], "sql": "SELECT unless_down(''ship'')"}, "alarm": {"needs": ["pay:failed"], "sql": "SELECT does(''alarm'')"}},
    "on": {"failure": {"sql": "SELECT does(''failed '' || ${run.state})"}, "success": {"sql": "SELECT does(''success'')"}, "exit": {"sql": "SELECT does(''exit'')"}}}') \gset
SELECT dts.start('order') AS r \gset
SELECT is(ended(:r), 'failed', 'a failed node fails its run');
SELECT is((SELECT string_agg(what, ', ' ORDER BY n) FROM did), 'reserve, pack, alarm, unpack reserve, release, failed failed, exit', 'handlers and compensation, last first');
UPDATE switchboard SET up = true;
TRUNCATE did;
SELECT ok(dts.retry_run(:r) > 0, 'retry');
SELECT is(ended(:r), 'succeeded', 'then it succeeds');
SELECT is((SELECT attempt FROM dts.workflow_runs WHERE id = :r), 2, 'in its second attempt');
SELECT is((SELECT string_agg(what, ', ' ORDER BY n) FROM did WHERE what <> 'pack'), 'reserve, payment, ship, success, exit', 'what was undone is done again, what came after as well');
SELECT throws_ok(format('SELECT dts.retry_run(%s, %L)', :r, '{nope}'), '42704', NULL, 'no such node');
SELECT dts.create_workflow('items', '{"params": {"bad": {"type": "integer", "default": 3}}, "nodes": {"m": {"map": {"items": [1, 2, 3, 4]}, "sql": "SELECT does(''item '' || ${item}), 1 / (${item}::int - ${params.bad}::int)", "max_attempts": 1}, "z": {"needs": ["m"], "sql": "SELECT 1"}}}') \gset
TRUNCATE did;
SELECT dts.start('items') AS r \gset
SELECT is(ended(:r), 'failed', 'a failed item fails its map');
SELECT is((SELECT error FROM dts.workflow_nodes WHERE run = :r AND node = 'm' AND item IS NULL), '1 of 4 items did not succeed', 'and says so');
SELECT is(dts.retry_run(:r, params => '{"bad": 9}'), 2::bigint, 'retry with a changed parameter');
SELECT is(ended(:r), 'succeeded', 'it succeeds');
SELECT is((SELECT string_agg(what, ', ' ORDER BY what) FROM did), 'item 1, item 2, item 3, item 4', 'only the failed item ran again');

-- ---- sub-workflows
SELECT dts.create_workflow('child', '{"params": {"n": {"type": "integer"}}, "nodes": {"a": {"sql": "SELECT unless_down(''child'')", "max_attempts": 1}, "b": {"needs": ["a"], "sql": "SELECT ${params.n}::int + 1 AS n"}}, "output": "${nodes.b.output.n}"}') \gset
SELECT dts.create_workflow('parent', '{"nodes": {"one": {"workflow": "child", "params": {"n": 1}}, "many": {"needs": ["one"], "map": {"items": [5, 6]}, "workflow": "child", "params": {"n": "${item}"}}, "sum": {"needs": ["many"], "sql": "SELECT ${nodes.one.output} AS one, ${nodes.many.output} AS many"}}}') \gset
SELECT dts.start('parent') AS r \gset
SELECT is(ended(:r), 'succeeded', 'sub-workflows');
SELECT is(out_of(:r, 'sum'), '[{"one": 2, "many": [6, 7]}]', 'their outputs');
INSERT INTO switchboard VALUES ('child', false);
SELECT dts.start('parent') AS r \gset
SELECT is(ended(:r), 'failed', 'a failed child fails its node');
UPDATE switchboard SET up = true;
SELECT dts.retry_run(:r);
SELECT is(ended(:r), 'succeeded', 'retry goes on in the same child');
SELECT is((SELECT count(*) FROM dts.workflow_runs WHERE parent_run = :r AND attempt = 2), 1::bigint, 'which is in its second attempt');
SELECT dts.create_workflow('deep', '{"nodes": {"a": {"workflow": "deep", "max_attempts": 1}}}') \gset
SELECT dts.start('deep') AS r \gset
SELECT is(ended(:r), 'failed', 'a workflow that calls itself ends');

-- ---- signals, approvals
SELECT dts.create_workflow('sig', '{"nodes": {"s": {"signal": "paid"}, "t": {"needs": ["s"], "signal": {"name": "early"}}, "a": {"needs": ["t"], "approval": {"prompt": "ship?", "roles": ["wf_boss", "wf_b"], "quorum": 2}}, "z": {"needs": ["a"], "sql": "SELECT ${nodes.s.output.amount}::int AS amount"}}}') \gset
SELECT dts.start('sig') AS r \gset
SELECT dts.signal(:r, 'early', '{"was": "early"}');
SELECT ok(reaches(:r, 's', 'waiting'), 'it waits');
SELECT matches(dts.explain((SELECT task FROM dts.workflow_nodes WHERE run = :r AND node = 's')), 'waiting', 'and says so');
SELECT dts.signal(:r, 'paid', '{"amount": 7}');
SELECT ok(reaches(:r, 't', 'succeeded'), 'an early signal is kept');
SELECT ok(reaches(:r, 'a', 'waiting'), 'it waits for approval');
SET ROLE wf_a;
SELECT throws_ok(format('SELECT dts.approve(%s, %L)', :r, 'a'), '42704', NULL, 'not for everybody');
SELECT throws_ok(format('SELECT dts.signal(%s, %L)', :r, 'paid'), '42704', NULL, 'nor signals');
SELECT is_empty('SELECT * FROM dts.workflow_runs', 'nor to be seen');
SELECT is_empty('SELECT * FROM dts.workflows', 'nor workflows');
SET ROLE wf_boss;
SELECT dts.approve(:r, 'a', 'fine');
SELECT dts.approve(:r, 'a', 'once more');
RESET ROLE;
SELECT ok(reaches(:r, 'a', 'waiting'), 'one is not two');
SET ROLE wf_b;
SELECT dts.approve(:r, 'a');
RESET ROLE;
SELECT is(ended(:r), 'succeeded', 'approved by two');
SELECT is(out_of(:r, 'z'), '[{"amount": 7}]', 'the payload of a signal');
SELECT throws_ok(format('SELECT dts.signal(%s, %L)', :r, 'paid'), '55000', NULL, 'too late');
SELECT dts.start('sig') AS r \gset
SELECT dts.signal(:r, 'early'), dts.signal(:r, 'paid', '{"amount": 1}');
SET ROLE wf_b;
SELECT dts.reject(:r, 'a', 'no');
RESET ROLE;
SELECT is(ended(:r), 'failed', 'rejected, before it was asked');
SELECT is((SELECT error FROM dts.workflow_nodes WHERE run = :r AND node = 'a'), 'rejected by wf_b: no', 'by whom');

-- ---- cancel, pause, by hand, time
SELECT dts.create_workflow('long', '{"nodes": {"a": {"sql": "SELECT does(''a'')", "compensate": {"sql": "SELECT does(''undo a'')"}}, "b": {"needs": ["a"], "sql": "SELECT pg_sleep(60)"}, "c": {"needs": ["b"], "sql": "SELECT does(''c'')"}, "w": {"signal": "never"}, "sub": {"workflow": "sig"}},
    "on": {"cancel": {"sql": "SELECT does(''cancelled'')"}}}') \gset
TRUNCATE did;
SELECT dts.start('long') AS r \gset
SELECT ok(reaches(:r, 'w', 'waiting') AND reaches(:r, 'a', 'succeeded') AND reaches(:r, 'sub', 'blocked'), 'it is under way');
SELECT is(dts.cancel_run(:r), 'cancelling', 'cancel');
SELECT is(ended(:r), 'cancelled', 'cancelled');
SELECT is((SELECT string_agg(what, ', ' ORDER BY n) FROM did), 'a, undo a, cancelled', 'with compensation and handler');
SELECT is((SELECT state FROM dts.workflow_runs WHERE parent_run = :r), 'cancelled', 'and the run that it had started');
SELECT is(dts.cancel_run(:r), 'cancelled', 'again');
SELECT dts.create_workflow('p', '{"nodes": {"a": {"sleep": "0.3 s"}, "b": {"needs": ["a"], "when": true, "sql": "SELECT 1"}, "c": {"needs": ["b"], "until": "2020-01-01"}, "d": {"needs": ["c"], "sql": "SELECT pg_sleep(60)"}, "e": {"needs": ["d"], "sql": "SELECT ${nodes.d.output.x} AS x"}}}') \gset
SELECT dts.start('p') AS r \gset
SELECT dts.pause_run(:r);
SELECT ok(reaches(:r, 'a', 'waiting') OR reaches(:r, 'b', 'waiting'), 'paused');
SELECT is((SELECT state FROM dts.workflow_runs WHERE id = :r), 'paused', 'as its state says');
SELECT dts.resume_run(:r);
SELECT ok(reaches(:r, 'c', 'succeeded'), 'resumed; a time in the past');
SELECT throws_ok(format('SELECT dts.set_node(%s, %L, %L)', :r, 'e', 'done'), '22023', NULL, 'no such state');
SELECT throws_ok(format('SELECT dts.set_node(%s, %L, %L)', :r, 'x', 'skipped'), '42704', NULL, 'no such node');
SELECT ok(dts.set_node(:r, 'e', 'succeeded', '{"x": 9}'), 'a node set by hand');
SELECT is(out_of(:r, 'e'), '[{"x": 9}]', 'with its output');
SELECT dts.cancel_run(:r);
SELECT is(ended(:r), 'cancelled', 'the rest');
SELECT is(states(:r), 'a succeeded, b succeeded, c succeeded, d cancelled, e succeeded', 'states');
SELECT ok((SELECT count(*) FROM dts.audit WHERE action IN ('set_node', 'pause_run', 'resume_run', 'cancel_run') AND object = 'run ' || :r) = 4, 'all of that is in the audit log');

-- ---- looking
SELECT matches(dts.graph(:r), 'flowchart TD\n.*a\["a<br/>succeeded"\]:::succeeded.*a --> b', 'graph');
SELECT ok((SELECT count(*) FROM dts.timeline(:r)) >= 4, 'timeline');
SELECT throws_ok($$SELECT dts.drop_workflow('nope')$$, '42704', NULL, 'no such workflow');
SELECT lives_ok($$SELECT dts.drop_workflow('p')$$, 'dropped');
-- What was undone runs anew as a whole: the query of its map as well, and its condition under the parameters of now.
SELECT dts.create_workflow('again', dts.param('wanted', 'boolean', 'true'), dts.node('m', 'SELECT 1', map => '{"items": {"sql": "SELECT * FROM generate_series(1, 2)"}}', "when" => '$.params.wanted == true', compensate => 'SELECT 1'),
    dts.node('f', 'SELECT 1/0', needs => '{m}', max_attempts => 1)) \gset
SELECT dts.start('again') AS again \gset
SELECT is(ended(:again), 'failed', 'the node after the map fails');
SELECT is(dts.retry_run(:again, params => '{"wanted": false}'), 3::bigint, 'the query of the map is one of those that are tried again');
SELECT is(ended(:again), 'succeeded', 'nothing is left to fail');
SELECT results_eq(format('SELECT node, state FROM dts.workflow_nodes WHERE run = %s AND item IS NULL ORDER BY node', :again), $$VALUES ('f', 'skipped'), ('m', 'skipped')$$, 'a map that was undone heeds changed parameters');
-- Every kind of node without JSON around it.
SELECT dts.create_workflow('inner', dts.param('n', 'integer'), dts.node('a', 'SELECT ${params.n} * 2 AS n'), dts.workflow_options(output => '${nodes.a.output.n}')) \gset
SELECT dts.create_workflow('kinds', dts.node('sub', workflow => 'inner', params => '{"n": 21}'), dts.node('way', needs => '{sub}', "switch" => '{"right": "$.nodes.sub.output == 42", "wrong": true}'),
    dts.node('ask', approval => 'Is it right?', needs => '{way.right}'), dts.node('soon', until => '2020-01-01 00:00Z', needs => '{ask}'),
    dts.node('good', 'SELECT 1', needs => '{soon}'), dts.node('bad', command => '{echo,no}', needs => '{way.wrong}')) \gset
SELECT dts.start('kinds') AS kinds \gset
SELECT dts.approve(:kinds, 'ask') \gset
CALL dts.wait(:kinds, '30 s') \gset
SELECT results_eq(format('SELECT node, state FROM dts.workflow_nodes WHERE run = %s ORDER BY node', :kinds),
    $$VALUES ('ask', 'succeeded'), ('bad', 'skipped'), ('good', 'succeeded'), ('soon', 'succeeded'), ('sub', 'succeeded'), ('way', 'succeeded')$$, 'all kinds of nodes from dts.node()');
SELECT is((SELECT count(*) FROM dts.workflow_nodes n JOIN dts.workflow_runs r ON r.id = n.child_run WHERE n.run = :kinds AND n.node = 'sub' AND r.workflow = 'inner'), 1::bigint, 'a node knows its sub-run');
SELECT is(dts.create_workflow('p', dts.node('a', 'SELECT 1')), 1, 'the name is free again');

-- ---- other roles
SET ROLE wf_a;
SELECT throws_ok($$SELECT dts.start('v')$$, '42704', NULL, 'a workflow of somebody else');
SELECT throws_ok($$SELECT dts.create_workflow('v', dts.node('a', 'SELECT 1'))$$, '42501', NULL, 'nor can it be replaced');
SELECT is(dts.create_workflow('mine', dts.node('who', 'SELECT current_user AS u', map => '{"items": [1]}')), 1, 'one of its own');
SELECT dts.start('mine') AS r \gset
RESET ROLE;
SELECT is(ended(:r), 'succeeded', 'it runs');
SELECT is(out_of(:r, 'who'), '[{"u": "wf_a"}]', 'as its owner, also items');
-- Nothing of a user's runs as the owner of the extension: here the check of a domain, when a start binds an argument.
CREATE SCHEMA own AUTHORIZATION wf_a;
SET ROLE wf_a;
CREATE TABLE own.ran_as (who text);
CREATE FUNCTION own.spy(v text) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN IF current_user <> ''wf_a'' THEN RAISE EXCEPTION ''ran as %'', current_user; END IF; INSERT INTO own.ran_as VALUES (current_user); RETURN true; END';
CREATE DOMAIN own.spied AS text CHECK (own.spy(VALUE));
CREATE FUNCTION own.takes(v own.spied) RETURNS text LANGUAGE sql AS 'SELECT v::text';
SELECT is(dts.create_workflow('spied', dts.param('p', 'string', '"x"'), dts.node('a', 'SELECT own.takes(${params.p})'), dts.node('b', 'SELECT own.takes(${item})', map => '["${params.p}"]')), 1, 'a domain with a check');
SELECT dts.start('spied') AS r \gset
RESET ROLE;
SELECT is(ended(:r), 'succeeded', 'it ran');
SELECT is((SELECT string_agg(DISTINCT who, ', ') FROM own.ran_as), 'wf_a', 'as the owner of the run and as nobody else');

-- The rows of a query are the items of a map: it decides, skips and fails like any node.
SELECT dts.create_workflow('rows', '{"params": {"n": {"type": "integer", "default": 3}}, "nodes": {
    "a": {"map": {"items": {"sql": "SELECT i FROM generate_series(1, ${params.n}::int) i ORDER BY i DESC"}}, "sql": "SELECT ${item}::int * 10 AS x"},
    "b": {"map": {"items": {"sql": "SELECT i, i + 1 AS j FROM generate_series(1, $1) i", "args": ["${params.n}"]}}, "needs": ["a"], "sql": "SELECT ${item.j}::int AS j"},
    "c": {"map": {"items": {"sql": "SELECT 1/0 AS x"}}, "max_attempts": 1, "continue_on": {"failure": true}, "sql": "SELECT 1"},
    "d": {"map": {"items": {"sql": "SELECT 1 AS x"}}, "when": "$.params.n == 0", "sql": "SELECT 1"},
    "e": {"map": {"items": {"sql": "SELECT repeat(''x'', 100) AS x FROM generate_series(1, 2000)"}}, "sql": "SELECT 1", "queue": "wide"},
    "f": {"map": {"items": {"sql": "SELECT 1 WHERE false"}, "on_empty": "skip"}, "sql": "SELECT 1"}}}') FROM dts.create_queue('wide', batch_size => 60) \gset
SELECT dts.start('rows') AS r \gset
SELECT is(ended(:r), 'succeeded', 'maps over queries');
SELECT is(states(:r), 'a succeeded, b succeeded, c failed, d skipped, e succeeded, f skipped', 'their states');
SELECT is(out_of(:r, 'a'), '[{"x": 30}, {"x": 20}, {"x": 10}]', 'a single column is the item');
SELECT is(out_of(:r, 'b'), '[{"j": 2}, {"j": 3}, {"j": 4}]', 'a row of several an object');
SELECT is(jsonb_array_length(out_of(:r, 'e')), 2000, 'none is lost where results of tasks are cut');
SELECT dts.create_workflow('cut', dts.node('a', 'SELECT repeat(''x'', 1000) AS x FROM generate_series(1, 100)'), dts.node('b', 'SELECT ${nodes.a.rows}', needs => '{a}', max_attempts => 1)) \gset
SELECT dts.start('cut') AS r \gset
SELECT is(ended(:r), 'failed', 'a part of a result is not taken for the whole');
SELECT matches((SELECT error FROM dts.workflow_nodes WHERE run = :r AND node = 'b'), 'the result of "a" was cut', 'and that is said');
-- What a start would do.
SELECT is(dts.preview('rows', '{"n": 1}'), E'rows, version 1, with {"n": 1}\n1. a.items: SELECT i FROM generate_series(1, $1::int) i ORDER BY i DESC with 1\n1. c.items: SELECT 1/0 AS x\n1. d.items: SELECT 1 AS x, skipped: not $.params.n == 0\n1. e.items: SELECT repeat(''x'', 100) AS x FROM generate_series(1, 2000)\n1. f.items: SELECT 1 WHERE false\n2. a: SELECT $1::int * 10 AS x with ${item}, after a.items (ended), for each of the rows of a.items\n2. c: SELECT 1, after c.items (ended), for each of the rows of c.items\n2. d: SELECT 1, after d.items (ended), for each of the rows of d.items\n2. e: SELECT 1, after e.items (ended), for each of the rows of e.items\n2. f: SELECT 1, after f.items (ended), for each of the rows of f.items\n3. b.items: SELECT i, i + 1 AS j FROM generate_series(1, $1) i with 1, after a\n4. b: SELECT $1::int AS j with ${item.j}, after b.items (ended), for each of the rows of b.items', 'a preview');
SELECT throws_ok($$SELECT dts.preview('rows', '{"n": "x"}')$$, '22023', NULL, 'refuses what a start would');
SELECT throws_ok($$SELECT dts.preview('nope')$$, '42704', NULL, 'an unknown one');
-- What waits expires when it should, not at the next sweep.
SELECT dts.create_workflow('late', '{"nodes": {"s": {"signal": {"name": "x", "expires": "0.2 s"}}, "t": {"needs": ["s:expired"], "noop": 1}, "u": {"signal": "never"}}, "deadline": "0.5 s"}') \gset
SELECT dts.start('late') AS r \gset
SELECT ok(reaches(:r, 't', 'succeeded'), 'expired');
SELECT is(ended(:r), 'failed', 'the deadline of a run');
SELECT is(states(:r), 's expired, t succeeded, u expired', 'what waits ends then');
SELECT ok((SELECT ended_at - started_at FROM dts.workflow_runs WHERE id = :r) < '20 s', 'at once');
SELECT is_empty($$SELECT * FROM dts.stuck()$$, 'nothing is stuck');
SELECT is((SELECT count(*) FROM dts.runs WHERE error_fields ->> 'sqlstate' LIKE 'XX%'), 0::bigint, 'no internal error');
-- Items alone.
SELECT dts.create_workflow('items', dts.node('a', 'SELECT ARRAY[1, 2, 3] AS n'), dts.node('b', 'SELECT ${item}::int * 2 AS d', map => '"${nodes.a.output.n}"', needs => '{a}'), dts.node('c', 'SELECT 1', map => '[7, 8]'));
SELECT dts.start('items') AS run \gset
CALL dts.wait(:run, '30 s') \gset
SELECT is((SELECT array_agg(node || item ORDER BY node, item)::text FROM dts.workflow_nodes WHERE run = :run AND item IS NOT NULL AND state = 'succeeded'), '{b1,b2,b3,c1,c2}', 'items alone are a map');
SELECT is((SELECT count(*) FROM dts.validate_workflow('{"nodes": {"a": {"sql": "SELECT 1", "map": 5}}}')), 1::bigint, 'a number is none');
-- An output that cannot be made fails the run; it ends all the same.
SELECT dts.create_workflow('no output', '{"nodes": {"a": {"sql": "SELECT 1 AS x"}}, "output": "${nodes.a.output.y}", "on": {"failure": {"sql": "SELECT does(''no output'')"}}}') AS v \gset
SELECT dts.start('no output') AS run \gset
SELECT is(ended(:run), 'failed', 'an output that is not there');
SELECT matches(dts.explain((SELECT task FROM dts.workflow_node WHERE run = :run AND node = '(end)')), 'its output: "\$\{nodes.a.output.y\}" has no value', 'and says so');
SELECT is((SELECT count(*) FROM did WHERE what = 'no output'), 1::bigint, 'with its handler');
-- A run where a task is asked for.
SELECT dts.create_workflow('stands', '{"nodes": {"a": {"sql": "SELECT 42 AS x"}}, "output": "${nodes.a.output.x}"}');
SELECT dts.create_workflow('falls', dts.node('a', 'SELECT 1/0', max_attempts => 1));
SELECT dts.start('stands') AS run \gset
SELECT dts.submit('SELECT 1', depends_on => jsonb_build_array(:run)) AS child \gset
CALL dts.wait(:run, '30 s') \gset
SELECT is(:'state'::text, 'succeeded', 'dts.wait waits for a run');
SELECT is((SELECT state FROM dts.workflow_runs WHERE id = :run), 'succeeded', 'which has ended then');
SELECT is(dts.state(:run) || dts.result(:run)::text, 'succeeded42', 'dts.state and dts.result know runs');
SELECT matches(dts.explain(:run), '^run of workflow "stands", version 1: succeeded at ', 'dts.explain, too');
CALL dts.wait(:child, '30 s') \gset
SELECT is(:'state'::text, 'succeeded', 'a task that depends on a run');
SELECT throws_ok(format('SELECT dts.cancel(%s)', :run), '42809', NULL, 'dts.cancel says that it is a run');
SELECT dts.start('falls') AS run \gset
SELECT dts.submit('SELECT 1', depends_on => jsonb_build_array(:run)) AS child \gset
CALL dts.wait(:run, '30 s') \gset
SELECT is(:'state'::text, 'failed', 'a run that fails');
CALL dts.wait(:child, '30 s') \gset
SELECT is(:'state'::text, 'skipped', 'what depends on it is skipped');
SELECT is((SELECT count(*) FROM dts.dead_letters WHERE labels ->> 'run' = :'run'), 1::bigint, 'the end of a run is no dead letter: only its node is');
SELECT matches(dts.explain(:run), 'failed at .*dts.retry_run', 'what helps');

SELECT * FROM finish();
