-- The end of a run: its state, then compensation and handlers, which are tasks like any other and change that state no more.
CREATE FUNCTION dts._end_run(r dts.workflow_run, plan jsonb, OUT final text, OUT problem text)
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE result jsonb; tasks jsonb := '[]'; last text; h record; doc jsonb;
BEGIN
    SELECT CASE WHEN r.state = 'cancelling' THEN 'cancelled'
                WHEN bool_or(o.state IN ('failed', 'expired', 'cancelled') AND NOT COALESCE(plan #> ARRAY['nodes', x.node, 'continue_on', 'failure'] = 'true', false)) THEN 'failed' ELSE 'succeeded' END INTO final
    FROM dts.workflow_node x, dts._node_outcome(x.task, '', false) o WHERE x.run = r.id AND x.idx = 0 AND plan -> 'nodes' ? x.node;
    doc := dts._doc(r, plan, (SELECT jsonb_agg(k) FROM jsonb_object_keys(plan -> 'nodes') k WHERE plan ->> 'output' LIKE '%nodes.' || k || '.%' OR final <> 'succeeded' OR plan ? 'on'));
    IF final = 'succeeded' AND plan ? 'output' THEN
        BEGIN
            result := dts._resolve(plan -> 'output', doc);
        EXCEPTION WHEN undefined_object OR program_limit_exceeded THEN  -- a run that could not end would be under way for ever
            final := 'failed';
            problem := format('its output: %s', SQLERRM);
        END;
    END IF;
    r.state := final;
    UPDATE dts.workflow_run y SET state = final, ended_at = clock_timestamp(), output = result WHERE y.id = r.id;
    DELETE FROM dts.workflow_node y WHERE y.run = r.id AND y.node ~ '^(on|undo)\.';
    DELETE FROM dts.event_waiter y WHERE y.run = r.id;
    IF final <> 'succeeded' THEN
        -- What succeeded is undone, last first, one after the other.
        FOR h IN SELECT x.node, plan #> ARRAY['nodes', x.node, 'compensate'] AS def FROM dts.workflow_node x JOIN dts.run u ON u.task = x.task AND u.outcome = 10
                 WHERE x.run = r.id AND x.idx = 0 AND plan #> ARRAY['nodes', x.node] ? 'compensate' ORDER BY u.ended_at DESC, x.task DESC LOOP
            tasks := tasks || dts._handler_task(r, 'undo.' || h.node, dts._plan_node(h.def, plan -> 'params'), doc, last);
            last := 'undo.' || h.node;
        END LOOP;
    END IF;
    FOR h IN SELECT e.key, e.value FROM jsonb_each(plan -> 'on') e WHERE e.key IN (CASE final WHEN 'succeeded' THEN 'success' WHEN 'failed' THEN 'failure' ELSE 'cancel' END, 'exit') ORDER BY e.key = 'exit' LOOP
        tasks := tasks || dts._handler_task(r, 'on.' || h.key, h.value, doc, last);
        last := 'on.' || h.key;
    END LOOP;
    IF r.gate IS NOT NULL AND (tasks = '[]' OR r.begun_at IS NULL) THEN
        PERFORM dts._leave_gate(r);
    ELSIF r.gate IS NOT NULL THEN  -- the next one may begin when nothing of this one is under way any more
        tasks := tasks || (dts._node_task(r, '(left)', '{"kind": "end", "task": {}}') || jsonb_build_object('depends_on', jsonb_build_object('tasks', jsonb_build_array(last), 'on', 'ended')));
    END IF;
    IF tasks <> '[]' THEN
        INSERT INTO dts.workflow_node (run, node, idx, task) SELECT r.id, tasks -> (s.n - 1)::int ->> 'name', 0, s.id FROM dts.submit_many(tasks) WITH ORDINALITY s(id, n)
        ON CONFLICT (run, node, idx) DO UPDATE SET task = EXCLUDED.task;
    END IF;
END $$;
COMMENT ON FUNCTION dts._end_run(dts.workflow_run, jsonb) IS 'Ends a run whose nodes have all ended. Its state, and what else is wrong with it.';

CREATE FUNCTION dts._handler_task(r dts.workflow_run, name text, n jsonb, doc jsonb, after text) RETURNS jsonb
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT dts._task_of(n -> 'task', doc || jsonb_build_object('run', (doc -> 'run') || jsonb_build_object('state', r.state)))
           || jsonb_build_object('name', name, 'owner', dts._role_name(r.owner), 'labels', COALESCE(r.labels, '{}') || jsonb_build_object('run', r.id, 'node', name))
           || CASE WHEN after IS NOT NULL THEN jsonb_build_object('depends_on', jsonb_build_object('tasks', jsonb_build_array(after), 'on', 'ended')) ELSE '{}' END $$;
COMMENT ON FUNCTION dts._handler_task(dts.workflow_run, text, jsonb, jsonb, text) IS 'The task of a handler or of a compensation: its values are known.';
