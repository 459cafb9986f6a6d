-- Schedules in one session: create or update, alter, bad input with its place, rights, calendars, backfill, the take-over of pg_cron.
SELECT no_plan();
CREATE ROLE sched_a LOGIN;
CREATE ROLE sched_b LOGIN;
SELECT dts.grant_usage(r) FROM unnest(ARRAY['sched_a', 'sched_b']) r;
SELECT dts.create_handler('sched h', 'SELECT $1');
SELECT dts.create_calendar('sched week', ARRAY['mon-fri']), dts.create_calendar('sched never', ARRAY['2001-01-01']);

-- A call that is good as it stands but for %s.
CREATE TABLE bad (given text, wants text, says text);
INSERT INTO bad VALUES
    ($$'', '@daily', 'SELECT 1'$$, '22023', 'schedule name'), ($$NULL, '@daily', 'SELECT 1'$$, '22004', 'schedule name must not be null'),
    ($$repeat('n', 64), '@daily', 'SELECT 1'$$, '42622', 'schedule name is too long'),
    ($$'x', NULL, 'SELECT 1'$$, '22004', '"timing" must not be null'), ($$'x', '', 'SELECT 1'$$, '22023', 'timing is empty, at character 1'),
    ($$'x', '* 24 * * *', 'SELECT 1'$$, '22023', 'hour 24 is out of range 0 to 23, at character 3'),
    ($$'x', '0 0 30 2 *', 'SELECT 1'$$, '22023', 'this date never comes, at character 5'),
    ($$'x', '0 0 31 4 1', 'SELECT 1', both_days => true$$, '22023', 'never come together'),
    ($$'x', repeat('1,', 5000) || '1 * * * *', 'SELECT 1'$$, '22023', 'longer than 8000'),
    ($$'x', 'at 2001-01-01', 'SELECT 1'$$, '22023', 'would never run'),
    ($$'x', '@daily'$$, '22023', 'one of "sql", "handler"'), ($$'x', '@daily', 'SELECT 1', handler => 'sched h'$$, '22023', 'one of "sql", "handler"'),
    ($$'x', '@daily', 'selec 1'$$, '42601', 'syntax error'), ($$'x', '@daily', 'COMMIT'$$, '2D000', 'must not control transactions'),
    ($$'x', '@daily', 'SELECT $1'$$, '42P02', 'no argument for \$1'), ($$'x', '@daily', 'SELECT $1::int', '["a"]'$$, '22P02', 'integer'),
    ($$'x', '@daily', handler => 'nope'$$, '42704', 'handler "nope"'), ($$'x', '@daily', 'SELECT 1', payload => '1'$$, '22023', '"payload"'),
    ($$'x', '@daily', 'SELECT 1', task => '[]'$$, '22023', '"task" must be a JSON object'), ($$'x', '@daily', 'SELECT 1', task => '{"queu": "x"}'$$, '22023', 'unknown key "queu"'),
    ($$'x', '@daily', 'SELECT 1', task => '{"queue": "nope"}'$$, '42704', 'queue "nope"'), ($$'x', '@daily', 'SELECT 1', task => '{"run_at": "2030-01-01"}'$$, '22023', 'option "run_at"'),
    ($$'x', '@daily', 'SELECT 1', task => '{"key": "k"}'$$, '22023', 'option "key"'), ($$'x', '@daily', 'SELECT 1', task => '{"owner": "postgres"}'$$, '22023', 'option "owner"'),
    ($$'x', '@daily', 'SELECT 1', task => '{"delay": 5}'$$, '22023', 'option "delay"'), ($$'x', '@daily', 'SELECT 1', task => '{"depends_on": [1]}'$$, '22023', 'option "depends_on"'),
    ($$'x', '@daily', 'SELECT 1', zone => 'No/Such'$$, '22023', 'time zone "No/Such"'), ($$'x', '@daily', 'SELECT 1', zone => 'FOO5BAR'$$, '22023', 'time zone "FOO5BAR"'),
    ($$'x', '@daily', 'SELECT 1', zone => 'CET'$$, '22023', 'time zone "CET"'), ($$'x', '@daily', 'SELECT 1', zone => '+02'$$, '22023', 'time zone'),
    ($$'x', '@daily', 'SELECT 1', zone => 'posix/Europe/Berlin'$$, '22023', 'time zone'), ($$'x', '@daily', 'SELECT 1', zone => '../../etc/passwd'$$, '22023', 'time zone'),
    ($$'x', '@daily', 'SELECT 1', zone => 'Europe/Berlin5'$$, '22023', 'time zone'), ($$'x', '@daily', 'SELECT 1', zone => repeat('Z/', 500)$$, '22023', 'time zone'),
    ($$'x', '@daily', 'SELECT 1', missed => 'never'$$, '22023', '"missed"'), ($$'x', '@daily', 'SELECT 1', missed => 'within'$$, '22023', '"missed_within"'),
    ($$'x', '@daily', 'SELECT 1', missed_within => '1 hour'$$, '22023', '"missed_within"'), ($$'x', '@daily', 'SELECT 1', missed => 'all', missed_max => 0$$, '22023', '"missed_max"'),
    ($$'x', '@daily', 'SELECT 1', missed_max => 1001$$, '22023', '"missed_max"'), ($$'x', '@daily', 'SELECT 1', overlap => 'queue'$$, '22023', '"overlap"'),
    ($$'x', '@daily', 'SELECT 1', overlap_max => 0$$, '22023', '"overlap_max"'), ($$'x', '@daily', 'SELECT 1', late => '-1 s'$$, '22023', '"late"'),
    ($$'x', '@daily', 'SELECT 1', only_in => 'nope'$$, '42704', 'calendar "nope"'), ($$'x', '@daily', 'SELECT 1', not_in => 'nope'$$, '42704', 'calendar "nope"'),
    ($$'x', '@daily', 'SELECT 1', only_in => 'sched never'$$, '22023', 'would never run'), ($$'x', '@daily', 'SELECT 1', shift => 'next'$$, '22023', '"shift" needs'),
    ($$'x', '@daily', 'SELECT 1', only_in => 'sched week', shift => 'up'$$, '22023', '"shift"'), ($$'x', '* * * * * *', 'SELECT 1', only_in => 'sched week', shift => 'next'$$, '22023', '"shift"'),
    ($$'x', '@reboot', 'SELECT 1', only_in => 'sched week', shift => 'next'$$, '22023', '"shift"'),
    ($$'x', '@daily', 'SELECT 1', starts_at => '2030-01-02', ends_at => '2030-01-01'$$, '22023', '"ends_at" must be after'), ($$'x', '@daily', 'SELECT 1', ends_at => 'infinity'$$, '22023', 'must be finite'),
    ($$'x', '@daily', 'SELECT 1', max_runs => 0$$, '22023', '"max_runs"'), ($$'x', '@daily', 'SELECT 1', jitter => '2 days'$$, '22023', '"jitter"'),
    ($$'x', '@daily', 'SELECT 1', jitter => '0'$$, '22023', '"jitter"'), ($$'x', '@daily', 'SELECT 1', owner => 'nobody'$$, '42704', 'role "nobody"');
