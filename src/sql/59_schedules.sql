-- Schedules: create or update, alter, pause, run now, drop; and what the timing language says without a schedule.

CREATE FUNCTION dts._overlap_max(overlap text) RETURNS int
    LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$ SELECT CASE overlap WHEN 'queue all' THEN 100 WHEN 'allow' THEN 10 ELSE 1 END $$;
COMMENT ON FUNCTION dts._overlap_max(text) IS 'overlap_max where nothing is said.';

CREATE FUNCTION dts._schedule(caller oid, name text, timing text, sql text, args jsonb, handler text, payload jsonb, workflow text, params jsonb, task jsonb, zone text, missed text, missed_max int, missed_within interval,
    overlap text, overlap_max int, late interval, only_in text, not_in text, shift text, both_days boolean, starts_at timestamptz, ends_at timestamptz, max_runs int8, jitter interval,
    paused boolean, owner text, description text) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE old dts.schedule; new dts.schedule;
BEGIN
    PERFORM dts._check_name('schedule', name);
    -- Two sessions that create the same one: the second waits here and then updates.
    INSERT INTO dts.schedule (name, owner, timing, what) VALUES (_schedule.name, caller, '', '{}') ON CONFLICT ON CONSTRAINT schedule_name_key DO NOTHING;
    IF FOUND THEN
        DELETE FROM dts.schedule s WHERE s.name = _schedule.name;
    ELSE
        old := dts._schedule_row(caller, name);
    END IF;
    new := ROW(NULL, name, CASE WHEN owner IS NULL AND old.id IS NOT NULL THEN old.owner ELSE dts._schedule_owner(caller, owner)::regrole END, timing, COALESCE(zone, 'UTC'), dts._what(sql, args, handler, payload, workflow, params, task),
               COALESCE(both_days, false), only_in, not_in, shift, starts_at, ends_at, max_runs, jitter, COALESCE(missed, 'once'), COALESCE(missed_max, 100), missed_within,
               COALESCE(overlap, 'skip'), COALESCE(overlap_max, dts._overlap_max(overlap)), late, COALESCE(paused, false), description, dts._schedule_clock_now());
    PERFORM dts._save_schedule(caller, 'schedule', old, new);
END $$;
COMMENT ON FUNCTION dts._schedule(oid, text, text, text, jsonb, text, jsonb, text, jsonb, jsonb, text, text, int, interval, text, int, interval, text, text, text, boolean, timestamptz, timestamptz, int8, interval, boolean, text, text) IS 'dts.schedule, as the owner of the extension.';

CREATE FUNCTION dts._alter_schedule(caller oid, name text, timing text, sql text, args jsonb, handler text, payload jsonb, workflow text, params jsonb, task jsonb, zone text, missed text, missed_max int, missed_within interval,
    overlap text, overlap_max int, late interval, only_in text, not_in text, shift text, both_days boolean, starts_at timestamptz, ends_at timestamptz, max_runs int8, jitter interval,
    paused boolean, owner text, description text, reset text[]) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE old dts.schedule := dts._schedule_row(caller, name); new dts.schedule; x text;
    choices text[] := ARRAY['late', 'only_in', 'not_in', 'shift', 'starts_at', 'ends_at', 'max_runs', 'jitter', 'description'];
