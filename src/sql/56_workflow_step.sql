-- What a node does when it is its turn. Called by the executor for tasks that are more than a text with known arguments, as the owner of the
-- extension, inside the attempt's subtransaction. Actions: run, skip, fail, done, block (on tasks submitted just now), wait, later.

CREATE FUNCTION dts._step_signal(r dts.workflow_run, x dts.workflow_node, n jsonb, doc jsonb) RETURNS dts._step_result
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE s dts._step_result; what jsonb := n -> 'task' -> (n ->> 'kind'); approval boolean := n ->> 'kind' = 'approval'; g dts.signal; yes int; wanted text; seen bigint;
BEGIN
    wanted := CASE WHEN approval THEN 'approval:' || x.node WHEN jsonb_typeof(what) = 'object' AND what ? 'event' THEN 'event:' || x.node WHEN jsonb_typeof(what) = 'string' THEN dts._resolve(what, doc) #>> '{}' ELSE dts._resolve(what -> 'name', doc) #>> '{}' END;
    -- Counted first: one that comes after this look, or between this and the next statement, is one more.
    seen := (SELECT count(*) FROM dts.signal y WHERE y.run = r.id AND y.name = wanted AND y.taken_by IS NULL);
    IF approval THEN
        SELECT y.* INTO g FROM dts.signal y WHERE y.run = r.id AND y.name = wanted AND y.taken_by IS NULL AND y.payload -> 'approved' = 'false' ORDER BY y.id LIMIT 1;
        SELECT count(DISTINCT y.by_role) INTO yes FROM dts.signal y WHERE y.run = r.id AND y.name = wanted AND y.taken_by IS NULL AND y.payload -> 'approved' = 'true';
        IF g.id IS NULL AND yes >= COALESCE((what ->> 'quorum')::int, 1) THEN
            SELECT y.* INTO g FROM dts.signal y WHERE y.run = r.id AND y.name = wanted AND y.taken_by IS NULL ORDER BY y.id LIMIT 1;
        END IF;
        UPDATE dts.signal y SET taken_by = x.task WHERE g.id IS NOT NULL AND y.run = r.id AND y.name = wanted AND y.taken_by IS NULL;
    ELSE
        SELECT y.* INTO g FROM dts.signal y WHERE y.run = r.id AND y.name = wanted AND y.taken_by IS NULL ORDER BY y.id LIMIT 1 FOR UPDATE SKIP LOCKED;
        UPDATE dts.signal y SET taken_by = x.task WHERE y.id = g.id;
    END IF;
    IF g.id IS NULL THEN
        s.action := 'wait';
        PERFORM dts._changed('signal', 0);  -- it may have come while it looked
        s.at := CASE WHEN jsonb_typeof(what) = 'object' AND what ? 'expires' THEN COALESCE((x.memory ->> 'since')::timestamptz, clock_timestamp()) + (what ->> 'expires')::interval END;
        UPDATE dts.workflow_node y SET memory = jsonb_build_object('since', COALESCE(x.memory -> 'since', to_jsonb(clock_timestamp())), 'signal', wanted,
            'seen', seen) WHERE y.run = r.id AND y.node = x.node AND y.idx = 0;
    ELSIF approval AND g.payload -> 'approved' = 'false' THEN
        s.action := 'fail';
        s.message := format('rejected by %s%s', dts._role_name(g.by_role), ': ' || (g.payload ->> 'comment'));
    ELSE
        s.action := 'done';
        s.result := g.payload;
    END IF;
    RETURN s;
END $$;
COMMENT ON FUNCTION dts._step_signal(dts.workflow_run, dts.workflow_node, jsonb, jsonb) IS 'A node that waits for a signal or an approval.';

