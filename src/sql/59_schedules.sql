-- Schedules: create or update, alter, pause, run now, backfill, drop; and what the timing language says without a schedule.

CREATE FUNCTION dts._us(i interval) RETURNS int8
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$ SELECT (extract(epoch FROM $1) * 1000000)::int8 $$;
COMMENT ON FUNCTION dts._us(interval) IS 'Microseconds of an interval; a month counts 30 days.';

CREATE FUNCTION dts._due_times(timing text, zone text, both_days boolean, only_in text[], not_in text[], shift text, made_at timestamptz, starts_at timestamptz,
    ends_at timestamptz, after timestamptz, until timestamptz, n int8) RETURNS SETOF timestamptz
    LANGUAGE c STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'dts_due_times';
COMMENT ON FUNCTION dts._due_times(text, text, boolean, text[], text[], text, timestamptz, timestamptz, timestamptz, timestamptz, timestamptz, int8) IS 'The due times of a rule after an instant, up to another, at most n.';

CREATE FUNCTION dts._check_rule(timing text, zone text, both_days boolean, only_in text[], not_in text[], shift text, made_at timestamptz, starts_at timestamptz, ends_at timestamptz) RETURNS text
    LANGUAGE c STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'dts_check_rule';
COMMENT ON FUNCTION dts._check_rule(text, text, boolean, text[], text[], text, timestamptz, timestamptz, timestamptz) IS 'Refuses a rule that is malformed or never due; returns the zone as the server spells it.';

CREATE FUNCTION dts._check_task(owner oid, what jsonb) RETURNS void
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dts_check_task';
COMMENT ON FUNCTION dts._check_task(oid, jsonb) IS 'Refuses a task that this role could not submit, and options that a schedule sets itself.';

-- Given a new life by hand, it counts again: for overlap, and as a success.
CREATE FUNCTION dts._scheduled_again(task bigint, was bigint, tag jsonb) RETURNS void
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
    UPDATE dts.fire f SET task = _scheduled_again.task FROM dts.schedule s WHERE s.name = tag ->> 'name' AND f.schedule = s.id AND f.due_at = (tag ->> 'due')::timestamptz AND f.task = was;
    INSERT INTO dts.schedule_run (task, schedule, due_at, wakes) SELECT _scheduled_again.task, s.id, (tag ->> 'due')::timestamptz, true FROM dts.schedule s
    WHERE s.name = tag ->> 'name' AND EXISTS (SELECT FROM dts.fire f WHERE f.schedule = s.id AND f.due_at = (tag ->> 'due')::timestamptz AND f.task = _scheduled_again.task AND f.reason <> 'backfill')
    ON CONFLICT (task) DO UPDATE SET ended_at = NULL, outcome = NULL $$;
COMMENT ON FUNCTION dts._scheduled_again(bigint, bigint, jsonb) IS 'Notes that a run of a schedule that had failed is run again.';

-- Runs are asked to end without a wait: nodes and children of workflows too.
CREATE FUNCTION dts._cancel_schedule_runs(schedule int) RETURNS SETOF bigint
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
    WITH RECURSIVE own AS (SELECT r.task, s.owner FROM dts.schedule_run r JOIN dts.schedule s ON s.id = r.schedule WHERE r.schedule = $1 AND r.ended_at IS NULL AND r.backfill IS NULL),
        run AS (SELECT n.run, o.owner FROM own o JOIN dts.workflow_node n ON n.task = o.task AND n.node = '(end)'
                UNION SELECT n.child_run, x.owner FROM run x JOIN dts.workflow_node n ON n.run = x.run AND n.child_run IS NOT NULL),
        -- Somebody who holds the row is steering the run himself.
        free AS (SELECT w.id FROM dts.workflow_run w WHERE w.id IN (SELECT x.run FROM run x) AND w.ended_at IS NULL FOR UPDATE SKIP LOCKED),
        told AS (UPDATE dts.workflow_run w SET state = 'cancelling', paused = false FROM free WHERE w.id = free.id),
        t AS (SELECT n.task, x.owner FROM run x JOIN dts.workflow_node n ON n.run = x.run JOIN dts.task t ON t.id = n.task WHERE n.node <> '(end)' AND n.child_run IS NULL
              UNION SELECT o.task, o.owner FROM own o WHERE NOT EXISTS (SELECT FROM dts.workflow_node n WHERE n.task = o.task))
    INSERT INTO dts.request (task, kind, by_role) SELECT t.task, 'cancel', t.owner FROM t
    WHERE NOT EXISTS (SELECT FROM dts.request q WHERE q.task = t.task AND q.kind = 'cancel') RETURNING task $$;