BEGIN
    FOREACH x IN ARRAY COALESCE(reset, '{}') LOOP
        PERFORM dts._check_choice('reset', COALESCE(x, 'NULL'), choices);
    END LOOP;
    new := jsonb_populate_record(old, (SELECT COALESCE(jsonb_object_agg(r, NULL::jsonb), '{}') FROM unnest(reset) r));
    new.timing := COALESCE(timing, new.timing); new.zone := COALESCE(zone, new.zone); new.missed := COALESCE(missed, new.missed); new.missed_max := COALESCE(missed_max, new.missed_max);
    new.missed_within := CASE WHEN new.missed = 'within' THEN COALESCE(missed_within, new.missed_within) ELSE missed_within END;
    new.overlap_max := COALESCE(overlap_max, CASE WHEN overlap <> old.overlap THEN dts._overlap_max(overlap) END, new.overlap_max); new.overlap := COALESCE(overlap, new.overlap);
    new.late := COALESCE(late, new.late); new.only_in := COALESCE(only_in, new.only_in); new.not_in := COALESCE(not_in, new.not_in); new.shift := COALESCE(shift, new.shift);
    new.both_days := COALESCE(both_days, new.both_days); new.starts_at := COALESCE(starts_at, new.starts_at); new.ends_at := COALESCE(ends_at, new.ends_at);
    new.max_runs := COALESCE(max_runs, new.max_runs); new.jitter := COALESCE(jitter, new.jitter); new.paused := COALESCE(paused, new.paused); new.description := COALESCE(description, new.description);
    IF owner IS NOT NULL THEN new.owner := dts._schedule_owner(caller, owner); END IF;
    -- What it does is replaced as a whole; options alone are merged.
    IF num_nonnulls(sql, handler, workflow) > 0 OR task ?| ARRAY['sql', 'handler', 'workflow', 'http', 'mail', 'command'] THEN
        new.what := new.what - ARRAY['sql', 'args', 'handler', 'payload', 'workflow', 'params', 'http', 'mail', 'command', 'env', 'stdin', 'dir', 'requires', 'retry_exit_codes', 'container'];
    END IF;
    new.what := new.what || dts._what(sql, args, handler, payload, workflow, params, task);
    new.created_at := dts._schedule_clock_now();
    PERFORM dts._save_schedule(caller, 'alter_schedule', old, new);
END $$;
COMMENT ON FUNCTION dts._alter_schedule(oid, text, text, text, jsonb, text, jsonb, text, jsonb, jsonb, text, text, int, interval, text, int, interval, text, text, text, boolean, timestamptz, timestamptz, int8, interval, boolean, text, text, text[]) IS 'dts.alter_schedule, as the owner of the extension.';

CREATE FUNCTION dts._set_paused(caller oid, name text, pause boolean) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE s dts.schedule := dts._schedule_row(caller, name);
BEGIN
    IF s.paused = pause THEN RAISE NOTICE 'schedule "%" is % paused', name, CASE WHEN pause THEN 'already' ELSE 'not' END; RETURN; END IF;
    s.paused := pause;
    UPDATE dts.schedule x SET paused = pause WHERE x.id = s.id;
    UPDATE dts.schedule_clock c SET next_fire = CASE WHEN pause THEN NULL WHEN c.waiting <> '{}' THEN dts._schedule_clock_now() WHEN s.max_runs <= c.runs THEN NULL ELSE dts._next_fire(s, c.fired_until) END
    WHERE c.schedule = s.id;
    PERFORM dts._audit(caller, CASE WHEN pause THEN 'pause_schedule' ELSE 'resume_schedule' END, name, NULL, NULL), dts._changed('schedule', s.id);
END $$;
COMMENT ON FUNCTION dts._set_paused(oid, text, boolean) IS 'Pauses or resumes a schedule.';
CREATE FUNCTION dts._pause_schedule(caller oid, name text) RETURNS void
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$ SELECT dts._set_paused(caller, name, true) $$;
COMMENT ON FUNCTION dts._pause_schedule(oid, text) IS 'dts.pause_schedule, as the owner of the extension.';
CREATE FUNCTION dts._resume_schedule(caller oid, name text) RETURNS void
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$ SELECT dts._set_paused(caller, name, false) $$;
COMMENT ON FUNCTION dts._resume_schedule(oid, text) IS 'dts.resume_schedule, as the owner of the extension.';

CREATE FUNCTION dts._unschedule(caller oid, name text) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE old dts.schedule := dts._schedule_row(caller, name);
BEGIN
    DELETE FROM dts.backfill_due d USING dts.backfill b WHERE b.schedule = old.id AND d.backfill = b.id;
    DELETE FROM dts.backfill b WHERE b.schedule = old.id;
    DELETE FROM dts.schedule_run r WHERE r.schedule = old.id;
    DELETE FROM dts.schedule_clock c WHERE c.schedule = old.id;
    DELETE FROM dts.schedule s WHERE s.id = old.id;
    PERFORM dts._audit(caller, 'unschedule', name, to_jsonb(old), NULL), dts._changed('schedule', old.id);
END $$;
COMMENT ON FUNCTION dts._unschedule(oid, text) IS 'dts.unschedule, as the owner of the extension.';

CREATE FUNCTION dts._run_now(caller oid, name text) RETURNS int8
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE s dts.schedule := dts._schedule_row(caller, name); task int8;
BEGIN
    task := dts._fire_by_hand(s.id, dts._schedule_clock_now(), NULL);
    PERFORM dts._audit(caller, 'run_now', name, NULL, to_jsonb(task));
    RETURN task;
