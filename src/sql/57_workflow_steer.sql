-- Steering runs.

CREATE FUNCTION dts._wake(task bigint) RETURNS boolean
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dts_wake';
COMMENT ON FUNCTION dts._wake(bigint) IS 'Makes a waiting task ready. False if it is not waiting, or is held.';

CREATE FUNCTION dts._end(task bigint, state int2, result jsonb, message text) RETURNS boolean
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dts_end';
COMMENT ON FUNCTION dts._end(bigint, int2, jsonb, text) IS 'Ends an unfinished task by hand. False if it is held, or has ended.';

CREATE FUNCTION dts._run_row(caller oid, run bigint) RETURNS dts.workflow_run
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE r dts.workflow_run;
BEGIN
    IF run IS NULL THEN
        RAISE EXCEPTION 'argument "run" must not be null' USING ERRCODE = 'null_value_not_allowed', HINT = 'Give the id that dts.start returned.';
    END IF;
    SELECT * INTO r FROM dts.workflow_run x WHERE x.id = run;
    IF NOT FOUND OR NOT dts._role_may(caller, r.owner) THEN
        RAISE EXCEPTION 'run % does not exist', run USING ERRCODE = 'undefined_object', HINT = 'It may have been removed by retention, or belong to another role. See dts.workflow_runs.';
    END IF;
    RETURN r;
END $$;
COMMENT ON FUNCTION dts._run_row(oid, bigint) IS 'A run of the caller, or an error.';

CREATE FUNCTION dts._wake_waiting() RETURNS bigint
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp SET jit = off AS $$
    SELECT count(*) FILTER (WHERE dts._wake(x.task)) FROM dts.task t JOIN dts.workflow_node x ON x.task = t.id JOIN dts.workflow_run r ON r.id = x.run
    WHERE t.state = 3 AND (NOT r.paused AND (r.gate IS NULL OR r.begun_at IS NOT NULL) OR r.state = 'cancelling') AND (x.memory ->> 'signal' IS NULL OR r.state = 'cancelling'
          OR (SELECT count(*) FROM dts.signal s WHERE s.run = x.run AND s.name = x.memory ->> 'signal' AND s.taken_by IS NULL) > COALESCE((x.memory ->> 'seen')::int, 0)) $$;
COMMENT ON FUNCTION dts._wake_waiting() IS 'Wakes the waiting nodes that got what they wait for.';

CREATE FUNCTION dts._put_signal(caller oid, r dts.workflow_run, name text, payload jsonb) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET jit = off AS $$
BEGIN
    INSERT INTO dts.signal (run, name, payload, by_role) VALUES (r.id, name, payload, caller::regrole);
    PERFORM dts._wake(x.task) FROM dts.workflow_node x WHERE x.run = r.id AND x.memory ->> 'signal' = name AND dts._task_state(x.task) = 3;
    -- A node that looks at this moment does not see it yet: the scheduler looks when this has committed.
    PERFORM dts._changed('signal', 0);
END $$;
COMMENT ON FUNCTION dts._put_signal(oid, dts.workflow_run, text, jsonb) IS 'Keeps a signal and wakes who waits for it.';

CREATE FUNCTION dts._signal(caller oid, run bigint, name text, payload jsonb) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE r dts.workflow_run := dts._run_row(caller, run);
BEGIN
    PERFORM dts._check_name('signal', name);
    IF name ~ '^(approval|event):' THEN
        RAISE EXCEPTION 'invalid signal name "%"', name USING ERRCODE = 'invalid_parameter_value', HINT = 'Decide on approvals with dts.approve and dts.reject, send events with dts.emit.';
    ELSIF r.ended_at IS NOT NULL THEN
        RAISE EXCEPTION 'run % has ended', run USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'See dts.workflow_runs.';
    END IF;
    PERFORM dts._put_signal(caller, r, name, payload), dts._audit(caller, 'signal', format('run %s', run), NULL, jsonb_build_object('signal', name));
END $$;
COMMENT ON FUNCTION dts._signal(oid, bigint, text, jsonb) IS 'dts.signal, as the owner of the extension.';
CREATE FUNCTION dts.signal(run bigint, name text, payload jsonb DEFAULT NULL) RETURNS void LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dts_as_owner';
COMMENT ON FUNCTION dts.signal(bigint, text, jsonb) IS 'Sends a signal to a run; a node that waits for it takes it, now or when it gets there. The payload is the output of that node.';