COMMENT ON FUNCTION dts._cancel_schedule_runs(int) IS 'Asks the unfinished runs of a schedule to end; returns the tasks that are to be cancelled.';

CREATE FUNCTION dts._fire_by_hand(schedule int, due timestamptz, backfill int) RETURNS int8
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dts_fire_by_hand';
COMMENT ON FUNCTION dts._fire_by_hand(int, timestamptz, int) IS 'Submits a run of a schedule for a due time, outside of its timing.';

CREATE FUNCTION dts._reading(timing text, zone text, both_days boolean) RETURNS text
    LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'dts_reading';
COMMENT ON FUNCTION dts._reading(text, text, boolean) IS 'A timing in plain English.';

CREATE FUNCTION dts._zone_print(zone text) RETURNS int8
    LANGUAGE c VOLATILE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'dts_zone_print';
COMMENT ON FUNCTION dts._zone_print(text) IS 'A hash of the clock changes of a zone, 2020 to 2060; NULL if the server does not know it.';

-- A due time that another edition of the zone database moves forward must not be found only when the old one comes.
CREATE FUNCTION dts._look_at_zones(at timestamptz) RETURNS bigint
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
    WITH f AS MATERIALIZED (SELECT z.zone, dts._zone_print(z.zone) AS print FROM (SELECT DISTINCT s.zone FROM dts.schedule s) z),
        changed AS (SELECT f.zone FROM f JOIN dts.zone k ON k.name = f.zone WHERE k.print IS DISTINCT FROM f.print),
        kept AS (INSERT INTO dts.zone AS k (name, print) SELECT f.zone, f.print FROM f ON CONFLICT (name) DO UPDATE SET print = EXCLUDED.print WHERE k.print IS DISTINCT FROM EXCLUDED.print),
        looks AS (UPDATE dts.schedule_clock c SET next_fire = at FROM dts.schedule s JOIN changed ON changed.zone = s.zone WHERE s.id = c.schedule AND NOT s.paused AND c.next_fire IS NOT NULL RETURNING 1)
    SELECT count(*) FROM looks $$;
COMMENT ON FUNCTION dts._look_at_zones(timestamptz) IS 'Has the scheduler look at the schedules whose zone has other clock changes than at the last start. Returns how many.';

CREATE FUNCTION dts._schedule_clock_now() RETURNS timestamptz
    LANGUAGE sql VOLATILE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$ SELECT clock_timestamp() + COALESCE(current_setting('dts.debug_schedule_clock', true), '0')::interval $$;
COMMENT ON FUNCTION dts._schedule_clock_now() IS 'The clock of schedules.';

CREATE FUNCTION dts._schedule_dues(s dts.schedule, after timestamptz, until timestamptz, n int8) RETURNS SETOF timestamptz
    LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT dts._due_times(s.timing, s.zone, s.both_days, (SELECT c.entries FROM dts.calendar c WHERE c.name = s.only_in), (SELECT c.entries FROM dts.calendar c WHERE c.name = s.not_in),
                          s.shift, s.created_at, s.starts_at, s.ends_at, after, until, n) $$;
COMMENT ON FUNCTION dts._schedule_dues(dts.schedule, timestamptz, timestamptz, int8) IS 'The due times of a schedule after an instant, up to another, at most n.';

CREATE FUNCTION dts._due_before(timing text, zone text, both_days boolean, only_in text[], not_in text[], shift text, made_at timestamptz, starts_at timestamptz, ends_at timestamptz, due timestamptz) RETURNS timestamptz
    LANGUAGE c STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'dts_due_before';
COMMENT ON FUNCTION dts._due_before(text, text, boolean, text[], text[], text, timestamptz, timestamptz, timestamptz, timestamptz) IS 'The due time of a rule before another one.';
CREATE FUNCTION dts._due_before(s dts.schedule, due timestamptz) RETURNS timestamptz
    LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT dts._due_before(s.timing, s.zone, s.both_days, (SELECT c.entries FROM dts.calendar c WHERE c.name = s.only_in), (SELECT c.entries FROM dts.calendar c WHERE c.name = s.not_in),
                           s.shift, s.created_at, NULL, NULL, due) $$;
COMMENT ON FUNCTION dts._due_before(dts.schedule, timestamptz) IS 'The due time of a schedule before another one, whatever its bounds; NULL if there is none.';

