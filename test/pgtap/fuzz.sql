-- Calls of every public function with arguments made at random from the catalog's description of it: random types of names, sizes, shapes of
-- JSON, by a superuser, an administrator and a user. Whatever is given: no crash, no internal error, no raw violation of a constraint of
-- dts's own tables, no half-done change; and afterwards everything still works.
-- Longer, and in other encodings: test/fuzz/run. A seed that found something: DTS_FUZZ_SEED.
\getenv seconds DTS_FUZZ_SECONDS
\getenv seed DTS_FUZZ_SEED
\if :{?seconds}
\else
\set seconds 8
\endif
\if :{?seed}
\else
SELECT (random() * 1000000)::int AS seed \gset
\endif
SELECT no_plan();
SELECT diag(format('seed %s, %s s, %s', :'seed', :'seconds', current_setting('server_encoding')));
SET client_min_messages = error;

SELECT format('CREATE ROLE %I LOGIN', r) FROM unnest(ARRAY['fuzz_user', 'fuzz_admin']) r WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = r) \gexec
SELECT dts.grant_usage('fuzz_user'), dts.grant_usage('fuzz_admin'), dts.grant_admin('fuzz_admin');
SELECT dts.create_queue('fuzz'), dts.create_handler('fuzz', 'SELECT $1', shared => true), dts.create_calendar('fuzz', '{mon-fri}'), dts.schedule('fuzz', '0 0 1 1 *', 'SELECT 1');
SELECT dts.create_workflow('fuzz', '{"nodes": {"a": {"sql": "SELECT 1"}, "b": {"needs": ["a"], "approval": {"prompt": "?"}}}}');

