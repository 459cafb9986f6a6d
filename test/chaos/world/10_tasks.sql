-- The world of the chaos run: a client calls chaos.act(), which does one thing at random (functions chaos.load_*), and writes what it did
-- into chaos.journal in the same transaction. Tasks write their effect into chaos.effect. Afterwards each view chaos.check_* must be
-- empty; its comment is the promise that it checks. A new kind of task, and a new promise, is one more of these.
CREATE SCHEMA chaos;
CREATE ROLE chaos_users;
CREATE ROLE chaos_ann LOGIN IN ROLE chaos_users;
CREATE ROLE chaos_bob LOGIN IN ROLE chaos_users;
SELECT dts.grant_usage('chaos_users');
GRANT USAGE ON SCHEMA chaos TO chaos_users;

CREATE SEQUENCE chaos.k;
-- k: key of its effect, if it has one; kind: the function that made it.
CREATE TABLE chaos.journal (task bigint PRIMARY KEY, kind text, k bigint, at timestamptz DEFAULT clock_timestamp());
CREATE TABLE chaos.effect (k bigint, task bigint, pid int DEFAULT pg_backend_pid());
CREATE TABLE chaos.cancelled (task bigint, answer text);
CREATE TABLE chaos.pair (id int PRIMARY KEY, n bigint);
CREATE TABLE chaos.deferred (k bigint UNIQUE DEFERRABLE INITIALLY DEFERRED);
INSERT INTO chaos.pair SELECT n, 0 FROM generate_series(1, 6) n;
INSERT INTO chaos.deferred VALUES (0);
GRANT ALL ON ALL TABLES IN SCHEMA chaos TO chaos_users;
-- Where the clock went back (the fault clock_jump), instants cannot be put in order: checks of order and of overlap leave out what began or ended there.
CREATE TABLE chaos.blur (during tstzrange);
CREATE VIEW chaos.clear AS SELECT r.* FROM dts.runs r WHERE NOT EXISTS (SELECT FROM chaos.blur b WHERE b.during @> r.started_at OR b.during @> r.ended_at);
CREATE VIEW chaos.ends AS SELECT task, outcome, queue, started_at, ended_at, sqlstate FROM dts.runs WHERE outcome <> 'retry';

SELECT dts.create_queue('batch', batch_size => 60), dts.create_queue('durable', durable => true), dts.create_queue('failures', history => 'all', batch_size => 7);

CREATE FUNCTION chaos.queue() RETURNS text LANGUAGE sql VOLATILE AS $$ SELECT (ARRAY['default', 'batch', 'batch', 'durable', 'failures'])[1 + floor(random() * 5)::int] $$;
CREATE FUNCTION chaos.owner() RETURNS text LANGUAGE sql VOLATILE AS $$ SELECT (ARRAY['postgres', 'postgres', 'chaos_ann', 'chaos_bob'])[1 + floor(random() * 4)::int] $$;
CREATE FUNCTION chaos.note(task bigint, kind text, k bigint) RETURNS void LANGUAGE sql AS $$ INSERT INTO chaos.journal VALUES ($1, $2, $3) $$;

-- The body of most tasks: its effect, a little work, and sometimes an error, which must take the effect back.
CREATE FUNCTION chaos.work(k bigint, fail float DEFAULT 0, nap float DEFAULT 0) RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO chaos.effect VALUES (k, dts.current_task());
    IF nap > 0 THEN PERFORM pg_sleep(nap); END IF;
    IF random() < fail THEN RAISE EXCEPTION 'chaos %', k; END IF;
    RETURN k;
END $$;

-- submit(KIND, FAIL, NAP, BODY): a task with the usual options. One that cannot fail by itself has attempts enough for any weather.
CREATE FUNCTION chaos.submit(kind text, fail float DEFAULT 0, nap float DEFAULT 0, body text DEFAULT 'SELECT chaos.work($1, $2, $3)', attempts int DEFAULT 60,
    queue text DEFAULT NULL, owner text DEFAULT NULL, delay interval DEFAULT NULL, expires interval DEFAULT NULL, timeout interval DEFAULT NULL, depends_on jsonb DEFAULT NULL) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE k bigint := nextval('chaos.k'); id bigint;