CREATE FUNCTION dts._decide(caller oid, run bigint, node text, approved boolean, comment text) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE r dts.workflow_run; what jsonb;
BEGIN
    SELECT * INTO r FROM dts.workflow_run x WHERE x.id = run;
    SELECT v.plan #> ARRAY['nodes', node, 'task', 'approval'] INTO what FROM dts.workflow_version v WHERE v.workflow = r.workflow AND v.version = r.version;
    -- Whom the node names may decide, also on runs that are not theirs; else the owner's members.
    IF what IS NULL OR NOT (CASE WHEN what ? 'roles' THEN EXISTS (SELECT FROM jsonb_array_elements_text(what -> 'roles') x JOIN pg_roles g ON g.rolname = x WHERE pg_has_role(caller, g.oid, 'USAGE'))
                            ELSE dts._role_may(caller, r.owner) END) THEN
        RAISE EXCEPTION 'run % has no approval "%"', run, node USING ERRCODE = 'undefined_object', HINT = 'Or it is not for you to decide: see the roles in the definition.';
    ELSIF r.ended_at IS NOT NULL THEN
        RAISE EXCEPTION 'run % has ended', run USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'See dts.workflow_runs.';
    END IF;
    PERFORM dts._put_signal(caller, r, 'approval:' || node, jsonb_strip_nulls(jsonb_build_object('approved', approved, 'by', dts._role_name(caller), 'comment', comment))),
            dts._audit(caller, CASE WHEN approved THEN 'approve' ELSE 'reject' END, format('run %s', run), NULL, jsonb_build_object('node', node, 'comment', comment));
END $$;
COMMENT ON FUNCTION dts._decide(oid, bigint, text, boolean, text) IS 'A decision on an approval.';
CREATE FUNCTION dts._approve(caller oid, run bigint, node text, comment text) RETURNS void
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$ SELECT dts._decide(caller, run, node, true, comment) $$;
COMMENT ON FUNCTION dts._approve(oid, bigint, text, text) IS 'dts.approve, as the owner of the extension.';
CREATE FUNCTION dts.approve(run bigint, node text, comment text DEFAULT NULL) RETURNS void LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dts_as_owner';
COMMENT ON FUNCTION dts.approve(bigint, text, text) IS 'Approves: for members of the roles that the node names, else of the run''s owner. Kept if the run has not got there yet.';
CREATE FUNCTION dts._reject(caller oid, run bigint, node text, comment text) RETURNS void
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$ SELECT dts._decide(caller, run, node, false, comment) $$;
COMMENT ON FUNCTION dts._reject(oid, bigint, text, text) IS 'dts.reject, as the owner of the extension.';
CREATE FUNCTION dts.reject(run bigint, node text, comment text DEFAULT NULL) RETURNS void LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dts_as_owner';
COMMENT ON FUNCTION dts.reject(bigint, text, text) IS 'Rejects: the node fails. For whom dts.approve is.';

CREATE FUNCTION dts._pause_run(caller oid, run bigint) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE r dts.workflow_run := dts._run_row(caller, run);
BEGIN
    UPDATE dts.workflow_run x SET paused = true WHERE x.id = r.id;
    PERFORM dts._audit(caller, 'pause_run', format('run %s', run), NULL, NULL);
END $$;
COMMENT ON FUNCTION dts._pause_run(oid, bigint) IS 'dts.pause_run, as the owner of the extension.';
CREATE FUNCTION dts.pause_run(run bigint) RETURNS void LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dts_as_owner';
COMMENT ON FUNCTION dts.pause_run(bigint) IS 'Keeps nodes that have a condition, references or a kind of their own from starting, until dts.resume_run. Plain tasks that are ready still run; dts.pause holds a whole queue.';

CREATE FUNCTION dts._resume_run(caller oid, run bigint) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE r dts.workflow_run := dts._run_row(caller, run);
BEGIN
    UPDATE dts.workflow_run x SET paused = false WHERE x.id = r.id;
    PERFORM dts._changed('signal', 0), dts._audit(caller, 'resume_run', format('run %s', run), NULL, NULL);
END $$;
COMMENT ON FUNCTION dts._resume_run(oid, bigint) IS 'dts.resume_run, as the owner of the extension.';
CREATE FUNCTION dts.resume_run(run bigint) RETURNS void LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dts_as_owner';
COMMENT ON FUNCTION dts.resume_run(bigint) IS 'Lets a paused run go on.';