CREATE FUNCTION refusal(call text, OUT state text, OUT message text, OUT hint text) LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE call;
    state := '00000';
EXCEPTION WHEN OTHERS THEN GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, hint = PG_EXCEPTION_HINT;
END $$;
SELECT ok(r.state = wants AND r.message ~ says, format('schedule(%s): %s %s', left(given, 90), r.state, r.message)) FROM bad, refusal(format('SELECT dts.schedule(%s)', given)) r;
SELECT is((SELECT count(*) FROM dts.schedule), 0::bigint, 'nothing was kept of them');
SELECT is((SELECT count(*) FROM dts.task), 0::bigint, 'and no task made');
SELECT ok(r.state = wants AND r.message ~ says, format('%s: %s %s', call, r.state, r.message)) FROM (VALUES
    ($$SELECT dts.unschedule('nope')$$, '42704', 'schedule "nope"'), ($$SELECT dts.alter_schedule('nope')$$, '42704', 'schedule "nope"'), ($$SELECT dts.run_now('nope')$$, '42704', 'schedule "nope"'), ($$SELECT dts.explain_schedule('nope')$$, '42704', 'schedule "nope"'),
    ($$SELECT dts.pause_schedule(NULL)$$, '22004', 'schedule name'), ($$SELECT dts.next_runs('nope', 3)$$, '42704', 'schedule "nope"'), ($$SELECT dts.backfill('nope', '2001-01-01', '2002-01-01')$$, '42704', 'schedule "nope"'),
    ($$SELECT dts.cancel_backfill(99)$$, '42704', 'backfill 99'), ($$SELECT dts.agenda(now(), now())$$, '22023', '"to_at" must be after'), ($$SELECT dts.agenda('4713-01-01 BC', '294276-12-31')$$, '22023', '"to_at" must be after'), ($$SELECT dts.agenda('-infinity', 'infinity')$$, '22023', '"to_at" must be after'), ($$SELECT dts.next_runs('* * *', 'UTC')$$, '22023', '3 fields found'),
    ($$SELECT dts.check_timing(NULL)$$, '22004', '"timing"'), ($$SELECT dts.create_calendar('c', NULL)$$, '22004', '"entries"'), ($$SELECT dts.create_calendar('c', ARRAY['lun'])$$, '22023', 'unknown name "lun"'),
    ($$SELECT dts.create_calendar('c', ARRAY['mon', NULL])$$, '22004', 'must not contain null'), ($$SELECT dts.create_calendar('c', ARRAY[['mon']])$$, '2202E', 'one-dimensional'),
    ($$SELECT dts.create_calendar('sched week', ARRAY['mon'])$$, '42710', 'already exists'), ($$SELECT dts.drop_calendar('nope')$$, '42704', 'calendar "nope"'),
    ($$SELECT * FROM dts.import_pg_cron()$$, '42P01', 'pg_cron is not installed')) v(call, wants, says), refusal(call) r;

