-- Rules of schedules: what is due when, what a definition may say, and how it is kept.

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
