-- What happens to a task that fails, and the options that say when and how often it runs: retries, dead letters, expiry, keys, priorities,
-- defaults, history.
SELECT no_plan();
CREATE ROLE retry_user LOGIN;
SELECT dts.grant_usage('retry_user');
GRANT CREATE ON SCHEMA public TO retry_user;
SELECT dts.create_queue('retry', retry => '{"strategy": "fixed", "base": 0.01, "jitter": "none"}', max_attempts => 3);
SELECT dts.create_queue('paused', paused => true);
SET ROLE retry_user;
CREATE TABLE log (at bigint GENERATED ALWAYS AS IDENTITY, what text);
CREATE SEQUENCE tries;
-- Fails with a state until it was called n times; the count is a sequence, which no rollback takes back.
CREATE FUNCTION fail_until(n int, state text) RETURNS int LANGUAGE plpgsql AS $$
DECLARE i int := nextval('tries');
BEGIN
    IF i < n THEN RAISE EXCEPTION 'try %', i USING ERRCODE = state; END IF;
    RETURN i;
END $$;
CREATE FUNCTION attempts(t bigint) RETURNS text LANGUAGE sql AS $$ SELECT string_agg(attempt || ' ' || outcome, ', ' ORDER BY started_at) FROM dts.runs WHERE task = t $$;
-- Ends all tasks of a list, waiting for each.
CREATE PROCEDURE wait_all(ids bigint[]) LANGUAGE plpgsql AS $$ DECLARE i bigint; s text; BEGIN FOREACH i IN ARRAY ids LOOP CALL dts.wait(i, '60 s', s); END LOOP; END $$;

-- Attempts.
SELECT dts.submit('SELECT fail_until(3, ''XX001'')', queue => 'retry') AS id \gset
CALL dts.wait(:id, '30 s') \gset
SELECT is(attempts(:id), '1 retry, 2 retry, 3 succeeded', 'the third attempt succeeds');
SELECT is(dts.result(:id), '[{"fail_until": 3}]', 'with its result');
SELECT is((SELECT array_agg(DISTINCT retry_at >= ended_at + '9 ms' AND retry_at < ended_at + '5 s') FROM dts.runs WHERE task = :id AND outcome = 'retry'), ARRAY[true], 'the next attempt is due after the delay');
SELECT is((SELECT count(*) FROM dts.runs r JOIN dts.runs s ON s.task = r.task AND s.attempt = r.attempt + 1 WHERE r.task = :id AND s.started_at >= r.retry_at), 2::bigint, 'none starts before it is due');
SELECT setval('tries', 1, false);
SELECT dts.submit('SELECT fail_until(100, ''XX001'')', queue => 'retry', labels => '{"a": 1}', tenant => 'ten', key => 'dead', key_ttl => '1 day') AS dead \gset
CALL dts.wait(:dead, '30 s') \gset
SELECT is(:'state'::text, 'failed', 'attempts used up');
SELECT is(attempts(:dead), '1 retry, 2 retry, 3 failed', 'each is in history');
SELECT is((SELECT row(queue, owner, tenant, attempts, sqlstate, error, labels, sql)::text FROM dts.dead_letters WHERE id = :dead),
          row('retry', 'retry_user', 'ten', 3, 'XX001', 'try 3', '{"a": 1}'::jsonb, 'SELECT fail_until(100, ''XX001'')')::text, 'the dead letter is whole');
SELECT is((SELECT state || ' ' || error FROM dts.tasks WHERE id = :dead), 'failed try 3', 'and seen as failed');
SELECT matches(dts.explain(:dead), '^failed for good at .* after 3 attempt\(s\): try 3; dts.redrive', 'explained');
SELECT is(dts.submit('SELECT 1', queue => 'retry', key => 'dead'), :dead::bigint, 'its key still leads to it');
SELECT setval('tries', 99, true);
SELECT is(dts.redrive(:dead), 'redriven', 'redrive');
CALL dts.wait(:dead, '30 s') \gset
SELECT is(:'state'::text, 'succeeded', 'a new life under the same id');
SELECT is((SELECT count(*) FROM dts.tasks WHERE id = :dead), 1::bigint, 'it is one task');
SELECT is((SELECT state FROM dts.tasks WHERE id = :dead), 'succeeded', 'that succeeded');
SELECT is((SELECT count(*) FROM dts.dead_letters WHERE id = :dead), 0::bigint, 'no dead letter any more');
SELECT is((SELECT array_agg(attempt ORDER BY started_at) FROM dts.runs WHERE task = :dead), ARRAY[1, 2, 3, 1], 'attempts count from one again');
SELECT is(dts.redrive(:dead), 'succeeded', 'redrive of one that succeeded');
SELECT is(dts.submit('SELECT 1', queue => 'retry', key => 'dead'), :dead::bigint, 'its key still leads to it');

