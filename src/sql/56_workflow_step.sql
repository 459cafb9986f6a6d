-- What a node does when it is its turn. Called by the executor for tasks that are more than a text with known arguments, as the owner of the
-- extension, inside the attempt's subtransaction. Actions: run, skip, fail, done, block (on tasks submitted just now), wait, later.

CREATE TYPE dts._step_result AS (action text, args jsonb, result jsonb, message text, tasks bigint[], at timestamptz);
COMMENT ON TYPE dts._step_result IS 'What dts._step says.';

CREATE FUNCTION dts._node_outcome(task bigint, kind text, inline boolean, OUT state text, OUT output jsonb, OUT rows jsonb, OUT error text)
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE r record;
BEGIN
    SELECT dts._state_name(x.outcome) AS state, x.result::jsonb AS result, x.error ->> 'message' AS message INTO r FROM dts.run x
    WHERE x.task = _node_outcome.task AND x.outcome <> 20 ORDER BY x.ended_at DESC LIMIT 1;
    state := COALESCE(r.state, (SELECT dts._state_name(t.state) FROM dts.task t WHERE t.id = _node_outcome.task), 'unknown');
    error := r.message;
    -- A statement's output is its first row; all of them are in rows.
    IF kind IN ('sql', 'handler') AND inline AND jsonb_typeof(r.result) = 'array' THEN
        rows := r.result;
        output := r.result -> 0;
    ELSE
        output := r.result;
        rows := CASE WHEN jsonb_typeof(r.result) = 'array' THEN r.result END;
    END IF;
END $$;
COMMENT ON FUNCTION dts._node_outcome(bigint, text, boolean) IS 'How the task of a node ended, and what it gave.';

