-- Steering: what each call answers in each situation and what becomes of the task; what dts.explain says; that dts.stuck finds what is stuck.
SELECT no_plan();
CREATE ROLE steer_user LOGIN;
CREATE ROLE steer_gone LOGIN;
SELECT dts.grant_usage('steer_user');
SELECT dts.create_queue('held', paused => true);
CREATE TABLE effect (what text);
GRANT ALL ON effect TO steer_user;
CREATE PROCEDURE wait_running(t bigint) LANGUAGE plpgsql AS $$
BEGIN
    FOR i IN 1..600 LOOP
        EXIT WHEN EXISTS (SELECT FROM dts.running WHERE id = t);
        COMMIT;
        PERFORM pg_sleep(0.05);
    END LOOP;
END $$;
SELECT dts.submit('SELECT 1') AS id \gset
CALL dts.wait(:id, '30 s') \gset
SET ROLE steer_user;

-- A waiting task.
SELECT dts.submit('INSERT INTO effect VALUES (''cancelled'')', queue => 'held') AS id \gset
SELECT is(dts.cancel(:id), 'cancelled', 'cancel of a waiting task');
SELECT is(dts.cancel(:id), 'cancelled', 'twice');
SELECT is(dts.state(:id), 'cancelled', 'state');
SELECT is((SELECT row(state, started_at, error)::text FROM dts.tasks WHERE id = :id), '(cancelled,,)', 'view');
SELECT matches(dts.explain(:id), '^cancelled at ', 'explain');
SELECT is(dts.reschedule(:id), 'cancelled', 'reschedule of a cancelled task');
SELECT is(dts.set_priority(:id, 1), 'cancelled', 'set_priority');
SELECT is(dts.retry(:id), 'cancelled', 'retry');
SELECT is(dts.redrive(:id), 'cancelled', 'redrive');
CALL dts.wait(:id, '1 s') \gset
SELECT is(:'state'::text, 'cancelled', 'wait');

SELECT dts.submit('SELECT 1', queue => 'held', delay => '1 day') AS id \gset
SELECT matches(dts.explain(:id), 'queue "held" is paused', 'paused comes before scheduled');
SELECT dts.submit('SELECT 1', delay => '1 day') AS id \gset
SELECT matches(dts.explain(:id), '^scheduled for .* \(in (23:59:|1 day)', 'explain of a scheduled task');
SELECT is((SELECT state FROM dts.tasks WHERE id = :id), 'scheduled', 'seen as scheduled');
SELECT is(dts.reschedule(:id, now() + '2 days'), 'changed', 'reschedule by time');
SELECT is((SELECT run_at FROM dts.tasks WHERE id = :id) > now() + interval '47 hours', true, 'moved');
SELECT is(dts.reschedule(:id, delay => '3 days'), 'changed', 'reschedule by delay');
SELECT is((SELECT run_at FROM dts.tasks WHERE id = :id) > now() + interval '71 hours', true, 'moved');
SELECT is(dts.set_priority(:id, 9), 'changed', 'set_priority');
SELECT is(dts.set_priority(:id, 9), 'changed', 'to the same');
SELECT is((SELECT priority FROM dts.tasks WHERE id = :id), 9, 'changed');
SELECT is(dts.redrive(:id), 'ready', 'redrive of one that is no dead letter');
SELECT is(dts.reschedule(:id, '2000-01-01'), 'changed', 'a due time in the past is now');
CALL dts.wait(:id, '30 s') \gset
SELECT is(:'state'::text, 'succeeded', 'it runs');
SELECT is(ARRAY[dts.cancel(:id), dts.reschedule(:id), dts.set_priority(:id, 1), dts.retry(:id), dts.redrive(:id)], ARRAY['succeeded', 'succeeded', 'succeeded', 'succeeded', 'succeeded'], 'too late for all');
SELECT matches(dts.explain(:id), '^succeeded at .*, attempt 1, in ', 'explain');
SELECT dts.submit('SELECT 1', delay => '1 day') AS id \gset
SELECT is(dts.retry(:id), 'changed', 'retry brings a waiting task forward');
CALL dts.wait(:id, '30 s') \gset
SELECT is(:'state'::text, 'succeeded', 'it runs');
SELECT dts.submit('SELECT 1/0', max_attempts => 1) AS id \gset
CALL dts.wait(:id, '30 s') \gset
SELECT is(ARRAY[dts.cancel(:id), dts.reschedule(:id), dts.set_priority(:id, 1)], ARRAY['failed', 'failed', 'failed'], 'a dead letter');
-- In a paused queue only the sweep would find it: an executor that meets it does so at once.
SELECT dts.submit('SELECT 1', queue => 'held', expires => clock_timestamp() + '50 ms') AS id \gset
RESET ROLE;
SELECT pg_sleep_until(expires_at) FROM dts.tasks WHERE id = :id;
SELECT dts.resume('held');
CALL dts.wait(:id, '30 s') \gset
SELECT dts.pause('held');
SET ROLE steer_user;
SELECT is(ARRAY[dts.cancel(:id), dts.reschedule(:id), dts.set_priority(:id, 1), dts.retry(:id), dts.redrive(:id)], ARRAY['expired', 'expired', 'expired', 'expired', 'expired'], 'an expired task');