-- redrive_queue, and retry of a dead letter.
SELECT dts.submit('SELECT 1/0', queue => 'retry', max_attempts => 1) AS a, dts.submit('SELECT 1/0', queue => 'retry', max_attempts => 1) AS b, dts.submit('SELECT 1/0', queue => 'retry', max_attempts => 1) AS c \gset
CALL wait_all(ARRAY[:a, :b, :c]);
SELECT is((SELECT count(*) FROM dts.dead_letters), 3::bigint, 'three dead letters');
SELECT is(dts.redrive_queue('default'), 0::bigint, 'none in another queue');
SELECT is(dts.redrive_queue('retry', 2), 2::bigint, 'two of them');
CALL wait_all(ARRAY[:a, :b, :c]);
SELECT is(dts.redrive_queue('retry'), 3::bigint, 'and all');
CALL wait_all(ARRAY[:a, :b, :c]);
SELECT is((SELECT count(*) FROM dts.dead_letters), 3::bigint, 'they failed again');
SELECT is(dts.retry(:a), 'redriven', 'dts.retry of a dead letter');
CALL wait_all(ARRAY[:a]);
-- Whichever two were redriven first.
SELECT matches(attempts(:a), '^1 failed(, 1 failed){2,3}$', 'history of all lives');
SELECT is((SELECT count(*) FROM dts.runs WHERE task IN (:a, :b, :c)), 9::bigint, 'and of all three');
SELECT is((SELECT count(*) FROM dts.tasks WHERE id = :a), 1::bigint, 'seen once');

-- Which errors are worth it.
SELECT dts.submit('SELECT 1/0', queue => 'retry', retry => '{"strategy": "fixed", "base": 0.01, "not_on": ["22012"]}') AS a,
       dts.submit('SELECT 1/0', queue => 'retry', retry => '{"strategy": "fixed", "base": 0.01, "not_on": ["22"]}') AS b,
       dts.submit('SELECT 1/0', queue => 'retry', retry => '{"strategy": "fixed", "base": 0.01, "on": ["22012"]}') AS c,
       dts.submit('SELECT 1/0', queue => 'retry', retry => '{"strategy": "fixed", "base": 0.01, "on": ["22"]}') AS d,
       dts.submit('SELECT 1/0', queue => 'retry', retry => '{"strategy": "fixed", "base": 0.01, "on": ["08", "57P03"]}') AS e,
       dts.submit('SELECT 1/0', queue => 'retry', retry => '{"strategy": "fixed", "base": 0.01, "on": ["22"], "not_on": ["22012"]}') AS f,
       dts.submit('SELECT 1/0', queue => 'retry', retry => '{"strategy": "fixed", "base": 0.01, "on": []}') AS g,
       dts.submit('SELECT 1/0', queue => 'retry', retry => '{"strategy": "fixed", "base": 0.01, "not_on": []}') AS h \gset
CALL wait_all(ARRAY[:a, :b, :c, :d, :e, :f, :g, :h]);
SELECT is(ARRAY[attempts(:a), attempts(:b), attempts(:c), attempts(:d), attempts(:e), attempts(:f), attempts(:g), attempts(:h)],
          ARRAY['1 failed', '1 failed', '1 retry, 2 retry, 3 failed', '1 retry, 2 retry, 3 failed', '1 failed', '1 failed', '1 failed', '1 retry, 2 retry, 3 failed'], 'on and not_on, by SQLSTATE and class');

-- Strategies: the due time of the second and third attempt, without jitter; with full jitter between half the base and the whole.
SELECT dts.submit('SELECT 1/0', max_attempts => 9, retry => '{"strategy": "exponential", "base": 100, "factor": 3, "cap": 250, "jitter": "none"}') AS exponential,
       dts.submit('SELECT 1/0', max_attempts => 9, retry => '{"strategy": "linear", "base": 100, "jitter": "none"}') AS linear,
       dts.submit('SELECT 1/0', max_attempts => 9, retry => '{"strategy": "fixed", "base": 100, "jitter": "none"}') AS fixed,
       dts.submit('SELECT 1/0', max_attempts => 9, retry => '{"base": 100}') AS jitter \gset