-- Create, update, alter.
SELECT dts.schedule('nightly', '30 2 LW * *', 'SELECT 1', zone => 'europe/berlin', task => '{"priority": 7}', late => '1 hour', only_in => 'sched week', description => 'first');
SELECT is((SELECT (reading, zone, what, state) FROM dts.schedules WHERE name = 'nightly'),
          ('at 02:30 on the last weekday of each month, Europe/Berlin'::text, 'Europe/Berlin'::text, '{"sql": "SELECT 1", "priority": 7}'::jsonb, 'active'::text), 'made');
SELECT dts.schedule('nightly', '0 3 * * *', handler => 'sched h', payload => '{"n": 1}');
SELECT is((SELECT (timing, zone, what, late, description) FROM dts.schedules WHERE name = 'nightly'),
          ('0 3 * * *'::text, 'UTC'::text, '{"handler": "sched h", "payload": {"n": 1}}'::jsonb, NULL::interval, NULL::text), 'the same name again: as said now');
SELECT dts.alter_schedule('nightly', late => '2 hours', task => '{"timeout": "1 min"}');
SELECT is((SELECT (timing, what, late) FROM dts.schedules WHERE name = 'nightly'), ('0 3 * * *'::text, '{"handler": "sched h", "payload": {"n": 1}, "timeout": "1 min"}'::jsonb, '2 hours'::interval), 'altered: the rest stays');
SELECT dts.alter_schedule('nightly', sql => 'SELECT 2', reset => ARRAY['late']);
SELECT is((SELECT (what, late) FROM dts.schedules WHERE name = 'nightly'), ('{"sql": "SELECT 2", "timeout": "1 min"}'::jsonb, NULL::interval), 'another task; a bound taken away');
SELECT dts.alter_schedule('nightly', overlap => 'allow');
SELECT is((SELECT (overlap, overlap_max) FROM dts.schedules WHERE name = 'nightly'), ('allow'::text, 10), 'another policy brings its own overlap_max');
SELECT dts.alter_schedule('nightly', overlap_max => 3), dts.alter_schedule('nightly', overlap => 'allow', late => '1 hour');
SELECT is((SELECT (overlap, overlap_max) FROM dts.schedules WHERE name = 'nightly'), ('allow'::text, 3), 'the same policy keeps what was said');
SELECT dts.alter_schedule('nightly', overlap => 'skip', reset => ARRAY['late']);
SELECT is((refusal($$SELECT dts.alter_schedule('nightly', reset => ARRAY['name'])$$)).state, '22023', 'what cannot be taken away');
SELECT is(ARRAY(SELECT dts.next_runs('nightly', 2, '2030-01-01 12:00+00')), ARRAY['2030-01-02 03:00+00', '2030-01-03 03:00+00']::timestamptz[], 'next runs of a schedule');
SELECT is(ARRAY(SELECT dts.next_runs('30 2 * * *', 'Europe/Berlin', 3, '2026-03-27 22:00+00')), ARRAY['2026-03-28 01:30+00', '2026-03-29 01:00+00', '2026-03-30 00:30+00']::timestamptz[], 'by the server''s zones');
SELECT is(ARRAY(SELECT dts.next_runs('30 * * * *', 'America/New_York', 3, '2026-11-01 05:00+00')), ARRAY['2026-11-01 05:30+00', '2026-11-01 06:30+00', '2026-11-01 07:30+00']::timestamptz[], 'a wildcard hour runs in both');
SELECT dts.schedule('often', '*/10 9-17 * * MON-FRI', 'SELECT 1'), dts.schedule('booted', '@reboot', 'SELECT 1'), dts.schedule('idle', '@daily', 'SELECT 1', paused => true);
SELECT is(ARRAY(SELECT dts.agenda('2030-01-30 12:00', '2030-02-02')), ARRAY[
    '                          January 2030, UTC', ' Mon       Tue       Wed       Thu       Fri       Sat       Sun', '            1         2         3         4         5         6', '  7         8         9        10        11        12        13',
    ' 14        15        16        17        18        19        20', ' 21        22        23        24        25        26        27', ' 28        29        30 36x    31 55x', '',
    '                          February 2030, UTC', ' Mon       Tue       Wed       Thu       Fri       Sat       Sun', '                                          1 55x     2         3', '  4         5         6         7         8         9        10',
    ' 11        12        13        14        15        16        17', ' 18        19        20        21        22        23        24', ' 25        26        27        28', '',
    'Wed 2030-01-30', '  12:00-17:50 often (36 times)', 'Thu 2030-01-31', '  03:00 nightly', '  09:00-17:50 often (54 times)', 'Fri 2030-02-01', '  03:00 nightly', '  09:00-17:50 often (54 times)', '',
    'paused: idle', 'not by the clock: booted'], 'the agenda: months as grids, then the days');