CREATE SCHEMA fuzz;
CREATE FUNCTION fuzz.one_of(VARIADIC x text[]) RETURNS text LANGUAGE sql VOLATILE AS $$ SELECT x[1 + floor(random() * cardinality(x))::int] $$;
-- chr() of what this encoding has.
CREATE FUNCTION fuzz.letter() RETURNS text LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    RETURN chr(CASE WHEN current_setting('server_encoding') <> 'UTF8' THEN 1 + floor(random() * 255)::int WHEN random() < 0.7 THEN 1 + floor(random() * 127)::int ELSE (ARRAY[223, 8232, 65533, 128512, 1114111, 55295, 769])[1 + floor(random() * 7)::int] END);
END $$;
CREATE FUNCTION fuzz.word() RETURNS text LANGUAGE plpgsql VOLATILE AS $word$
BEGIN
    RETURN CASE floor(random() * 12)::int
        WHEN 0 THEN '' WHEN 1 THEN ' ' WHEN 2 THEN repeat(fuzz.letter(), floor(random() * 200)::int) WHEN 3 THEN repeat(fuzz.letter(), floor(random() * 100000)::int)
        WHEN 4 THEN (SELECT string_agg(fuzz.letter(), '') FROM generate_series(1, 1 + floor(random() * 20)::int))
        WHEN 5 THEN fuzz.one_of('%s%n%s', ''';--', '"', '\', '${params.x}', '${', '$1', '{', '}', '/*', '$$', '../..', 'NULL', 'nan', E'a\nb', 'dts.task', 'pg_catalog')
        WHEN 6 THEN fuzz.one_of('SELECT 1', 'SELECT $1', 'SELECT $2::int', 'SELECT 1/0', 'SELECT', ';', 'BEGIN', 'COMMIT', 'SELECT 1; SELECT 2', 'VACUUM', 'COPY t FROM STDIN', 'SELECT nope', 'DO $$BEGIN END$$', 'LISTEN x', 'SELECT pg_sleep(0.001)', 'EXPLAIN SELECT 1', 'SELECT $1, $1', 'CALL nope()')
        WHEN 7 THEN fuzz.one_of('* * * * *', '*/5 * * * * *', 'every 1 seconds', 'every 0 s', 'every 1 month from 2030-01-31', '0 0 30 2 *', '@reboot', 'at infinity', 'after 5 m', '99 * * * *', '0 0 L * *', '1-', 'every', 'at 2030-02-30', '* * * * * * *')
        WHEN 8 THEN fuzz.one_of('skip', 'once', 'all', 'within', 'queue one', 'replace', 'allow', 'push', 'ignore', 'error', 'next', 'previous', 'none', 'failures', 'any', 'fail', 'cancel', 'now', 'graceful', 'succeeded', 'failed', 'oldest first', 'newest first', 'timeout')
        WHEN 9 THEN fuzz.one_of('UTC', 'Europe/Berlin', 'CET', '+01:00', 'Nowhere/Land', 'posixrules', current_user, 'fuzz_user', 'fuzz_admin', 'pg_monitor', 'public')
        ELSE fuzz.one_of('fuzz', 'default', 'a', 'b') END;
END $word$;
CREATE FUNCTION fuzz.json(depth int) RETURNS jsonb LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    IF depth = 0 OR random() < 0.3 THEN
        RETURN CASE floor(random() * 9)::int WHEN 0 THEN 'null' WHEN 1 THEN 'true' WHEN 2 THEN fuzz.one_of('0', '-1', '1', '3', '1.5', '1e10', '1e100', '9223372036854775808', '-0.0', '1e-300', '2147483648')
            WHEN 3 THEN '""' WHEN 4 THEN '{}' WHEN 5 THEN '[]' ELSE to_jsonb(fuzz.word())::text END::jsonb;
    ELSIF random() < 0.4 THEN
        RETURN (SELECT jsonb_agg(fuzz.json(depth - 1)) FROM generate_series(1, 1 + floor(random() * 4)::int));
    END IF;
    RETURN (SELECT jsonb_object_agg(fuzz.one_of('sql', 'args', 'handler', 'payload', 'queue', 'priority', 'run_at', 'delay', 'max_attempts', 'retry', 'timeout', 'expires', 'key', 'on_conflict', 'transactional', 'capture', 'labels', 'tenant', 'owner', 'depends_on', 'name', 'workflow',
        'params', 'nodes', 'needs', 'when', 'map', 'items', 'max_parallel', 'tolerate', 'on_empty', 'repeat', 'until', 'limit', 'sleep', 'signal', 'approval', 'roles', 'quorum', 'switch', 'noop', 'compensate', 'on', 'failure', 'exit', 'output', 'deadline', 'continue_on', 'join',
        'strategy', 'base', 'cap', 'factor', 'jitter', 'not_on', 'tasks', 'type', 'default', 'enum', 'properties', 'required', 'a', 'b', fuzz.word()), fuzz.json(depth - 1)) FROM generate_series(1, 1 + floor(random() * 4)::int));
END $$;
CREATE FUNCTION fuzz.workflow() RETURNS jsonb LANGUAGE sql VOLATILE AS $$
    SELECT jsonb_build_object('nodes', (SELECT jsonb_object_agg(fuzz.one_of('a', 'b', 'c', fuzz.word()), CASE WHEN random() < 0.8 THEN jsonb_build_object('sql', CASE WHEN random() < 0.7 THEN to_jsonb('SELECT 1'::text) ELSE fuzz.json(1) END) ELSE '{}' END ||
        CASE WHEN random() < 0.5 THEN jsonb_build_object('needs', CASE WHEN random() < 0.5 THEN '["a"]' ELSE fuzz.json(2) END) ELSE '{}' END || CASE WHEN random() < 0.5 THEN jsonb_build_object(fuzz.one_of('when', 'map', 'repeat', 'retry', 'approval', 'switch', 'continue_on', 'compensate'), fuzz.json(3)) ELSE '{}' END)
        FROM generate_series(1, 3))) || CASE WHEN random() < 0.3 THEN jsonb_build_object(fuzz.one_of('params', 'on', 'output', 'deadline'), fuzz.json(3)) ELSE '{}' END $$;
-- value(TYPE): a literal of that type as text, which its input function takes; NULL is one.
CREATE FUNCTION fuzz.value(type regtype) RETURNS text LANGUAGE plpgsql VOLATILE AS $$
DECLARE element oid := (SELECT typelem FROM pg_type WHERE oid = type AND typcategory = 'A'); result text;
BEGIN
    IF random() < 0.08 THEN RETURN 'NULL::' || type; END IF;
    IF element <> 0 AND element IS NOT NULL THEN
        IF random() < 0.1 THEN RETURN format('''{}''::%s', type); END IF;
        RETURN format(CASE WHEN random() < 0.1 THEN 'ARRAY[ARRAY[%s]]' ELSE 'ARRAY[%s]' END, (SELECT string_agg(fuzz.value(element), ', ') FROM generate_series(1, CASE WHEN random() < 0.05 THEN 300 ELSE 1 + floor(random() * 4)::int END)));
    END IF;
    result := CASE type::text
        WHEN 'text' THEN fuzz.word()
        WHEN 'boolean' THEN fuzz.one_of('t', 'f')
        WHEN 'integer' THEN fuzz.one_of('0', '1', '-1', '2', '9', '10', '60', '1000', '2147483647', '-2147483648')
        WHEN 'bigint' THEN CASE WHEN random() < 0.7 THEN (SELECT id FROM (SELECT id FROM dts.task UNION ALL SELECT id FROM dts.workflow_run UNION ALL SELECT id FROM dts.dead_letter) x(id) ORDER BY random() LIMIT 1)::text ELSE fuzz.one_of('0', '1', '-1', '9223372036854775807', '-9223372036854775808') END
        WHEN 'interval' THEN fuzz.one_of('0', '1 ms', '10 ms', '1 s', '-1 s', '1 day', '1 mon', '1 mon -30 days', '178000000 years', '-178000000 years', '20 days', '21 days', '0.0000001 s')
        WHEN 'timestamp with time zone' THEN fuzz.one_of('infinity', '-infinity', 'epoch', 'now', 'tomorrow', '294276-12-31 23:59:59', '4713-01-01 BC', '2030-02-28 12:00+14', now()::text)
        WHEN 'jsonb' THEN (CASE WHEN random() < 0.2 THEN fuzz.workflow() ELSE fuzz.json(4) END)::text
        ELSE fuzz.word() END;
    RETURN COALESCE(quote_literal(result), 'NULL') || '::' || type;
END $$;
-- call(F): a call with what it needs and some of the rest.
CREATE FUNCTION fuzz.call(f oid) RETURNS text LANGUAGE sql VOLATILE AS $$
    SELECT format(CASE prokind WHEN 'p' THEN 'CALL dts.%I(%s)' ELSE 'SELECT * FROM dts.%I(%s)' END, proname,
        (SELECT string_agg(format('%s%I => %s', CASE WHEN provariadic <> 0 AND n = cardinality(proargtypes::oid[]) THEN 'VARIADIC ' END, a.name, CASE WHEN a.mode IN ('o', 't') THEN 'NULL' ELSE fuzz.value(a.type) END), ', ' ORDER BY n)
         FROM unnest(COALESCE(proallargtypes, proargtypes::oid[]), proargnames, proargmodes) WITH ORDINALITY a(type, name, mode, n)
         WHERE CASE WHEN prokind = 'p' THEN COALESCE(a.mode, 'i') <> 't' ELSE COALESCE(a.mode, 'i') IN ('i', 'b', 'v') END AND (n <= pronargs - pronargdefaults OR a.mode IN ('b', 'v') OR random() < 0.2)))
    FROM pg_proc WHERE oid = f $$;

CREATE TABLE fuzz.seen (function text, sqlstate text, message text, call text, n bigint DEFAULT 1);
-- What a call that failed must not have changed; each is a number.
CREATE FUNCTION fuzz.marks() RETURNS text LANGUAGE sql VOLATILE AS $$
    SELECT concat_ws(' ', (SELECT count(*) FROM dts.queue), (SELECT count(*) FROM dts.handler), (SELECT count(*) FROM dts.limit_entry), (SELECT count(*) FROM dts.schedule), (SELECT count(*) FROM dts.schedule_clock), (SELECT count(*) FROM dts.calendar),
        (SELECT count(*) FROM dts.workflow_version), (SELECT count(*) FROM dts.workflow_run), (SELECT count(*) FROM dts.backfill), (SELECT count(*) FROM dts.audit_entry), (SELECT count(*) FROM dts.signal)) $$;
CREATE PROCEDURE fuzz.run(seconds float, seed float) LANGUAGE plpgsql AS $$
DECLARE f oid; functions oid[] := ARRAY(SELECT oid FROM pg_proc WHERE pronamespace = 'dts'::regnamespace AND proname !~ '^_' ORDER BY oid::regprocedure::text); call text; role text; before text; ending timestamptz := clock_timestamp() + seconds * '1 s'::interval;
    state text; message text; schema_name text; n bigint := 0;
BEGIN
    PERFORM setseed(seed);
    WHILE clock_timestamp() < ending LOOP
        f := functions[1 + floor(random() * cardinality(functions))::int];
        call := fuzz.call(f);
        role := fuzz.one_of('postgres', 'fuzz_admin', 'fuzz_user');
        IF (SELECT prokind = 'p' OR proname = 'drain' FROM pg_proc WHERE oid = f) AND call !~ 'timeout =>' THEN CONTINUE; END IF;
        n := n + 1;
        before := fuzz.marks();
        state := '00000'; message := ''; schema_name := '';
        BEGIN
            EXECUTE format('SET LOCAL ROLE %I', role);
            SET LOCAL statement_timeout = '3s';
            SET LOCAL dts.steer_wait = '1ms';
            EXECUTE call;
            RESET ROLE;
            IF random() < 0.3 THEN RAISE EXCEPTION USING ERRCODE = '00001'; END IF;
        EXCEPTION WHEN query_canceled OR OTHERS THEN GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, schema_name = SCHEMA_NAME;
            IF state = '00001' THEN state := '00000'; END IF;
            IF fuzz.marks() <> before THEN state := 'HALF'; END IF;
        END;
        RESET ROLE;
        UPDATE fuzz.seen s SET n = s.n + 1 WHERE s.function = f::regproc::text AND s.sqlstate = state;
        IF NOT FOUND THEN INSERT INTO fuzz.seen VALUES (f::regproc::text, state, left(format('%s %s', message, schema_name), 300), left(call, 2000)); END IF;
        IF state ~ '^(XX|P0004|P0001|HALF|21|23|42P01|42703|0A001|2F|38|39|58|F0)' AND schema_name IN ('dts', '') AND message !~ 'task' THEN
            INSERT INTO fuzz.seen VALUES (f::regproc::text, state, left(format('%s %s', message, schema_name), 300), left(call, 2000));
        END IF;
        IF n % 20 = 0 THEN COMMIT; END IF;
    END LOOP;
END $$;
CALL fuzz.run(:seconds, :seed / 1000000.0);
SELECT diag(format('%s calls, %s went through: %s', sum(n), sum(n) FILTER (WHERE sqlstate = '00000'), (SELECT string_agg(sqlstate || ' ' || n, ', ' ORDER BY n DESC) FROM (SELECT sqlstate, sum(n) AS n FROM fuzz.seen GROUP BY 1 ORDER BY 2 DESC LIMIT 25) x))) FROM fuzz.seen;
SELECT cmp_ok((SELECT sum(n) FROM fuzz.seen), '>', 50::numeric, 'there were calls');
SELECT is_empty($$SELECT sqlstate, function, message, call FROM fuzz.seen WHERE sqlstate ~ '^(XX|P0004)' LIMIT 5$$, 'no internal error');
SELECT is_empty($$SELECT sqlstate, function, message, call FROM fuzz.seen WHERE sqlstate = 'HALF' LIMIT 5$$, 'a call that failed changed nothing');
SELECT is_empty($$SELECT sqlstate, function, message, call FROM fuzz.seen WHERE message ~ ' dts$' AND sqlstate ~ '^23' LIMIT 5$$, 'no constraint of dts''s own tables answers in place of a check');
SELECT is_empty($$SELECT sqlstate, function, message, call FROM fuzz.seen WHERE sqlstate ~ '^(P0001|21|2F|38|39|58|F0)' LIMIT 5$$, 'no error that nobody meant');

-- Afterwards everything is put right with public functions, and works.
SELECT count(dts.pause_schedule(name)) FROM dts.schedules \gset
SELECT count(dts.cancel_run(id)) FROM dts.workflow_runs WHERE ended_at IS NULL \gset
DO $$
DECLARE l record;
BEGIN
    FOR l IN SELECT scope, name FROM dts.limits LOOP
        IF l.scope = 'priority' THEN  -- it can have reserved workers, and no more
            EXECUTE format('SELECT dts.set_limit(%I => %L, reset => ''{reserved}'')', l.scope, l.name);
            CONTINUE;
        END IF;
        EXECUTE format('SELECT dts.resume(%I => %L), dts.set_limit(%I => %L, reset => ''{concurrency, rate, max_waiting, key_concurrency}'')', l.scope, l.name, l.scope, l.name);
    END LOOP;
    PERFORM dts.resume(name) FROM dts.queues WHERE paused;
    FOR i IN 1..3 LOOP PERFORM dts.cancel(id) FROM dts.task; END LOOP;
END $$;
CREATE PROCEDURE fuzz.wait(query text, wanted text) LANGUAGE plpgsql AS $$
DECLARE got text;
BEGIN
    FOR i IN 1..600 LOOP
        EXECUTE query INTO got;
        EXIT WHEN got = wanted;
        COMMIT;
        PERFORM pg_sleep(0.05);
    END LOOP;
END $$;
CALL fuzz.wait('SELECT count(*) FROM dts.task', '0');
SELECT is_empty($$SELECT id, dts.explain(id) FROM dts.task LIMIT 5$$, 'everything ends when it is cancelled');
SELECT is_empty($$SELECT task, left(error, 200), left(sql, 200) FROM dts.runs WHERE sqlstate ~ '^XX' LIMIT 5$$, 'no task met an internal error');
SELECT dts.create_queue('after') \gset
SELECT dts.submit('SELECT 17 AS n', queue => 'after') AS last \gset
CALL dts.wait(:last, '30 s') \gset
SELECT is(dts.result(:last), '[{"n": 17}]', 'and tasks run as before');
SELECT is_empty('SELECT * FROM dts.stuck()', 'nothing is stuck');
SELECT is_empty($$SELECT * FROM dts.doctor() WHERE severity = 'error' AND subject NOT IN ('fsync', 'full_page_writes')$$, 'dts.doctor finds no error');
SELECT * FROM finish();