CREATE FUNCTION dts._doc(r dts.workflow_run, plan jsonb, reads jsonb) RETURNS jsonb
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT jsonb_build_object('params', r.params, 'run', jsonb_build_object('id', r.id, 'key', r.key, 'state', r.state, 'attempt', r.attempt, 'schedule', r.schedule),
        'nodes', (SELECT COALESCE(jsonb_object_agg(x.node, jsonb_strip_nulls(jsonb_build_object('state', o.state, 'output', o.output, 'rows', o.rows, 'error', o.error))), '{}')
                  FROM dts.workflow_node x, dts._node_outcome(x.task, plan #>> ARRAY['nodes', x.node, 'kind'], plan #> ARRAY['nodes', x.node, 'inline'] = 'true') o
                  WHERE x.run = r.id AND x.idx = 0 AND reads ? x.node)) $$;
COMMENT ON FUNCTION dts._doc(dts.workflow_run, jsonb, jsonb) IS 'What references and conditions of a node may look at.';

CREATE FUNCTION dts._holds(condition jsonb, doc jsonb) RETURNS boolean
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN jsonb_typeof(condition) = 'boolean' THEN condition = 'true' ELSE COALESCE(jsonb_path_match(doc, (condition #>> '{}')::jsonpath, '{}', true), false) END $$;
COMMENT ON FUNCTION dts._holds(jsonb, jsonb) IS 'Whether a condition holds; what cannot be compared does not.';

-- The tasks that a node hands its work to: one, or one for each item. Returns what to wait for.
CREATE FUNCTION dts._spawn(r dts.workflow_run, plan jsonb, x dts.workflow_node, n jsonb, doc jsonb, items jsonb, from_idx int, delay interval DEFAULT NULL) RETURNS bigint[]
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE i record; d jsonb; task jsonb; tasks jsonb[] := '{}'; kept int[]; w dts.workflow; child bigint; result bigint[] := '{}'; at_once int := (n #>> '{map,max_parallel}')::int; place int := 0;
BEGIN
    -- Items that succeeded in an earlier attempt of the run are kept.
    IF r.attempt > 1 AND NOT n ? 'repeat' THEN
        kept := ARRAY(SELECT y.idx FROM dts.workflow_node y, dts._item_outcome(y, n) o WHERE y.run = r.id AND y.node = x.node AND y.idx > 0 AND o.state = 'succeeded');
    END IF;
    FOR i IN SELECT y.value AS item, (y.n + from_idx - 1)::int AS idx FROM jsonb_array_elements(items) WITH ORDINALITY y(value, n) ORDER BY y.n LOOP
        CONTINUE WHEN i.idx = ANY (kept);
        d := doc || jsonb_build_object('item', i.item, 'index', i.idx - 1);
        IF n ->> 'kind' = 'workflow' THEN
            SELECT y.* INTO w FROM dts.workflow y WHERE y.name = dts._resolve(n #> '{task,workflow}', d) #>> '{}' AND y.dropped_at IS NULL AND dts._role_may(r.owner, y.owner);
            IF NOT FOUND THEN
                RAISE EXCEPTION 'workflow "%" does not exist', dts._resolve(n #> '{task,workflow}', d) #>> '{}' USING ERRCODE = 'undefined_object', HINT = 'Create it with dts.create_workflow, then retry.';
            END IF;
            SELECT y.child_run INTO child FROM dts.workflow_node y WHERE y.run = r.id AND y.node = x.node AND y.idx = i.idx AND y.child_run IS NOT NULL;
            IF FOUND THEN
                UPDATE dts.workflow_run y SET parent_task = x.task WHERE y.id = child;
                PERFORM dts._retry_run(r.owner, child, NULL, NULL);  -- the same child goes on, from where it failed
            ELSE
                child := dts._begin_run(r.owner, w, COALESCE(dts._resolve(n #> '{task,params}', d), '{}'), NULL, NULL, NULL, r.labels, x.task, r.depth + 1);
            END IF;
            result := result || (SELECT y.task FROM dts.workflow_node y WHERE y.run = child AND y.node = '(end)');
            INSERT INTO dts.workflow_node (run, node, idx, task, item, child_run) VALUES (r.id, x.node, i.idx, result[cardinality(result)], i.item, child)
            ON CONFLICT (run, node, idx) DO UPDATE SET task = EXCLUDED.task;
        ELSE
            place := place + 1;
            task := dts._task_of((n -> 'task') - 'labels', d)
                    || jsonb_build_object('name', i.idx::text, 'owner', dts._role_name(r.owner),
                    'labels', COALESCE(r.labels, '{}') || COALESCE(dts._resolve(n #> '{task,labels}', d), '{}') || jsonb_build_object('run', r.id, 'node', x.node, 'item', i.idx));
            IF at_once > 0 AND place > at_once THEN  -- item k waits for the end of item k - max_parallel
                task := task || jsonb_build_object('depends_on', jsonb_build_object('tasks', jsonb_build_array(tasks[place - at_once] ->> 'name'), 'on', 'ended'));
            END IF;
            IF delay IS NOT NULL THEN
                task := task || jsonb_build_object('delay', extract(epoch FROM delay));
            END IF;
            tasks := array_append(tasks, task || jsonb_build_object('item', i.item));
        END IF;
    END LOOP;
    IF cardinality(tasks) > 0 THEN
        WITH s AS (SELECT v.id, v.k FROM dts.submit_many((SELECT jsonb_agg(t - 'item' ORDER BY o) FROM unnest(tasks) WITH ORDINALITY u(t, o))) WITH ORDINALITY v(id, k)),
             i AS (INSERT INTO dts.workflow_node (run, node, idx, task, item) SELECT r.id, x.node, (t.t ->> 'name')::int, s.id, t.t -> 'item' FROM s JOIN unnest(tasks) WITH ORDINALITY t(t, o) ON t.o = s.k
                   ON CONFLICT (run, node, idx) DO UPDATE SET task = EXCLUDED.task)
        SELECT result || array_agg(s.id) INTO result FROM s;
    END IF;
    RETURN result;
END $$;
COMMENT ON FUNCTION dts._spawn(dts.workflow_run, jsonb, dts.workflow_node, jsonb, jsonb, jsonb, int, interval) IS 'Submits the tasks, or starts the runs, that a node waits for.';

CREATE FUNCTION dts._items(r dts.workflow_run, n jsonb, doc jsonb) RETURNS jsonb
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE items jsonb := dts._resolve(n #> '{map,items}', doc);
BEGIN
    RETURN CASE jsonb_typeof(items) WHEN 'array' THEN items
        WHEN 'object' THEN (SELECT COALESCE(jsonb_agg(jsonb_build_object('key', o.key, 'value', o.value) ORDER BY o.key), '[]') FROM jsonb_each(items) o)
        WHEN 'null' THEN '[]' END;
END $$;
COMMENT ON FUNCTION dts._items(dts.workflow_run, jsonb, jsonb) IS 'The items of a map: an array; an object gives its members as key and value.';

-- A map: all items at once; when they have ended, their outputs in order.
CREATE FUNCTION dts._step_map(r dts.workflow_run, plan jsonb, x dts.workflow_node, n jsonb) RETURNS dts._step_result
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE s dts._step_result; doc jsonb := dts._doc(r, plan, COALESCE(n -> 'reads', '[]')); items jsonb; failed int; outputs jsonb;
BEGIN
    IF x.memory IS NULL THEN
        items := dts._items(r, n, doc);
        IF items IS NULL THEN
            RAISE EXCEPTION 'the items of map "%" are no array', x.node USING ERRCODE = 'invalid_parameter_value', HINT = 'A map runs over the elements of an array or the members of an object.';
        ELSIF items = '[]' AND n #>> '{map,on_empty}' = 'skip' THEN
            s.action := 'skip'; s.message := 'the map has no items';
            RETURN s;
        ELSIF items = '[]' AND n #>> '{map,on_empty}' = 'fail' THEN
            s.action := 'fail'; s.message := 'the map has no items';
            RETURN s;
        END IF;
        DELETE FROM dts.workflow_node y WHERE y.run = r.id AND y.node = x.node AND y.idx > jsonb_array_length(items);
        s.tasks := dts._spawn(r, plan, x, n, doc, items, 1);
        UPDATE dts.workflow_node y SET memory = jsonb_build_object('items', jsonb_array_length(items)) WHERE y.run = r.id AND y.node = x.node AND y.idx = 0;
        s.action := 'block';
        RETURN s;
    END IF;
    SELECT count(*) FILTER (WHERE o.state <> 'succeeded'), COALESCE(jsonb_agg(CASE WHEN o.state = 'succeeded' THEN COALESCE(o.output, 'null') ELSE 'null' END ORDER BY y.idx), '[]') INTO failed, outputs
    FROM dts.workflow_node y, dts._item_outcome(y, n) o WHERE y.run = r.id AND y.node = x.node AND y.idx > 0;
    IF failed > COALESCE((n #>> '{map,tolerate}')::int, 0) THEN
        s.action := 'fail';
        s.message := format('%s of %s items did not succeed', failed, x.memory ->> 'items');
    ELSE
        s.action := 'done';
        s.result := outputs;
    END IF;
    RETURN s;
END $$;
COMMENT ON FUNCTION dts._step_map(dts.workflow_run, jsonb, dts.workflow_node, jsonb) IS 'A node with a map.';

CREATE FUNCTION dts._item_outcome(y dts.workflow_node, n jsonb, OUT state text, OUT output jsonb, OUT error text)
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF y.child_run IS NOT NULL THEN
        SELECT r.state, r.output, format('run %s %s', r.id, r.state) INTO state, output, error FROM dts.workflow_run r WHERE r.id = y.child_run;
    ELSE
        SELECT o.state, o.output, o.error INTO state, output, error FROM dts._node_outcome(y.task, n ->> 'kind', n ->> 'kind' IN ('sql', 'handler') AND NOT n ? 'outside') o;
    END IF;
END $$;
COMMENT ON FUNCTION dts._item_outcome(dts.workflow_node, jsonb) IS 'How a task or run that a node waited for has ended.';

-- One task or run after another, until the condition says so.
CREATE FUNCTION dts._step_single(r dts.workflow_run, plan jsonb, x dts.workflow_node, n jsonb) RETURNS dts._step_result
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE s dts._step_result; doc jsonb := dts._doc(r, plan, COALESCE(n -> 'reads', '[]')); turn int := COALESCE((x.memory ->> 'turn')::int, 0); o record; again boolean;
BEGIN
    IF turn > 0 THEN
        SELECT z.* INTO o FROM dts.workflow_node y, dts._item_outcome(y, n) z WHERE y.run = r.id AND y.node = x.node AND y.idx = turn;
        IF o.state <> 'succeeded' THEN
            s.action := 'fail';
            s.message := format('it %s%s', o.state, ': ' || o.error);
            RETURN s;
        END IF;
        doc := doc || jsonb_build_object('output', o.output, 'turn', turn);
        again := CASE WHEN n -> 'repeat' ? 'until' THEN NOT dts._holds(n #> '{repeat,until}', doc) WHEN n -> 'repeat' ? 'while' THEN dts._holds(n #> '{repeat,while}', doc) ELSE false END;
        IF NOT again THEN
            s.action := 'done'; s.result := o.output;
            RETURN s;
        ELSIF turn >= (n #>> '{repeat,limit}')::int THEN
            s.action := 'fail'; s.message := format('its condition did not hold after %s turns', turn);
            RETURN s;
        END IF;
    END IF;
    s.tasks := dts._spawn(r, plan, x, n, doc, '[null]', turn + 1, CASE WHEN turn > 0 THEN (n #>> '{repeat,interval}')::interval END);
    UPDATE dts.workflow_node y SET memory = jsonb_build_object('turn', turn + 1) WHERE y.run = r.id AND y.node = x.node AND y.idx = 0;
    s.action := 'block';
    RETURN s;
END $$;
COMMENT ON FUNCTION dts._step_single(dts.workflow_run, jsonb, dts.workflow_node, jsonb) IS 'A node whose work is another task or run, once or in turns.';

CREATE FUNCTION dts._step_signal(r dts.workflow_run, x dts.workflow_node, n jsonb, doc jsonb) RETURNS dts._step_result
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE s dts._step_result; what jsonb := n -> 'task' -> (n ->> 'kind'); approval boolean := n ->> 'kind' = 'approval'; g dts.signal; yes int; wanted text; seen bigint;
BEGIN
    wanted := CASE WHEN approval THEN 'approval:' || x.node WHEN jsonb_typeof(what) = 'string' THEN dts._resolve(what, doc) #>> '{}' ELSE dts._resolve(what -> 'name', doc) #>> '{}' END;
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
DECLARE s dts._step_result; x dts.workflow_node; r dts.workflow_run; plan jsonb; n jsonb; doc jsonb; kind text;
BEGIN
    SELECT * INTO x FROM dts.workflow_node y WHERE y.task = _step.task AND y.idx = 0;
    IF NOT FOUND THEN
        s.action := 'fail'; s.message := 'it is a node of a run that is not there any more';
        RETURN s;
    END IF;
    SELECT * INTO r FROM dts.workflow_run y WHERE y.id = x.run;
    SELECT y.plan INTO plan FROM dts.workflow_version y WHERE y.workflow = r.workflow AND y.version = r.version;
    IF x.node = '(end)' THEN
        -- Somebody who is cancelling the run holds its row: what he wants is not known before he commits, and he is not waited for.
        SELECT * INTO r FROM dts.workflow_run y WHERE y.id = x.run FOR UPDATE SKIP LOCKED;
        IF NOT FOUND THEN
            s.action := 'later'; s.at := clock_timestamp() + '50 ms'::interval;
            RETURN s;
        END IF;
        s.action := CASE dts._end_run(r, plan) WHEN 'succeeded' THEN 'done' WHEN 'failed' THEN 'end failed' ELSE 'end cancelled' END;
        s.result := (SELECT y.output FROM dts.workflow_run y WHERE y.id = r.id);
        s.message := format('run %s of workflow "%s" %s', r.id, (SELECT w.name FROM dts.workflow w WHERE w.id = r.workflow), CASE WHEN s.action = 'end failed' THEN 'failed' ELSE 'was cancelled' END)
                     || COALESCE((SELECT format(': node "%s": %s', y.node, o.error) FROM dts.workflow_node y, dts._node_outcome(y.task, '', false) o
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
        RETURN s;
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

-- The end of a run: its state, then compensation and handlers, which are tasks like any other and change that state no more.
CREATE FUNCTION dts._end_run(r dts.workflow_run, plan jsonb) RETURNS text
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE final text; undo jsonb; tasks jsonb := '[]'; last text; h record; doc jsonb;
BEGIN
    SELECT CASE WHEN r.state = 'cancelling' THEN 'cancelled'
                WHEN bool_or(o.state IN ('failed', 'expired', 'cancelled') AND NOT COALESCE(plan #> ARRAY['nodes', x.node, 'continue_on', 'failure'] = 'true', false)) THEN 'failed' ELSE 'succeeded' END INTO final
    FROM dts.workflow_node x, dts._node_outcome(x.task, '', false) o WHERE x.run = r.id AND x.idx = 0 AND plan -> 'nodes' ? x.node;
    doc := dts._doc(r, plan, (SELECT jsonb_agg(k) FROM jsonb_object_keys(plan -> 'nodes') k WHERE plan ->> 'output' LIKE '%nodes.' || k || '.%' OR final <> 'succeeded' OR plan ? 'on'));
    r.state := final;
    UPDATE dts.workflow_run y SET state = final, ended_at = clock_timestamp(), output = CASE WHEN final = 'succeeded' AND plan ? 'output' THEN dts._resolve(plan -> 'output', doc) END WHERE y.id = r.id;
    DELETE FROM dts.workflow_node y WHERE y.run = r.id AND y.node ~ '^(on|undo)\.';
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
    IF tasks <> '[]' THEN
        INSERT INTO dts.workflow_node (run, node, idx, task) SELECT r.id, tasks -> (s.n - 1)::int ->> 'name', 0, s.id FROM dts.submit_many(tasks) WITH ORDINALITY s(id, n);
    END IF;
    RETURN final;
END $$;
COMMENT ON FUNCTION dts._end_run(dts.workflow_run, jsonb) IS 'Ends a run whose nodes have all ended. Returns its state.';

CREATE FUNCTION dts._handler_task(r dts.workflow_run, name text, n jsonb, doc jsonb, after text) RETURNS jsonb
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT dts._task_of(n -> 'task', doc || jsonb_build_object('run', (doc -> 'run') || jsonb_build_object('state', r.state)))
           || jsonb_build_object('name', name, 'owner', dts._role_name(r.owner), 'labels', COALESCE(r.labels, '{}') || jsonb_build_object('run', r.id, 'node', name))
           || CASE WHEN after IS NOT NULL THEN jsonb_build_object('depends_on', jsonb_build_object('tasks', jsonb_build_array(after), 'on', 'ended')) ELSE '{}' END $$;
COMMENT ON FUNCTION dts._handler_task(dts.workflow_run, text, jsonb, jsonb, text) IS 'The task of a handler or of a compensation: its values are known.';
