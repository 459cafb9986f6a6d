-- Dependencies in one session: what is refused, what is decided at submit, what views and explain say, what a rollback takes back.
SELECT no_plan();
CREATE ROLE dep_a LOGIN;
CREATE ROLE dep_b LOGIN;
SELECT dts.grant_usage('dep_a'), dts.grant_usage('dep_b');
SELECT dts.create_queue('held', paused => true);
CREATE PROCEDURE settle(task bigint) LANGUAGE plpgsql AS $$ BEGIN
    FOR i IN 1 .. 3000 LOOP EXIT WHEN dts.state(task) NOT IN ('blocked', 'ready', 'running'); COMMIT; PERFORM pg_sleep(0.01); END LOOP; END $$;

CREATE FUNCTION state_with(depends_on jsonb) RETURNS text LANGUAGE plpgsql AS $$ DECLARE id bigint; BEGIN
    id := dts.submit('SELECT 1', queue => 'held', depends_on => depends_on); RETURN dts.state(id); END $$;

-- Parents that have ended decide at once.
SELECT dts.submit('SELECT 5 AS five') AS good \gset
SELECT dts.submit('SELECT 1/0', max_attempts => 1) AS bad \gset
CALL settle(:good);
CALL settle(:bad);
SELECT is(state_with(dts.after(:good)), 'ready', 'an ended parent is satisfied');
SELECT is(state_with(dts.after(ARRAY[:good, :bad])), 'skipped', 'one that failed is not');
SELECT is(state_with(dts.after(ARRAY[:good, :bad], NULL, 'any')), 'ready', 'any');
SELECT is(state_with(dts.after(ARRAY[:good, :bad], '{failed}', '2', 'fail')), 'failed', 'at least two, else fail');
SELECT is(state_with(dts.after(ARRAY[:good], '{failed}', 'all', 'cancel')), 'cancelled', 'else cancel');
SELECT is(state_with(dts.after(ARRAY[:good, :bad], '{ended}')), 'ready', 'ended');
SELECT is(state_with(jsonb_build_array(jsonb_build_object('task', :good::bigint, 'on', 'succeeded'), jsonb_build_object('task', :bad::bigint, 'on', '["failed", "expired"]'::jsonb))),
          'ready', 'outcomes by parent');
SELECT is(state_with('[]'), 'ready', 'no parent');
SELECT is(state_with(to_jsonb(:good::bigint)), 'ready', 'a bare id');

-- What waits says for what.
SELECT dts.submit('SELECT 1', queue => 'held', delay => '1 hour') AS p \gset
SELECT dts.submit('SELECT 1', queue => 'held', depends_on => dts.after(ARRAY[:p, :p, :bad], '{failed,succeeded}', '2')) AS c \gset
SELECT is(dts.state(:c), 'blocked', 'blocked');
SELECT results_eq(format('SELECT depends_on, accepts, outcome, need FROM dts.dependencies WHERE task = %s ORDER BY 1', :c),
    format($$VALUES (%s::bigint, '{succeeded,failed}'::text[], 'failed', '2'), (%s, '{succeeded,failed}', NULL, '2')$$, :bad, :p), 'the view: a parent named twice is one');
SELECT matches(dts.explain(:c), '^blocked: it waits for 1 more of 1 task\(s\): ' || :p || ' \(due ', 'explain');
SELECT is(dts.set_priority(:c, 8), 'changed', 'a blocked task can be steered');
SELECT is(dts.state(:c), 'blocked', 'and stays blocked');
SELECT is(dts.retry(:c), 'blocked', 'dts.retry leaves it');
SELECT dts.submit('SELECT 1', queue => 'held', depends_on => dts.after(:c)) AS grandchild \gset
SELECT is(dts.cancel(:p), 'cancelled', 'the parent is cancelled');
SELECT is(dts.state(:c), 'skipped', 'the child is skipped with the same commit');
SELECT is(dts.state(:grandchild), 'skipped', 'and the grandchild');
SELECT matches(dts.explain(:c), 'skipped at .*: its dependencies can no longer be satisfied: task ' || :p || ' ended as cancelled', 'and it says why');