END $$;
COMMENT ON FUNCTION dts._run_now(oid, text) IS 'dts.run_now, as the owner of the extension.';

CREATE FUNCTION dts.schedule(name text, timing text, sql text DEFAULT NULL, args jsonb DEFAULT NULL, handler text DEFAULT NULL, payload jsonb DEFAULT NULL, workflow text DEFAULT NULL, params jsonb DEFAULT NULL, task jsonb DEFAULT NULL, zone text DEFAULT 'UTC',
    missed text DEFAULT NULL, missed_max int DEFAULT NULL, missed_within interval DEFAULT NULL, overlap text DEFAULT NULL, overlap_max int DEFAULT NULL, late interval DEFAULT NULL,
    only_in text DEFAULT NULL, not_in text DEFAULT NULL, shift text DEFAULT NULL, both_days boolean DEFAULT NULL, starts_at timestamptz DEFAULT NULL, ends_at timestamptz DEFAULT NULL,
    max_runs int8 DEFAULT NULL, jitter interval DEFAULT NULL, paused boolean DEFAULT NULL, owner text DEFAULT NULL, description text DEFAULT NULL) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dts_as_owner';
COMMENT ON FUNCTION dts.schedule(text, text, text, jsonb, text, jsonb, text, jsonb, jsonb, text, text, int, interval, text, int, interval, text, text, text, boolean, timestamptz, timestamptz, int8, interval, boolean, text, text) IS
'Creates a schedule, or makes one of this name be as said here. timing: cron (5 fields, 6 with seconds, @daily, ...), ''every 90 seconds [from ...]'', ''every 5 minutes after end'', ''at 2030-01-31 18:00, ...'', ''after 10 minutes'', @reboot. What: sql with args, handler with payload, workflow with params, or all of it in task, a JSON object as in dts.submit_many, which also holds options such as queue and timeout. missed: skip, once, all, within; overlap: skip, queue one, queue all, replace, allow; only_in, not_in: calendars, with shift (next, previous). See docs/schedules.md.';
CREATE FUNCTION dts.alter_schedule(name text, timing text DEFAULT NULL, sql text DEFAULT NULL, args jsonb DEFAULT NULL, handler text DEFAULT NULL, payload jsonb DEFAULT NULL, workflow text DEFAULT NULL, params jsonb DEFAULT NULL, task jsonb DEFAULT NULL, zone text DEFAULT NULL,
    missed text DEFAULT NULL, missed_max int DEFAULT NULL, missed_within interval DEFAULT NULL, overlap text DEFAULT NULL, overlap_max int DEFAULT NULL, late interval DEFAULT NULL,
    only_in text DEFAULT NULL, not_in text DEFAULT NULL, shift text DEFAULT NULL, both_days boolean DEFAULT NULL, starts_at timestamptz DEFAULT NULL, ends_at timestamptz DEFAULT NULL,
    max_runs int8 DEFAULT NULL, jitter interval DEFAULT NULL, paused boolean DEFAULT NULL, owner text DEFAULT NULL, description text DEFAULT NULL, reset text[] DEFAULT NULL) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dts_as_owner';
COMMENT ON FUNCTION dts.alter_schedule(text, text, text, jsonb, text, jsonb, text, jsonb, jsonb, text, text, int, interval, text, int, interval, text, text, text, boolean, timestamptz, timestamptz, int8, interval, boolean, text, text, text[]) IS
'Changes a schedule; what is left out or NULL stays, what reset names (late, only_in, not_in, shift, starts_at, ends_at, max_runs, jitter, description) is taken away. A new timing counts from now on.';
CREATE FUNCTION dts.pause_schedule(name text) RETURNS void LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dts_as_owner';
COMMENT ON FUNCTION dts.pause_schedule(text) IS 'Pauses a schedule: nothing is fired until dts.resume_schedule; running tasks go on.';
CREATE FUNCTION dts.resume_schedule(name text) RETURNS void LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dts_as_owner';
COMMENT ON FUNCTION dts.resume_schedule(text) IS 'Resumes a schedule. What was due meanwhile goes by its policy for missed runs.';
CREATE FUNCTION dts.unschedule(name text) RETURNS void LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dts_as_owner';
COMMENT ON FUNCTION dts.unschedule(text) IS 'Drops a schedule and its backfills. Tasks that it submitted go on; its history stays until retention ends.';
CREATE FUNCTION dts.run_now(name text) RETURNS int8 LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dts_as_owner';
COMMENT ON FUNCTION dts.run_now(text) IS 'Submits a run of a schedule at once, whatever its timing, pause and overlap policy say, and returns the task''s id.';

