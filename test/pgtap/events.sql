-- Events and changes of tables: what they submit, start and wake, for whom, as whom, and when.
SELECT no_plan();
SELECT CASE WHEN NOT EXISTS (SELECT FROM pg_roles WHERE rolname = r) THEN format('CREATE ROLE %I LOGIN', r) END FROM unnest('{ev_a,ev_b}'::text[]) r \gexec
SELECT dts.grant_usage(r) FROM unnest('{ev_a,ev_b}'::text[]) r;
CREATE TABLE did (n int GENERATED ALWAYS AS IDENTITY, what text, who text DEFAULT current_user);
GRANT ALL ON did TO ev_a, ev_b;
CREATE FUNCTION does(what text) RETURNS void LANGUAGE sql AS 'INSERT INTO did (what) VALUES (what)';
CREATE FUNCTION comes(wanted text) RETURNS text LANGUAGE plpgsql AS $$ DECLARE have text; BEGIN
    FOR i IN 1 .. 2000 LOOP
        SELECT string_agg(what, ', ' ORDER BY what) INTO have FROM did;
        IF have = wanted AND NOT EXISTS (SELECT FROM dts.task WHERE state = 0) THEN RETURN have; END IF;
        PERFORM pg_sleep(0.01);
    END LOOP;
    RETURN have; END $$;

-- ---- what is refused
CREATE TABLE plain (id int PRIMARY KEY, state text);
CREATE VIEW seen AS SELECT * FROM plain;
CREATE TEMP TABLE short (id int);
CREATE TABLE bad (call text, state text, says text);
INSERT INTO bad VALUES
    ($$dts.emit(NULL)$$, '22004', NULL), ($$dts.emit('')$$, '22023', NULL), ($$dts.emit('a*')$$, '22023', NULL),
    ($$dts.on_event(NULL, 't', '{"sql": "SELECT 1"}')$$, '22004', NULL), ($$dts.on_event('x', NULL, '{"sql": "SELECT 1"}')$$, '22004', NULL), ($$dts.on_event('x', '*', '{"sql": "SELECT 1"}')$$, '22023', NULL),
    ($$dts.on_event('x', 'a*b', '{"sql": "SELECT 1"}')$$, '22023', NULL), ($$dts.on_event('x', 't', NULL)$$, '22004', NULL), ($$dts.on_event('x', 't', '[]')$$, '22023', NULL),
    ($$dts.on_event('x', 't', '{}')$$, '22023', 'argument "task" must say one thing to do'), ($$dts.on_event('x', 't', '{"sql": "SELECT 1", "handler": "h"}')$$, '22023', NULL),
    ($$dts.on_event('x', 't', '{"sql": "SELEC 1"}')$$, '42601', NULL), ($$dts.on_event('x', 't', '{"handler": "nope"}')$$, '42704', NULL), ($$dts.on_event('x', 't', '{"workflow": "nope"}')$$, '42704', NULL),
    ($$dts.on_event('x', 't', '{"sql": "SELECT 1", "queue": "nope"}')$$, '42704', NULL), ($$dts.on_event('x', 't', '{"sql": "SELECT 1", "owner": "postgres"}')$$, '22023', NULL),
    ($$dts.on_event('x', 't', '{"sql": "SELECT ''${event.payload.x}''"}')$$, '22023', NULL), ($$dts.on_event('x', 't', '{"sql": "SELECT ${row.x}"}')$$, '22023', 'unknown reference ${row.x}'),
    ($$dts.on_event('x', 't', '{"sql": "SELECT 1"}', "when" => '$.x ==')$$, '22023', NULL), ($$dts.on_event('x', 't', '{"sql": "SELECT 1"}', roles => '{nobody_here}')$$, '42704', NULL),
    ($$dts.on_change('x', NULL, '{"sql": "SELECT 1"}')$$, '22004', NULL), ($$dts.on_change('x', 'seen', '{"sql": "SELECT 1"}')$$, '42809', NULL), ($$dts.on_change('x', 'short', '{"sql": "SELECT 1"}')$$, '42809', NULL),
    ($$dts.on_change('x', 'dts.task', '{"sql": "SELECT 1"}')$$, '22023', NULL), ($$dts.on_change('x', 'plain', '{"sql": "SELECT 1"}', '{truncate}')$$, '22023', NULL), ($$dts.on_change('x', 'plain', '{"sql": "SELECT 1"}', '{}')$$, '22023', NULL),
    ($$dts.on_change('x', 'plain', '{"sql": "SELECT 1"}', rows => 0)$$, '22023', NULL), ($$dts.on_change('x', 'plain', '{"sql": "SELECT 1"}', quiet => '0')$$, '22023', NULL),
    ($$dts.on_change('x', 'plain', '{"sql": "SELECT ${row.id}"}', rows => 5)$$, '22023', 'unknown reference ${row.id}'), ($$dts.drop_subscription('nope')$$, '42704', NULL), ($$dts.drop_subscription(NULL)$$, '22004', NULL);