SELECT dts.unschedule(n) FROM unnest(ARRAY['often', 'booted']) n;
SELECT is((SELECT (count(*) FILTER (WHERE a LIKE '%, Asia/Tokyo'), count(*) FILTER (WHERE a ~ ('>' || lpad(extract(day FROM clock_timestamp() AT TIME ZONE 'Asia/Tokyo')::text, 2))), count(*) FILTER (WHERE a LIKE '%12:00 nightly') BETWEEN 27 AND 32)
           FROM dts.agenda(zone => 'asia/tokyo') a), (2::bigint, 1::bigint, true), 'without bounds: a month from now on, with today marked');
SELECT is((SELECT array_agg(a) FROM (SELECT a FROM dts.agenda('2030-01-01', '2030-01-01 02:00') a OFFSET 8) x), ARRAY['nothing is due', '', 'paused: idle'], 'nothing is due');
SELECT dts.unschedule('idle');
SELECT is((refusal(c)).state, '22023', c) FROM unnest(ARRAY[$$SELECT dts.agenda('2030-01-02', '2030-01-01')$$, $$SELECT dts.agenda('2030-01-02', '2032-01-01')$$, $$SELECT dts.agenda('-infinity')$$, $$SELECT dts.agenda(NULL, 'infinity')$$, $$SELECT dts.agenda(zone => 'No/Such')$$]) c;
SELECT ok(dts.explain_schedule('nightly') ~ '^at 03:00 every day, UTC; (due next at .* \(in |fires nothing: )', dts.explain_schedule('nightly'));
SELECT is((SELECT (valid, error, "position", hint IS NOT NULL) FROM dts.check_timing('0 0 * * MON#9')), (false, '"#" needs a number from 1 to 5'::text, 13, true), 'check_timing points at the character');
SELECT is((SELECT array_agg(action ORDER BY at) FROM dts.audit WHERE object = 'nightly'), ARRAY['schedule', 'schedule'] || array_fill('alter_schedule'::text, '{6}'), 'all of it is in the audit log');

