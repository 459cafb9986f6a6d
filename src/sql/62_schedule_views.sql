-- Views of schedules, their decisions and calendars; a month as text; the take-over of another scheduler's jobs.

CREATE VIEW dts.schedules WITH (security_barrier) AS
SELECT s.name, dts._role_name(s.owner) AS owner, s.timing, dts._reading(s.timing, s.zone, s.both_days) AS reading, s.zone,
       CASE WHEN dts._caller_may(s.owner) THEN s.what END AS what,
       CASE WHEN c.trouble IS NOT NULL THEN 'broken' WHEN s.paused THEN 'paused' WHEN r.running > 0 THEN 'running'
            WHEN c.next_fire IS NULL AND s.timing !~* '@reboot' THEN 'ended' ELSE 'active' END AS state,
       CASE WHEN NOT s.paused THEN c.next_fire END AS next_run, c.last_due, c.last_fired_at, c.last_fired_at - c.last_due AS lateness, c.last_task,
       (SELECT f.decision || COALESCE(': ' || f.reason, '') FROM dts.fire f WHERE f.schedule = s.id ORDER BY f.due_at DESC, f.decided_at DESC LIMIT 1) AS last_decision,
       c.last_success, c.runs, r.running, pg_catalog.cardinality(c.waiting) AS waiting, c.succeeded + r.succeeded AS succeeded, c.failed + r.failed AS failed,
       pg_catalog.round((c.succeeded + r.succeeded)::numeric / NULLIF(c.succeeded + r.succeeded + c.failed + r.failed, 0), 3) AS success_rate,
       s.both_days, s.only_in, s.not_in, s.shift, s.starts_at, s.ends_at, s.max_runs, s.jitter, s.missed, s.missed_max, s.missed_within, s.overlap, s.overlap_max, s.late,
       c.fired_until, c.trouble, s.description
FROM dts.schedule s
JOIN dts.schedule_clock c ON c.schedule = s.id
CROSS JOIN LATERAL (SELECT pg_catalog.count(*) FILTER (WHERE x.ended_at IS NULL)::int AS running, pg_catalog.count(*) FILTER (WHERE x.outcome = 10) AS succeeded,
                           pg_catalog.count(*) FILTER (WHERE x.outcome <> 10) AS failed FROM dts.schedule_run x WHERE x.schedule = s.id AND x.backfill IS NULL) r
WHERE dts._caller_sees(s.owner);
COMMENT ON VIEW dts.schedules IS 'Schedules: what they do in plain English, state, next and last run, lateness (from the due time to the moment it was fired), success rate, policies.';

CREATE VIEW dts.fires WITH (security_barrier) AS
SELECT s.name AS schedule, f.due_at, f.due_to, f.count, f.decision, f.reason, f.task, n.run, f.decided_at, f.decided_at - f.due_at AS lateness,
       CASE WHEN dts._caller_may(s.owner) THEN f.detail END AS detail
FROM dts.fire f JOIN dts.schedule s ON s.id = f.schedule LEFT JOIN dts.workflow_node n ON n.task = f.task AND n.node = '(end)' WHERE dts._caller_sees(s.owner);
COMMENT ON VIEW dts.fires IS 'What was decided for each due time: fired (with the task, and the run of a workflow that it ends), waiting, skipped or failed, and why. Skipped ones in a row are one entry with their number.';

CREATE VIEW dts.calendars WITH (security_barrier) AS
SELECT c.name, dts._role_name(c.owner) AS owner, c.entries, c.description, c.created_at FROM dts.calendar c;
COMMENT ON VIEW dts.calendars IS 'Calendars; every role may use them.';

-- Each day of the months that are touched: its number, and how often something is due.
CREATE FUNCTION dts._month_grid(month date, zone text, today date, days date[], counts bigint[]) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    WITH title AS (SELECT to_char(month, 'FMMonth YYYY') || ', ' || zone AS text),
    cell AS (
        SELECT d::date AS day, date_trunc('week', d) AS week,
               CASE WHEN d::date = today THEN '>' ELSE ' ' END || lpad(extract(day FROM d)::text, 2)
               || rpad(COALESCE(' ' || CASE WHEN n > 9999 THEN '9999+' ELSE n::text END || 'x', ''), 7) AS text
        FROM generate_series(month::timestamp, month + '1 month - 1 day'::interval, '1 day') d LEFT JOIN unnest(days, counts) c(day, n) ON c.day = d::date
    )
    SELECT lpad('', (70 - length(title.text)) / 2) || title.text || E'\n Mon       Tue       Wed       Thu       Fri       Sat       Sun\n' || w.text FROM title,
        (SELECT string_agg(rtrim(lpad('', 10 * (extract(isodow FROM x.first)::int - 1)) || x.text), E'\n' ORDER BY x.week) AS text
         FROM (SELECT week, min(day) AS first, string_agg(text, '' ORDER BY day) AS text FROM cell GROUP BY week) x) w $$;