CREATE FUNCTION dts._stop_run(run bigint, mode text) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET jit = off AS $$
DECLARE x record;
BEGIN
    UPDATE dts.workflow_run y SET state = 'cancelling', paused = false WHERE y.id = run AND y.ended_at IS NULL;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    FOR x IN SELECT n.child_run FROM dts.workflow_node n WHERE n.run = _stop_run.run AND n.child_run IS NOT NULL LOOP
        PERFORM dts._stop_run(x.child_run, mode);
    END LOOP;
    FOR x IN SELECT n.task FROM (SELECT y.*, dts._task_state(y.task) AS state FROM dts.workflow_node y WHERE y.run = _stop_run.run OFFSET 0) n LEFT JOIN dts._held() h ON h.task = n.task
             WHERE n.state IS NOT NULL AND n.node <> '(end)' AND n.child_run IS NULL AND (mode = 'now' OR h.task IS NULL AND n.state <> 2) ORDER BY n.state <> 1, n.task DESC LOOP
        PERFORM dts.cancel(x.task);
    END LOOP;
END $$;
COMMENT ON FUNCTION dts._stop_run(bigint, text) IS 'Cancels an unfinished run, and those that it has started.';

CREATE FUNCTION dts._cancel_run(caller oid, run bigint, mode text) RETURNS text
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET jit = off AS $$
DECLARE r dts.workflow_run := dts._run_row(caller, run);
BEGIN
    IF NOT COALESCE(mode, '') = ANY ('{now,graceful}') THEN
        RAISE EXCEPTION 'invalid value for argument "mode": "%"', mode USING ERRCODE = 'invalid_parameter_value', HINT = 'Use now or graceful.';
    ELSIF r.ended_at IS NOT NULL THEN
        RETURN r.state;
    END IF;
    PERFORM dts._audit(caller, 'cancel_run', format('run %s', run), NULL, jsonb_build_object('mode', mode)), dts._stop_run(r.id, mode);
    RETURN 'cancelling';
END $$;
COMMENT ON FUNCTION dts._cancel_run(oid, bigint, text) IS 'dts.cancel_run, as the owner of the extension.';
CREATE FUNCTION dts.cancel_run(run bigint, mode text DEFAULT 'now') RETURNS text LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dts_as_owner';
COMMENT ON FUNCTION dts.cancel_run(bigint, text) IS 'Cancels a run and the runs that it has started: nodes that wait end, running ones are interrupted, or with mode graceful left to their end. Then compensation and handlers run. Returns cancelling, or the state in which it had ended.';