-- Rights.
SET ROLE sched_a;
SELECT dts.schedule('a''s', '@daily', 'SELECT current_user');
SET ROLE sched_b;
SELECT is((refusal(c)).state, '42501', c) FROM unnest(ARRAY[$$SELECT dts.schedule('a''s', '@hourly', 'SELECT 1')$$, $$SELECT dts.alter_schedule('a''s')$$, $$SELECT dts.unschedule('a''s')$$, $$SELECT dts.run_now('a''s')$$,
    $$SELECT dts.pause_schedule('a''s')$$, $$SELECT dts.backfill('a''s', '2001-01-01', '2001-01-02')$$, $$SELECT dts.next_runs('a''s', 1)$$, $$SELECT dts.schedule('b', '@daily', 'SELECT 1', owner => 'sched_a')$$,
    $$SELECT dts.alter_calendar('sched week', ARRAY['*'])$$, $$SELECT dts.drop_calendar('sched week')$$, $$SELECT * FROM dts.import_pg_cron()$$]) c;
SELECT is_empty('SELECT FROM dts.schedules', 'another role''s schedules are not seen');
RESET ROLE;
SELECT dts.run_now('a''s') AS task \gset
CALL dts.wait(:task, '30 s') \gset
SELECT is(dts.result(:task), '[{"current_user": "sched_a"}]', 'run now, by an administrator: as its owner');
SELECT is((SELECT (decision, reason, task) FROM dts.fires WHERE schedule = 'a''s'), ('fired'::text, 'by hand'::text, :task::bigint), 'on record');

CREATE ROLE sched_admin LOGIN;
SELECT dts.grant_admin('sched_admin');
SET ROLE sched_admin;
SELECT is((refusal(c)).state, wants, c) FROM (VALUES ($$SELECT dts.alter_schedule('nightly', sql => 'SELECT 3')$$, '42501'), ($$SELECT dts.schedule('nightly', '@daily', 'SELECT 3')$$, '42501'),
    ($$SELECT dts.alter_schedule('nightly', task => '{"priority": 9}')$$, '42501'), ($$SELECT dts.alter_schedule('a''s', owner => 'postgres')$$, '42501'),
    ($$SELECT dts.alter_schedule('nightly', late => '3 hours')$$, '00000'), ($$SELECT dts.pause_schedule('nightly'), dts.resume_schedule('nightly')$$, '00000')) v(c, wants);
RESET ROLE;