BEGIN
    id := dts.submit(body, CASE WHEN body ~ '\$3' THEN jsonb_build_array(k, fail, nap) WHEN body ~ '\$1' THEN jsonb_build_array(k) END, queue => COALESCE($6, chaos.queue()), owner => COALESCE($7, chaos.owner()),
        priority => floor(random() * 10)::int, tenant => CASE WHEN random() < 0.3 THEN 't' || floor(random() * 3) END, delay => $8, max_attempts => attempts,
        retry => '{"base": 0.05, "cap": 0.5}', expires => clock_timestamp() + $9, timeout => $10, depends_on => $11);
    PERFORM chaos.note(id, kind, CASE WHEN body ~ '\$1' THEN k END);
    RETURN id;
END $$;

CREATE FUNCTION chaos.load_plain() RETURNS void LANGUAGE sql AS $$ SELECT chaos.submit('plain') FROM generate_series(1, 3) $$;
CREATE FUNCTION chaos.load_nap() RETURNS void LANGUAGE sql AS $$ SELECT chaos.submit('nap', nap => random() * 0.05) $$;
CREATE FUNCTION chaos.load_delayed() RETURNS void LANGUAGE sql AS $$ SELECT chaos.submit('delayed', delay => random() * interval '2 s') $$;
CREATE FUNCTION chaos.load_may_fail() RETURNS void LANGUAGE sql AS $$ SELECT chaos.submit('may_fail', fail => 0.5, attempts => 3) $$;
CREATE FUNCTION chaos.load_must_fail() RETURNS void LANGUAGE sql AS $$ SELECT chaos.submit('must_fail', fail => 1, attempts => 2) $$;
CREATE FUNCTION chaos.load_expiring() RETURNS void LANGUAGE sql AS $$ SELECT chaos.submit('expiring', expires => interval '200 ms') $$;
CREATE FUNCTION chaos.load_slow() RETURNS void LANGUAGE sql AS $$ SELECT chaos.submit('slow', nap => 1, timeout => '100 ms', attempts => 2) WHERE random() < 0.3 $$;
CREATE FUNCTION chaos.load_savepoint() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM chaos.submit('savepoint');
    BEGIN
        PERFORM dts.submit('SELECT chaos.work(-1)');
        RAISE EXCEPTION 'rolled back';
    EXCEPTION WHEN raise_exception THEN NULL;
    END;
END $$;
-- Two submits with one idempotency key are one task.
CREATE FUNCTION chaos.load_key() RETURNS void LANGUAGE plpgsql AS $$
DECLARE k bigint := nextval('chaos.k'); one bigint; two bigint;
BEGIN
    one := dts.submit('SELECT chaos.work($1)', jsonb_build_array(k), key => 'key ' || k, max_attempts => 60);
    two := dts.submit('SELECT chaos.work($1)', jsonb_build_array(k), key => 'key ' || k, max_attempts => 60);
    PERFORM chaos.note(one, 'key', k);
    IF one <> two THEN PERFORM chaos.note(two, 'key twice', k); END IF;
END $$;
CREATE FUNCTION chaos.load_many() RETURNS void LANGUAGE sql AS $$
    WITH k AS MATERIALIZED (SELECT array_agg(nextval('chaos.k')) AS k FROM generate_series(1, 20)),
         t AS (SELECT x.id, x.n FROM k, dts.submit_many('SELECT chaos.work($1)', (SELECT array_agg(jsonb_build_array(e)) FROM unnest(k.k) e), queue => 'batch', max_attempts => 60) WITH ORDINALITY x(id, n))
    INSERT INTO chaos.journal (task, kind, k) SELECT t.id, 'many', k.k[t.n] FROM t, k $$;