-- A running task.
SELECT dts.submit('INSERT INTO effect VALUES (''interrupted''); SELECT pg_sleep(120)') AS id \gset
CALL wait_running(:id);
SELECT matches(dts.explain(:id), '^running for .* in process \d+, attempt 1$', 'explain');
SELECT is((SELECT state FROM dts.tasks WHERE id = :id), 'running', 'seen as running');
SELECT is((SELECT row(queue, owner, priority, attempt, elapsed > '0', worker_pid > 0)::text FROM dts.running WHERE id = :id), '(default,steer_user,5,1,t,t)', 'the view of running tasks');
SELECT is(dts.retry(:id), 'running', 'retry does nothing');
SELECT is(dts.redrive(:id), 'ready', 'nor does redrive');
SELECT is(dts.reschedule(:id, delay => '1 h'), 'noted', 'reschedule is noted');
SELECT is(dts.set_priority(:id, 1), 'noted', 'set_priority is noted');
CALL dts.wait(:id, '100 ms') \gset
SELECT ok(:'state' IN ('ready', 'running'), 'wait gives up');
SELECT is(dts.cancel(:id), 'cancelled', 'cancel interrupts it and sees it end');
SELECT is(dts.cancel(:id), 'cancelled', 'twice');
SELECT is((SELECT row(outcome, started_at IS NOT NULL, attempt)::text FROM dts.runs WHERE task = :id), '(cancelled,t,1)', 'history');
SELECT is((SELECT count(*) FROM effect), 0::bigint, 'no effect');

-- One that swallows the interrupt: it cannot succeed any more.
SELECT dts.submit($$DO 'BEGIN INSERT INTO effect VALUES (''swallowed''); PERFORM pg_sleep(120); EXCEPTION WHEN query_canceled THEN INSERT INTO effect VALUES (''swallowed''); END'$$) AS id \gset
CALL wait_running(:id);
SELECT ok(dts.cancel(:id) IN ('cancelled', 'cancelling'), 'cancel of one that swallows it');
CALL dts.wait(:id, '30 s') \gset
SELECT is(:'state'::text, 'cancelled', 'cancelled all the same');
SELECT is((SELECT count(*) FROM effect), 0::bigint, 'no effect');
SET dts.steer_wait = 0;
SELECT dts.submit('SELECT pg_sleep(120)') AS id \gset
CALL wait_running(:id);
SELECT ok(dts.cancel(:id) IN ('cancelled', 'cancelling'), 'without waiting');
SELECT ok(dts.cancel(:id) IN ('cancelled', 'cancelling', 'finishing'), 'twice');
CALL dts.wait(:id, '30 s') \gset
SELECT is(:'state'::text, 'cancelled', 'cancelled');
RESET dts.steer_wait;
-- Outside a transaction.
SELECT dts.submit('SELECT pg_sleep(120)', transactional => false) AS id \gset
CALL wait_running(:id);
SELECT ok(dts.explain(:id) LIKE 'running%', 'explain');
SELECT ok(dts.reschedule(:id) = 'noted', 'reschedule of a leased task');
SELECT ok(dts.cancel(:id) IN ('cancelled', 'cancelling'), 'cancel of a leased task');
CALL dts.wait(:id, '30 s') \gset
SELECT is(:'state'::text, 'cancelled', 'cancelled');
-- What was noted holds for the next attempt.
RESET ROLE;
CREATE SEQUENCE calls;
GRANT ALL ON calls TO steer_user;
CREATE FUNCTION once() RETURNS void LANGUAGE plpgsql AS $$ BEGIN IF nextval('public.calls') = 1 THEN PERFORM pg_sleep(1); RAISE 'first'; END IF; END $$;
SET ROLE steer_user;
SELECT dts.submit('SELECT once()', retry => '{"base": 0.01}') AS id \gset
CALL wait_running(:id);
SELECT is(dts.set_priority(:id, 2), 'noted', 'priority of a running task');
SELECT is(dts.reschedule(:id, delay => '1 day'), 'noted', 'due time of a running task');
RESET ROLE;
DO $$
BEGIN
    FOR i IN 1..600 LOOP
        EXIT WHEN NOT EXISTS (SELECT FROM dts.request) AND NOT EXISTS (SELECT FROM dts.running);
        COMMIT;
        PERFORM pg_sleep(0.05);
    END LOOP;