-- Backfill.
CREATE TABLE filled (due timestamptz, previous timestamptz, success timestamptz);
GRANT ALL ON filled TO PUBLIC;
SELECT dts.schedule('fill', '0 12 * * *', 'INSERT INTO filled SELECT due_at, previous_due_at, last_success_due_at FROM dts.scheduled()', paused => true);
SELECT dts.backfill('fill', '2026-01-01', '2026-01-11', max_parallel => 3) AS b \gset
CREATE PROCEDURE until(query text) LANGUAGE plpgsql AS $$
DECLARE good boolean;
BEGIN
    FOR n IN 1..600 LOOP
        EXECUTE query INTO good;
        EXIT WHEN good;
        COMMIT;
        PERFORM pg_sleep(0.05);
    END LOOP;
END $$;
CALL until(format('SELECT state = ''done'' FROM dts.backfills WHERE id = %s', :b));
SELECT is((SELECT (state, total, succeeded, failed, waiting) FROM dts.backfills WHERE id = :b), ('done'::text, 10::bigint, 10::bigint, 0::bigint, 0::bigint), 'a backfill of ten days');
SELECT is((SELECT (count(*), min(due), max(due)) FROM filled), (10::bigint, '2026-01-01 12:00+00'::timestamptz, '2026-01-10 12:00+00'::timestamptz), 'each day once');
SELECT is((SELECT count(*) FROM filled WHERE previous = due - '1 day'::interval AND success IS NULL), 10::bigint, 'each knows the interval that is its own');
SELECT dts.backfill('fill', '2026-01-09', '2026-01-14', max_parallel => 2, "order" => 'newest first', only_missing => true) AS b \gset
CALL until(format('SELECT state = ''done'' FROM dts.backfills WHERE id = %s', :b));
SELECT is((SELECT (total, succeeded) FROM dts.backfills WHERE id = :b), (3::bigint, 3::bigint), 'only what is missing');
SELECT is((SELECT count(DISTINCT due) FROM filled), 13::bigint, 'nothing twice');
SELECT ok(r.state = wants, format('%s: %s', call, r.message)) FROM (VALUES ($$SELECT dts.backfill('fill', '2026-01-02', '2026-01-01')$$, '22023'), ($$SELECT dts.backfill('fill', now(), now() + '1 day')$$, '22023'),
    ($$SELECT dts.backfill('fill', '2026-01-01', '2026-01-02', 0)$$, '22023'), ($$SELECT dts.backfill('fill', '2026-01-01', '2026-01-02', 1, 'random')$$, '22023'), ($$SELECT dts.backfill('fill', NULL, now())$$, '22004')) v(call, wants), refusal(call) r;

-- A calendar that changes moves what uses it; one in use stays.
SELECT dts.schedule('cal', '0 12 * * *', 'SELECT 1', only_in => 'sched week');
SELECT dts.alter_calendar('sched week', ARRAY['2031-01-01']);
SELECT is((SELECT next_run FROM dts.schedules WHERE name = 'cal'), '2031-01-01 12:00+00'::timestamptz, 'the next run follows the calendar');
SELECT is((refusal($$SELECT dts.drop_calendar('sched week')$$)).state, '2BP01', 'a calendar in use is not dropped');

-- pg_cron's table, as it lies in its database.
CREATE SCHEMA cron;
CREATE TABLE cron.job (jobid bigserial, schedule text, command text, nodename text, nodeport int, database text, username text, active boolean, jobname text);
INSERT INTO cron.job (schedule, command, database, username, active, jobname) VALUES
    ('0 3 * * *', 'SELECT 1', current_database(), 'sched_a', true, 'night'), ('30 seconds', 'SELECT 2', current_database(), 'sched_b', false, NULL),
    ('0 0 $ * *', 'VACUUM', current_database(), current_user, true, 'month end'), ('0 3 * * *', 'SELECT 4', 'elsewhere', 'sched_a', true, 'far'), ('0 3 * * *', 'SELECT 5', current_database(), 'gone', true, 'orphan');
