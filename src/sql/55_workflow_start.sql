-- Starting: the nodes of a plan become tasks and dependencies in one call of dts.submit_many.

CREATE FUNCTION dts._checked_params(plan jsonb, params jsonb) RETURNS jsonb
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE p record; result jsonb := '{}';
BEGIN
    IF jsonb_typeof(params) <> 'object' THEN
        RAISE EXCEPTION 'argument "params" must be a JSON object' USING ERRCODE = 'invalid_parameter_value', HINT = 'Write {"name": value}.';
    END IF;
    FOR p IN SELECT k FROM jsonb_object_keys(params) k WHERE NOT COALESCE(plan -> 'params' ? k, false) LOOP
        RAISE EXCEPTION 'unknown parameter "%"', p.k USING ERRCODE = 'invalid_parameter_value', HINT = dts._similar(p.k, ARRAY(SELECT jsonb_object_keys(COALESCE(plan -> 'params', '{}'))));
    END LOOP;
    FOR p IN SELECT x.key, x.value FROM jsonb_each(COALESCE(plan -> 'params', '{}')) x LOOP
        IF params ? p.key THEN
            IF dts._type_clash(p.value, params -> p.key) IS NOT NULL THEN
                RAISE EXCEPTION 'invalid value for parameter "%"', p.key USING ERRCODE = 'invalid_parameter_value', DETAIL = dts._type_clash(p.value, params -> p.key), HINT = 'See the definition of the workflow.';
            END IF;
            result := result || jsonb_build_object(p.key, params -> p.key);
        ELSIF p.value ? 'default' THEN
            result := result || jsonb_build_object(p.key, p.value -> 'default');
        ELSIF p.value -> 'required' = 'false' OR plan ? 'required' AND NOT plan -> 'required' ? p.key THEN
            result := result || jsonb_build_object(p.key, NULL);
        ELSE
            RAISE EXCEPTION 'parameter "%" is missing', p.key USING ERRCODE = 'invalid_parameter_value', HINT = 'Give it in argument "params", or give it a default in the definition.';
        END IF;
    END LOOP;
    RETURN result;
END $$;
COMMENT ON FUNCTION dts._checked_params(jsonb, jsonb) IS 'Parameters of a run, with defaults, or an error.';

-- The JSON object of dts.submit_many for a node. What needs nothing of the run beyond its parameters is a plain task, unless the run has to wait for its turn.
CREATE FUNCTION dts._node_task(r dts.workflow_run, node text, n jsonb) RETURNS jsonb
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE kind text := n ->> 'kind'; task jsonb := n -> 'task'; doc jsonb := jsonb_build_object('params', r.params, 'run', jsonb_build_object('id', r.id, 'key', r.key)); result jsonb;
BEGIN
    IF n -> 'inline' = 'true' THEN
        result := jsonb_build_object(kind, task -> kind) || CASE WHEN n -> 'plain' = 'true' AND r.gate IS NULL THEN dts._bound_options(task - kind, doc)
                                                                 ELSE dts._bound_options(task - ARRAY[kind, 'args', 'payload'], doc) || '{"node": true}' END;
    ELSE  -- it hands its work on to tasks of its own
        result := (SELECT COALESCE(jsonb_object_agg(k, dts._resolve(task -> k, doc)), '{}') FROM unnest('{queue,priority}'::text[]) k
                   WHERE task ? k AND NOT EXISTS (SELECT FROM dts._references(task -> k) x WHERE x !~ '^(params|run)\.'))
                  || jsonb_build_object('sql', format('SELECT /* %s */', kind), 'node', true);
    END IF;
    RETURN result || CASE WHEN r.deadline IS NOT NULL AND node !~ '^\(' THEN jsonb_build_object('expires', r.deadline) ELSE '{}' END
           || jsonb_build_object('name', node, 'owner', dts._role_name(r.owner), 'labels', COALESCE(r.labels, '{}') || COALESCE(result -> 'labels', '{}') || jsonb_build_object('run', r.id, 'node', node));
END $$;
COMMENT ON FUNCTION dts._node_task(dts.workflow_run, text, jsonb) IS 'The JSON object that submits the task of a node.';