CREATE PROCEDURE wait_attempt(t bigint, n int) LANGUAGE plpgsql AS $$
BEGIN
    FOR i IN 1..600 LOOP
        EXIT WHEN EXISTS (SELECT FROM dts.runs WHERE task = t AND attempt = n);
        COMMIT;
        PERFORM pg_sleep(0.05);
    END LOOP;
END $$;
CALL wait_attempt(:exponential, 1); CALL wait_attempt(:linear, 1); CALL wait_attempt(:fixed, 1); CALL wait_attempt(:jitter, 1);
SELECT is((SELECT array_agg(dts.retry(x)) FROM unnest(ARRAY[:exponential, :linear, :fixed]) x), ARRAY['changed', 'changed', 'changed'], 'retried now');
CALL wait_attempt(:exponential, 2); CALL wait_attempt(:linear, 2); CALL wait_attempt(:fixed, 2);
SELECT is((SELECT array_agg(round(extract(epoch FROM retry_at - ended_at)) ORDER BY attempt) FROM dts.runs WHERE task = :exponential), ARRAY[100, 250]::numeric[], 'exponential, capped');
SELECT is((SELECT array_agg(round(extract(epoch FROM retry_at - ended_at)) ORDER BY attempt) FROM dts.runs WHERE task = :linear), ARRAY[100, 200]::numeric[], 'linear');
SELECT is((SELECT array_agg(round(extract(epoch FROM retry_at - ended_at)) ORDER BY attempt) FROM dts.runs WHERE task = :fixed), ARRAY[100, 100]::numeric[], 'fixed');
SELECT ok((SELECT retry_at - ended_at BETWEEN '49.9 s' AND '101 s' FROM dts.runs WHERE task = :jitter), 'full jitter with a floor');
SELECT matches(dts.explain(:fixed), '^attempt 2 failed \(division by zero\); the next one is due at ', 'explained');
SELECT is((SELECT array_agg(dts.cancel(x)) FROM unnest(ARRAY[:exponential, :linear, :fixed, :jitter]) x), ARRAY['cancelled', 'cancelled', 'cancelled', 'cancelled'], 'cancelled between attempts');

-- A serialization failure or deadlock is tried again at once and does not count.
SELECT setval('tries', 1, false);
SELECT dts.submit('SELECT fail_until(4, ''40001'')', max_attempts => 1) AS id \gset
CALL dts.wait(:id, '30 s') \gset
SELECT is(attempts(:id), '1 succeeded', '40001 is restarted, uncounted');
SELECT setval('tries', 1, false);
SELECT dts.submit('SELECT fail_until(4, ''40P01'')', max_attempts => 1) AS id \gset
CALL dts.wait(:id, '30 s') \gset
SELECT is(attempts(:id), '1 succeeded', '40P01 too');
SELECT setval('tries', 1, false);
SELECT dts.submit('SELECT fail_until(1000, ''40001'')', max_attempts => 2, retry => '{"base": 0.01}') AS id \gset
CALL dts.wait(:id, '30 s') \gset
SELECT is(attempts(:id), '1 retry, 2 failed', 'but not for ever');
SELECT cmp_ok(currval('tries') + (SELECT last_value FROM tries), '<=', 30::bigint, 'a few times each') FROM (SELECT nextval('tries')) x;

-- Expiry.
SELECT dts.submit('SELECT 1', queue => 'paused', expires => now() + '200 ms') AS a, dts.submit('SELECT 1', expires => now() - interval '1 s') AS b,
       dts.submit('SELECT 1', expires => now() + interval '1 hour') AS c, dts.submit('SELECT 1', delay => '1 hour', expires => now() + '100 ms') AS d \gset