SELECT is((SELECT array_agg(outcome ORDER BY jobid) FROM dts.import_pg_cron()), ARRAY['would be taken over', 'would be taken over', 'would be taken over', 'not taken over', 'not taken over'], 'dry run');
SELECT is((SELECT count(*) FROM dts.schedules WHERE name IN ('night', 'pg_cron 2', 'month end')), 0::bigint, 'it changes nothing');
SELECT is((SELECT array_agg(COALESCE(problem, outcome) ORDER BY jobid) FROM dts.import_pg_cron(false)),
          ARRAY['taken over', 'taken over', 'taken over', 'belongs to database elsewhere: run the statement there', 'role "gone" does not exist'], 'take-over');
SELECT is((SELECT array_agg((name, owner, timing, state, what ->> 'transactional')::text ORDER BY name) FROM dts.schedules WHERE name IN ('night', 'pg_cron 2', 'month end')),
          ARRAY['("month end",postgres,"0 0 L * *",active,false)', '(night,sched_a,"0 3 * * *",active,)', '("pg_cron 2",sched_b,"every 30 seconds",paused,)'], 'names, users, timings, active flags');
SELECT is((SELECT array_agg(jobname ORDER BY jobname) FROM cron.job WHERE active), ARRAY['far', 'orphan'], 'what was taken over is inactive there');
SELECT is((SELECT DISTINCT problem FROM dts.import_pg_cron(false) WHERE jobid = 1), 'a schedule of this name exists', 'not twice');
-- Workflows: checked as dts.start would, started as the owner; every node knows the due time, children's too; a retry by hand counts again.
SELECT dts.create_workflow('sched inner', '{"nodes": {"x": {"sql": "INSERT INTO known SELECT ''x'', due_at, schedule FROM dts.scheduled()"}}}');
SELECT dts.create_workflow('sched flow', '{"params": {"n": {"type": "integer"}}, "nodes": {"a": {"sql": "INSERT INTO known SELECT ''a'', due_at, schedule FROM dts.scheduled()"},
    "b": {"sql": "SELECT 1 / $1::int, $2::timestamptz", "args": ["${params.n}", "${run.schedule.due}"], "needs": ["a"]}, "c": {"workflow": "sched inner", "needs": ["b"]}}}');
CREATE TABLE known (node text, due timestamptz, schedule text);
SELECT ok(r.state = wants AND r.message ~ says, format('schedule(%s): %s %s', given, r.state, r.message)) FROM (VALUES
    ($$'x', '@daily', workflow => 'nope'$$, '42704', 'workflow "nope"'), ($$'x', '@daily', workflow => 'sched flow'$$, '22023', 'parameter "n" is missing'),
    ($$'x', '@daily', workflow => 'sched flow', params => '{"m": 1}'$$, '22023', 'unknown parameter "m"'), ($$'x', '@daily', workflow => 'sched flow', params => '[]'$$, '22023', '"params" must be'),
    ($$'x', '@daily', 'SELECT 1', workflow => 'sched flow'$$, '22023', '"sql" in'), ($$'x', '@daily', 'SELECT 1', params => '{}'$$, '22023', 'unknown key "params"'),
    ($$'x', '@daily', workflow => 'sched flow', params => '{"n": 1}', task => '{"queue": "default"}'$$, '22023', '"queue" in'),
    ($$'x', '@daily', workflow => 'sched flow', params => '{"n": 1}', task => '{"key": "k"}'$$, '22023', 'option "key"'),
    ($$'x', '@daily', workflow => 'sched flow', params => '{"n": 1}', task => '{"labels": 1}'$$, '22023', 'labels')) v(given, wants, says), refusal(format('SELECT dts.schedule(%s)', given)) r;
