-- Who may do what: each public function and view for each kind of role, what a role sees, and attempts to get more.
SELECT no_plan();
CREATE ROLE priv_nothing LOGIN;
CREATE ROLE priv_a LOGIN;
CREATE ROLE priv_b LOGIN;
CREATE ROLE priv_member LOGIN IN ROLE priv_a;
CREATE ROLE priv_monitor LOGIN;
CREATE ROLE priv_admin LOGIN;
CREATE ROLE priv_revoked LOGIN;
CREATE ROLE priv_agent LOGIN;
SELECT dts.create_queue('for agents');
SELECT dts.grant_agent('priv_agent', ARRAY['for agents']);
SELECT dts.grant_usage(r) FROM unnest(ARRAY['priv_a', 'priv_b', 'priv_member', 'priv_revoked']) r;
SELECT dts.grant_monitor('priv_monitor');
SELECT dts.grant_admin('priv_admin');
SET ROLE priv_revoked;
SELECT dts.submit('SELECT 1', delay => '1 s') AS revoked \gset
RESET ROLE;
SELECT dts.revoke_all('priv_revoked');

-- The matrix. g: dts.grant_agent, u: dts.grant_usage, m: dts.grant_monitor, a: dts.grant_admin gives it. A new function must be entered here.
CREATE TABLE may (name text, roles text);
INSERT INTO may VALUES
    ('submit', 'ua'), ('submit_handler', 'ua'), ('submit_many', 'ua'), ('submit_handler_many', 'ua'), ('after', 'ua'), ('after_batch', 'ua'), ('batch_progress', 'ua'), ('current_task', 'ua'), ('parent_results', 'ua'), ('node', 'ua'), ('param', 'ua'), ('workflow_options', 'ua'), ('create_workflow', 'ua'), ('drop_workflow', 'ua'), ('validate_workflow', 'ua'),
    ('start', 'ua'), ('start_many', 'ua'), ('signal', 'ua'), ('approve', 'ua'), ('reject', 'ua'), ('pause_run', 'ua'), ('resume_run', 'ua'), ('cancel_run', 'ua'), ('retry_run', 'ua'),
    ('set_node', 'ua'), ('graph', 'ua'), ('timeline', 'ua'), ('cancel', 'ua'), ('reschedule', 'ua'), ('set_priority', 'ua'),
    ('retry', 'ua'), ('redrive', 'ua'), ('redrive_queue', 'ua'), ('progress', 'ua'), ('wait', 'ua'), ('result', 'ua'), ('explain', 'ua'), ('create_handler', 'ua'), ('alter_handler', 'ua'),
    ('preview', 'ua'), ('emit', 'ua'), ('on_event', 'ua'), ('on_change', 'ua'), ('drop_subscription', 'ua'), ('schedule', 'ua'), ('alter_schedule', 'ua'), ('unschedule', 'ua'), ('pause_schedule', 'ua'), ('resume_schedule', 'ua'), ('run_now', 'ua'), ('backfill', 'ua'),
    ('cancel_backfill', 'ua'), ('agenda', 'ua'), ('explain_schedule', 'ua'), ('scheduled_for', 'ua'), ('scheduled', 'ua'), ('create_calendar', 'ua'), ('alter_calendar', 'ua'),
    ('submit_http', 'ua'), ('submit_mail', 'ua'), ('create_secret', 'ua'), ('alter_secret', 'ua'), ('drop_secret', 'ua'), ('create_request_handler', 'ua'), ('alter_request_handler', 'ua'), ('allow_host', 'a'), ('deny_host', 'a'), ('remove_rule', 'a'), ('reencrypt_secrets', 'a'), ('reset_host', 'a'),
    ('drop_calendar', 'ua'), ('create_notification', 'ua'), ('alter_notification', 'ua'), ('drop_notification', 'ua'), ('check_timing', 'uma'), ('next_runs', 'uma'), ('import_pg_cron', 'a'),
    ('drop_handler', 'ua'), ('state', 'uma'), ('version', 'uma'), ('create_queue', 'a'), ('alter_queue', 'a'), ('drop_queue', 'a'), ('pause', 'a'), ('resume', 'a'), ('set_limit', 'a'), ('in_progress', 'a'), ('drain', 'a'),
    ('submit_command', 'ua'), ('task_log', 'ua'), ('claim', 'g'), ('heartbeat', 'g'), ('complete', 'g'), ('fail', 'g'), ('log', 'g'), ('wait_for_work', 'g'), ('claimed_parents', 'g'),
    ('grant_agent', ''), ('revoke_agent', ''),
    ('stuck', 'ma'), ('stats', 'ma'), ('metrics', 'ma'), ('health', 'ma'), ('doctor', 'ma'), ('rescan', 'a'), ('adopt', 'a'), ('grant_usage', ''), ('grant_monitor', ''), ('grant_admin', ''), ('revoke_all', '');