CREATE FUNCTION dts._retry_run(caller oid, run bigint, nodes text[], params jsonb) RETURNS bigint
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET jit = off AS $$
DECLARE r dts.workflow_run := dts._run_row(caller, run); plan jsonb; bad text; own text[]; undone text[]; queries text[]; again text[]; ended_by bigint := (SELECT x.task FROM dts.workflow_node x WHERE x.run = r.id AND x.node = '(end)');
BEGIN
    SELECT v.plan #> '{}' INTO plan FROM dts.workflow_version v WHERE v.workflow = r.workflow AND v.version = r.version;
    SELECT n INTO bad FROM unnest(nodes) n WHERE NOT plan -> 'nodes' ? n LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'the workflow has no node "%"', bad USING ERRCODE = 'undefined_object', HINT = dts._similar(bad, ARRAY(SELECT jsonb_object_keys(plan -> 'nodes')));
    ELSIF r.ended_at IS NULL THEN
        RAISE EXCEPTION 'run % has not ended', run USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Wait for its end, or cancel it first.';
    ELSIF EXISTS (SELECT FROM dts.workflow_node x WHERE x.run = r.id AND x.node ~ '^(on|undo)\.|^\(left\)' AND dts._task_state(x.task) IS NOT NULL) THEN
        RAISE EXCEPTION 'compensation and handlers of run % have not ended', run USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'See dts.workflow_nodes.';
    END IF;
    -- These nodes, or those that did not succeed for a reason of their own; what was undone; and all that come after them.
    own := ARRAY(SELECT x.node FROM dts.workflow_node x, dts._node_outcome(x.task, '', false) o
                 WHERE x.run = r.id AND x.idx = 0 AND plan -> 'nodes' ? x.node AND o.state NOT IN ('succeeded', 'skipped'));
    undone := ARRAY(SELECT substr(x.node, 6) FROM dts.workflow_node x WHERE x.run = r.id AND x.node ~ '^undo\.');
    -- The query of a map gives its items anew, unless some of them only go on.
    queries := ARRAY(SELECT n || '.items' FROM unnest(COALESCE(nodes, own) || undone) n WHERE plan -> 'nodes' ? (n || '.items')
                         AND (n = ANY (nodes || undone) OR params IS NOT NULL OR NOT EXISTS (SELECT FROM dts.workflow_node x WHERE x.run = r.id AND x.node = n AND x.idx > 0)));
    WITH RECURSIVE e AS (SELECT x.key AS node, y ->> 'node' AS parent FROM jsonb_each(plan -> 'nodes') x, jsonb_array_elements(x.value -> 'needs') y),
         base AS (SELECT n AS node FROM unnest(COALESCE(nodes, own) || queries || undone) n
                  UNION SELECT e.node FROM base b JOIN e ON e.parent = b.node)
    SELECT array_agg(b.node) INTO again FROM base b;
    IF again IS NULL THEN
        RETURN 0;
    END IF;
    IF params IS NOT NULL THEN
        r.params := dts._checked_params(plan, r.params || params);
    END IF;
    UPDATE dts.workflow_run x SET state = 'running', ended_at = NULL, output = NULL, attempt = x.attempt + 1, params = r.params, gate = dts._gate_of(plan, r.params, r.workflow, r.parent_task),
           deadline = clock_timestamp() + (plan ->> 'deadline')::interval, due_at = clock_timestamp(), begun_at = NULL, left_at = NULL WHERE x.id = r.id RETURNING * INTO r;
    -- A map, or a sub-run, that failed of itself goes on where it was. The rest runs whole: what it works on may have changed.
    DELETE FROM dts.workflow_node x WHERE x.run = r.id AND x.idx > 0 AND x.node = ANY (again) AND (x.node = ANY (nodes) OR NOT x.node = ANY (own) OR plan #> ARRAY['nodes', x.node] ? 'repeat');
    PERFORM dts._submit_nodes(r, plan, again);
    IF r.schedule IS NOT NULL AND r.depth = 0 THEN
        PERFORM dts._scheduled_again(x.task, ended_by, r.schedule) FROM dts.workflow_node x WHERE x.run = r.id AND x.node = '(end)';
    END IF;
    PERFORM dts._audit(caller, 'retry_run', format('run %s', run), NULL, to_jsonb(again));
    RETURN cardinality(again);
END $$;
COMMENT ON FUNCTION dts._retry_run(oid, bigint, text[], jsonb) IS 'dts.retry_run, as the owner of the extension.';
CREATE FUNCTION dts.retry_run(run bigint, nodes text[] DEFAULT NULL, params jsonb DEFAULT NULL) RETURNS bigint LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dts_as_owner';
COMMENT ON FUNCTION dts.retry_run(bigint, text[], jsonb) IS 'Runs the failed nodes of an ended run again, or these nodes, and all that come after them; what has succeeded stays, also items of a map. params: changes of parameters. Returns the number of nodes.';

CREATE FUNCTION dts._set_node(caller oid, run bigint, node text, state text, output jsonb) RETURNS boolean
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET jit = off AS $$
DECLARE r dts.workflow_run := dts._run_row(caller, run); t bigint; done boolean;
BEGIN
    IF NOT COALESCE(state, '') = ANY ('{succeeded,skipped,failed}') THEN
        RAISE EXCEPTION 'invalid value for argument "state": "%"', state USING ERRCODE = 'invalid_parameter_value', HINT = 'Use succeeded, skipped or failed.';
    END IF;
    SELECT x.task INTO t FROM dts.workflow_node x WHERE x.run = r.id AND x.node = _set_node.node AND x.idx = 0 AND x.node <> '(end)';
    IF NOT FOUND THEN
        RAISE EXCEPTION 'run % has no node "%"', run, node USING ERRCODE = 'undefined_object', HINT = 'See dts.workflow_nodes.';
    END IF;
    -- The output of a statement is its first row.
    done := dts._end(t, CASE state WHEN 'succeeded' THEN 10 WHEN 'failed' THEN 11 ELSE 14 END::int2,
                     CASE WHEN output IS NOT NULL AND (SELECT v.plan #> ARRAY['nodes', node, 'inline'] = 'true' FROM dts.workflow_version v WHERE v.workflow = r.workflow AND v.version = r.version) THEN jsonb_build_array(output) ELSE output END,
                     CASE WHEN state <> 'succeeded' THEN format('set by %s', dts._role_name(caller)) END);
    PERFORM dts._audit(caller, 'set_node', format('run %s', run), NULL, jsonb_build_object('node', node, 'state', state, 'done', done, 'output', output));
    RETURN done;
END $$;
COMMENT ON FUNCTION dts._set_node(oid, bigint, text, text, jsonb) IS 'dts.set_node, as the owner of the extension.';
CREATE FUNCTION dts.set_node(run bigint, node text, state text, output jsonb DEFAULT NULL) RETURNS boolean LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dts_as_owner';
COMMENT ON FUNCTION dts.set_node(bigint, text, text, jsonb) IS 'Ends a node that waits, by hand, as succeeded, skipped or failed, with this output. False if it is running or has ended.';