-- What follows events is looked at once, by the scheduler; everything else when it is due.
CREATE FUNCTION dts._next_fire(s dts.schedule, after timestamptz) RETURNS timestamptz
    LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN s.paused THEN NULL WHEN s.timing ~* 'after\s+end\s*$' THEN GREATEST(after, s.starts_at) ELSE (SELECT d FROM dts._schedule_dues(s, after, NULL, 1) d) END $$;
COMMENT ON FUNCTION dts._next_fire(dts.schedule, timestamptz) IS 'When the scheduler has to look at a schedule whose mark stands there; NULL: not by the clock.';

CREATE FUNCTION dts._schedule_row(caller oid, name text) RETURNS dts.schedule
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE s dts.schedule;
BEGIN
    IF name IS NULL THEN
        RAISE EXCEPTION 'schedule name must not be null' USING ERRCODE = 'null_value_not_allowed', HINT = 'The view dts.schedules shows those there are.';
    END IF;
    SELECT * INTO s FROM dts.schedule x WHERE x.name = _schedule_row.name;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'schedule "%" does not exist', name USING ERRCODE = 'undefined_object', HINT = 'Create it with dts.schedule, or see dts.schedules.';
    ELSIF NOT dts._role_may(caller, s.owner) THEN
        RAISE EXCEPTION 'permission denied for schedule "%"', name USING ERRCODE = 'insufficient_privilege',
            DETAIL = 'Only members of its owner''s role and administrators may change it.', HINT = 'Ask its owner, or use another name.';
    END IF;
    RETURN s;
END $$;
COMMENT ON FUNCTION dts._schedule_row(oid, text) IS 'The schedule of this name if the caller may change it; 42704 or 42501 else.';

CREATE FUNCTION dts._check_choice(argument text, value text, choices text[]) RETURNS void
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF value IS NOT NULL AND value <> ALL (choices) THEN
        RAISE EXCEPTION 'invalid value for argument "%": "%"', argument, value USING ERRCODE = 'invalid_parameter_value', HINT = format('Use %s.', array_to_string(choices, ', '));
    END IF;
END $$;
COMMENT ON FUNCTION dts._check_choice(text, text, text[]) IS 'Refuses a value that is none of some words.';

CREATE FUNCTION dts._check_bounds(argument text, value int8, lowest int8, highest int8) RETURNS void
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF value < lowest OR value > highest THEN
        RAISE EXCEPTION 'argument "%" must be between % and %', argument, lowest, highest
            USING ERRCODE = 'invalid_parameter_value', DETAIL = format('Got %s.', value), HINT = 'Leave it out for the default.';
    END IF;
END $$;
COMMENT ON FUNCTION dts._check_bounds(text, int8, int8, int8) IS 'Refuses a number out of bounds.';

CREATE FUNCTION dts._check_schedule(caller oid, s dts.schedule) RETURNS dts.schedule
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE only_in text[]; not_in text[]; x text; entries text[];
BEGIN
    PERFORM dts._check_name('schedule', s.name);
    FOREACH x IN ARRAY ARRAY[s.only_in, s.not_in] LOOP
        CONTINUE WHEN x IS NULL;
        SELECT c.entries INTO entries FROM dts.calendar c WHERE c.name = x;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'calendar "%" does not exist', x USING ERRCODE = 'undefined_object', HINT = 'Create it with dts.create_calendar, or see dts.calendars.';
        END IF;
        IF x = s.only_in THEN only_in := entries; END IF;
        IF x = s.not_in THEN not_in := entries; END IF;
    END LOOP;
    PERFORM dts._check_choice('shift', s.shift, ARRAY['next', 'previous']), dts._check_choice('missed', s.missed, ARRAY['skip', 'once', 'all', 'within']),
            dts._check_choice('overlap', s.overlap, ARRAY['skip', 'queue one', 'queue all', 'replace', 'allow']);
    PERFORM dts._check_bounds('missed_max', s.missed_max, 1, 1000), dts._check_bounds('overlap_max', s.overlap_max, 1, 500), dts._check_bounds('max_runs', s.max_runs, 1, 1000000000000);
    PERFORM dts._check_interval('missed_within', s.missed_within), dts._check_interval('late', s.late), dts._check_interval('jitter', s.jitter);
    IF s.shift IS NOT NULL AND s.only_in IS NULL AND s.not_in IS NULL THEN
        RAISE EXCEPTION 'argument "shift" needs "only_in" or "not_in"' USING ERRCODE = 'invalid_parameter_value', HINT = 'It says what becomes of a run on a day that these rule out.';
    ELSIF (s.missed = 'within') <> (s.missed_within IS NOT NULL) THEN
        RAISE EXCEPTION 'argument "missed_within" goes with missed => ''within''' USING ERRCODE = 'invalid_parameter_value', HINT = 'Give both: missed => ''within'', missed_within => ''2 hours''.';
    ELSIF s.starts_at = ANY ('{infinity,-infinity}'::timestamptz[]) OR s.ends_at = ANY ('{infinity,-infinity}'::timestamptz[]) THEN
        RAISE EXCEPTION 'arguments "starts_at" and "ends_at" must be finite' USING ERRCODE = 'invalid_parameter_value', HINT = 'Leave out the bound that there is not.';
    ELSIF s.starts_at >= s.ends_at THEN
        RAISE EXCEPTION 'argument "ends_at" must be after "starts_at"' USING ERRCODE = 'invalid_parameter_value', DETAIL = format('Got %s and %s.', s.starts_at, s.ends_at), HINT = 'The end is the first instant that is too late.';
    ELSIF s.jitter > '1 day'::interval THEN
        RAISE EXCEPTION 'argument "jitter" must be at most 1 day' USING ERRCODE = 'invalid_parameter_value', HINT = 'It spreads the starts of many schedules over a short time.';
    END IF;
    s.zone := dts._check_rule(s.timing, s.zone, s.both_days, only_in, not_in, s.shift, s.created_at, s.starts_at, s.ends_at);
    PERFORM dts._check_task(s.owner, s.what);
    RETURN s;