COMMENT ON FUNCTION dts._month_grid(date, text, date, date[], bigint[]) IS 'A month as a calendar on the wall shows it.';

CREATE FUNCTION dts._agenda(caller oid, from_at timestamptz, to_at timestamptz, zone text) RETURNS text
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE months text; list text; off text; named text := (SELECT z.name FROM pg_timezone_names z WHERE lower(z.name) = lower(zone));
    since timestamptz := COALESCE(from_at, clock_timestamp()); until timestamptz := COALESCE(to_at, since + '1 month');
BEGIN
    PERFORM dts.check_timing('@daily', zone);
    IF since >= until OR NOT isfinite(since) OR NOT isfinite(until) OR since < until - '400 days'::interval THEN
        RAISE EXCEPTION 'argument "to_at" must be after "from_at", by at most 400 days' USING ERRCODE = 'invalid_parameter_value', DETAIL = format('Got %s and %s.', since, until), HINT = 'Example: dts.agenda(now(), now() + ''1 month'').';
    END IF;
    WITH due AS (
        SELECT s.name, d AT TIME ZONE agenda.zone AS at FROM dts.schedule s CROSS JOIN (SELECT _agenda.zone) agenda(zone)
        CROSS JOIN LATERAL dts._schedule_dues(s, since - '1 us'::interval, until - '1 us'::interval, 100000) d WHERE NOT s.paused AND dts._role_may(caller, s.owner)
    ), per_day AS (
        -- What runs often is one entry with its number.
        SELECT at::date AS day, name, CASE WHEN count(*) > 4 THEN format('%s-%s %s (%s times)', to_char(min(at), 'HH24:MI'), to_char(max(at), 'HH24:MI'), name, count(*))
                                           ELSE format('%s %s', string_agg(to_char(at, 'HH24:MI'), ', ' ORDER BY at), name) END AS line, min(at) AS first, count(*) AS n
        FROM due GROUP BY at::date, name
    ), month AS (
        SELECT m::date AS first, (SELECT array_agg(p.day ORDER BY p.day) FROM (SELECT DISTINCT day FROM per_day) p) AS days,
               (SELECT array_agg(p.n ORDER BY p.day) FROM (SELECT day, sum(n)::bigint AS n FROM per_day GROUP BY day) p) AS counts
        FROM generate_series(date_trunc('month', since AT TIME ZONE zone), (until - '1 us'::interval) AT TIME ZONE zone, '1 month') m
    )
    SELECT (SELECT string_agg(dts._month_grid(m.first, COALESCE(named, zone), (clock_timestamp() AT TIME ZONE zone)::date, m.days, m.counts), E'\n\n' ORDER BY m.first) FROM month m),
           (SELECT string_agg(x.text, E'\n' ORDER BY x.day) FROM (SELECT p.day, to_char(p.day, 'Dy YYYY-MM-DD') || E'\n' || string_agg('  ' || p.line, E'\n' ORDER BY p.first, p.name) AS text FROM per_day p GROUP BY p.day) x)
           || COALESCE((SELECT string_agg(E'\n' || format('%s: more than 100000 times; what comes after %s is left out', c.name, to_char(c.last, 'YYYY-MM-DD HH24:MI')), '' ORDER BY c.name)
                        FROM (SELECT name, max(at) AS last FROM due GROUP BY name HAVING count(*) >= 100000) c), '') INTO months, list;
    SELECT string_agg(x.line, E'\n' ORDER BY x.line DESC) INTO off FROM (
        SELECT CASE WHEN s.paused THEN 'paused: ' ELSE 'not by the clock: ' END || string_agg(s.name, ', ' ORDER BY s.name) AS line
        FROM dts.schedule s WHERE (s.paused OR s.timing ~* '@reboot|after\s+end\s*$') AND dts._role_may(caller, s.owner) GROUP BY s.paused) x;
    RETURN months || E'\n\n' || COALESCE(list, 'nothing is due') || COALESCE(E'\n\n' || off, '');