SELECT dts.schedule('flow', '@yearly', workflow => 'sched flow', params => '{"n": 1}', task => '{"labels": {"from": "schedule"}}', overlap => 'queue one');
SELECT dts.run_now('flow') AS task \gset
CALL dts.wait(:task, '30 s') \gset
SELECT is((SELECT (r.state, r.labels, f.task) FROM dts.fires f JOIN dts.workflow_runs r ON r.id = f.run WHERE f.schedule = 'flow'), ('succeeded'::text, '{"from": "schedule"}'::jsonb, :task::bigint), 'a run of the workflow, known by its end');
SELECT is((SELECT array_agg((k.node, k.due = f.due_at, k.schedule)::text ORDER BY k.node) FROM known k, dts.fires f WHERE f.schedule = 'flow'), ARRAY['(a,t,flow)', '(x,t,flow)'], 'its nodes know the due time, also those of a run within');
SELECT dts.alter_schedule('flow', workflow => 'sched flow', params => '{"n": 0}');
SELECT dts.run_now('flow') AS task \gset
CALL dts.wait(:task, '30 s') \gset
CALL until($$SELECT failed = 1 AND running = 0 FROM dts.schedules WHERE name = 'flow'$$);
SELECT is((SELECT (succeeded, failed) FROM dts.schedules WHERE name = 'flow'), (1::bigint, 1::bigint), 'its end is the schedule''s success or failure');
SELECT is(dts.retry_run((SELECT run FROM dts.fires WHERE schedule = 'flow' AND task = :task), params => '{"n": 1}'), 2::bigint, 'retried by hand');
CALL until($$SELECT succeeded = 2 AND running = 0 FROM dts.schedules WHERE name = 'flow'$$);
SELECT is((SELECT (count(*), count(DISTINCT r.id), bool_and(r.state = 'succeeded')) FROM dts.fires f JOIN dts.workflow_runs r ON r.id = f.run WHERE f.schedule = 'flow'), (2::bigint, 2::bigint, true), 'then it counts as a success; the decision leads to it still');

-- A request; altered into something else, nothing of it stays.
SELECT is((refusal($$SELECT dts.schedule('ping', '@yearly', task => '{"http": "http://127.0.0.1:1/ping"}')$$)).state, '42501', 'to a place that is not allowed: refused when it is made');
SELECT dts.allow_host('127.0.0.1', schemes => ARRAY['http'], ports => ARRAY[1], networks => ARRAY['127.0.0.1/32'::cidr]);
SELECT dts.schedule('ping', '@yearly', task => '{"http": {"url": "http://127.0.0.1:1/ping", "method": "POST"}, "timeout": "10 s"}');
SELECT is((SELECT what ->> 'timeout' FROM dts.schedules WHERE name = 'ping'), '10 s', 'a request');
SELECT ok(r.state = '22023', r.message) FROM refusal($$SELECT dts.schedule('ping2', '@yearly', task => '{"http": "gopher://example.com"}')$$) r;
SELECT dts.run_now('ping') AS task \gset
SELECT is((SELECT kind FROM dts.tasks WHERE id = :task), 'http', 'is submitted as one');
SELECT is(dts.cancel(:task) IS NOT NULL, true, 'and ends');
SELECT dts.alter_schedule('ping', handler => 'sched h', payload => '{}');
SELECT is((SELECT what FROM dts.schedules WHERE name = 'ping'), '{"handler": "sched h", "payload": {}, "timeout": "10 s"}'::jsonb, 'what it does is replaced, options stay');
SELECT dts.alter_schedule('ping', task => '{"command": ["true"]}');
SELECT is((SELECT what FROM dts.schedules WHERE name = 'ping'), '{"command": ["true"], "timeout": "10 s"}'::jsonb, 'also by task');

-- Limits hold for what is fired: a full queue refuses, and the refusal is on record at the next fire; a key parks.
SELECT dts.create_queue('sched full', paused => true);
SELECT dts.set_limit(queue => 'sched full', max_waiting => 1);
SELECT dts.schedule('full', '@yearly', 'SELECT 1', task => '{"queue": "sched full"}');
SELECT dts.run_now('full') AS task \gset
SELECT is((refusal($$SELECT dts.run_now('full')$$)).state, 'TQ001', 'the cap of a queue holds for schedules');
SELECT * FROM finish();