END $$;
COMMENT ON FUNCTION dts._check_schedule(oid, dts.schedule) IS 'Refuses bad settings of a schedule; returns it with its zone as the server spells it.';

-- The mark of a new timing begins now: what the old one left undecided is not the new one's.
CREATE FUNCTION dts._save_schedule(caller oid, action text, old dts.schedule, new dts.schedule) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE now timestamptz := dts._schedule_clock_now(); retimed boolean;
BEGIN
    -- What runs with a role's rights only its members decide; administrators may do the rest.
    IF (old.id IS NULL OR old.what IS DISTINCT FROM new.what OR old.owner <> new.owner) AND NOT pg_has_role(caller, new.owner, 'MEMBER') THEN
        RAISE EXCEPTION 'permission denied to change what schedule "%" runs', new.name USING ERRCODE = 'insufficient_privilege',
            DETAIL = 'It runs with the rights of a role that you are no member of.', HINT = 'Its timing and policies you may change with dts.alter_schedule.';
    END IF;
    new := dts._check_schedule(caller, new);
    IF old.id IS NULL THEN
        PERFORM dts._check_number(new.owner::oid, 'schedule');
        INSERT INTO dts.schedule (name, owner, timing, zone, what, both_days, only_in, not_in, shift, starts_at, ends_at, max_runs, jitter, missed, missed_max, missed_within,
                                  overlap, overlap_max, late, paused, description, created_at)
        VALUES (new.name, new.owner, new.timing, new.zone, new.what, new.both_days, new.only_in, new.not_in, new.shift, new.starts_at, new.ends_at, new.max_runs, new.jitter, new.missed,
                new.missed_max, new.missed_within, new.overlap, new.overlap_max, new.late, new.paused, new.description, new.created_at) RETURNING id INTO new.id;
        INSERT INTO dts.schedule_clock (schedule, fired_until, next_fire) VALUES (new.id, now, dts._next_fire(new, now));
    ELSE
        new.id := old.id;
        retimed := (old.timing, old.zone, old.both_days, old.only_in, old.not_in, old.shift, old.starts_at, old.ends_at) IS DISTINCT FROM
                   (new.timing, new.zone, new.both_days, new.only_in, new.not_in, new.shift, new.starts_at, new.ends_at)
                   -- It had ended by its number of runs, and begins again: what was due meanwhile was not missed.
                   OR EXISTS (SELECT FROM dts.schedule_clock c WHERE c.schedule = old.id AND old.max_runs <= c.runs);
        IF retimed THEN new.created_at := now; ELSE new.created_at := old.created_at; END IF;
        UPDATE dts.schedule s SET owner = new.owner, timing = new.timing, zone = new.zone, what = new.what, both_days = new.both_days, only_in = new.only_in, not_in = new.not_in, shift = new.shift,
            starts_at = new.starts_at, ends_at = new.ends_at, max_runs = new.max_runs, jitter = new.jitter, missed = new.missed, missed_max = new.missed_max, missed_within = new.missed_within,
            overlap = new.overlap, overlap_max = new.overlap_max, late = new.late, paused = new.paused, description = new.description, created_at = new.created_at
        WHERE s.id = old.id;
        UPDATE dts.schedule_clock c SET trouble = NULL, fired_until = CASE WHEN retimed THEN GREATEST(c.fired_until, now) ELSE c.fired_until END,
            next_fire = CASE WHEN new.max_runs <= c.runs AND c.waiting = '{}' THEN NULL ELSE dts._next_fire(new, CASE WHEN retimed THEN GREATEST(c.fired_until, now) ELSE c.fired_until END) END
        WHERE c.schedule = old.id;
    END IF;
    PERFORM dts._audit(caller, action, new.name, CASE WHEN old.id IS NOT NULL THEN to_jsonb(old) END, to_jsonb(new)), dts._changed('schedule', new.id);