SELECT dts.create_handler('work', 'SELECT chaos.work(($1 ->> ''k'')::bigint)', shared => true, max_attempts => 60);
CREATE FUNCTION chaos.load_handler() RETURNS void LANGUAGE plpgsql AS $$
DECLARE k bigint := nextval('chaos.k');
BEGIN
    PERFORM chaos.note(dts.submit_handler('work', jsonb_build_object('k', k), owner => chaos.owner()), 'handler', k);
END $$;
-- A task that submits another one: the child exists if and only if the parent's attempt counted.
CREATE FUNCTION chaos.load_parent() RETURNS void LANGUAGE sql AS $$
    SELECT chaos.submit('parent', body => 'SELECT chaos.work($1), chaos.submit(''child'', fail => 0)', owner => 'postgres') $$;
-- Leased: at least once. The first commit is of its own.
CREATE PROCEDURE chaos.leased(k bigint) LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO chaos.effect VALUES (k, NULL);
    COMMIT;
    PERFORM pg_sleep(random() * 0.02);
END $$;
CREATE FUNCTION chaos.load_leased() RETURNS void LANGUAGE plpgsql AS $$
DECLARE k bigint := nextval('chaos.k');
BEGIN
    PERFORM chaos.note(dts.submit(format('CALL chaos.leased(%s)', k), transactional => false, max_attempts => 60, retry => '{"base": 0.05, "cap": 0.5}'), 'leased', k);
END $$;
-- Locks in two orders: deadlocks.
CREATE FUNCTION chaos.swap(k bigint) RETURNS void LANGUAGE plpgsql AS $$
DECLARE a int := 1 + floor(random() * 6); b int := 1 + floor(random() * 6);
BEGIN
    PERFORM chaos.work(k);
    SET LOCAL deadlock_timeout = '20ms';
    UPDATE chaos.pair SET n = n + 1 WHERE id = a;
    PERFORM pg_sleep(0.01);
    UPDATE chaos.pair SET n = n + 1 WHERE id = b;
END $$;
CREATE FUNCTION chaos.load_deadlock() RETURNS void LANGUAGE sql AS $$ SELECT chaos.submit('deadlock', body => 'SELECT chaos.swap($1)', owner => 'postgres') FROM generate_series(1, 3) $$;
CREATE FUNCTION chaos.hasty(k bigint) RETURNS void LANGUAGE plpgsql SET lock_timeout = '5ms' AS $$
BEGIN
    PERFORM chaos.work(k);
    UPDATE chaos.pair SET n = n + 1 WHERE id = 1;
    PERFORM pg_sleep(0.01);