CALL wait_all(ARRAY[:a, :b, :c, :d]);
SELECT is(ARRAY[dts.state(:a), dts.state(:b), dts.state(:c), dts.state(:d)], ARRAY['expired', 'expired', 'succeeded', 'expired'], 'not started by then: expired, also in a paused queue and before it was due');
SELECT is((SELECT row(outcome, started_at IS NULL, attempt)::text FROM dts.runs WHERE task = :a), '(expired,t,0)', 'it never started');
SELECT is((SELECT count(*) FROM dts.dead_letters WHERE id IN (:a, :b, :d)), 0::bigint, 'no dead letter');
SELECT matches(dts.explain(:a), '^expired at .*: it had not started by then', 'explained');

-- Keys: return.
SELECT dts.submit('INSERT INTO log (what) VALUES (''first'')', queue => 'paused', key => 'k', run_at => '2026-01-01') AS k \gset
SELECT is(dts.submit('INSERT INTO log (what) VALUES (''second'')', queue => 'paused', key => 'k'), :k::bigint, 'the default is to return');
SELECT is(dts.submit('INSERT INTO log (what) VALUES (''second'')', key => 'k', on_conflict => 'return'), :k::bigint, 'return');
SELECT throws_ok('SELECT dts.submit(''SELECT 1'', key => ''k'', on_conflict => ''error'')', '23505', format('key "k" is already used by task %s', :k), 'error');
SELECT is((SELECT row(sql, queue, key)::text FROM dts.tasks WHERE id = :k), row('INSERT INTO log (what) VALUES (''first'')', 'paused', 'k')::text, 'unchanged');
-- push: only the due time.
SELECT is(dts.submit('INSERT INTO log (what) VALUES (''third'')', queue => 'paused', key => 'k', on_conflict => 'push', run_at => '2100-01-01', priority => 9), :k::bigint, 'push');
SELECT is((SELECT row(sql, run_at, priority)::text FROM dts.tasks WHERE id = :k), row('INSERT INTO log (what) VALUES (''first'')', timestamptz '2100-01-01', 5)::text, 'moves the due time only');
-- replace: everything but the id.
SELECT is(dts.submit('INSERT INTO log (what) VALUES ($1)', '["fourth"]', queue => 'paused', key => 'k', on_conflict => 'replace', priority => 9, max_attempts => 7, labels => '{"x": 1}', tenant => 't'), :k::bigint, 'replace');
SELECT is((SELECT row(sql, args, priority, max_attempts, labels, tenant, key, run_at <= now())::text FROM dts.tasks WHERE id = :k),
          row('INSERT INTO log (what) VALUES ($1)', '["fourth"]'::jsonb, 9, 7, '{"x": 1}'::jsonb, 't', 'k', true)::text, 'takes all of the new one');
SELECT is((SELECT count(*) FROM dts.tasks WHERE key = 'k'), 1::bigint, 'it is one task');
SELECT is((SELECT count(*) FROM dts.submit_many('[{"sql": "SELECT 1", "key": "k"}, {"sql": "SELECT 2", "key": "k2", "queue": "paused"}, {"sql": "SELECT 3", "key": "k2"}]'::jsonb) x WHERE x = :k), 1::bigint, 'keys in submit_many');
SELECT is((SELECT count(*) FROM dts.tasks WHERE key = 'k2'), 1::bigint, 'one key twice in one call');
RESET ROLE;
SELECT isnt(dts.submit('SELECT 1', key => 'k', delay => '1 day'), :k::bigint, 'another role has keys of its own');
SELECT dts.resume('paused');
SET ROLE retry_user;
CALL dts.wait(:k, '30 s') \gset
SELECT is((SELECT array_agg(what) FROM log), ARRAY['fourth'], 'the replacement ran, once');
-- After the end: without key_ttl the key is free, with it the ended task is returned until then.
SELECT dts.submit('SELECT 1', key => 'k') AS k2 \gset
SELECT isnt(:k2::bigint, :k::bigint, 'without key_ttl a key is free after the end');
SELECT dts.submit('SELECT 1', key => 'ttl', key_ttl => '1 hour') AS a, dts.submit('SELECT 1', key => 'short', key_ttl => '10 ms') AS b, dts.submit('SELECT 1', key => 'zero', key_ttl => '0') AS c \gset
CALL wait_all(ARRAY[:a, :b, :c]);
SELECT is(dts.submit('SELECT 1', key => 'ttl'), :a::bigint, 'within key_ttl the ended task is returned');
SELECT is(dts.submit('SELECT 1', key => 'ttl', on_conflict => 'replace'), :a::bigint, 'also for replace');
SELECT throws_ok('SELECT dts.submit(''SELECT 1'', key => ''ttl'', on_conflict => ''error'')', '23505', format('key "ttl" is already used by task %s', :a), 'error');
SELECT pg_sleep(0.02);
SELECT isnt(dts.submit('SELECT 1', key => 'short'), :b::bigint, 'after it a new one starts');
SELECT isnt(dts.submit('SELECT 1', key => 'zero'), :c::bigint, 'key_ttl of 0 is as none');
-- Recipes: singleton (one at a time), debounce (the last of a burst, once), throttle (at most one an hour).
SELECT dts.submit('SELECT pg_sleep(60)', key => 'single') AS single \gset
CREATE PROCEDURE wait_running(t bigint) LANGUAGE plpgsql AS $$
BEGIN
    FOR i IN 1..600 LOOP
        EXIT WHEN EXISTS (SELECT FROM dts.running WHERE id = t);
        COMMIT;
        PERFORM pg_sleep(0.05);
    END LOOP;