SELECT throws_ok('SELECT ' || call, state, says, call) FROM bad;
SELECT is((SELECT count(*) FROM dts.subscriptions) + (SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'dts%'), 0::bigint, 'nothing was made');

-- ---- events
SELECT dts.on_event('paid', 'orders.paid', '{"sql": "SELECT does(''paid '' || ${event.payload.id} || '' by '' || ${event.by})"}');
SELECT dts.on_event('any', 'orders.*', '{"sql": "SELECT does($1)", "args": ["any ${event.topic}"]}', match => '{"big": true}');
SELECT dts.on_event('much', 'orders.paid', '{"sql": "SELECT does(''much'')", "key": "much ${event.payload.id}", "delay": 0}', "when" => '$.event.payload.amount > 100');
SELECT dts.create_workflow('flow', dts.param('id', 'integer'), dts.node('a', 'SELECT does(''flow '' || ${params.id})'));
SELECT dts.on_event('starts', 'orders.paid', '{"workflow": "flow", "params": {"id": "${event.payload.id}"}, "key": "order ${event.payload.id}"}', match => '{"flow": true}');
SELECT is(dts.emit('orders.lost', '{"id": 0}'), 0::bigint, 'nobody is there for it');
SELECT is(dts.emit('orders.paid', '{"id": 1}'), 1::bigint, 'one by topic');
SELECT is(comes('paid 1 by postgres'), 'paid 1 by postgres', 'values are bound');
SELECT is(dts.emit('orders.paid', '{"id": "2''; DROP", "amount": 101, "big": true}'), 3::bigint, 'topic, pattern and match, condition');
SELECT is(comes('any orders.paid, much, paid 1 by postgres, paid 2''; DROP by postgres'), 'any orders.paid, much, paid 1 by postgres, paid 2''; DROP by postgres', 'all of them');
TRUNCATE did;
SELECT is(dts.emit('orders.paid', '{"id": 3, "flow": true}') + dts.emit('orders.paid', '{"id": 3, "flow": true}'), 4::bigint, 'a workflow');
SELECT is(comes('flow 3, paid 3 by postgres, paid 3 by postgres'), 'flow 3, paid 3 by postgres, paid 3 by postgres', 'started once by its key');
BEGIN;
SELECT is(dts.emit('orders.paid', '{"id": 4}'), 1::bigint, 'in a transaction');
ROLLBACK;
SELECT is((SELECT count(*) FROM dts.tasks WHERE labels ->> 'subscription' = 'paid'), 4::bigint, 'that is rolled back');
SELECT dts.on_event('paid', 'orders.gone', '{"sql": "SELECT 1"}');
SELECT is(dts.emit('orders.paid', '{"id": 5}'), 0::bigint, 'changed under the same name');

-- a subscriber that is broken does not break who emits
SELECT dts.drop_workflow('flow');
SELECT is(dts.emit('orders.paid', '{"id": 6, "flow": true}'), 0::bigint, 'its workflow is gone');
SELECT is((SELECT after ->> 'sqlstate' FROM dts.audit WHERE action = 'subscription_failed' AND object = 'starts'), '42704', 'and the audit log says so');