CREATE TABLE helper (name text, roles text);
INSERT INTO helper VALUES
    ('_waiting_agents', 'uma'),
    ('_state_name', 'uma'), ('_kind_name', 'uma'), ('_role_name', 'uma'), ('_slots', 'uma'), ('_held', 'uma'), ('_queue_stats', 'uma'), ('_limit_state', 'uma'), ('_hosts', 'uma'), ('_progress', 'uma'), ('_caller_may', 'uma'), ('_caller_sees', 'uma'),
    ('_reading', 'uma'), ('_due_times', 'uma'), ('_schedule_runs', 'uma'), ('_schedule_tag', 'ua'), ('_agenda_text', 'ua'), ('_import_pg_cron_json', 'a'),
    ('_state', 'uma'), ('_parents', 'ua'), ('_given', 'ua'), ('_definition', 'ua'), ('_admin_marker', 'a'), ('_monitor_marker', 'm'), ('_database_stats', 'ma'), ('_fence', 'ma');
CREATE TABLE kind (letter text, role text);
INSERT INTO kind VALUES ('-', 'priv_nothing'), ('-', 'priv_revoked'), ('u', 'priv_a'), ('u', 'priv_member'), ('m', 'priv_monitor'), ('a', 'priv_admin'), ('g', 'priv_agent');

SELECT set_eq($$SELECT DISTINCT proname::text FROM pg_proc WHERE pronamespace = 'dts'::regnamespace AND proname !~ '^_'$$, 'SELECT name FROM may', 'the matrix holds every public function');
CREATE FUNCTION try_call(f oid, role text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE state text := '00000'; message text := ''; p pg_proc;
BEGIN
    SELECT * INTO p FROM pg_proc WHERE oid = f;
    BEGIN
        EXECUTE format('SET LOCAL ROLE %I', role);
        EXECUTE format(CASE p.prokind WHEN 'p' THEN 'CALL dts.%I(%s)' ELSE 'SELECT * FROM dts.%I(%s)' END, p.proname,
                       (SELECT string_agg(format('%sNULL::%s', CASE WHEN p.provariadic <> 0 AND n = p.pronargs THEN 'VARIADIC ' END, t::regtype), ', ' ORDER BY n) FROM unnest(p.proargtypes) WITH ORDINALITY u(t, n)));
        RAISE EXCEPTION 'undo' USING ERRCODE = '00001';
    EXCEPTION WHEN OTHERS THEN GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT;
    END;
    RETURN CASE WHEN state = '42501' AND message ~ 'for (function|procedure|schema)' THEN 'denied' ELSE 'allowed' END;
END $$;
SELECT is(try_call(p.oid, k.role), CASE WHEN position(k.letter IN m.roles) > 0 THEN 'allowed' ELSE 'denied' END, format('%s: %s', k.role, p.oid::regprocedure))
FROM pg_proc p JOIN may m ON m.name = p.proname CROSS JOIN kind k WHERE p.pronamespace = 'dts'::regnamespace;
SELECT is_empty($$SELECT k.role, p.oid::regprocedure FROM pg_proc p CROSS JOIN kind k LEFT JOIN helper h ON h.name = p.proname
    WHERE p.pronamespace = 'dts'::regnamespace AND p.proname ~ '^_' AND has_function_privilege(k.role, p.oid, 'EXECUTE') <> (position(k.letter IN COALESCE(h.roles, '')) > 0)$$,
    'private functions: only what the views need');
SELECT is_empty($$SELECT k.role, c.relname, v.privilege FROM pg_class c CROSS JOIN kind k CROSS JOIN unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) v(privilege)
    WHERE c.relnamespace = 'dts'::regnamespace AND c.relkind IN ('r', 'p', 'v')
      AND has_table_privilege(k.role, c.oid, v.privilege) <> (c.relkind = 'v' AND v.privilege = 'SELECT' AND k.letter NOT IN ('-', 'g'))$$, 'tables: nothing; views: SELECT only');
