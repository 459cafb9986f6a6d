-- What the soak does beyond the world of the chaos run (test/chaos/world, loaded before this file): more functions chaos.load_*, which chaos.act() then
-- calls as well. Nothing here may need a person or more than loopback.
CREATE ROLE soak_agent LOGIN;
SELECT dts.create_queue('outside'), dts.create_queue('brief', retention => '1 day', history => 'failures');
SELECT dts.grant_agent('soak_agent', ARRAY['outside', 'commands']);
SELECT dts.create_secret('soak', 'a value that nobody may see'), dts.create_calendar('soak', ARRAY['mon-sun', '2030-01-01']);

-- Commands, which the agent of the soak completes, fails, or forgets.
CREATE FUNCTION chaos.load_logged_command() RETURNS void LANGUAGE sql AS $$
    SELECT dts.submit_command(ARRAY['echo', 'x'], env => '{"A": "1"}', queue => 'outside', max_attempts => 2, retry => '{"base": 0.05}') FROM generate_series(1, 2) $$;
CREATE FUNCTION chaos.agent_turn() RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE c record; n bigint := 0;
BEGIN
    FOR c IN SELECT * FROM dts.claim('soak', max => 10, lease => '5 s') LOOP
        n := n + 1;
        PERFORM dts.log(c.task, c.token, repeat('line of a log ', 20));
        IF random() < 0.1 THEN CONTINUE;
        ELSIF random() < 0.2 THEN PERFORM dts.fail(c.task, c.token, 'so it goes');
        ELSE PERFORM dts.complete(c.task, c.token, '{"exit": 0}');
        END IF;
    END LOOP;
    PERFORM dts.heartbeat('soak');
    RETURN n;
END $$;
GRANT USAGE ON SCHEMA chaos TO soak_agent;

-- Mails, requests with a secret, handlers of requests.
CREATE FUNCTION chaos.load_long_mail() RETURNS void LANGUAGE sql AS $$
    SELECT dts.submit_mail(ARRAY['ann@example.com'], 'soak', 'Dear Ann,' || repeat(' soak', 100), attachments => '[{"name": "a.txt", "type": "text/plain", "text": "attached"}]', queue => 'http', max_attempts => 2) WHERE random() < 0.3 $$;
CREATE FUNCTION chaos.load_secret() RETURNS void LANGUAGE sql AS $$
    SELECT dts.submit_http(url || 'echo/secret', headers => '{"X-Secret": "${secret:soak}"}', body => jsonb_build_object('n', random()), queue => 'http', timeout => '5 s', max_attempts => 2) FROM chaos.peer WHERE random() < 0.5 $$;

-- Notifications of all ends, events, changes of a table, batches.
SELECT dts.create_notification('soak channel', '{"channel": "soak"}', '{failure,success}', queue => 'default', per_minute => 1000),
       dts.create_notification('soak task', '{"sql": "SELECT length($1::text)", "queue": "brief"}', '{dead}', per_minute => 1000);
CREATE TABLE chaos.watched (id int PRIMARY KEY, n bigint NOT NULL DEFAULT 0);
INSERT INTO chaos.watched SELECT n FROM generate_series(1, 20) n;
GRANT ALL ON chaos.watched TO chaos_users;
SELECT dts.on_event('soak event', 'soak.*', '{"sql": "SELECT $1::text", "args": ["${event.payload.n}"], "queue": "brief"}', "when" => '$.event.payload.n > 0.5'),
       dts.on_change('soak rows', 'chaos.watched', '{"sql": "SELECT $1::text", "args": ["${row.n}"], "queue": "brief"}', '{update}', "when" => '$.row.n % 3 == 0'),
       dts.on_change('soak gathered', 'chaos.watched', '{"sql": "SELECT $1::text", "args": ["${change.rows}"], "queue": "brief"}', '{update}', rows => 10, within => '2 s');
CREATE FUNCTION chaos.load_event() RETURNS void LANGUAGE sql AS $$ SELECT dts.emit('soak.' || floor(random() * 3), jsonb_build_object('n', random())) $$;
CREATE FUNCTION chaos.load_change() RETURNS void LANGUAGE sql AS $$ UPDATE chaos.watched SET n = n + 1 WHERE id = 1 + floor(random() * 20)::int $$;
CREATE FUNCTION chaos.load_batch() RETURNS void LANGUAGE plpgsql AS $$
DECLARE name text := 'soak ' || floor(random() * 5);
BEGIN
    PERFORM dts.submit('SELECT 1', batch => name, queue => 'brief') FROM generate_series(1, 3);
    IF random() < 0.1 THEN PERFORM dts.submit('SELECT 2', depends_on => dts.after_batch(name), queue => 'brief'); END IF;
END $$;
CREATE FUNCTION chaos.load_redrive() RETURNS void LANGUAGE sql AS $$ SELECT dts.redrive_queue('default', 5) WHERE random() < 0.2 $$;

-- Definitions that change: each drops what caches of processes know.
CREATE FUNCTION chaos.load_definitions() RETURNS void LANGUAGE plpgsql AS $$
DECLARE name text := 'soak ' || floor(random() * 3);
BEGIN
    IF random() > 0.1 OR NOT pg_try_advisory_xact_lock(4711) THEN RETURN; END IF;
    PERFORM dts.schedule(name, 'every 30 seconds', 'SELECT 1', task => '{"queue": "brief"}', only_in => CASE WHEN random() < 0.5 THEN 'soak' END, missed => 'skip');
    PERFORM dts.alter_queue('brief', max_attempts => 1 + floor(random() * 3)::int), dts.set_limit(tenant => 't1', weight => 1 + floor(random() * 3)::int);
    PERFORM dts.create_workflow('soak', format('{"nodes": {"a": {"sql": "SELECT %s AS n"}, "b": {"needs": ["a"], "sql": "SELECT ${nodes.a.output.n}::int"}}}', floor(random() * 5))::jsonb);
    PERFORM dts.start('soak');
END $$;
-- What people look at.
CREATE FUNCTION chaos.load_look() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF random() > 0.2 THEN RETURN; END IF;
    PERFORM dts.metrics(), dts.health(), dts.explain((SELECT max(id) FROM dts.task)) FROM dts.task HAVING count(*) > 0;
    PERFORM count(*) FROM dts.stats();
    PERFORM count(*) FROM dts.doctor();
    PERFORM count(*) FROM (SELECT * FROM dts.running LIMIT 10) x;
END $$;

-- Two days are kept, a day passes in a minute; the ledger of the chaos world is only needed for what comes next.
DO $$ DECLARE q text; BEGIN FOR q IN SELECT name FROM dts.queues WHERE name <> 'brief' LOOP PERFORM dts.alter_queue(q, retention => '2 days'); END LOOP; END $$;
SELECT dts.alter_schedule(name, missed => 'skip') FROM dts.schedules;
-- What a client wants to depend on, or looks at, may be gone: days are short.
CREATE FUNCTION chaos.try_act() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM chaos.act();
EXCEPTION WHEN undefined_object OR deadlock_detected THEN NULL;
END $$;
CREATE FUNCTION chaos.forget() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM chaos.journal WHERE at < clock_timestamp() - interval '1 day';
    DELETE FROM chaos.flow WHERE NOT EXISTS (SELECT FROM dts.workflow_run r WHERE r.id = run);
    TRUNCATE chaos.effect, chaos.fired, chaos.cancelled, chaos.edge;
END $$;
GRANT SELECT ON ALL TABLES IN SCHEMA chaos TO chaos_users;