CREATE FUNCTION dts._edge_outcomes(need jsonb, parent jsonb) RETURNS jsonb
    LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT COALESCE(need -> 'on', to_jsonb('{succeeded}'::text[] || CASE WHEN parent #> '{continue_on,failure}' = 'true' THEN '{failed,expired}'::text[] END
                                                     || CASE WHEN parent #> '{continue_on,skipped}' = 'true' THEN '{skipped}'::text[] END)) $$;
COMMENT ON FUNCTION dts._edge_outcomes(jsonb, jsonb) IS 'The outcomes of a parent that satisfy an edge: those that it names, else success and what the parent lets pass.';

-- Submits these nodes (all, if NULL) and the end of the run. Parents outside the set are tasks that have ended.
CREATE FUNCTION dts._submit_nodes(r dts.workflow_run, plan jsonb, names text[], run_at timestamptz DEFAULT NULL, priority int DEFAULT NULL) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE tasks jsonb; old jsonb;
BEGIN
    IF names IS NOT NULL THEN
        old := (SELECT jsonb_object_agg(x.node, x.task) FROM dts.workflow_node x WHERE x.run = r.id AND x.idx = 0 AND NOT x.node = ANY (names));
    END IF;
    -- The end waits for every node: a child that is skipped early, or satisfied early, leaves parents behind that still run.
    WITH n AS (SELECT x.key AS node, x.value AS def FROM jsonb_each(plan -> 'nodes') x WHERE names IS NULL OR x.key = ANY (names)),
         e AS (SELECT n.node, y.value ->> 'node' AS parent, dts._edge_outcomes(y.value, plan -> 'nodes' -> (y.value ->> 'node')) AS outcomes
               FROM n, jsonb_array_elements(n.def -> 'needs') y),
         d AS (SELECT e.node, jsonb_agg(jsonb_build_object('task', COALESCE(old -> e.parent, to_jsonb(e.parent)), 'on', e.outcomes)) AS parents FROM e GROUP BY e.node),
         t AS (SELECT n.node, dts._node_task(r, n.node, n.def)
                      || jsonb_build_object('depends_on', jsonb_build_object('tasks', COALESCE(d.parents, '[]'), 'need', COALESCE(n.def -> 'join', '"all"'), 'on_unsatisfied', COALESCE(n.def -> 'on_unsatisfied', '"skip"')))
                      || CASE WHEN run_at IS NOT NULL AND d.node IS NULL THEN jsonb_build_object('run_at', run_at) ELSE '{}' END
                      || CASE WHEN priority IS NOT NULL THEN jsonb_build_object('priority', priority) ELSE '{}' END AS task
               FROM n LEFT JOIN d USING (node)),
         z AS (SELECT '(end)' AS node, dts._node_task(r, '(end)', '{"kind": "end", "task": {}}')
                      || jsonb_build_object('depends_on', jsonb_build_object('tasks', (SELECT jsonb_agg(n.node) FROM n), 'on', 'ended'))
                      || CASE WHEN r.schedule IS NOT NULL AND r.depth = 0 THEN '{"scheduled": true}'::jsonb ELSE '{}' END AS task)
    SELECT jsonb_agg(u.task ORDER BY u.node) INTO tasks FROM (SELECT * FROM t UNION ALL SELECT * FROM z) u;
    INSERT INTO dts.workflow_node AS w (run, node, idx, task)
    SELECT r.id, tasks -> (s.n - 1)::int ->> 'name', 0, s.id FROM dts.submit_many(tasks) WITH ORDINALITY s(id, n)
    ON CONFLICT (run, node, idx) DO UPDATE SET task = EXCLUDED.task, memory = NULL;
    INSERT INTO dts.event_waiter (run, node, topic, match, roles)
    SELECT r.id, n.key, dts._resolve(n.value #> '{task,signal,event}', d.doc) #>> '{}', COALESCE(dts._resolve(n.value #> '{task,signal,match}', d.doc), '{}'), n.value #> '{task,signal,roles}'
    FROM jsonb_each(plan -> 'nodes') n, (SELECT jsonb_build_object('params', r.params, 'run', jsonb_build_object('id', r.id, 'key', r.key)) AS doc) d
    WHERE n.value #> '{task,signal,event}' IS NOT NULL AND (names IS NULL OR n.key = ANY (names))
    ON CONFLICT (run, node) DO UPDATE SET topic = EXCLUDED.topic, match = EXCLUDED.match;
END $$;
COMMENT ON FUNCTION dts._submit_nodes(dts.workflow_run, jsonb, text[], timestamptz, int) IS 'Submits nodes of a run.';

CREATE FUNCTION dts._begin_run(caller oid, w dts.workflow, params jsonb, key text, run_at timestamptz, priority int, labels jsonb, parent bigint, depth int, schedule jsonb DEFAULT NULL) RETURNS bigint
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE plan jsonb; r dts.workflow_run; checked jsonb;
BEGIN
    SELECT v.plan #> '{}' INTO STRICT plan FROM dts.workflow_version v WHERE v.workflow = w.id AND v.version = w.version;
    IF depth > 32 THEN
        RAISE EXCEPTION 'workflow "%" is nested too deeply', w.name USING ERRCODE = 'program_limit_exceeded', HINT = 'It probably calls itself; at most 32 levels are allowed.';
    END IF;
    r.id := nextval('dts.task_id_seq');
    checked := dts._checked_params(plan, COALESCE(params, '{}'));
    INSERT INTO dts.workflow_run (id, workflow, version, owner, depth, parent_task, key, params, gate, due_at, labels, schedule, deadline)
    VALUES (r.id, w.id, w.version, caller::regrole, depth, parent, key, checked, dts._gate_of(plan, checked, w.id, parent), COALESCE(run_at, clock_timestamp()), labels,
            COALESCE(schedule, (SELECT p.schedule FROM dts.workflow_node n JOIN dts.workflow_run p ON p.id = n.run WHERE n.task = parent LIMIT 1)),
            clock_timestamp() + (plan ->> 'deadline')::interval)
    ON CONFLICT (workflow, owner, key) WHERE key IS NOT NULL DO NOTHING RETURNING * INTO r;
    IF NOT FOUND THEN
        RETURN (SELECT x.id FROM dts.workflow_run x WHERE x.workflow = w.id AND x.owner = caller::regrole AND x.key = _begin_run.key);
    END IF;
    PERFORM dts._submit_nodes(r, plan, NULL, run_at, priority);
    RETURN r.id;
END $$;
COMMENT ON FUNCTION dts._begin_run(oid, dts.workflow, jsonb, text, timestamptz, int, jsonb, bigint, int, jsonb) IS 'Makes a run of a workflow and submits its tasks.';

-- schedule: what its tasks know of the schedule that starts it.
CREATE FUNCTION dts._start_for(caller oid, workflow text, params jsonb, key text, run_at timestamptz, priority int, labels jsonb, schedule jsonb) RETURNS bigint
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET jit = off AS $$
BEGIN
    IF key = '' OR octet_length(key) > 1000 THEN
        RAISE EXCEPTION 'argument "key" must be 1 to 1000 bytes long' USING ERRCODE = 'invalid_parameter_value', HINT = 'Use a hash of what is longer.';
    ELSIF jsonb_typeof(labels) <> 'object' THEN
        RAISE EXCEPTION 'argument "labels" must be a JSON object' USING ERRCODE = 'invalid_parameter_value', HINT = 'Write {"name": value}.';
    END IF;
    RETURN dts._begin_run(caller, dts._workflow_row(caller, workflow), params, key, run_at, priority, labels, NULL, 0, schedule);
END $$;
COMMENT ON FUNCTION dts._start_for(oid, text, jsonb, text, timestamptz, int, jsonb, jsonb) IS 'Starts a run of a workflow, for the caller or for a schedule.';

CREATE FUNCTION dts._check_start(caller oid, workflow text, params jsonb, labels jsonb) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE w dts.workflow := dts._workflow_row(caller, workflow);
BEGIN
    IF jsonb_typeof(labels) <> 'object' THEN
        RAISE EXCEPTION 'argument "labels" must be a JSON object' USING ERRCODE = 'invalid_parameter_value', HINT = 'Write {"name": value}.';
    END IF;
    PERFORM dts._checked_params(v.plan, COALESCE(params, '{}')) FROM dts.workflow_version v WHERE v.workflow = w.id AND v.version = w.version;
END $$;
COMMENT ON FUNCTION dts._check_start(oid, text, jsonb, jsonb) IS 'Refuses what dts.start would refuse.';

CREATE FUNCTION dts._start(caller oid, workflow text, params jsonb, key text, run_at timestamptz, priority int, labels jsonb) RETURNS bigint
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$ SELECT dts._start_for(caller, workflow, params, key, run_at, priority, labels, NULL) $$;
COMMENT ON FUNCTION dts._start(oid, text, jsonb, text, timestamptz, int, jsonb) IS 'dts.start, as the owner of the extension.';
CREATE FUNCTION dts.start(workflow text, params jsonb DEFAULT '{}', key text DEFAULT NULL, run_at timestamptz DEFAULT NULL, priority int DEFAULT NULL, labels jsonb DEFAULT NULL) RETURNS bigint
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dts_as_owner';
COMMENT ON FUNCTION dts.start(text, jsonb, text, timestamptz, int, jsonb) IS 'Starts a run of a workflow, in the caller''s transaction, and returns its id. key: a second start with the same key gives the first run. Its tasks belong to the caller.';

CREATE FUNCTION dts.start_many(workflow text, params jsonb[]) RETURNS SETOF bigint
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$ SELECT dts.start(workflow, p) FROM unnest(params) WITH ORDINALITY u(p, n) ORDER BY n $$;
COMMENT ON FUNCTION dts.start_many(text, jsonb[]) IS 'Starts a run for each element of params. Returns their ids in order.';