SELECT is_empty($$SELECT k.role, c.relname FROM pg_class c CROSS JOIN kind k WHERE c.relnamespace = 'dts'::regnamespace AND c.relkind = 'S'
    AND (has_sequence_privilege(k.role, c.oid, 'USAGE') OR has_sequence_privilege(k.role, c.oid, 'SELECT') OR has_sequence_privilege(k.role, c.oid, 'UPDATE'))$$, 'sequences: nothing');
SELECT is_empty($$SELECT role FROM kind WHERE has_schema_privilege(role, 'dts', 'CREATE')$$, 'nobody may create in the schema');
SELECT is_empty($$SELECT k.role, a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid CROSS JOIN kind k WHERE c.relnamespace = 'dts'::regnamespace AND c.relkind IN ('r', 'p')
    AND a.attnum > 0 AND has_column_privilege(k.role, c.oid, a.attnum, 'SELECT, UPDATE')$$, 'nor rights on columns');
SELECT set_eq($$SELECT proname::text FROM pg_proc WHERE pronamespace = 'dts'::regnamespace AND prosecdef$$, ARRAY['stuck', 'stats', 'metrics', 'health', 'doctor', 'validate_workflow'], 'security definer functions');

-- Tasks of two roles in each state.
CREATE SCHEMA a AUTHORIZATION priv_a;
SELECT dts.create_queue('held', paused => true);
CREATE TABLE made (owner text, what text, id bigint);
GRANT ALL ON made TO PUBLIC;
CREATE PROCEDURE make(role text) LANGUAGE plpgsql AS $$
DECLARE i bigint; s text;
BEGIN
    EXECUTE format('SET ROLE %I', role);
    INSERT INTO made VALUES (role, 'done', dts.submit(format('SELECT ''result of %s'' AS x', role), labels => '{"l": 1}')),
        (role, 'dead', dts.submit(format('DO ''BEGIN RAISE NOTICE ''''notice of %s''''; RAISE ''''error of %s''''; END''', role, role), max_attempts => 1)),
        (role, 'waiting', dts.submit('SELECT $1', to_jsonb(ARRAY['argument of ' || role]), queue => 'held', key => 'key of ' || role)),
        (role, 'running', dts.submit(format('SELECT pg_sleep(120) /* text of %s */', role)));
    PERFORM dts.create_handler('handler of ' || role, format('SELECT ''handler of %s''', role));
    COMMIT;
    FOR i IN SELECT id FROM made m WHERE m.owner = role AND m.what IN ('done', 'dead') LOOP CALL dts.wait(i, '60 s', s); END LOOP;
    FOR n IN 1..600 LOOP
        EXIT WHEN (SELECT count(*) FROM dts.running) = 1;
        COMMIT;
        PERFORM pg_sleep(0.05);
    END LOOP;
    RESET ROLE;
END $$;
CALL make('priv_a');
CALL make('priv_b');
DO $$ BEGIN FOR i IN 1..300 LOOP EXIT WHEN (SELECT count(*) FROM dts._held()) = 2; PERFORM pg_sleep(0.1); END LOOP; END $$;
SELECT is((SELECT count(*) FROM dts.running), 2::bigint, 'both run');