-- ---- without a schedule

CREATE FUNCTION dts.check_timing(timing text, zone text DEFAULT 'UTC', OUT valid boolean, OUT reading text, OUT error text, OUT "position" int, OUT hint text) RETURNS record
    LANGUAGE c STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'dts_check_timing';
COMMENT ON FUNCTION dts.check_timing(text, text) IS 'A timing in plain English ("at 02:30 on the last weekday of each month, Europe/Berlin"), or what is wrong with it and at which character.';

CREATE FUNCTION dts.next_runs(timing text, zone text, n int DEFAULT 10, after timestamptz DEFAULT NULL, both_days boolean DEFAULT false) RETURNS SETOF timestamptz
    LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT dts._due_times(timing, zone, both_days, NULL, NULL, NULL, COALESCE(after, now()), NULL, NULL, COALESCE(after, now()), NULL, LEAST(n, 100000)) $$;
COMMENT ON FUNCTION dts.next_runs(text, text, int, timestamptz, boolean) IS 'The next n due times of a timing in a zone after an instant (now if it is not given). None for @reboot and "after end".';

CREATE FUNCTION dts.__schedule_runs(caller oid, schedule text, n int, after timestamptz) RETURNS timestamptz[]
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE s dts.schedule := dts._schedule_row(caller, schedule); mark timestamptz; remaining int8;
BEGIN
    SELECT COALESCE(after, c.fired_until), s.max_runs - c.runs - cardinality(c.waiting) INTO mark, remaining FROM dts.schedule_clock c WHERE c.schedule = s.id;
    IF after IS NULL THEN n := LEAST(n, CASE WHEN remaining < 0 THEN 0 ELSE remaining END); END IF;
    RETURN ARRAY(SELECT dts._schedule_dues(s, GREATEST(mark, COALESCE(after, dts._schedule_clock_now())), NULL, LEAST(n, 100000)));
END $$;
COMMENT ON FUNCTION dts.__schedule_runs(oid, text, int, timestamptz) IS 'dts._schedule_runs, as the owner of the extension.';
CREATE FUNCTION dts._schedule_runs(schedule text, n int, after timestamptz) RETURNS timestamptz[]
    LANGUAGE c STABLE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dts_as_owner';
COMMENT ON FUNCTION dts._schedule_runs(text, int, timestamptz) IS 'The next n due times of a schedule, as an array.';
CREATE FUNCTION dts.next_runs(schedule text, n int DEFAULT 10, after timestamptz DEFAULT NULL) RETURNS SETOF timestamptz
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$ SELECT unnest(dts._schedule_runs(schedule, n, after)) $$;
COMMENT ON FUNCTION dts.next_runs(text, int, timestamptz) IS 'The next n due times of a schedule from now on, with its calendars, bounds and max_runs; or what its timing says after an instant.';

-- ---- inside a task

CREATE FUNCTION dts._schedule_tag() RETURNS jsonb LANGUAGE c STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'dts_schedule_tag';
COMMENT ON FUNCTION dts._schedule_tag() IS 'What the running task knows of its schedule; NULL outside of such a task.';
CREATE FUNCTION dts.scheduled_for() RETURNS timestamptz
    LANGUAGE sql STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp AS $$ SELECT (dts._schedule_tag() ->> 'due')::timestamptz $$;
COMMENT ON FUNCTION dts.scheduled_for() IS 'The due time for which the running task was fired by its schedule; NULL outside of such a task.';
CREATE FUNCTION dts.scheduled(OUT schedule text, OUT due_at timestamptz, OUT previous_due_at timestamptz, OUT last_success_due_at timestamptz) RETURNS record
    LANGUAGE sql STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp AS $$
    SELECT t ->> 'name', (t ->> 'due')::timestamptz, (t ->> 'previous')::timestamptz, (t ->> 'success')::timestamptz FROM dts._schedule_tag() t $$;
COMMENT ON FUNCTION dts.scheduled() IS 'What the running task knows of its schedule: its name, its own due time, that of the run before it, and that of the last run that had succeeded when it was fired. (previous_due_at, due_at] is its interval, also in a backfill; (last_success_due_at, due_at] is what no run has done yet.';
