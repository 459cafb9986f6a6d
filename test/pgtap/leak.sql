-- Nothing of a session leaks from one task to the next. A task leaves something, the next one of the same process looks for it: once with
-- a transaction for each task, once with up to sixty in one, and once where the one that leaves something fails.
SELECT no_plan();
CREATE ROLE leak_user LOGIN;
CREATE ROLE leak_group NOLOGIN;
GRANT leak_group TO leak_user;
SELECT dts.grant_usage('leak_user');
ALTER ROLE leak_user SET search_path = 'public';
ALTER ROLE leak_user SET work_mem = '3MB';
SELECT dts.create_queue('alone', max_attempts => 1, paused => true);
SELECT dts.create_queue('batch', max_attempts => 1, paused => true, batch_size => 60);
CREATE TABLE parent (id int PRIMARY KEY);
CREATE TABLE child (id int CONSTRAINT child_fk REFERENCES parent DEFERRABLE INITIALLY IMMEDIATE);
CREATE SEQUENCE seq;
CREATE TABLE seen (queue text, what text, pid int, xid xid8, value text);
GRANT ALL ON parent, child, seen TO leak_user;
GRANT ALL ON seq TO leak_user;
GRANT CREATE ON SCHEMA public TO leak_user;
CREATE FUNCTION tries(sql text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE r text;
BEGIN
    EXECUTE sql INTO r;
    RETURN 'found ' || r;
EXCEPTION WHEN OTHERS THEN RETURN SQLSTATE;
END $$;

CREATE TABLE leak (n int GENERATED ALWAYS AS IDENTITY, what text, dirties text, looks text, clean text);
INSERT INTO leak (what, dirties, looks, clean) VALUES
    ('SET', $$SET work_mem = '7MB'$$, $$current_setting('work_mem')$$, '3MB'),
    ('SET LOCAL', $$SET LOCAL work_mem = '8MB'$$, $$current_setting('work_mem')$$, '3MB'),
    ('RESET ALL', $$RESET ALL$$, $$current_setting('work_mem')$$, '3MB'),
    ('set_config', $$SELECT set_config('work_mem', '9MB', false)$$, $$current_setting('work_mem')$$, '3MB'),
    ('setting of one''s own', $$SET my.secret = 'shh'$$, $$COALESCE(current_setting('my.secret', true), '')$$, ''),
    ('search_path', $$SET search_path = pg_catalog$$, $$current_setting('search_path')$$, 'public'),
    ('search_path without the tables', $$SET search_path = ''$$, $$current_setting('search_path')$$, 'public'),
    ('SET ROLE', $$SET ROLE leak_group$$, $$current_user || ' ' || session_user$$, 'leak_user leak_user'),
    ('SET LOCAL ROLE', $$SET LOCAL ROLE leak_group$$, $$current_user || ' ' || session_user$$, 'leak_user leak_user'),
    ('set_config of role', $$SELECT set_config('role', 'leak_group', false)$$, $$current_user || ' ' || session_user$$, 'leak_user leak_user'),
    ('SET SESSION AUTHORIZATION', $$SET SESSION AUTHORIZATION postgres$$, $$current_user || ' ' || session_user$$, 'leak_user leak_user'),
    ('RESET SESSION AUTHORIZATION', $$RESET SESSION AUTHORIZATION$$, $$current_user || ' ' || session_user$$, 'leak_user leak_user'),
    ('RESET ROLE', $$RESET ROLE$$, $$current_user || ' ' || session_user$$, 'leak_user leak_user'),
    ('temporary table', $$CREATE TEMP TABLE leaked AS SELECT 1 AS x$$, $$COALESCE(to_regclass('pg_temp.leaked')::text, 'none')$$, 'none'),
    ('temporary table that hides another', $$CREATE TEMP TABLE parent (x text)$$, $$(SELECT count(*) FROM pg_class WHERE relname = 'parent' AND relpersistence = 't')$$, '0'),
    ('temporary view', $$CREATE TEMP VIEW leaked_view AS SELECT 1 AS x$$, $$COALESCE(to_regclass('pg_temp.leaked_view')::text, 'none')$$, 'none'),
    ('temporary function', $$CREATE FUNCTION pg_temp.leaked_function() RETURNS int LANGUAGE sql AS 'SELECT 1'$$, $$tries('SELECT pg_temp.leaked_function()')$$, '42883'),
    ('temporary sequence', $$CREATE TEMP SEQUENCE leaked_seq$$, $$COALESCE(to_regclass('pg_temp.leaked_seq')::text, 'none')$$, 'none'),
    ('PREPARE', $$PREPARE leaked AS SELECT 'leaked'$$, $$(SELECT count(*) FROM pg_prepared_statements)$$, '0'),
    ('PREPARE in a function', $$DO 'BEGIN EXECUTE ''PREPARE leaked2 AS SELECT 1''; END'$$, $$(SELECT count(*) FROM pg_prepared_statements)$$, '0'),
    ('advisory lock', $$SELECT pg_advisory_lock(4711)$$, $$(SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid())$$, '0'),
    ('shared advisory locks', $$SELECT pg_advisory_lock_shared(i, 1) FROM generate_series(1, 100) i$$, $$(SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid())$$, '0'),
    ('cursor WITH HOLD', $$DECLARE leaked CURSOR WITH HOLD FOR SELECT 'leaked'$$, $$(SELECT count(*) FROM pg_cursors)$$, '0'),
    ('cursor', $$DECLARE leaked CURSOR FOR SELECT 'leaked'$$, $$(SELECT count(*) FROM pg_cursors)$$, '0'),
    ('cursor of a function', $$DO 'DECLARE c refcursor := ''mine''; BEGIN OPEN c FOR SELECT 1; END'$$, $$(SELECT count(*) FROM pg_cursors)$$, '0'),
    ('currval', $$SELECT nextval('seq')$$, $$tries('SELECT currval(''seq'')')$$, '55000'),
    ('lastval', $$SELECT setval('seq', 100)$$, $$tries('SELECT lastval()')$$, '55000'),
    ('SET CONSTRAINTS', $$SET CONSTRAINTS child_fk DEFERRED$$, $$tries('INSERT INTO child VALUES (4711) RETURNING id')$$, '23503'),
    ('SET CONSTRAINTS ALL', $$SET CONSTRAINTS ALL DEFERRED$$, $$tries('INSERT INTO child VALUES (4712) RETURNING id')$$, '23503'),
    ('SET TRANSACTION READ ONLY', $$SET TRANSACTION READ ONLY$$, $$current_setting('transaction_read_only')$$, 'off'),
    ('SET SESSION CHARACTERISTICS', $$SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY$$, $$current_setting('default_transaction_read_only') || current_setting('transaction_read_only')$$, 'offoff'),
    ('statement_timeout', $$SET statement_timeout = '1ms'$$, $$current_setting('statement_timeout')$$, '0'),
    ('lock_timeout', $$SET lock_timeout = '1ms'$$, $$current_setting('lock_timeout')$$, '0'),
    ('application_name', $$SET application_name = 'leaked'$$, $$current_setting('application_name')$$, NULL),
    ('random seed', $$SELECT setseed(0.5)$$, $$(random() <> 0.9851677175347999)$$, 'true'),
    ('client_encoding', $$SET client_encoding = 'LATIN1'$$, $$current_setting('client_encoding')$$, NULL),
    ('client_min_messages', $$SET client_min_messages = 'error'$$, $$current_setting('client_min_messages')$$, 'notice'),
    ('session_replication_role', $$SET session_replication_role = 'replica'$$, $$current_setting('session_replication_role')$$, 'origin'),
    ('synchronous_commit', $$SET synchronous_commit = 'remote_apply'$$, $$current_setting('synchronous_commit')$$, 'on'),
    ('DISCARD ALL in pieces', $$DISCARD PLANS; DISCARD SEQUENCES; DISCARD TEMP$$, $$current_setting('work_mem')$$, '3MB'),
    ('LISTEN', $$LISTEN leaked$$, $$(SELECT count(*) FROM pg_listening_channels())$$, '0'),
    ('large object descriptor', $$SELECT lo_open(lo_create(0), 131072)$$, $$tries('SELECT loread(0, 1)')$$, '42704'),
    ('recursion of a security context', $$SELECT tries('SELECT dts.cancel(-1)')$$, $$current_user || ' ' || session_user$$, 'leak_user leak_user'),
    ('identity', 'SELECT 1', $$current_user || ' ' || session_user || ' ' || current_database()$$, 'leak_user leak_user ' || current_database()),
    ('not a superuser', 'SELECT 1', $$current_setting('is_superuser')$$, 'off');

-- What a clean session shows, where that differs between servers, is asked from a clean session.
GRANT SELECT ON leak TO leak_user;
SET ROLE leak_user;
DO $$
DECLARE l leak; q text; ending text;
BEGIN
    FOREACH q IN ARRAY ARRAY['alone', 'batch'] LOOP
        FOREACH ending IN ARRAY ARRAY['', '; SELECT 1/0'] LOOP
            PERFORM dts.submit($x$INSERT INTO public.seen SELECT $1, $2, pg_backend_pid(), pg_current_xact_id(), current_setting($3)$x$, to_jsonb(ARRAY[q, 'clean ' || s, s]), queue => q)
            FROM unnest(ARRAY['client_encoding', 'application_name']) s WHERE ending = '';
            FOR l IN SELECT * FROM leak ORDER BY n LOOP
                PERFORM dts.submit(l.dirties || ending, queue => q, labels => jsonb_build_object('what', l.what));
                PERFORM dts.submit(format($x$INSERT INTO public.seen SELECT %L, %L, pg_backend_pid(), pg_current_xact_id(), (%s)::text$x$, q, l.what || ending, l.looks), queue => q);
            END LOOP;
        END LOOP;
    END LOOP;
END $$;
RESET ROLE;
SELECT count(*) AS tasks FROM dts.tasks \gset
SELECT ok(:tasks > 150, 'tasks are waiting');
-- One executor at a time, so that a task follows the one before it in the same process.
ALTER SYSTEM SET dts.max_workers = 1;
SELECT pg_reload_conf();
SELECT dts.resume('alone'), dts.resume('batch');
DO $$ DECLARE i bigint; s text; BEGIN FOR i IN SELECT id FROM dts.tasks ORDER BY id LOOP CALL dts.wait(i, '60 s', s); END LOOP; END $$;
SELECT is((SELECT count(*) FROM dts.task), 0::bigint, 'all have ended');
-- The scheduler may have started a second one just before it read the new setting.
SELECT ok((SELECT count(DISTINCT pid) FROM seen) <= 2, 'in one process, or nearly');
SELECT is((SELECT count(*) = count(DISTINCT xid) FROM seen WHERE queue = 'alone'), true, 'alone: a transaction for each task');
SELECT ok((SELECT count(*) > count(DISTINCT xid) FROM seen WHERE queue = 'batch'), 'batch: some shared a transaction');
SELECT is((SELECT count(*) FROM seen), (SELECT 4 * count(*) + 4 FROM leak), 'every look has its row');
SELECT is(s.value, COALESCE(l.clean, (SELECT c.value FROM seen c WHERE c.queue = s.queue AND c.what = 'clean ' || l.looks_at)), format('%s: %s leaks nothing', s.queue, s.what))
FROM (SELECT *, substring(looks FROM $$^current_setting\('(.*)'\)$$) AS looks_at FROM leak) l JOIN seen s ON s.what IN (l.what, l.what || '; SELECT 1/0') ORDER BY s.queue, l.n, s.what;
SELECT is((SELECT array_agg(DISTINCT outcome ORDER BY outcome) FROM dts.runs WHERE sql LIKE '%SELECT 1/0'), ARRAY['failed'], 'those that were to fail did');
SELECT is((SELECT count(*) FROM dts.runs WHERE error_fields ->> 'sqlstate' LIKE 'XX%'), 0::bigint, 'no internal error');
SELECT is((SELECT array_agg(DISTINCT labels ->> 'what') FROM dts.runs WHERE outcome = 'failed' AND sql NOT LIKE '%SELECT 1/0'),
          ARRAY['LISTEN', 'SET SESSION AUTHORIZATION', 'session_replication_role'], 'of the others only what a role may not do failed');
SELECT is((SELECT array_agg(DISTINCT sqlstate) FROM dts.runs WHERE labels ->> 'what' IN ('SET SESSION AUTHORIZATION', 'session_replication_role')), ARRAY['42501'], 'because it may not');
SELECT is((SELECT count(*) FROM child), 0::bigint, 'no orphan came through');
SELECT is((SELECT count(*) FROM pg_class WHERE relpersistence = 't' AND relnamespace <> pg_my_temp_schema() AND relname ~ 'leaked|parent'), 0::bigint, 'no temporary table is left');

-- A task that takes the rights of a group it is in runs with those, and the effect of deferred triggers is the owner's.
CREATE TABLE who (at text, who text, session text);
GRANT ALL ON who TO leak_user, leak_group;
CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.who VALUES (TG_NAME, current_user, session_user); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER late AFTER INSERT ON parent DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION tell();
SET ROLE leak_user;
SELECT dts.submit($$INSERT INTO parent VALUES (1); INSERT INTO who VALUES ('task', current_user, session_user)$$, queue => 'alone') AS a,
       dts.submit($$INSERT INTO parent VALUES (2); INSERT INTO who VALUES ('task', current_user, session_user)$$, queue => 'batch') AS b,
       dts.submit($$SET ROLE leak_group; INSERT INTO who VALUES ('group', current_user, session_user)$$, queue => 'alone') AS c \gset
CALL dts.wait(:a, '30 s') \gset
CALL dts.wait(:b, '30 s') \gset
CALL dts.wait(:c, '30 s') \gset
RESET ROLE;
SELECT bag_eq('SELECT at, who, session FROM who', $$VALUES ('task', 'leak_user', 'leak_user'), ('task', 'leak_user', 'leak_user'), ('late', 'leak_user', 'leak_user'), ('late', 'leak_user', 'leak_user'), ('group', 'leak_group', 'leak_user')$$, 'who runs what');

-- Outside a transaction nothing leaks either.
TRUNCATE seen;
SET ROLE leak_user;
DO $$
DECLARE l leak; q text := 'alone';
BEGIN
    FOR l IN SELECT * FROM leak WHERE dirties NOT LIKE '%;%' AND clean IS NOT NULL ORDER BY n LOOP
        PERFORM dts.submit(l.dirties, queue => q, transactional => false);
        PERFORM dts.submit(format($x$INSERT INTO public.seen SELECT %L, %L, pg_backend_pid(), pg_current_xact_id(), (%s)::text$x$, q, l.what, l.looks), queue => q);
    END LOOP;
END $$;
DO $$ DECLARE i bigint; s text; BEGIN FOR i IN SELECT id FROM dts.tasks WHERE state NOT IN ('succeeded', 'failed') ORDER BY id LOOP CALL dts.wait(i, '60 s', s); END LOOP; END $$;
RESET ROLE;
SELECT is((SELECT count(*) FROM dts.task), 0::bigint, 'all have ended');
SELECT is(s.value, l.clean, format('not transactional: %s leaks nothing', s.what)) FROM leak l JOIN seen s ON s.what = l.what ORDER BY l.n;
SELECT is((SELECT count(*) FROM seen), (SELECT count(*) FROM leak WHERE dirties NOT LIKE '%;%' AND clean IS NOT NULL), 'every look has its row');
SELECT is((SELECT count(*) FROM dts.runs WHERE error_fields ->> 'sqlstate' LIKE 'XX%'), 0::bigint, 'no internal error');
ALTER SYSTEM RESET dts.max_workers;
SELECT pg_reload_conf();
SELECT * FROM finish();