END $$;
CALL wait_running(:single);
SELECT is(dts.submit('SELECT 1', key => 'single'), :single::bigint, 'singleton: while it runs it is returned');
SELECT throws_ok('SELECT dts.submit(''SELECT 1'', key => ''single'', on_conflict => ''error'')', '23505', NULL, 'or refused');
SELECT isnt(dts.submit('INSERT INTO log (what) VALUES (''after'')', key => 'single', on_conflict => 'replace', delay => '1 hour'), :single::bigint, 'an event during the run gets a run of its own after it');
SELECT ok(dts.cancel(:single) IN ('cancelled', 'cancelling'), 'cancel');
CALL dts.wait(:single, '30 s') \gset
SELECT is(:'state'::text, 'cancelled', 'it is interrupted');
SELECT is((SELECT count(*) FROM dts.tasks WHERE key = 'single' AND state = 'scheduled'), 1::bigint, 'the key belongs to the one after it');
SELECT is((SELECT count(DISTINCT dts.submit(format('INSERT INTO log (what) VALUES (''debounced %s'')', i), key => 'bounce', on_conflict => 'replace', delay => '300 ms')) FROM generate_series(1, 20) i), 1::bigint, 'debounce: one task');
SELECT id AS bounce FROM dts.tasks WHERE key = 'bounce' \gset
CALL dts.wait(:bounce, '30 s') \gset
SELECT is((SELECT array_agg(what) FROM log WHERE what LIKE 'debounced%'), ARRAY['debounced 20'], 'with the last text');
SELECT is((SELECT count(DISTINCT dts.submit('INSERT INTO log (what) VALUES (''throttled'')', key => 'throttle', key_ttl => '1 hour')) FROM generate_series(1, 20) i), 1::bigint, 'throttle: one task');
SELECT id AS throttle FROM dts.tasks WHERE key = 'throttle' \gset
CALL dts.wait(:throttle, '30 s') \gset
SELECT is(dts.submit('INSERT INTO log (what) VALUES (''throttled'')', key => 'throttle', key_ttl => '1 hour'), :throttle::bigint, 'also after it ran');
-- A key of a cancelled task, a failed one, a rolled back one.
SELECT dts.submit('SELECT 1', key => 'c', delay => '1 hour') AS c \gset
SELECT is(dts.cancel(:c), 'cancelled', 'cancel');
SELECT isnt(dts.submit('SELECT 1', key => 'c', delay => '1 hour'), :c::bigint, 'the key of a cancelled task is free');
BEGIN;
SELECT dts.submit('SELECT 1', key => 'r', delay => '1 hour') AS r \gset
SELECT is(dts.submit('SELECT 1', key => 'r'), :r::bigint, 'seen by its own transaction');
SELECT is(dts.submit('SELECT 2', key => 'r', on_conflict => 'replace', delay => '2 hours'), :r::bigint, 'and replaced');
ROLLBACK;
SELECT isnt(dts.submit('SELECT 1', key => 'r', delay => '1 hour'), :r::bigint, 'the key of a rolled back task is free');