CREATE FUNCTION dts._step(task bigint) RETURNS dts._step_result
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET jit = off AS $$
DECLARE s dts._step_result; x dts.workflow_node; r dts.workflow_run; plan jsonb; n jsonb; doc jsonb; kind text; over record;
BEGIN
    SELECT * INTO x FROM dts.workflow_node y WHERE y.task = _step.task AND y.idx = 0;
    IF NOT FOUND THEN
        s.action := 'fail'; s.message := 'it is a node of a run that is not there any more';
        RETURN s;
    END IF;
    SELECT * INTO r FROM dts.workflow_run y WHERE y.id = x.run;
    SELECT y.plan #> '{}' INTO plan FROM dts.workflow_version y WHERE y.workflow = r.workflow AND y.version = r.version;  -- unpacked once, not at each look
    IF x.node ~ '^\(' THEN
        -- Somebody who is cancelling the run holds its row: what he wants is not known before he commits, and he is not waited for.
        SELECT * INTO r FROM dts.workflow_run y WHERE y.id = x.run FOR UPDATE SKIP LOCKED;
        IF NOT FOUND OR r.gate IS NOT NULL AND NOT dts._lock_gate(r.workflow, r.gate) THEN
            s.action := 'later'; s.at := clock_timestamp() + CASE WHEN FOUND THEN '5 ms'::interval ELSE '50 ms' END;
            RETURN s;
        ELSIF x.node = '(left)' THEN
            PERFORM dts._leave_gate(r);
            s.action := 'done';
            RETURN s;
        END IF;
        over := dts._end_run(r, plan);
        s.action := CASE over.final WHEN 'succeeded' THEN 'done' WHEN 'failed' THEN 'end failed' ELSE 'end cancelled' END;
        s.result := (SELECT y.output FROM dts.workflow_run y WHERE y.id = r.id);
        s.message := format('run %s of workflow "%s" %s', r.id, (SELECT w.name FROM dts.workflow w WHERE w.id = r.workflow), CASE WHEN s.action = 'end failed' THEN 'failed' ELSE 'was cancelled' END)
                     || COALESCE(': ' || over.problem, (SELECT format(': node "%s": %s', y.node, o.error) FROM dts.workflow_node y, dts._node_outcome(y.task, '', false) o
                                  WHERE s.action = 'end failed' AND y.run = r.id AND y.idx = 0 AND plan -> 'nodes' ? y.node AND o.state IN ('failed', 'expired', 'cancelled') ORDER BY y.task LIMIT 1), '');
        RETURN s;
    END IF;
    n := COALESCE(plan -> 'nodes' -> x.node, plan -> 'on' -> substr(x.node, 4), plan #> ARRAY['nodes', substr(x.node, 6), 'compensate', 'plan']);
    kind := n ->> 'kind';
    IF r.state = 'cancelling' AND x.node !~ '^(on|undo)\.' THEN
        s.action := 'skip'; s.message := 'its run is being cancelled';
        RETURN s;
    ELSIF r.paused THEN
        s.action := 'wait';
        PERFORM dts._changed('signal', 0);  -- it may have been resumed while it looked
        RETURN s;
    ELSIF r.gate IS NOT NULL AND r.begun_at IS NULL AND r.ended_at IS NULL THEN
        s := dts._step_gate(r.id);
        IF s.action IS NOT NULL THEN
            RETURN s;
        END IF;
    END IF;
    doc := dts._doc(r, plan, COALESCE(n -> 'reads', '[]'));
    IF x.memory IS NULL THEN
        IF n ? 'when' AND NOT dts._holds(n -> 'when', doc) THEN
            s.action := 'skip'; s.message := 'its condition does not hold';
            RETURN s;
        END IF;
    END IF;
    IF n ? 'map' THEN
        RETURN dts._step_map(r, plan, x, n);
    ELSIF n -> 'inline' = 'true' THEN
        s.action := 'run';
        s.args := dts._resolve(COALESCE(n #> '{task,args}', n #> '{task,payload}', CASE WHEN kind = 'handler' THEN '{}'::jsonb END), doc);
        RETURN s;
    END IF;
    CASE kind
    WHEN 'signal', 'approval' THEN RETURN dts._step_signal(r, x, n, doc);
    WHEN 'noop' THEN s.action := 'done'; s.result := dts._resolve(n #> '{task,noop}', doc);
    WHEN 'switch' THEN
        s.action := 'done';
        -- The first case in the order of the names that holds; "else" last.
        s.result := (SELECT to_jsonb(c.key) FROM jsonb_each(n #> '{task,switch}') c WHERE dts._holds(c.value, doc) ORDER BY c.key = 'else', c.key LIMIT 1);
    WHEN 'sleep', 'until' THEN
        IF x.memory IS NULL THEN
            s.action := 'later';
            s.at := CASE WHEN kind = 'sleep' THEN clock_timestamp() + (dts._resolve(n #> '{task,sleep}', doc) #>> '{}')::interval ELSE (dts._resolve(n #> '{task,until}', doc) #>> '{}')::timestamptz END;
            UPDATE dts.workflow_node y SET memory = jsonb_build_object('until', s.at) WHERE y.run = r.id AND y.node = x.node AND y.idx = 0;
        ELSE
            s.action := 'done';
        END IF;
    ELSE RETURN dts._step_single(r, plan, x, n);
    END CASE;
    RETURN s;
END $$;
COMMENT ON FUNCTION dts._step(bigint) IS 'What the node of this task does now.';
