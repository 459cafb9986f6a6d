-- dts.doctor and dts.health: each finding is planted, seen, and gone when it is undone.
SELECT no_plan();
CREATE ROLE doctor_owner LOGIN;
CREATE ROLE doctor_monitor LOGIN;
SELECT dts.grant_usage('doctor_owner'), dts.grant_monitor('doctor_monitor');
SELECT dts.submit('SELECT 1') AS id \gset
CALL dts.wait(:id, '30 s') \gset

-- What the server of the checks itself gives rise to is left out: it runs without fsync.
CREATE VIEW finding AS SELECT * FROM dts.doctor() WHERE subject NOT IN ('fsync', 'full_page_writes', 'max_worker_processes');
SELECT is_empty('SELECT * FROM finding', 'a healthy database');
SELECT is((SELECT count(*)::int FROM dts.doctor() WHERE subject = ANY (ARRAY['fsync', 'full_page_writes']) AND severity = 'error'),
          (SELECT count(*)::int FROM pg_settings WHERE name = ANY (ARRAY['fsync', 'full_page_writes']) AND setting = 'off'), 'settings that risk everything');
SELECT row_eq('SELECT * FROM dts.health()', row(true, NULL::text), 'health');

CREATE FUNCTION planted(plant text, undo text, wanted text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE seen text;
BEGIN
    EXECUTE plant;
    SELECT string_agg(format('%s: %s: %s (%s)', severity, subject, finding, advice), E'\n') INTO seen FROM finding;
    RETURN NEXT ok(seen ~ wanted, 'planted: ' || left(plant, 120));
    IF seen IS NULL OR seen !~ wanted THEN RETURN NEXT diag(format('saw %s, wanted %s', seen, wanted)); END IF;
    EXECUTE undo;
    -- An executor whose start failed meanwhile is started again some seconds later.
    FOR i IN 1..300 LOOP EXIT WHEN NOT EXISTS (SELECT FROM finding); PERFORM pg_sleep(0.1); END LOOP;
    RETURN NEXT is_empty('SELECT * FROM finding', 'undone: ' || left(undo, 120));
END $$;
SELECT dts.create_queue('doctor');
SELECT planted($$SELECT dts.submit('SELECT 1', queue => 'doctor', delay => '1 day'), dts.pause('doctor')$$, $$SELECT dts.resume('doctor')$$, 'notice: queue doctor: it is paused');
SELECT planted($$SELECT dts.submit('SELECT 1', owner => 'doctor_owner', delay => '1 day'); ALTER ROLE doctor_owner NOLOGIN$$, 'ALTER ROLE doctor_owner LOGIN', 'error: owner doctor_owner: .*may not log in');
SELECT planted(format('REVOKE CONNECT ON DATABASE %I FROM PUBLIC', current_database()), format('GRANT CONNECT ON DATABASE %I TO PUBLIC', current_database()), 'error: owner doctor_owner: .*may not connect');
SELECT planted('GRANT EXECUTE ON FUNCTION dts.rescan() TO PUBLIC', 'REVOKE EXECUTE ON FUNCTION dts.rescan() FROM PUBLIC', 'error: dts.rescan\(\): PUBLIC may execute it');
SELECT planted('GRANT INSERT ON dts.task TO doctor_owner', 'REVOKE INSERT ON dts.task FROM doctor_owner', 'error: dts.task: a role beside its owner may write it');
SELECT planted('ALTER TABLE dts.task SET (autovacuum_enabled = false)', 'ALTER TABLE dts.task RESET (autovacuum_enabled)', 'notice: dts.task: autovacuum is switched off');
SELECT planted($$INSERT INTO dts.request (task, kind, by_role, at) VALUES (1, 'cancel', 10, now() - interval '1 hour')$$, 'DELETE FROM dts.request', 'error: task 1: a request to cancel waits');
SELECT planted($$UPDATE pg_extension SET extversion = '0.1' WHERE extname = 'dts'$$, format('UPDATE pg_extension SET extversion = %L WHERE extname = ''dts''', (SELECT extversion FROM pg_extension WHERE extname = 'dts')), 'error: extension: the extension''s version is 0.1');
SELECT to_char((clock_timestamp() + '1 day') AT TIME ZONE 'UTC', '"dts.run_"YYYYMMDD') AS tomorrow \gset
SELECT planted(format('ALTER TABLE dts.run DETACH PARTITION %s; ALTER TABLE %s RENAME TO hidden', :'tomorrow', :'tomorrow'),
               format('ALTER TABLE dts.hidden RENAME TO %s; ALTER TABLE dts.run ATTACH PARTITION %s FOR VALUES FROM (%L) TO (%L)', substr(:'tomorrow', 5), :'tomorrow',
                      (to_date(right(:'tomorrow', 8), 'YYYYMMDD'))::text || ' 00:00:00+00', (to_date(right(:'tomorrow', 8), 'YYYYMMDD') + 1)::text || ' 00:00:00+00'), 'error: history: there is no partition for tomorrow');
SELECT dts.submit('SELECT 1/0', max_attempts => 1) AS id \gset
CALL dts.wait(:id, '30 s') \gset
SELECT matches((SELECT string_agg(severity || ': ' || finding, ',') FROM finding), '^notice: 1 task\(s\) used up', 'dead letters');
SELECT is(dts.redrive(:id), 'redriven', 'gone');
SELECT dts.cancel(:id);
CALL dts.wait(:id, '30 s') \gset

SET ROLE doctor_monitor;
SELECT lives_ok('SELECT * FROM dts.doctor(), dts.health()', 'for monitors');
SET ROLE doctor_owner;
SELECT throws_ok('SELECT * FROM dts.doctor()', '42501', NULL, 'not for users');
SELECT throws_ok('SELECT * FROM dts.health()', '42501', NULL, 'not for users');
RESET ROLE;
ALTER SYSTEM SET dts.enabled = off;
SELECT pg_reload_conf();
-- Statements of their own: a session reads its settings again between two.
SELECT 'SELECT FROM pg_sleep(0.1) WHERE (SELECT ok FROM dts.health())' FROM generate_series(1, 300) \gexec
SELECT row_eq('SELECT * FROM dts.health()', row(false, 'dts.enabled is off'::text), 'health');
SELECT matches((SELECT string_agg(severity || ': ' || finding || ' ' || advice, ',') FROM finding), 'error: dts.enabled is off See "Nothing runs"', 'doctor');
ALTER SYSTEM RESET dts.enabled;
SELECT pg_reload_conf();
SELECT 'SELECT FROM pg_sleep(0.1) WHERE NOT (SELECT ok FROM dts.health())' FROM generate_series(1, 300) \gexec
SELECT ok((SELECT ok FROM dts.health()), 'well again');
SELECT count(dts.cancel(id)) FROM dts.tasks WHERE state IN ('ready', 'scheduled');
SELECT * FROM finish();