-- Order: priority first, then due time, then submission.
RESET ROLE;
ALTER SYSTEM SET dts.max_workers = 1;
SELECT pg_reload_conf();
SELECT dts.pause('paused');
DO $$ BEGIN FOR i IN 1 .. 3000 LOOP EXIT WHEN (SELECT count(*) FROM dts.workers WHERE kind = 'executor') <= 1; PERFORM pg_sleep(0.01); END LOOP; END $$;
SET ROLE retry_user;
TRUNCATE log;
SELECT count(dts.submit(format('INSERT INTO log (what) VALUES (''p%s'')', p), queue => 'paused', priority => p)) FROM unnest(ARRAY[0, 9, 5, 3, 7]) p;
SELECT count(dts.submit(format('INSERT INTO log (what) VALUES (''d%s'')', d), queue => 'paused', priority => 4, run_at => '2026-01-01'::timestamptz - d * interval '1 hour')) FROM unnest(ARRAY[1, 5, 3, 2, 4]) d;
SELECT count(dts.submit(format('INSERT INTO log (what) VALUES (''s%s'')', s), queue => 'paused', priority => 2, run_at => '2026-01-01')) FROM generate_series(1, 5) s;
SELECT array_agg(id) AS ids FROM dts.tasks WHERE queue = 'paused' AND state = 'ready' \gset
RESET ROLE;
SELECT dts.resume('paused');
SET ROLE retry_user;
CALL wait_all(:'ids');
SELECT is((SELECT string_agg(what, ' ' ORDER BY at) FROM log), 'p9 p7 p5 d5 d4 d3 d2 d1 p3 s1 s2 s3 s4 s5 p0', 'priority, due time, submission');
RESET ROLE;
ALTER SYSTEM RESET dts.max_workers;
SELECT pg_reload_conf();

-- Defaults: the option before the handler's before the queue's.
SELECT dts.create_queue('defaults', paused => true, priority => 2, max_attempts => 2, timeout => '2 min', expires => '2 days', retry => '{"base": 2}');
SELECT dts.create_handler('plain', 'SELECT 1', queue => 'defaults');
SELECT dts.create_handler('full', 'SELECT 1', queue => 'defaults', priority => 3, max_attempts => 3, timeout => '3 min', expires => '3 days', retry => '{"base": 3}', transactional => true, capture => false);
CREATE VIEW shown AS SELECT t.id, row(v.queue, v.priority, v.max_attempts, v.timeout, v.expires_at - v.run_at, t.extra -> 'retry' ->> 'base', t.flags & 2)::text AS options FROM dts.tasks v JOIN dts.task t USING (id);
SELECT is((SELECT options FROM shown WHERE id = dts.submit('SELECT 1', delay => '1 h')), NULL, 'not seen by the query that submits it');
SELECT dts.submit('SELECT 1', queue => 'defaults') AS a, dts.submit_handler('plain') AS b, dts.submit_handler('full') AS c,
       dts.submit_handler('full', queue => 'paused', priority => 0, max_attempts => 1, timeout => '1 min', expires => now() + '1 day', retry => '{"base": 1}', capture => true, run_at => now()) AS d, dts.submit('SELECT 1', delay => '1 h') AS e \gset
SELECT is((SELECT options FROM shown WHERE id = :a), '(defaults,2,2,00:02:00,"2 days",2,2)', 'of the queue');
SELECT is((SELECT options FROM shown WHERE id = :b), '(defaults,2,2,00:02:00,"2 days",2,2)', 'of the queue, through a handler');
SELECT is((SELECT options FROM shown WHERE id = :c), '(defaults,3,3,00:03:00,"3 days",3,0)', 'of the handler');
SELECT is((SELECT options FROM shown WHERE id = :e), '(default,5,5,,,,2)', 'of the default queue');
CALL dts.wait(:d, '30 s') \gset
SELECT is((SELECT row(priority, result)::text FROM dts.runs WHERE task = :d), '(0,"[{""?column?"": 1}]")', 'given with the call');
SELECT dts.alter_queue('defaults', priority => 8);
SELECT dts.submit_handler('plain') AS f \gset
SELECT is((SELECT priority FROM dts.tasks WHERE id = :f), 8, 'a changed default holds for new tasks');
SELECT is((SELECT priority FROM dts.tasks WHERE id = :b), 2, 'and not for old ones');
SELECT dts.alter_handler('plain', 'SELECT 2 AS changed');
SELECT dts.resume('defaults');
CALL dts.wait(:b, '30 s') \gset
SELECT is(dts.result(:b), '[{"changed": 2}]', 'waiting tasks of a handler run with its new text');
CALL dts.wait(:c, '30 s') \gset
SELECT is(dts.result(:c), NULL, 'capture off by the handler');