-- A rollback takes everything back.
SELECT dts.submit('SELECT 1', queue => 'held') AS p \gset
SELECT dts.submit('SELECT 1', queue => 'held', depends_on => dts.after(:p)) AS c \gset
BEGIN;
SAVEPOINT s;
SELECT is(dts.cancel(:p), 'cancelled', 'cancelled in a savepoint');
ROLLBACK TO s;
SELECT dts.submit('SELECT 1', queue => 'held', depends_on => dts.after(:c)) AS gone \gset
ROLLBACK;
SELECT is(dts.state(:p) || dts.state(:c), 'readyblocked', 'a rollback takes the cancel back');
SELECT is((SELECT count(*) FROM dts.dependency), 1::bigint, 'and the edges');
BEGIN;
SELECT dts.submit('SELECT 1', queue => 'held', depends_on => dts.after(:p)) AS x \gset
SELECT throws_ok('PREPARE TRANSACTION ''x''', '0A000', NULL, 'no two-phase commit');
ROLLBACK;
BEGIN;
SELECT dts.cancel(:p);
SELECT is(dts.state(:c), 'blocked', 'children follow at the commit');
COMMIT;
SELECT is(dts.state(:c), 'skipped', 'then they do');

-- Any order in one call; cycles with their path.
SELECT array_agg(x) AS ids FROM dts.submit_many('[{"name": "last", "sql": "SELECT * FROM dts.parent_results()", "depends_on": ["mid 1", "mid 2"]},
    {"name": "mid 2", "sql": "SELECT 2 AS n", "depends_on": "first"}, {"name": "first", "sql": "SELECT 1 AS n"}, {"name": "mid 1", "sql": "SELECT 3 AS n", "depends_on": ["first"]}]'::jsonb) x \gset
CALL settle((:'ids'::bigint[])[1]);
SELECT is((SELECT jsonb_path_query_array(result, '$[*].result[0].n') FROM dts.tasks WHERE id = (:'ids'::bigint[])[1]), '[2, 3]', 'results of parents, by id');
SELECT throws_like($$SELECT dts.submit_many('[{"name": "a", "sql": "SELECT 1", "depends_on": "a"}]'::jsonb)$$, '%form a cycle', 'a task that waits for itself');
CREATE FUNCTION detail_of(sql text) RETURNS text LANGUAGE plpgsql AS $$ DECLARE d text; BEGIN EXECUTE sql; RETURN 'no error'; EXCEPTION WHEN OTHERS THEN GET STACKED DIAGNOSTICS d = PG_EXCEPTION_DETAIL; RETURN d; END $$;
SELECT is(detail_of($$SELECT dts.submit_many('[{"name": "x", "sql": "SELECT 1"}, {"name": "a", "sql": "SELECT 1", "depends_on": ["x", "c"]}, {"name": "b", "sql": "SELECT 1", "depends_on": "a"}, {"name": "c", "sql": "SELECT 1", "depends_on": "b"}]'::jsonb)$$),
    'a -> b -> c -> a', 'the path of a cycle');
SELECT throws_ok($$SELECT dts.submit_many('[{"name": "a", "sql": "SELECT 1", "depends_on": "b"}]'::jsonb)$$, '42704', NULL, 'an unknown name');
SELECT throws_ok($$SELECT dts.submit_many('[{"name": "a", "sql": "SELECT 1"}, {"name": "a", "sql": "SELECT 1"}]'::jsonb)$$, '42710', NULL, 'a name used twice');
SELECT throws_ok($$SELECT dts.submit_many('[{"name": "a", "sql": "SELECT 1", "key": "k"}]'::jsonb)$$, '0A000', NULL, 'names and keys do not mix');
SELECT throws_ok($$SELECT dts.submit_many('[{"name": 1, "sql": "SELECT 1"}]'::jsonb)$$, '22023', NULL, 'a name that is no text');

-- Keys: the dependencies are those of the task that was made.
SELECT dts.submit('SELECT 1', queue => 'held') AS p \gset
SELECT dts.submit('SELECT 1', queue => 'held', key => 'k', depends_on => dts.after(:p)) AS k1 \gset
SELECT is(dts.submit('SELECT 1', queue => 'held', key => 'k', depends_on => dts.after(:p)), :k1::bigint, 'the same key gives the same task');
SELECT is((SELECT count(*) FROM dts.dependencies WHERE task = :k1), 1::bigint, 'with one edge');

-- Other roles.
SET ROLE dep_a;
SELECT throws_ok(format($$SELECT dts.submit('SELECT 1', depends_on => '[%s]')$$, :p), '42704', NULL, 'a task of somebody else does not exist');
SELECT is_empty('SELECT * FROM dts.dependencies', 'nor its edges');
SELECT throws_ok(format('SELECT * FROM dts.parent_results(%s)', :k1), '42704', NULL, 'nor its parents');
SELECT is(dts.current_task(), NULL::bigint, 'no task runs here');
RESET ROLE;
SELECT is_empty('SELECT * FROM dts.stuck()', 'nothing is stuck');
SELECT * FROM finish();