END $$;
SET ROLE steer_user;
SELECT is((SELECT row(state, priority, attempts, run_at > now() + interval '23 hours')::text FROM dts.tasks WHERE id = :id), '(scheduled,2,1,t)', 'applied after the attempt');
SELECT is(dts.cancel(:id), 'cancelled', 'cancelled');
SELECT is((SELECT array_agg(action ORDER BY at) FROM dts.audit WHERE object = 'task ' || :id), ARRAY['set_priority', 'reschedule', 'cancel'], 'audited');
-- A rolled back cancel of a waiting task did not happen.
SELECT dts.submit('SELECT 1', delay => '1 day') AS id \gset
BEGIN;
SELECT is(dts.cancel(:id), 'cancelled', 'cancel');
SELECT is(dts.cancel(:id), 'cancelled', 'seen by its own transaction');
ROLLBACK;
SELECT is(dts.state(:id), 'ready', 'rolled back');
BEGIN;
SELECT is(dts.set_priority(:id, 1), 'changed', 'several changes');
SELECT is(dts.reschedule(:id, delay => '2 days'), 'changed', 'in one');
SAVEPOINT s;
SELECT is(dts.cancel(:id), 'cancelled', 'transaction');
ROLLBACK TO s;
SELECT is(dts.retry(:id), 'changed', 'with a savepoint');
COMMIT;
CALL dts.wait(:id, '30 s') \gset
SELECT is((SELECT row(state, priority)::text FROM dts.tasks WHERE id = :id), '(succeeded,1)', 'the last holds');
-- A task submitted, steered and cancelled before it was committed.
BEGIN;
SELECT dts.submit('SELECT 1') AS id \gset
SELECT is(dts.reschedule(:id, delay => '1 day'), 'changed', 'reschedule');
SELECT is(dts.set_priority(:id, 0), 'changed', 'set_priority');
SELECT is(dts.cancel(:id), 'cancelled', 'cancel');
COMMIT;
SELECT is(dts.state(:id), 'cancelled', 'state');
RESET ROLE;
SELECT dts.cancel(id) FROM dts.tasks WHERE state IN ('ready', 'scheduled') \gset

-- A session takes a reloaded setting between two statements: this waits a while for it, again and again, and not at all once it is there.
\set settle 'SELECT pg_sleep(0.2) WHERE current_setting(''dts.enabled'') = ''on'' AND current_setting(''dts.max_workers'') <> ''0'';'
-- explain: no executor, order, an owner who may not log in.
SELECT dts.submit('SELECT 1', queue => 'held', run_at => '2026-01-01') AS a, dts.submit('SELECT 1', queue => 'held', run_at => '2026-01-02') AS b \gset
ALTER SYSTEM SET dts.max_workers = 0;
SELECT pg_reload_conf();
:settle :settle :settle :settle :settle :settle :settle :settle :settle :settle
-- Executors that are there leave when the scheduler has taken the setting, which is after this session took it.
\set gone 'SELECT pg_sleep(0.2) WHERE EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = ''dts executor'');'
:gone :gone :gone :gone :gone :gone :gone :gone :gone :gone :gone :gone :gone :gone :gone :gone :gone :gone :gone :gone
SELECT dts.resume('held');
SELECT matches(dts.explain(:b), 'no executor: dts.max_workers = 0', 'no executor');
ALTER SYSTEM RESET dts.max_workers;
SELECT pg_reload_conf();
CALL dts.wait(:a, '30 s') \gset
CALL dts.wait(:b, '30 s') \gset
SELECT is(:'state'::text, 'succeeded', 'with executors again it runs');
SELECT dts.pause('held');
SELECT dts.submit('SELECT 1', queue => 'held', owner => 'steer_gone') AS gone \gset
ALTER ROLE steer_gone NOLOGIN;
SELECT dts.resume('held');
SELECT matches(dts.explain(:gone), '^its owner "steer_gone" does not exist or may not log in$', 'an owner who may not log in');
SELECT is(dts.cancel(:gone), 'cancelled', 'cancel');
ALTER SYSTEM SET dts.enabled = off;
SELECT pg_reload_conf();
:settle :settle :settle :settle :settle :settle :settle :settle :settle :settle
SELECT dts.submit('SELECT 1') AS id \gset
SELECT matches(dts.explain(:id), '^nothing runs in this database: .*dts.enabled', 'switched off');
ALTER SYSTEM RESET dts.enabled;
SELECT pg_reload_conf();
CALL dts.wait(:id, '30 s') \gset
SELECT is(:'state'::text, 'succeeded', 'switched on');