END $$;
COMMENT ON FUNCTION dts._agenda(oid, timestamptz, timestamptz, text) IS 'dts.agenda, as the owner of the extension.';
CREATE FUNCTION dts._agenda_text(from_at timestamptz, to_at timestamptz, zone text) RETURNS text LANGUAGE c STABLE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dts_as_owner';
COMMENT ON FUNCTION dts._agenda_text(timestamptz, timestamptz, text) IS 'The lines of dts.agenda as one text.';
CREATE FUNCTION dts.__agenda_text(caller oid, from_at timestamptz, to_at timestamptz, zone text) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$ SELECT dts._agenda(caller, from_at, to_at, zone) $$;
COMMENT ON FUNCTION dts.__agenda_text(oid, timestamptz, timestamptz, text) IS 'dts._agenda_text, as the owner of the extension.';
CREATE FUNCTION dts.agenda(from_at timestamptz DEFAULT NULL, to_at timestamptz DEFAULT NULL, zone text DEFAULT 'UTC') RETURNS TABLE (agenda text)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$ SELECT string_to_table(dts._agenda_text(from_at, to_at, zone), E'\n') $$;
COMMENT ON FUNCTION dts.agenda(timestamptz, timestamptz, text) IS
'What the caller''s schedules will do from now (or from_at) on for a month (or until to_at), as lines of text: the months as grids, with how often something is due on each day, then the times of each day. What is paused or not by the clock is named at the end.';

-- Another scheduler's table is read by its columns' names as JSON: versions differ, and it may not be there at all.
CREATE FUNCTION dts._import_pg_cron(caller oid, dry_run boolean) RETURNS jsonb
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE j jsonb; result jsonb := '[]'; zone text; timing text; job_name text; problem text; task jsonb; role text; checked record;
BEGIN
    IF to_regclass('cron.job') IS NULL THEN
        RAISE EXCEPTION 'pg_cron is not installed in this database' USING ERRCODE = 'undefined_table', HINT = 'Its jobs are kept in the database that cron.database_name names.';
    END IF;
    zone := COALESCE(NULLIF(current_setting('cron.timezone', true), ''), 'UTC');
    IF zone = 'GMT' THEN zone := 'UTC'; END IF;
    FOR j IN EXECUTE 'SELECT to_jsonb(x) FROM cron.job x ORDER BY x.jobid' LOOP
        problem := NULL;
        job_name := COALESCE(j ->> 'jobname', format('pg_cron %s', j ->> 'jobid'));
        role := j ->> 'username';
        timing := regexp_replace(j ->> 'schedule', '^\s*(\d+)\s+seconds?\s*$', 'every \1 seconds');
        timing := regexp_replace(timing, '^(\S+\s+\S+\s+)\$', '\1L');
        task := CASE WHEN j ->> 'command' ~* '^\s*(vacuum|reindex\s.*concurrently|create\s+(unique\s+)?index\s+concurrently|create\s+database|alter\s+system)' THEN '{"transactional": false}' ELSE '{}' END::jsonb;
        SELECT * INTO checked FROM dts.check_timing(timing, zone);
        IF NOT checked.valid THEN problem := 'timing: ' || checked.error;
        ELSIF j ->> 'database' <> current_database() THEN problem := format('belongs to database %s: run the statement there', j ->> 'database');
        ELSIF EXISTS (SELECT FROM dts.schedule s WHERE s.name = job_name) THEN problem := 'a schedule of this name exists';
        ELSIF EXISTS (SELECT FROM jsonb_array_elements(result) r WHERE r ->> 'name' = job_name) THEN problem := 'two jobs have this name';
        ELSE
            -- Made in either case: a dry run finds what would be refused, and takes it back.
            BEGIN
                PERFORM dts._schedule(caller, job_name, timing, j ->> 'command', NULL, NULL, NULL, NULL, NULL, task, zone, 'skip', NULL, NULL, 'queue one', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
                                      NULL, NULL, NOT COALESCE((j ->> 'active')::boolean, true), role, format('Taken over from pg_cron, job %s.', j ->> 'jobid'));
                IF dry_run THEN RAISE EXCEPTION USING ERRCODE = 'TQ000'; END IF;
                EXECUTE 'UPDATE cron.job SET active = false WHERE jobid = $1' USING (j ->> 'jobid')::bigint;
            EXCEPTION WHEN SQLSTATE 'TQ000' THEN NULL;
                WHEN OTHERS THEN problem := SQLERRM;
            END;
        END IF;
        result := result || jsonb_build_object('jobid', j -> 'jobid', 'name', job_name, 'timing', timing, 'reading', checked.reading, 'owner', role, 'database', j -> 'database',
            'active', COALESCE(j -> 'active', 'true'), 'outcome', CASE WHEN problem IS NOT NULL THEN 'not taken over' WHEN dry_run THEN 'would be taken over' ELSE 'taken over' END, 'problem', problem,
            'statement', format('SELECT dts.schedule(%L, %L, %L, zone => %L, task => %L, missed => ''skip'', overlap => ''queue one'', owner => %L)', job_name, timing, j ->> 'command', zone, task, role));
    END LOOP;
    RETURN result;