-- ---- for whom, as whom
TRUNCATE did;
SET ROLE ev_a;
SELECT dts.on_event('a', 'secret', '{"sql": "INSERT INTO did (what) VALUES (''a'')"}');
SELECT throws_ok($$SELECT dts.on_event('any', 't', '{"sql": "SELECT 1"}')$$, '42501', NULL, 'a name of somebody else');
SELECT throws_ok($$SELECT dts.drop_subscription('any')$$, '42501', NULL, 'nor dropped');
SELECT throws_ok($$SELECT dts.on_change('mine', 'plain', '{"sql": "SELECT 1"}')$$, '42501', 'must be owner of table plain', 'a table of somebody else');
SELECT is((SELECT string_agg(name, ', ') FROM dts.subscriptions), 'a', 'it sees its own');
SET ROLE ev_b;
SELECT is(dts.emit('secret'), 0::bigint, 'events of strangers do not count');
SET ROLE ev_a;
SELECT is(dts.emit('secret'), 1::bigint, 'its own do');
SELECT dts.on_event('a', 'secret', '{"sql": "INSERT INTO did (what) VALUES (''a'')"}', roles => '{ev_b}');
SET ROLE ev_b;
SELECT is(dts.emit('secret'), 1::bigint, 'those of named roles do');
RESET ROLE;
SELECT is(dts.emit('secret'), 1::bigint, 'an administrator''s do');
SELECT is(comes('a, a, a'), 'a, a, a', 'they run');
SELECT is((SELECT string_agg(DISTINCT who, ',') FROM did), 'ev_a', 'as the owner of the subscription');

-- ---- nodes that wait for events
SELECT dts.create_workflow('waits', '{"params": {"id": {"type": "integer"}}, "nodes": {"w": {"signal": {"event": "parcel", "match": {"id": "${params.id}"}}}, "x": {"needs": ["w"], "sql": "SELECT does(''parcel '' || ${nodes.w.output.at})"}}}');
SELECT dts.start('waits', '{"id": 1}') AS r1, dts.start('waits', '{"id": 2}') AS r2 \gset
TRUNCATE did;
SELECT is(dts.emit('parcel', '{"id": 1, "at": "here"}'), 1::bigint, 'wakes the run that it matches, also before it waits');
SELECT is(dts.emit('parcel', '{"id": 7}'), 0::bigint, 'and no other');
CALL dts.wait(:r1, '30 s') \gset
SELECT is(:'state'::text || comes('parcel here'), 'succeededparcel here', 'with its payload');
SELECT is((SELECT state FROM dts.workflow_runs WHERE id = :r2), 'running', 'the other waits');
SELECT throws_ok(format('SELECT dts.signal(%s, %L)', :r2, 'event:w'), '22023', NULL, 'an event is no signal');
SELECT dts.cancel_run(:r2);
CALL dts.wait(:r2, '30 s') \gset
SELECT is((SELECT count(*) FROM dts.event_waiter), 0::bigint, 'nobody waits any more');
SELECT is((SELECT string_agg(pointer || ' ' || message, '; ' ORDER BY pointer) FROM dts.validate_workflow('{"nodes": {"a": {"noop": 1}, "b": {"needs": "a", "signal": {"event": "e", "match": {"x": "${nodes.a.output}"}}}, "c": {"signal": {"nme": 1}}}}')),
    '/nodes/b/signal ${nodes.a.output} is not known when the run starts; /nodes/c/signal a signal has a name, or an event; /nodes/c/signal/nme unknown key "nme"', 'what is checked');