-- stuck: none in a healthy system; each kind of stuckness, written by hand, is found. The queue is paused, so that dts does not repair it.
SELECT is((SELECT count(*) FROM dts.stuck()), 0::bigint, 'nothing is stuck');
SELECT dts.create_queue('stuck', paused => true);
SELECT count(dts.submit(format('SELECT %s', i), queue => 'stuck')) FROM generate_series(1, 8) i;
CREATE TABLE t AS SELECT id, row_number() OVER (ORDER BY id)::int AS n FROM dts.tasks WHERE queue = 'stuck';
SELECT is((SELECT count(*) FROM dts.stuck()), 0::bigint, 'a paused queue is not stuck');
CREATE FUNCTION planted(n int, sql text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE r record; i bigint := (SELECT id FROM t WHERE t.n = planted.n);
BEGIN
    BEGIN
        EXECUTE format(sql, i);
        SELECT array_agg(s.reason) AS reasons, count(*) AS c INTO r FROM dts.stuck() s WHERE s.task = i;
        RAISE EXCEPTION 'undo' USING ERRCODE = 'UNDO0';
    EXCEPTION WHEN SQLSTATE 'UNDO0' THEN NULL;
    END;
    RETURN NEXT ok(r.c > 0, format('found: %s (%s)', sql, r.reasons));
END $$;
SELECT r FROM (VALUES
    (1, 'UPDATE dts.task SET state = 9 WHERE id = %s'),
    (1, 'UPDATE dts.task SET state = 11 WHERE id = %s'),
    (1, 'UPDATE dts.task SET state = -1 WHERE id = %s'),
    (2, 'UPDATE dts.task SET lane = 999999 WHERE id = %s'),
    (3, 'UPDATE dts.task SET state = 2, lease_until = now() - interval ''1 hour'' WHERE id = %s'),
    (3, 'UPDATE dts.task SET state = 2, lease_until = NULL WHERE id = %s'),
    (4, 'UPDATE dts.task SET expires_at = now() - interval ''1 hour'' WHERE id = %s'),
    (5, 'INSERT INTO dts.request (task, kind, by_role, at) VALUES (%s, ''cancel'', 10, now() - interval ''1 hour'')'),
    (6, 'UPDATE dts.task SET run_at = now() - interval ''1 hour'', lane = (SELECT min(id) FROM dts.lane WHERE owner = ''steer_gone''::regrole) WHERE id = %s')) v(n, sql), LATERAL planted(v.n, v.sql) r;
-- Due for long although an executor of its owner is idle: the row is written behind dts's back and seen in the same transaction.
SELECT dts.submit('SELECT 1') AS id \gset
CALL dts.wait(:id, '30 s') \gset
DO $$ BEGIN FOR i IN 1..600 LOOP EXIT WHEN EXISTS (SELECT FROM dts.workers WHERE state = 'idle' AND owner = 'postgres' AND database = current_database()); COMMIT; PERFORM pg_sleep(0.05); END LOOP; END $$;
SELECT r FROM planted(7, 'UPDATE dts.task SET run_at = now() - interval ''1 hour'', lane = (SELECT l.id FROM dts.lane l JOIN dts.queue q ON q.id = l.queue WHERE q.name = ''default'' AND l.owner = ''postgres''::regrole LIMIT 1) WHERE id = %s') r;
SELECT is((SELECT count(*) FROM dts.stuck()), 0::bigint, 'nothing is stuck after each was undone');
SELECT dts.resume('stuck');
DO $$ DECLARE i bigint; s text; BEGIN FOR i IN SELECT id FROM t LOOP CALL dts.wait(i, '60 s', s); END LOOP; END $$;
SELECT is((SELECT array_agg(DISTINCT dts.state(id)) FROM t), ARRAY['succeeded'], 'and all run');
SELECT is((SELECT count(*) FROM dts.task), 0::bigint, 'nothing is left');
SELECT is((SELECT count(*) FROM dts.request), 0::bigint, 'no request is left');
SELECT is((SELECT value FROM dts.stats() WHERE name = 'cancel_requests'), 0::float8, 'nor on the board');
SELECT is((SELECT count(*) FROM effect), 0::bigint, 'no effect of a cancelled task');
SELECT is((SELECT count(*) FROM dts.runs WHERE error_fields ->> 'sqlstate' LIKE 'XX%'), 0::bigint, 'no internal error');
SELECT * FROM finish();