END $$;
COMMENT ON FUNCTION dts._save_schedule(oid, text, dts.schedule, dts.schedule) IS 'Writes a new or changed schedule and where it stands.';

CREATE FUNCTION dts._what(sql text, args jsonb, handler text, payload jsonb, workflow text, params jsonb, task jsonb) RETURNS jsonb
    LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF jsonb_typeof(task) <> 'object' THEN
        RAISE EXCEPTION 'argument "task" must be a JSON object' USING ERRCODE = 'invalid_parameter_value', HINT = 'Example: {"queue": "reports", "timeout": "5 minutes"}.';
    END IF;
    RETURN COALESCE(task, '{}') || jsonb_strip_nulls(jsonb_build_object('sql', sql, 'handler', handler, 'workflow', workflow)) || CASE WHEN args IS NULL THEN '{}' ELSE jsonb_build_object('args', args) END
           || CASE WHEN payload IS NULL THEN '{}' ELSE jsonb_build_object('payload', payload) END || CASE WHEN params IS NULL THEN '{}' ELSE jsonb_build_object('params', params) END;
END $$;
COMMENT ON FUNCTION dts._what(text, jsonb, text, jsonb, text, jsonb, jsonb) IS 'What a schedule submits, as one object of the shape that dts.submit_many(jsonb) takes.';

CREATE FUNCTION dts._schedule_owner(caller oid, owner text) RETURNS oid
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE r oid;
BEGIN
    IF owner IS NULL THEN RETURN caller; END IF;
    SELECT x.oid INTO r FROM pg_roles x WHERE x.rolname = owner;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'role "%" does not exist', owner USING ERRCODE = 'undefined_object', DETAIL = 'Given as argument "owner".', HINT = 'Role names are case-sensitive here.';
    ELSIF NOT pg_has_role(caller, r, 'MEMBER') THEN
        RAISE EXCEPTION 'permission denied to schedule tasks of role "%"', owner USING ERRCODE = 'insufficient_privilege',
            DETAIL = 'Argument "owner" must name a role that you are a member of.', HINT = 'Ask for membership: GRANT role TO user.';
    END IF;
    RETURN r;
END $$;
COMMENT ON FUNCTION dts._schedule_owner(oid, text) IS 'Whose schedule it is: the caller''s, or that of a role that he is a member of.';

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