END $$;
COMMENT ON FUNCTION dts._import_pg_cron(oid, boolean) IS 'dts.import_pg_cron, as the owner of the extension.';
CREATE FUNCTION dts._import_pg_cron_json(dry_run boolean) RETURNS jsonb LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dts_as_owner';
COMMENT ON FUNCTION dts._import_pg_cron_json(boolean) IS 'The result of dts.import_pg_cron as JSON.';
CREATE FUNCTION dts.__import_pg_cron_json(caller oid, dry_run boolean) RETURNS jsonb
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$ SELECT dts._import_pg_cron(caller, COALESCE(dry_run, true)) $$;
COMMENT ON FUNCTION dts.__import_pg_cron_json(oid, boolean) IS 'dts._import_pg_cron_json, as the owner of the extension.';
CREATE FUNCTION dts.import_pg_cron(dry_run boolean DEFAULT true) RETURNS TABLE (jobid bigint, name text, timing text, reading text, owner text, database text, active boolean, outcome text, problem text, statement text)
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
    SELECT x.* FROM jsonb_to_recordset(dts._import_pg_cron_json(dry_run)) x(jobid bigint, name text, timing text, reading text, owner text, database text, active boolean, outcome text, problem text, statement text) $$;
COMMENT ON FUNCTION dts.import_pg_cron(boolean) IS
'Takes over the jobs of an installed pg_cron: each becomes a schedule of its user, and is made inactive there. dry_run (the default) only shows what would happen. Jobs of other databases are shown with the statement to run there. For administrators.';

CREATE FUNCTION dts._explain_schedule(caller oid, name text) RETURNS text
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE s dts.schedule := dts._schedule_row(caller, name); c dts.schedule_clock; running bigint[]; f dts.fire; said text;
BEGIN
    SELECT * INTO c FROM dts.schedule_clock x WHERE x.schedule = s.id;
    SELECT array_agg(r.task ORDER BY r.task) INTO running FROM dts.schedule_run r WHERE r.schedule = s.id AND r.ended_at IS NULL AND r.backfill IS NULL;
    SELECT * INTO f FROM dts.fire x WHERE x.schedule = s.id ORDER BY x.due_at DESC, x.decided_at DESC LIMIT 1;
    said := dts._reading(s.timing, s.zone, s.both_days) || '; ' || CASE
        WHEN dts._fence() IS NOT NULL THEN 'fires nothing: ' || dts._fence()
        WHEN c.trouble IS NOT NULL THEN 'broken: ' || c.trouble
        WHEN s.paused THEN 'paused: dts.resume_schedule starts it again, and what was due meanwhile goes by missed => ''' || s.missed || ''''
        WHEN c.next_fire <= dts._schedule_clock_now() THEN  -- the scheduler is about to look: at what is due, or because somebody ran it by hand
             COALESCE((SELECT CASE WHEN d <= dts._schedule_clock_now() THEN format('due since %s, about to be decided', d) ELSE format('due next at %s (in %s)', d, d - dts._schedule_clock_now()) END
                       FROM dts._schedule_dues(s, c.fired_until, NULL, 1) d), 'about to be looked at')
        WHEN c.next_fire IS NOT NULL THEN format('due next at %s (in %s)', c.next_fire, c.next_fire - dts._schedule_clock_now())
        WHEN running IS NOT NULL AND s.timing ~* 'after\s+end\s*$' THEN 'due next when its run has ended'
        WHEN s.timing ~* '@reboot' THEN 'due at the next start of the server'
        WHEN c.runs >= s.max_runs THEN format('ended: it has had its %s run(s)', s.max_runs)
        ELSE 'ended: no due time is left' END;
    IF running IS NOT NULL THEN
        said := said || format('; not ended yet: task %s%s', array_to_string(running[:5], ', '), CASE WHEN s.overlap <> 'allow' THEN format(' (overlap => ''%s'')', s.overlap) ELSE '' END);
    END IF;
    IF c.waiting <> '{}' THEN said := said || format('; %s due time(s) wait for that', cardinality(c.waiting)); END IF;
    IF f.schedule IS NOT NULL THEN
        said := said || format('; last decision: %s (%s) for %s%s%s', f.decision, f.reason, f.due_at, ', task ' || f.task, ': ' || f.detail);
    END IF;
    RETURN said;
END $$;
COMMENT ON FUNCTION dts._explain_schedule(oid, text) IS 'dts.explain_schedule, as the owner of the extension.';
CREATE FUNCTION dts.explain_schedule(name text) RETURNS text LANGUAGE c STABLE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dts_as_owner';
COMMENT ON FUNCTION dts.explain_schedule(text) IS 'Says in words what a schedule does, when it is due next or why it is not, and what was decided last.';