END $$;
CREATE FUNCTION chaos.load_lock_timeout() RETURNS void LANGUAGE sql AS $$ SELECT chaos.submit('lock_timeout', body => 'SELECT chaos.hasty($1)') FROM generate_series(1, 2) $$;
CREATE FUNCTION chaos.unserializable(k bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM chaos.work(k);
    IF random() < 0.5 THEN RAISE EXCEPTION 'could not serialize access' USING ERRCODE = 'serialization_failure'; END IF;
END $$;
CREATE FUNCTION chaos.load_serialization() RETURNS void LANGUAGE sql AS $$ SELECT chaos.submit('serialization', body => 'SELECT chaos.unserializable($1)') $$;
CREATE FUNCTION chaos.load_huge_result() RETURNS void LANGUAGE sql AS $$
    SELECT chaos.submit('huge_result', body => 'SELECT chaos.work($1), repeat(''x'', 1000) FROM generate_series(1, 1)  UNION ALL SELECT n, repeat(''y'', 2000) FROM generate_series(1, 1500) n') WHERE random() < 0.2 $$;
CREATE FUNCTION chaos.load_huge_payload() RETURNS void LANGUAGE plpgsql AS $$
DECLARE k bigint := nextval('chaos.k');
BEGIN
    PERFORM chaos.note(dts.submit('SELECT chaos.work($1), length($2)', jsonb_build_array(k, repeat('p', 1 + floor(random() * 100000)::int)), max_attempts => 60), 'huge_payload', k);
END $$;
CREATE FUNCTION chaos.load_out_of_memory() RETURNS void LANGUAGE sql AS $$
    SELECT chaos.submit('out_of_memory', body => 'SELECT chaos.work($1), length(repeat(''x'', 600000000) || repeat(''y'', 600000000))', attempts => 2) WHERE random() < 0.01 $$;
-- Violates a constraint that is checked at the end only.
CREATE FUNCTION chaos.violate(k bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM chaos.work(k);
    INSERT INTO chaos.deferred VALUES (0);
END $$;
CREATE FUNCTION chaos.load_deferred() RETURNS void LANGUAGE sql AS $$ SELECT chaos.submit('deferred', body => 'SELECT chaos.violate($1)', attempts => 2) $$;
-- What it leaves in the session must not disturb the next one.
CREATE FUNCTION chaos.untidy(k bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM chaos.work(k);
    CREATE TEMP TABLE untidy ON COMMIT DROP AS SELECT 1;
    PERFORM set_config('work_mem', '64kB', false), set_config('search_path', '', false), pg_advisory_lock(k), pg_advisory_lock(17 + (k % 3));
    RAISE NOTICE 'notice %', repeat('n', 1000);
END $$;
CREATE FUNCTION chaos.load_untidy() RETURNS void LANGUAGE sql AS $$ SELECT chaos.submit('untidy', body => 'SELECT chaos.untidy($1)', timeout => '5 s') $$;

-- What a fault found wrong at once (test/perl/DtsFaults.pm).
CREATE TABLE chaos.found (at timestamptz DEFAULT clock_timestamp(), what text);
CREATE VIEW chaos.check_found AS SELECT * FROM chaos.found;
COMMENT ON VIEW chaos.check_found IS 'after DROP EXTENSION nothing of it is left, neither objects nor processes';

CREATE FUNCTION chaos.some_task() RETURNS bigint LANGUAGE sql VOLATILE AS $$
    SELECT task FROM chaos.journal WHERE task >= (SELECT max(task) - floor(random() * 200)::int FROM chaos.journal) ORDER BY task LIMIT 1 $$;
CREATE FUNCTION chaos.steer() RETURNS void LANGUAGE plpgsql SET dts.steer_wait = '20ms' AS $$
DECLARE id bigint := chaos.some_task();
BEGIN
    IF id IS NULL THEN RETURN; END IF;
    CASE floor(random() * 4)::int
        WHEN 0, 1 THEN INSERT INTO chaos.cancelled VALUES (id, dts.cancel(id));
        WHEN 2 THEN PERFORM dts.set_priority(id, floor(random() * 10)::int);
        ELSE PERFORM dts.reschedule(id);
    END CASE;
END $$;

CREATE VIEW chaos.check_one_end AS SELECT j.kind, j.task FROM chaos.journal j LEFT JOIN chaos.ends e USING (task) GROUP BY 1, 2 HAVING count(e.outcome) <> 1;
COMMENT ON VIEW chaos.check_one_end IS 'each task whose submit was acknowledged has exactly one end: none is lost, none ends twice';
CREATE VIEW chaos.check_effect_once AS SELECT j.kind, j.task, e.outcome, count(f.k) AS effects FROM chaos.journal j JOIN chaos.ends e USING (task) LEFT JOIN chaos.effect f USING (k)
    WHERE j.k IS NOT NULL AND j.kind NOT IN ('leased', 'http', 'bad_peer', 'mail', 'command') GROUP BY 1, 2, 3 HAVING count(f.k) <> (e.outcome = 'succeeded')::int;
COMMENT ON VIEW chaos.check_effect_once IS 'a transactional task that succeeded has exactly one effect, one that ended otherwise has none';
CREATE VIEW chaos.check_at_least_once AS SELECT j.task, e.outcome FROM chaos.journal j JOIN chaos.ends e USING (task) WHERE j.kind IN ('leased', 'command') AND e.outcome = 'succeeded' AND NOT EXISTS (SELECT FROM chaos.effect f WHERE f.k = j.k);
COMMENT ON VIEW chaos.check_at_least_once IS 'a leased task, or a command of an agent, that succeeded has had its effect at least once';
CREATE VIEW chaos.check_attempts AS SELECT j.task, count(*) FROM chaos.journal j JOIN chaos.effect f USING (k) WHERE j.kind IN ('leased', 'command') GROUP BY 1 HAVING count(*) > (SELECT count(*) FROM dts.runs r WHERE r.task = j.task);
COMMENT ON VIEW chaos.check_attempts IS 'each effect of a leased task or of an agent belongs to an attempt that is on record';
CREATE VIEW chaos.check_rolled_back AS SELECT e.task FROM chaos.ends e LEFT JOIN chaos.journal j USING (task) WHERE j.task IS NULL AND e.queue NOT IN ('probe', 'unjournalled');
COMMENT ON VIEW chaos.check_rolled_back IS 'nothing ran whose submit was rolled back';
CREATE VIEW chaos.check_savepoint AS SELECT k FROM chaos.effect WHERE k = -1;
COMMENT ON VIEW chaos.check_savepoint IS 'nothing ran whose submit was rolled back to a savepoint';
CREATE VIEW chaos.check_cancelled AS SELECT c.task, c.answer, e.outcome FROM chaos.cancelled c JOIN chaos.ends e USING (task) WHERE c.answer IN ('cancelled', 'cancelling') AND e.outcome = 'succeeded';
COMMENT ON VIEW chaos.check_cancelled IS 'what dts.cancel answered is true: nothing succeeded after "cancelled" or "cancelling"';
CREATE VIEW chaos.check_must_fail AS SELECT j.kind, j.task, e.outcome FROM chaos.journal j JOIN chaos.ends e USING (task) WHERE j.kind IN ('must_fail', 'slow', 'deferred', 'out_of_memory') AND e.outcome = 'succeeded'
    AND NOT (j.kind = 'slow' AND NOT EXISTS (SELECT FROM chaos.clear c WHERE c.task = j.task AND c.outcome = 'succeeded'));
COMMENT ON VIEW chaos.check_must_fail IS 'a task that fails, takes too long, violates a deferred constraint or wants too much memory never succeeds';
CREATE VIEW chaos.check_innocent AS SELECT j.kind, j.task, e.outcome, e.sqlstate FROM chaos.journal j JOIN chaos.ends e USING (task)
    WHERE j.kind IN ('plain', 'nap', 'delayed', 'savepoint', 'key', 'many', 'handler', 'parent', 'child', 'leased', 'deadlock', 'serialization', 'lock_timeout', 'huge_result', 'huge_payload', 'mail', 'command') AND e.outcome NOT IN ('succeeded', 'cancelled');
COMMENT ON VIEW chaos.check_innocent IS 'a task that cannot fail by itself ends well in any weather, unless somebody cancelled it';
CREATE VIEW chaos.check_requests AS SELECT task FROM dts.request;
COMMENT ON VIEW chaos.check_requests IS 'no request to steer a task is left over';
CREATE VIEW chaos.check_stuck AS SELECT task, reason FROM dts.stuck();
COMMENT ON VIEW chaos.check_stuck IS 'dts.stuck() finds nothing';
CREATE VIEW chaos.check_doctor AS SELECT subject, finding FROM dts.doctor() WHERE severity = 'error';
COMMENT ON VIEW chaos.check_doctor IS 'dts.doctor() finds no error';