CREATE FUNCTION dts._backfill(caller oid, name text, from_at timestamptz, to_at timestamptz, max_parallel int, "order" text, only_missing boolean) RETURNS int
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE s dts.schedule := dts._schedule_row(caller, name); b int; n int8;
BEGIN
    PERFORM dts._check_bounds('max_parallel', max_parallel, 1, 1000), dts._check_choice('order', "order", ARRAY['oldest first', 'newest first']);
    IF from_at IS NULL OR to_at IS NULL THEN
        RAISE EXCEPTION 'arguments "from_at" and "to_at" must not be null' USING ERRCODE = 'null_value_not_allowed', HINT = 'Give the first instant, and the first that is too late.';
    ELSIF from_at >= to_at OR from_at = '-infinity' OR to_at = 'infinity' THEN
        RAISE EXCEPTION 'argument "to_at" must be after "from_at", and both finite' USING ERRCODE = 'invalid_parameter_value', DETAIL = format('Got %s and %s.', from_at, to_at), HINT = 'The end is the first instant that is too late.';
    ELSIF to_at > dts._schedule_clock_now() THEN
        RAISE EXCEPTION 'argument "to_at" is in the future' USING ERRCODE = 'invalid_parameter_value', HINT = 'What is still to come the schedule fires itself.';
    ELSIF s.timing ~* '@reboot|after\s+end\s*$|^\s*@?after' THEN
        RAISE EXCEPTION 'schedule "%" has no past due times', name USING ERRCODE = 'feature_not_supported', HINT = 'Only cron, fixed intervals and instants can be filled back.';
    END IF;
    -- Bounds of the schedule are about its own runs, not about what is asked for here.
    s.starts_at := NULL; s.ends_at := NULL;
    INSERT INTO dts.backfill (schedule, from_at, to_at, max_parallel, newest_first, total)
    VALUES (s.id, _backfill.from_at, _backfill.to_at, COALESCE(_backfill.max_parallel, 1), COALESCE("order", 'oldest first') = 'newest first', 0) RETURNING id INTO b;
    INSERT INTO dts.backfill_due (backfill, due_at)
    SELECT b, d FROM dts._schedule_dues(s, _backfill.from_at - '1 us'::interval, _backfill.to_at - '1 us'::interval, 100001) d
    WHERE NOT (COALESCE(only_missing, false) AND (
        EXISTS (SELECT FROM dts.fire f JOIN dts.run r ON r.task = f.task AND r.outcome = 10 WHERE f.schedule = s.id AND f.due_at = d AND f.decision = 'fired')
        OR EXISTS (SELECT FROM dts.schedule_run r WHERE r.schedule = s.id AND r.due_at = d AND (r.ended_at IS NULL OR r.outcome = 10))));
    GET DIAGNOSTICS n = ROW_COUNT;
    IF n > 100000 THEN
        RAISE EXCEPTION 'backfill has more than 100000 due times' USING ERRCODE = 'program_limit_exceeded', HINT = 'Fill back in several steps.';
    END IF;
    UPDATE dts.backfill x SET total = n, state = CASE WHEN n = 0 THEN 'done' ELSE 'running' END, ended_at = CASE WHEN n = 0 THEN clock_timestamp() END WHERE x.id = b;
    PERFORM dts._audit(caller, 'backfill', name, NULL, jsonb_build_object('id', b, 'from', from_at, 'to', to_at, 'runs', n)), dts._changed('schedule', s.id);
    RETURN b;
END $$;
COMMENT ON FUNCTION dts._backfill(oid, text, timestamptz, timestamptz, int, text, boolean) IS 'dts.backfill, as the owner of the extension.';

CREATE FUNCTION dts._cancel_backfill(caller oid, backfill int) RETURNS int8
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE b dts.backfill; s dts.schedule; n int8;
BEGIN
    SELECT * INTO b FROM dts.backfill x WHERE x.id = _cancel_backfill.backfill FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'backfill % does not exist', COALESCE(backfill::text, 'NULL') USING ERRCODE = 'undefined_object', HINT = 'The view dts.backfills shows those there are.';
    END IF;
    SELECT * INTO s FROM dts.schedule x WHERE x.id = b.schedule;
    PERFORM dts._schedule_row(caller, s.name);
    DELETE FROM dts.backfill_due d WHERE d.backfill = b.id;
    GET DIAGNOSTICS n = ROW_COUNT;
    UPDATE dts.backfill x SET state = 'cancelled', ended_at = clock_timestamp() WHERE x.id = b.id AND x.state = 'running';
    PERFORM dts._audit(caller, 'cancel_backfill', s.name, to_jsonb(b), NULL);
    RETURN n;
END $$;
COMMENT ON FUNCTION dts._cancel_backfill(oid, int) IS 'dts.cancel_backfill, as the owner of the extension.';

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
CREATE FUNCTION dts.backfill(name text, from_at timestamptz, to_at timestamptz, max_parallel int DEFAULT 1, "order" text DEFAULT 'oldest first', only_missing boolean DEFAULT false) RETURNS int
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dts_as_owner';
COMMENT ON FUNCTION dts.backfill(text, timestamptz, timestamptz, int, text, boolean) IS
'Runs a schedule for its due times in [from_at, to_at), max_parallel at once, oldest first or newest first; only_missing leaves out those with a success in history. Returns the id of the backfill; dts.backfills shows progress.';
CREATE FUNCTION dts.cancel_backfill(backfill int) RETURNS int8 LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dts_as_owner';
COMMENT ON FUNCTION dts.cancel_backfill(int) IS 'Ends a backfill: runs that were submitted go on, the others are given up. Returns how many.';

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
