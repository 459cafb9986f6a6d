-- How many runs of a workflow may be under way at once. A run that waits for its turn is one whose nodes wait, as those of a paused one do.
-- Nothing is counted: who has a place follows from the rows of runs and tasks, so none can leak. What changes that (a run that comes, or leaves)
-- is done by executors, one at a time for each gate, under a lock that they never wait for.

CREATE FUNCTION dts._lock_gate(workflow int, gate text) RETURNS boolean
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dts_lock_gate';
COMMENT ON FUNCTION dts._lock_gate(int, text) IS 'Takes the lock of a gate until the end of the transaction. False if somebody has it. No other SQL can take it.';

CREATE FUNCTION dts._gate_of(plan jsonb, params jsonb, workflow int, parent bigint) RETURNS text
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE key text; above dts.workflow_run;
BEGIN
    IF NOT plan ? 'concurrency' THEN
        RETURN NULL;
    END IF;
    key := COALESCE(dts._resolve(plan #> '{concurrency,key}', jsonb_build_object('params', params)) #>> '{}', '');
    IF octet_length(key) > 1000 THEN
        RAISE EXCEPTION 'the concurrency key of the run is longer than 1000 bytes' USING ERRCODE = 'invalid_parameter_value', HINT = 'Use a parameter that holds a short name, or a hash.';
    END IF;
    -- A run that was started by one of the same gate is part of it, and would wait for it for ever.
    WHILE parent IS NOT NULL LOOP
        SELECT y.* INTO above FROM dts.workflow_node x JOIN dts.workflow_run y ON y.id = x.run WHERE x.task = parent LIMIT 1;
        IF above.workflow = _gate_of.workflow AND above.gate = key THEN
            RETURN NULL;
        END IF;
        parent := above.parent_task;
    END LOOP;
    RETURN key;
END $$;
COMMENT ON FUNCTION dts._gate_of(jsonb, jsonb, int, bigint) IS 'The concurrency key of a run, empty if its workflow has a limit without a key; NULL if it need not wait for others.';

CREATE FUNCTION dts._run_alive(run bigint) RETURNS boolean
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$ BEGIN
    RETURN EXISTS (SELECT FROM dts.workflow_node x WHERE x.run = _run_alive.run AND x.node = ANY ('{(end),(left)}') AND x.idx = 0 AND dts._task_state(x.task) IS NOT NULL); END $$;
COMMENT ON FUNCTION dts._run_alive(bigint) IS 'Whether a run still has the task that will give its place back: one whose owner was dropped has not.';

CREATE FUNCTION dts._holders(r dts.workflow_run) RETURNS SETOF bigint
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT h.id FROM dts.workflow_run h WHERE h.workflow = r.workflow AND h.gate = r.gate AND h.begun_at IS NOT NULL AND h.left_at IS NULL AND dts._run_alive(h.id) $$;
COMMENT ON FUNCTION dts._holders(dts.workflow_run) IS 'Runs that have the places which this one needs.';

CREATE FUNCTION dts._gate_limit(r dts.workflow_run) RETURNS int
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT (v.plan #>> '{concurrency,limit}')::numeric::int FROM dts.workflow_version v WHERE v.workflow = r.workflow AND v.version = r.version $$;
COMMENT ON FUNCTION dts._gate_limit(dts.workflow_run) IS 'How many runs of its key there may be, by its own version, for this run to begin.';

CREATE FUNCTION dts._before(r dts.workflow_run) RETURNS SETOF dts.workflow_run
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
    SELECT y.* FROM dts.workflow_run y WHERE y.workflow = r.workflow AND y.gate = r.gate AND y.begun_at IS NULL AND y.left_at IS NULL AND y.ended_at IS NULL
        AND (y.due_at, y.id) < (r.due_at, r.id) AND y.state = 'running' AND NOT y.paused AND dts._run_alive(y.id) $$;
COMMENT ON FUNCTION dts._before(dts.workflow_run) IS 'Runs that wait for the same places and come first.';

-- Lets those begin for whom there is room, in the order in which they were due. The caller has the lock of the gate.
CREATE FUNCTION dts._open_gate(workflow int, gate text) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE head dts.workflow_run; now timestamptz := clock_timestamp();
BEGIN
    LOOP
        -- Somebody may hold a row in an open transaction (cancel, pause): he is not waited for.
        SELECT * INTO head FROM dts.workflow_run y
        WHERE y.workflow = _open_gate.workflow AND y.gate = _open_gate.gate AND y.begun_at IS NULL AND y.left_at IS NULL AND y.ended_at IS NULL
          AND y.due_at <= now AND y.state = 'running' AND NOT y.paused AND dts._run_alive(y.id)
        ORDER BY y.due_at, y.id LIMIT 1 FOR UPDATE SKIP LOCKED;
        IF NOT FOUND THEN
            -- He may roll back, and nobody else would come by.
            IF EXISTS (SELECT FROM dts.workflow_run y WHERE y.workflow = _open_gate.workflow AND y.gate = _open_gate.gate AND y.begun_at IS NULL AND y.left_at IS NULL
                       AND y.ended_at IS NULL AND y.due_at <= now AND y.state = 'running' AND NOT y.paused AND dts._run_alive(y.id)) THEN
                PERFORM dts._changed('gate', 0);
            END IF;
            RETURN;
        END IF;
        EXIT WHEN (SELECT count(*) FROM (SELECT FROM dts._holders(head) LIMIT dts._gate_limit(head)) x) >= dts._gate_limit(head);
        UPDATE dts.workflow_run y SET begun_at = clock_timestamp() WHERE y.id = head.id;
        PERFORM dts._wake(x.task) FROM dts.workflow_node x WHERE x.run = head.id AND x.idx = 0 AND dts._task_state(x.task) = 3;
    END LOOP;
END $$;
COMMENT ON FUNCTION dts._open_gate(int, text) IS 'Lets the next runs of a gate begin, if there is room.';

-- What a node does whose run has not begun. Whichever comes first brings the run to the gate.
CREATE FUNCTION dts._step_gate(run bigint) RETURNS dts._step_result
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET dts.steer_wait = 0 AS $$
DECLARE s dts._step_result; r dts.workflow_run; policy text; v dts.workflow_run;
BEGIN
    SELECT * INTO r FROM dts.workflow_run y WHERE y.id = run;
    IF r.begun_at IS NOT NULL THEN
        RETURN NULL;
    END IF;
    IF NOT dts._lock_gate(r.workflow, r.gate) THEN
        s.action := 'later'; s.at := clock_timestamp() + (0.005 * (1 + random())) * '1 s'::interval;
        RETURN s;
    END IF;
    PERFORM dts._open_gate(r.workflow, r.gate);
    SELECT * INTO r FROM dts.workflow_run y WHERE y.id = run;
    IF r.begun_at IS NOT NULL THEN
        -- Not in this transaction, which has the lock, and may be about to run for hours.
        s.action := 'later'; s.at := clock_timestamp();
        RETURN s;
    END IF;
    s.action := 'wait';
    policy := (SELECT y.plan #>> '{concurrency,on_conflict}' FROM dts.workflow_version y WHERE y.workflow = r.workflow AND y.version = r.version);
    IF r.state <> 'running' OR r.paused OR COALESCE(policy, 'wait') = 'wait' THEN
        RETURN s;
    END IF;
    FOR v IN SELECT y.* FROM dts.workflow_run y WHERE CASE policy WHEN 'skip' THEN y.id = r.id ELSE y.id IN (SELECT dts._holders(r) UNION SELECT b.id FROM dts._before(r) b) AND y.ended_at IS NULL END LOOP
        PERFORM FROM dts.workflow_run y WHERE y.id = v.id FOR UPDATE SKIP LOCKED;
        IF NOT FOUND THEN  -- somebody steers it at this moment
            s.action := 'later'; s.at := clock_timestamp() + '50 ms'::interval;
        ELSIF policy = 'skip' THEN
            UPDATE dts.workflow_run y SET state = 'cancelling' WHERE y.id = r.id;
            s.action := 'end cancelled'; s.message := 'its run would have to wait for its turn, and its workflow says "skip"';
        ELSIF v.state = 'running' THEN
            PERFORM dts._audit(r.owner, 'cancel_run', format('run %s', v.id), NULL, jsonb_build_object('replaced_by', r.id)), dts._stop_run(v.id, 'now');
        END IF;
    END LOOP;
    RETURN s;
END $$;
COMMENT ON FUNCTION dts._step_gate(bigint) IS 'What a node does while its run has not begun; NULL: it has.';

CREATE FUNCTION dts._leave_gate(r dts.workflow_run) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE dts.workflow_run y SET left_at = clock_timestamp() WHERE y.id = r.id;
    PERFORM dts._open_gate(r.workflow, r.gate);
END $$;
COMMENT ON FUNCTION dts._leave_gate(dts.workflow_run) IS 'Gives the place of a run back. The caller has the lock of the gate.';

CREATE FUNCTION dts._waiting_gates() RETURNS TABLE (workflow int, gate text)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH RECURSIVE g AS ((SELECT r.workflow, r.gate FROM dts.workflow_run r WHERE r.gate IS NOT NULL AND r.left_at IS NULL ORDER BY r.workflow, r.gate LIMIT 1)
                         UNION ALL SELECT n.* FROM g, LATERAL (SELECT r.workflow, r.gate FROM dts.workflow_run r WHERE r.gate IS NOT NULL AND r.left_at IS NULL
                                                               AND (r.workflow, r.gate) > (g.workflow, g.gate) ORDER BY r.workflow, r.gate LIMIT 1) n)
    SELECT g.workflow, g.gate FROM g WHERE EXISTS (SELECT FROM dts.workflow_run r WHERE r.workflow = g.workflow AND r.gate = g.gate AND r.left_at IS NULL AND r.begun_at IS NULL AND r.due_at <= clock_timestamp()) $$;
COMMENT ON FUNCTION dts._waiting_gates() IS 'The gates at which runs wait.';

CREATE FUNCTION dts._open_gates() RETURNS boolean
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET jit = off AS $$
DECLARE g record; all_done boolean := true;
BEGIN
    FOR g IN SELECT * FROM dts._waiting_gates() LOOP
        IF dts._lock_gate(g.workflow, g.gate) THEN
            PERFORM dts._open_gate(g.workflow, g.gate);
        ELSE
            all_done := false;
        END IF;
    END LOOP;
    RETURN all_done;
END $$;
COMMENT ON FUNCTION dts._open_gates() IS 'Looks at all gates: the net for what a user''s open transaction held, and for runs that lost their tasks. False if some must be looked at again.';

CREATE FUNCTION dts._explain_gate(caller oid, r dts.workflow_run) RETURNS text
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE most int := dts._gate_limit(r); holders text; before bigint := (SELECT count(*) FROM (SELECT FROM dts._before(r) LIMIT 1000) x);
BEGIN
    SELECT string_agg(CASE WHEN dts._role_may(caller, h.owner) THEN format('run %s', h.id) ELSE 'a run of another role' END
                      || format(', %s for %s', CASE WHEN h.ended_at IS NULL THEN 'under way' ELSE 'compensating' END, dts._seconds(clock_timestamp() - h.begun_at)), '; ' ORDER BY h.begun_at)
    INTO holders FROM (SELECT y.* FROM dts.workflow_run y WHERE y.id IN (SELECT dts._holders(r)) ORDER BY y.begun_at LIMIT 3) h;
    RETURN format('its workflow lets %s run(s)%s be under way at once', most, COALESCE(' of key "' || NULLIF(r.gate, '') || '"', '')) || COALESCE(': ' || holders, '')
           || CASE WHEN before > 0 THEN format('; %s%s more wait before it', before, CASE WHEN before = 1000 THEN ' or' ELSE '' END) ELSE '' END;
END $$;
COMMENT ON FUNCTION dts._explain_gate(oid, dts.workflow_run) IS 'Why a run has not begun, in words.';