-- ---- changes of tables
CREATE SCHEMA ev AUTHORIZATION ev_a;
SET ROLE ev_a;
CREATE TABLE ev.stock (id int, n int, note text);
GRANT ALL ON ev.stock TO ev_b;
GRANT USAGE ON SCHEMA ev TO ev_b;
SELECT dts.on_change('each', 'ev.stock', '{"sql": "INSERT INTO did (what) VALUES (${change.operation} || '' '' || ${row.id})"}', '{insert,delete}', "when" => '$.row.n < 3');
SELECT dts.on_change('once', 'ev.stock', '{"sql": "INSERT INTO did (what) VALUES (''once '' || ${change.rows} || '' '' || ${change.table})"}', '{update}');
TRUNCATE did;
SET ROLE ev_b;
INSERT INTO ev.stock SELECT i, i FROM generate_series(1, 5) i;
UPDATE ev.stock SET n = n + 1 WHERE id > 2;
UPDATE ev.stock SET n = n WHERE false;
DELETE FROM ev.stock WHERE id IN (1, 5);
RESET ROLE;
SELECT is(comes('delete 1, insert 1, insert 2, once 3 ev.stock'), 'delete 1, insert 1, insert 2, once 3 ev.stock', 'rows and statements, by one without rights on dts beyond his own');
SELECT is((SELECT string_agg(DISTINCT who, ',') FROM did), 'ev_a', 'as the owner');
SELECT dts.drop_subscription('each');
SELECT is((SELECT count(*) FROM pg_trigger WHERE tgrelid = 'ev.stock'::regclass), 1::bigint, 'triggers go with it');
TRUNCATE did;
-- the casts of a type are the owner's code
SET ROLE ev_a;
CREATE TYPE ev.odd AS ENUM ('x');
CREATE FUNCTION ev.spy(v ev.odd) RETURNS json LANGUAGE plpgsql AS 'BEGIN IF current_user <> ''ev_a'' THEN RAISE EXCEPTION ''ran as %'', current_user; END IF; RETURN ''1''; END';
CREATE CAST (ev.odd AS json) WITH FUNCTION ev.spy(ev.odd);
CREATE TABLE ev.odds (v ev.odd);
SELECT dts.on_change('odd', 'ev.odds', '{"sql": "INSERT INTO did (what) VALUES (''odd'')"}', "when" => '$.row.v == 1');
INSERT INTO ev.odds VALUES ('x');
RESET ROLE;
SELECT is(comes('odd'), 'odd', 'run by who changes the row, never as the owner of the extension');
TRUNCATE did;

-- gathered: so many rows, so long after the first, or silence
SELECT dts.on_change('rows', 'plain', '{"sql": "SELECT does(''rows '' || ${change.rows})"}', rows => 10);
SELECT dts.on_change('within', 'plain', '{"sql": "SELECT does(''within '' || ${change.rows})"}', rows => 100000, within => '1 s');
SELECT dts.on_change('quiet', 'plain', '{"sql": "SELECT does(''quiet '' || ${change.rows})"}', quiet => '1 s', "when" => '$.row.id < 4');
INSERT INTO plain SELECT i FROM generate_series(1, 6) i;
SELECT is((SELECT gathered FROM dts.subscriptions WHERE name = 'rows'), 6::numeric, 'gathered');
SELECT is(comes('quiet 3, within 6'), 'quiet 3, within 6', 'after a time; after silence');
INSERT INTO plain SELECT i FROM generate_series(7, 11) i;
SELECT is(comes('quiet 3, rows 11, within 5, within 6'), 'quiet 3, rows 11, within 5, within 6', 'after so many rows');
SELECT is((SELECT count(*) FROM dts.change_count), 0::bigint, 'nothing is left');
DROP TABLE plain CASCADE;
-- What a session has set does not change what is written.
CREATE SCHEMA "Odd schema";
CREATE TABLE "Odd schema"."Tab le" (n int);
SET quote_all_identifiers = on;
SET standard_conforming_strings = off;
SET transform_null_equals = on;
SELECT dts.on_change('odd name', '"Odd schema"."Tab le"', '{"sql": "SELECT ${row.n}::int"}', '{insert}'), dts.on_change('plain name', 'ev.odds', '{"sql": "SELECT 1"}', '{insert}');
RESET ALL;
SELECT is((SELECT string_agg(relation, ' ' ORDER BY relation) FROM dts.subscriptions WHERE name ~ 'name'), '"Odd schema"."Tab le" ev.odds', 'names are quoted as they need it');
INSERT INTO "Odd schema"."Tab le" VALUES (1);
SELECT is((SELECT count(*) FROM dts.tasks WHERE labels ->> 'subscription' = 'odd name'), 1::bigint, 'and found');
SELECT lives_ok($$SELECT dts.drop_subscription('rows')$$, 'its table is gone');
SELECT is_empty($$SELECT * FROM dts.stuck()$$, 'nothing is stuck');
SELECT * FROM finish();