CREATE TABLE seen (role text, view text, n bigint, others bigint, text text);
GRANT ALL ON seen TO PUBLIC;
CREATE FUNCTION look(role text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE v text;
BEGIN
    EXECUTE format('SET LOCAL ROLE %I', role);
    FOREACH v IN ARRAY ARRAY['tasks', 'runs', 'running', 'dead_letters', 'handlers', 'workers'] LOOP
        EXECUTE format('INSERT INTO seen SELECT %L, %L, count(*), count(*) FILTER (WHERE x.owner NOT IN (%L, ''priv_a'')), string_agg(to_jsonb(x)::text, '''') FROM dts.%I x WHERE x.owner ~ ''priv_[ab]''', role, v, role, v);
    END LOOP;
    INSERT INTO seen SELECT role, 'audit', count(*), count(*) FILTER (WHERE who <> role AND who <> 'priv_a'), string_agg(to_jsonb(x)::text, '') FROM dts.audit x WHERE who ~ 'priv_[ab]';
    INSERT INTO seen SELECT role, 'queues', sum(ready + dead + running), NULL, string_agg(to_jsonb(x)::text, '') FROM dts.queues x;
    INSERT INTO seen SELECT role, 'held', count(*), NULL, string_agg(x::text, '') FROM dts._held() x;
    INSERT INTO seen SELECT role, 'slots', count(*), NULL, string_agg(x::text, '') FROM dts._slots() x WHERE x.owner IN ('priv_a'::regrole, 'priv_b'::regrole);
    INSERT INTO seen SELECT role, 'statistics', count(*), NULL, string_agg(x::text, '') FROM dts._queue_stats() x;
    RESET ROLE;
END $$;
SELECT look(r) FROM unnest(ARRAY['priv_a', 'priv_b', 'priv_member', 'priv_monitor', 'priv_admin']) r;
SELECT is((SELECT array_agg(format('%s %s', view, n) ORDER BY view) FROM seen s WHERE s.role = r AND view IN ('tasks', 'runs', 'running', 'dead_letters', 'handlers', 'queues', 'held')), e, r || ' sees')
FROM (VALUES ('priv_a', ARRAY['dead_letters 1', 'handlers 1', 'held 1', 'queues 3', 'running 1', 'runs 2', 'tasks 4']),
             ('priv_b', ARRAY['dead_letters 1', 'handlers 1', 'held 1', 'queues 3', 'running 1', 'runs 2', 'tasks 4']),
             ('priv_member', ARRAY['dead_letters 1', 'handlers 1', 'held 1', 'queues 3', 'running 1', 'runs 2', 'tasks 4']),
             ('priv_monitor', ARRAY['dead_letters 2', 'handlers 2', 'held 2', 'queues 6', 'running 2', 'runs 4', 'tasks 8']),
             ('priv_admin', ARRAY['dead_letters 2', 'handlers 2', 'held 2', 'queues 6', 'running 2', 'runs 4', 'tasks 8'])) x(r, e);
SELECT is((SELECT sum(others) FROM seen s WHERE s.role = r), 0::numeric, r || ' sees nothing of others') FROM unnest(ARRAY['priv_a', 'priv_member']) r;
SELECT is_empty($$SELECT role, view FROM seen WHERE role IN ('priv_a', 'priv_member') AND text ~ 'priv_b'$$, 'no word of another role');
SELECT is_empty($$SELECT role, view, substring(text FROM '.{20}(result|error|argument|text|notice|handler|key) of priv_.') FROM seen
    WHERE role = 'priv_monitor' AND replace(text, '"handler of priv', '') ~ '(result|error|argument|text|notice|key) of priv_' OR role = 'priv_monitor' AND text ~ 'SELECT ''handler of'$$, 'a monitor sees no text, argument, result, error, notice or key');
SELECT ok((SELECT bool_and(text ~ 'priv_b') FROM seen WHERE role = 'priv_admin' AND view IN ('tasks', 'runs', 'running', 'dead_letters', 'handlers')), 'an administrator sees them');

-- A cheap function in a condition is called for rows that one may not see, unless the views stop it.
SET ROLE priv_a;
SET search_path = a, public;
CREATE TABLE a.leaked (value text);
CREATE FUNCTION a.leaks(x text) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS $$ BEGIN INSERT INTO a.leaked VALUES (x); RETURN true; END $$;
SELECT count(*) FROM dts.tasks WHERE a.leaks(sql) AND a.leaks(owner) AND a.leaks(args::text) \gset
SELECT count(*) FROM dts.runs WHERE a.leaks(sql) AND a.leaks(error) AND a.leaks(result::text) AND a.leaks(notices) AND a.leaks(owner) \gset
SELECT count(*) FROM dts.dead_letters WHERE a.leaks(sql) AND a.leaks(error) AND a.leaks(owner) \gset
SELECT count(*) FROM dts.handlers WHERE a.leaks(sql) AND a.leaks(name) \gset
SELECT count(*) FROM dts.running WHERE a.leaks(sql) AND a.leaks(owner) \gset
SELECT count(*) FROM dts.workers WHERE a.leaks(owner) AND a.leaks(task::text) \gset
SELECT count(*) FROM dts.audit WHERE a.leaks(object) AND a.leaks(who) AND a.leaks(after::text) \gset
SELECT is_empty($$SELECT value FROM a.leaked WHERE value ~ 'priv_b' OR value IN (SELECT id::text FROM public.made WHERE owner = 'priv_b')$$, 'a leaking function sees no rows of others');
SELECT isnt_empty('SELECT value FROM a.leaked', 'though it saw some');
RESET search_path;

-- Another role's task does not exist, for every function; and there is no difference to one that never was.
CREATE FUNCTION a.answer(call text, id bigint) RETURNS text LANGUAGE plpgsql AS $$
DECLARE r text; h text; m text;
BEGIN
    EXECUTE format(call, id) INTO r;
    RETURN 'ok ' || r;
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS m = MESSAGE_TEXT, h = PG_EXCEPTION_HINT;
    RETURN SQLSTATE || replace(m, id::text, '?') || h;
END $$;
SELECT is(a.answer(c, m.id), a.answer(c, 999999999), format('%s: %s of another role', c, m.what)) FROM public.made m,
    unnest(ARRAY['SELECT dts.cancel(%s)', 'SELECT dts.reschedule(%s)', 'SELECT dts.reschedule(%s, delay => ''1 h'')', 'SELECT dts.set_priority(%s, 1)', 'SELECT dts.retry(%s)', 'SELECT dts.redrive(%s)',
                 'SELECT dts.explain(%s)', 'SELECT dts.state(%s)', 'SELECT dts.result(%s)']) c WHERE m.owner = 'priv_b';
SELECT ok(a.answer('SELECT dts.cancel(%s)', id) LIKE '42704%', 'and that is undefined_object') FROM public.made WHERE owner = 'priv_b';
SELECT is(dts.redrive_queue('default'), 1::bigint, 'only one''s own dead letters are redriven');
SELECT id AS other FROM public.made WHERE owner = 'priv_b' AND what = 'waiting' \gset
\set ON_ERROR_STOP off
CALL dts.wait(:other, '1 s');
\set ON_ERROR_STOP on
SELECT is(:'SQLSTATE'::text, '42704', 'wait');
-- Keys are for each owner: a conflict tells nothing.
SELECT lives_ok($$SELECT dts.submit('SELECT 1', key => 'key of priv_b', on_conflict => 'error', queue => 'held')$$, 'a key that another role uses is free');
SELECT throws_ok($$SELECT dts.create_handler('handler of priv_b', 'SELECT 1')$$, '42710');
SELECT throws_ok($$SELECT dts.submit_handler('handler of priv_b')$$, '42501');
-- For another role.
SELECT throws_ok($$SELECT dts.submit('SELECT 1', owner => 'priv_b')$$, '42501', 'permission denied to submit a task for role "priv_b"');
SELECT throws_ok($$SELECT dts.submit('SELECT 1', owner => 'priv_member')$$, '42501', 'permission denied to submit a task for role "priv_member"');
SET ROLE priv_member;
SELECT dts.submit('SELECT current_user AS c, session_user AS s', owner => 'priv_a') AS id \gset
CALL dts.wait(:id, '30 s') \gset
SELECT is(dts.result(:id), '[{"c": "priv_a", "s": "priv_a"}]', 'a member submits for the role');
SELECT ok(dts.cancel(id) IN ('cancelled', 'cancelling'), 'and cancels its tasks') FROM public.made WHERE owner = 'priv_a' AND what = 'running';
SELECT is(dts.submit('SELECT 1', owner => 'priv_a', key => 'key of priv_a'), (SELECT id FROM public.made WHERE owner = 'priv_a' AND what = 'waiting'), 'the key is the owner''s');
RESET ROLE;
REVOKE priv_a FROM priv_member;
SET ROLE priv_member;
SELECT throws_ok($$SELECT dts.submit('SELECT 1', owner => 'priv_a')$$, '42501');
SELECT throws_ok(format('SELECT dts.cancel(%s)', :id), '42704', NULL, 'no member any more');
SELECT is((SELECT count(*) FROM dts.tasks WHERE owner = 'priv_a'), 0::bigint, 'sees nothing any more');
-- The owner is the current user, also inside a function that changes it.
RESET ROLE;
CREATE FUNCTION as_b() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS $$ SELECT dts.submit('SELECT current_user::text AS x') $$;
ALTER FUNCTION as_b() OWNER TO priv_b;
SET ROLE priv_a;
SELECT as_b() AS id \gset
SET ROLE priv_b;
CALL dts.wait(:id, '30 s') \gset
SELECT is(dts.result(:id), '[{"x": "priv_b"}]', 'security definer: its owner''s task');
-- A monitor may not steer, an administrator may.
SET ROLE priv_monitor;
SELECT is(dts.state(:id), 'succeeded', 'a monitor sees states');
SELECT throws_ok(format('SELECT dts.cancel(%s)', :other), '42501');
SET ROLE priv_admin;
SELECT is(dts.set_priority(:other, 7), 'changed', 'an administrator steers');
SELECT is(dts.cancel(:other), 'cancelled', 'and cancels');
SELECT is((SELECT count(*) FROM dts.audit WHERE who = 'priv_admin' AND object = 'task ' || :other), 2::bigint, 'audited');
SELECT throws_ok($$SELECT dts.submit('SELECT 1', owner => 'priv_b')$$, '42501', NULL, 'but does not submit for others');
SELECT throws_ok($$SELECT dts.grant_usage('priv_admin')$$, '42501', NULL, 'nor grant');
RESET ROLE;
-- The server itself locks a table for CREATE RULE and CREATE TRIGGER before it asks for rights: nothing may run meanwhile.
SELECT ok(dts.cancel(id) IN ('cancelled', 'cancelling'), 'cancel') FROM made WHERE owner = 'priv_b' AND what = 'running';
SELECT id AS running FROM made WHERE owner = 'priv_b' AND what = 'running' \gset
CALL dts.wait(:running, '30 s') \gset
CREATE FUNCTION try_as(role text, sql text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('SET LOCAL ROLE %I', role);
    EXECUTE sql;
    RETURN 'done';
EXCEPTION WHEN OTHERS THEN RETURN SQLSTATE;
END $$;
SELECT is(try_as('priv_a', c), '42501', c) FROM unnest(ARRAY['INSERT INTO dts.task SELECT * FROM dts.task', 'CREATE TRIGGER t BEFORE INSERT ON dts.task EXECUTE FUNCTION a.leaks()',
    'CREATE TABLE a.f (i bigint REFERENCES dts.task)', 'CREATE RULE r AS ON INSERT TO dts.task DO NOTHING', 'LOCK TABLE dts.task', 'TRUNCATE dts.task', 'CREATE INDEX ON dts.task (id)',
    'ALTER TABLE dts.task ADD x int', 'DROP VIEW dts.tasks', 'SELECT * FROM dts.run', 'SELECT nextval(''dts.task_id_seq'')', 'CREATE FUNCTION dts.mine() RETURNS int LANGUAGE sql AS ''SELECT 1''',
    'ALTER EXTENSION dts ADD TABLE a.leaked', 'DROP EXTENSION dts', 'SELECT * FROM dts._purge(1000000)', 'SELECT dts._pause(10::oid, ''default'', NULL, NULL, NULL)', 'SELECT dts._role_may(10::oid, 10::oid)',
    'SELECT dts._check_sql(''SELECT 1'', true, 0)', 'SET dts.max_payload = 65536', 'SET dts.max_result_size = 16384']) c;

-- Functions and operators of a user that hide the server's: dts never runs them as anybody else.
CREATE TABLE public.trapped (what text, who text, session text);
GRANT ALL ON public.trapped TO PUBLIC;
SET ROLE priv_a;
CREATE FUNCTION a.trap(what text) RETURNS void LANGUAGE sql AS $$ INSERT INTO public.trapped VALUES (what, current_user, session_user) $$;
DO $$
DECLARE t text; op text;
BEGIN
    FOREACH t IN ARRAY ARRAY['int2', 'int4', 'int8', 'text', 'oid', 'timestamptz', 'name', 'jsonb', 'boolean', 'interval'] LOOP
        FOREACH op IN ARRAY ARRAY['=', '<>', '<', '<=', '>', '>=', '||', '+', '-', '->', '->>', '~', '&'] LOOP
            EXECUTE format('CREATE OR REPLACE FUNCTION a.op_%s(%s, %s) RETURNS boolean LANGUAGE plpgsql AS $x$ BEGIN PERFORM a.trap(%L); RETURN true; END $x$', t, t, t, op);
            EXECUTE format('CREATE OPERATOR a.%s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = a.op_%s)', op, t, t, t);
        END LOOP;
    END LOOP;
END $$;
CREATE FUNCTION a.clock_timestamp() RETURNS timestamptz LANGUAGE plpgsql AS $$ BEGIN PERFORM a.trap('clock_timestamp'); RETURN pg_catalog.clock_timestamp(); END $$;
CREATE FUNCTION a.to_jsonb(anyelement) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM a.trap('to_jsonb'); RETURN '{}'; END $$;
CREATE FUNCTION a.octet_length(text) RETURNS int LANGUAGE plpgsql AS $$ BEGIN PERFORM a.trap('octet_length'); RETURN 1; END $$;
CREATE FUNCTION a.btrim(text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN PERFORM a.trap('btrim'); RETURN $1; END $$;
CREATE FUNCTION a.now() RETURNS timestamptz LANGUAGE plpgsql AS $$ BEGIN PERFORM a.trap('now'); RETURN pg_catalog.now(); END $$;
CREATE FUNCTION a.count(bigint) RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN PERFORM a.trap('count'); RETURN 0; END $$;
RESET ROLE;
ALTER ROLE priv_a SET search_path = a, pg_catalog;
SELECT pg_terminate_backend(pid) FROM dts.workers WHERE owner = 'priv_a';
CREATE FUNCTION walk() RETURNS void LANGUAGE plpgsql AS $$
DECLARE i pg_catalog.int8; v text;
BEGIN
    SET LOCAL ROLE priv_a;
    SET LOCAL search_path = a, pg_catalog;
    i := dts.submit('SELECT 1', key => 'walk', delay => '1 day', labels => '{"a": 1}', retry => '{"base": 1}');
    PERFORM dts.submit('SELECT 1', key => 'walk', on_conflict => 'replace', delay => '1 day');
    PERFORM dts.submit_many(ARRAY['SELECT 1/0', 'SELECT 1', 'SELECT 2'], queue => 'held', max_attempts => 1);
    PERFORM dts.create_handler('walked', 'SELECT $1'), dts.alter_handler('walked', priority => 3), dts.submit_handler('walked', '1', queue => 'held');
    PERFORM dts.set_priority(i, 3), dts.reschedule(i), dts.retry(i), dts.explain(i), dts.state(i), dts.result(i), dts.redrive_queue('default'), dts.version();
    FOREACH v IN ARRAY ARRAY['tasks', 'runs', 'running', 'dead_letters', 'handlers', 'workers', 'audit', 'queues'] LOOP
        EXECUTE pg_catalog.format('SELECT pg_catalog.count(*) FROM dts.%I', v);
    END LOOP;
    PERFORM dts.cancel(i);
    RESET ROLE;
    RESET search_path;
END $$;
SELECT lives_ok('SELECT walk()', 'every function under a hostile search_path');
SET ROLE priv_admin;
SET search_path = a, pg_catalog;
SELECT dts.pause('default'), dts.resume('default'), dts.resume('held'), dts.alter_queue('held', description => 'x'), dts.create_queue('hostile'), dts.drop_queue('hostile'), dts.rescan();
SELECT count(*) OPERATOR(pg_catalog.>=) 0 AS ok FROM dts.stuck() \gset
SELECT count(*) OPERATOR(pg_catalog.>=) 0 AS ok FROM dts.stats() \gset
SELECT length(dts.metrics()) AS length \gset
RESET search_path;
RESET ROLE;
DO $$ DECLARE i bigint; s text; BEGIN FOR i IN SELECT id FROM dts.tasks WHERE owner = 'priv_a' AND state IN ('ready', 'running') LOOP CALL dts.wait(i, '60 s', s); END LOOP; END $$;
SELECT is((SELECT array_agg(DISTINCT state) FROM dts.tasks WHERE owner = 'priv_a' AND state IN ('ready', 'running', 'scheduled')), NULL, 'all ended');
SELECT is_empty($$SELECT what, who, session FROM public.trapped WHERE who NOT IN ('priv_a', 'priv_admin')$$, 'no trap was run as another role');
SELECT diag(format('trap: %s as %s, %s times', what, who, count(*))) FROM trapped GROUP BY what, who;
SELECT is_empty($$SELECT what FROM public.trapped WHERE who = 'priv_admin'$$, 'nor as an administrator who has the schema in his path');

-- Without rights a waiting task still runs.
CALL dts.wait(:revoked, '30 s') \gset
SELECT is(:'state'::text, 'succeeded', 'the task of a role whose rights were taken');
SELECT is((SELECT count(*) FROM dts.runs WHERE error_fields ->> 'sqlstate' LIKE 'XX%'), 0::bigint, 'no internal error');
SELECT dts.cancel(id) FROM dts.tasks WHERE state IN ('ready', 'running', 'scheduled');
SELECT * FROM finish();