-- History.
SELECT dts.create_queue('failures', history => 'failures', max_attempts => 2, retry => '{"base": 0.01}');
SELECT dts.create_queue('silent', history => 'none', max_attempts => 1);
SELECT dts.submit('SELECT 1', queue => 'failures') AS a, dts.submit('SELECT 1/0', queue => 'failures') AS b, dts.submit('SELECT 1', queue => 'silent') AS c, dts.submit('SELECT 1/0', queue => 'silent') AS d \gset
CREATE PROCEDURE wait_gone() LANGUAGE plpgsql AS $$
BEGIN
    FOR i IN 1..600 LOOP
        EXIT WHEN NOT EXISTS (SELECT FROM dts.tasks WHERE queue IN ('failures', 'silent') AND state IN ('ready', 'running', 'scheduled'));
        COMMIT;
        PERFORM pg_sleep(0.05);
    END LOOP;
END $$;
CALL wait_gone();
SELECT is((SELECT count(*) FROM dts.runs WHERE task IN (:a, :c, :d)), 0::bigint, 'no history of a success with failures, of nothing with none');
SELECT is(attempts(:b), '1 retry, 2 failed', 'failures are kept');
SELECT is((SELECT array_agg(id ORDER BY id) FROM dts.dead_letters WHERE id IN (:b, :d)), ARRAY[:b, :d]::bigint[], 'dead letters are kept in any case');
CALL dts.wait(:d, '30 s') \gset
SELECT is(:'state'::text, 'failed', 'and known to wait');
SELECT is(dts.state(:d), 'failed', 'and to state');
SELECT is((SELECT count(*) FROM dts.tasks WHERE id = :d), 1::bigint, 'and to the view of tasks');
SELECT ok(dts.explain(:d) LIKE 'failed for good%', 'and to explain');
SELECT is(dts.redrive(:d), 'redriven', 'and redriven');
-- A wait that began before the end learns of it although no history tells.
SELECT dts.submit('SELECT pg_sleep(0.5)', queue => 'silent') AS id \gset
CALL dts.wait(:id, '30 s') \gset
SELECT is(:'state'::text, 'succeeded', 'wait for a task that leaves no history');
CALL wait_gone();

-- Pause and resume.
SELECT dts.create_queue('switch');
SELECT dts.pause('switch');
SELECT dts.submit('SELECT 1', queue => 'switch') AS id \gset
CALL dts.wait(:id, '300 ms') \gset
SELECT is(:'state'::text, 'ready', 'a paused queue starts nothing');
SELECT is(dts.explain(:id), 'queue "switch" is paused; dts.resume(''switch'') lets it go on', 'explained');
SELECT dts.resume('switch');
CALL dts.wait(:id, '30 s') \gset
SELECT is(:'state'::text, 'succeeded', 'resumed');
SELECT is((SELECT array_agg(action ORDER BY at) FROM dts.audit WHERE object = 'switch'), ARRAY['create_queue', 'pause', 'resume'], 'audited');

-- Labels and tenants.
SELECT dts.submit('SELECT 1', labels => '{"team": "a", "n": [1, null]}', tenant => 'x') AS id \gset
SELECT is((SELECT row(labels, tenant)::text FROM dts.tasks WHERE id = :id), '("{""n"": [1, null], ""team"": ""a""}",x)', 'while it waits or later');
CALL dts.wait(:id, '30 s') \gset
SELECT is((SELECT row(labels, tenant)::text FROM dts.runs WHERE task = :id), '("{""n"": [1, null], ""team"": ""a""}",x)', 'in history');
SELECT dts.cancel(id) FROM dts.tasks WHERE state IN ('ready', 'scheduled');
SELECT is((SELECT count(*) FROM dts.task), 0::bigint, 'nothing is left');
SELECT is((SELECT count(*) FROM dts.stuck()), 0::bigint, 'nothing is stuck');
SELECT is((SELECT count(*) FROM dts.key k WHERE k.free_at IS NULL AND NOT EXISTS (SELECT FROM dts.dead_letter d WHERE d.id = k.task)), 0::bigint, 'no key is held for ever');
SELECT * FROM finish();
