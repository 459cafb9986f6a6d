-- What a node hands its work to, when that is other tasks or runs: the items of a map, the turns of a loop; and how they ended.

CREATE TYPE dts._step_result AS (action text, args jsonb, result jsonb, message text, tasks bigint[], at timestamptz);
COMMENT ON TYPE dts._step_result IS 'What dts._step says.';

-- By its key, whatever the planner believes of a table that is empty most of the time: in a join it would begin there, and walk all tasks.
CREATE FUNCTION dts._task_state(task bigint) RETURNS int2
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$ BEGIN RETURN (SELECT t.state FROM dts.task t WHERE t.id = _task_state.task); END $$;
COMMENT ON FUNCTION dts._task_state(bigint) IS 'The stored state of an unfinished task, NULL if there is none.';

CREATE FUNCTION dts._node_outcome(task bigint, kind text, inline boolean, OUT state text, OUT output jsonb, OUT rows jsonb, OUT error text, OUT cut boolean)
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE r record;
BEGIN
    SELECT dts._state_name(x.outcome) AS state, x.result::jsonb AS result, x.error ->> 'message' AS message, x.flags & 1 <> 0 AS cut INTO r FROM dts.run x
    WHERE x.task = _node_outcome.task AND x.outcome <> 20 ORDER BY x.ended_at DESC LIMIT 1;
    state := COALESCE(r.state, (SELECT dts._state_name(t.state) FROM dts.task t WHERE t.id = _node_outcome.task), 'unknown');
    error := r.message;
    -- A part of a value is not the value.
    cut := r.cut;
    IF cut THEN
        RETURN;
    END IF;
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

-- Asked for at each step: its plans are kept, and it looks at the nodes that are read, not at all of the run.
CREATE FUNCTION dts._doc(r dts.workflow_run, plan jsonb, reads jsonb) RETURNS jsonb
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE x record; o record; n jsonb; part jsonb; nodes jsonb := '{}';
BEGIN
    FOR i IN 0 .. COALESCE(jsonb_array_length(reads), 0) - 1 LOOP
        SELECT y.node, y.task INTO x FROM dts.workflow_node y WHERE y.run = r.id AND y.node = reads ->> i AND y.idx = 0;
        CONTINUE WHEN NOT FOUND;
        n := plan #> ARRAY['nodes', x.node];
        o := dts._node_outcome(x.task, n ->> 'kind', n -> 'inline' = 'true');
        part := jsonb_build_object('state', o.state);
        IF o.output IS NOT NULL THEN part := part || jsonb_build_object('output', o.output); END IF;
        IF o.rows IS NOT NULL THEN part := part || jsonb_build_object('rows', o.rows); END IF;
        IF o.error IS NOT NULL THEN part := part || jsonb_build_object('error', o.error); END IF;
        IF o.cut THEN part := part || '{"cut": true}'; END IF;
        nodes := nodes || jsonb_build_object(x.node, part);
    END LOOP;
    RETURN jsonb_build_object('params', r.params, 'run', jsonb_build_object('id', r.id, 'key', r.key, 'state', r.state, 'attempt', r.attempt, 'schedule', r.schedule), 'nodes', nodes);
END $$;
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
    -- Each item works on a copy of what its task refers to, and not of all that the map was made from.
    doc := doc || jsonb_build_object('nodes', (SELECT COALESCE(jsonb_object_agg(e.key, e.value), '{}') FROM jsonb_each(doc -> 'nodes') e
        WHERE e.key IN (SELECT (string_to_array(split_part(split_part(f, ':-', 1), '?', 1), '.'))[2] FROM dts._references(n -> 'task') f WHERE f ~ '^nodes\.')));
    -- Items that succeeded in an earlier attempt of the run are kept.
    IF r.attempt > 1 AND NOT n ? 'repeat' THEN
        kept := ARRAY(SELECT y.idx FROM dts.workflow_node y, dts._item_outcome(y, n) o WHERE y.run = r.id AND y.node = x.node AND y.idx > 0 AND o.state = 'succeeded');
    END IF;
    FOR i IN SELECT y.value AS item, (y.n + from_idx - 1)::int AS idx FROM jsonb_array_elements(items) WITH ORDINALITY y(value, n) ORDER BY y.n LOOP
        -- An item that has changed is another one.
        CONTINUE WHEN i.idx = ANY (kept) AND EXISTS (SELECT FROM dts.workflow_node y WHERE y.run = r.id AND y.node = x.node AND y.idx = i.idx AND y.item = i.item);
        d := doc || jsonb_build_object('item', i.item, 'index', i.idx - 1);
        IF n ->> 'kind' = 'workflow' THEN
            SELECT y.* INTO w FROM dts.workflow y WHERE y.name = dts._resolve(n #> '{task,workflow}', d) #>> '{}' AND y.dropped_at IS NULL AND dts._role_may(r.owner, y.owner);
            IF NOT FOUND THEN
                RAISE EXCEPTION 'workflow "%" does not exist', dts._resolve(n #> '{task,workflow}', d) #>> '{}' USING ERRCODE = 'undefined_object', HINT = 'Create it with dts.create_workflow, then retry.';
            END IF;
            SELECT y.child_run INTO child FROM dts.workflow_node y WHERE y.run = r.id AND y.node = x.node AND y.idx = i.idx AND y.child_run IS NOT NULL AND y.item = i.item;
            IF FOUND THEN
                UPDATE dts.workflow_run y SET parent_task = x.task WHERE y.id = child;
                PERFORM dts._retry_run(r.owner, child, NULL, NULL);  -- the same child goes on, from where it failed
            ELSE
                child := dts._begin_run(r.owner, w, COALESCE(dts._resolve(n #> '{task,params}', d), '{}'), NULL, NULL, NULL, r.labels, x.task, r.depth + 1);
            END IF;
            result := result || (SELECT y.task FROM dts.workflow_node y WHERE y.run = child AND y.node = '(end)');
            INSERT INTO dts.workflow_node (run, node, idx, task, item, child_run) VALUES (r.id, x.node, i.idx, result[cardinality(result)], i.item, child)
            ON CONFLICT (run, node, idx) DO UPDATE SET task = EXCLUDED.task, item = EXCLUDED.item, child_run = EXCLUDED.child_run;
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
                   ON CONFLICT (run, node, idx) DO UPDATE SET task = EXCLUDED.task, item = EXCLUDED.item)
        SELECT result || array_agg(s.id) INTO result FROM s;
    END IF;
    RETURN result;
END $$;
COMMENT ON FUNCTION dts._spawn(dts.workflow_run, jsonb, dts.workflow_node, jsonb, jsonb, jsonb, int, interval) IS 'Submits the tasks, or starts the runs, that a node waits for.';

CREATE FUNCTION dts._items(node text, n jsonb, doc jsonb) RETURNS jsonb
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE items jsonb;
BEGIN
    IF n -> 'query' = 'true' THEN
        -- Each row is an item: an object of its columns, of a single column the value.
        IF doc #> ARRAY['nodes', node, 'cut'] = 'true' THEN
            RAISE EXCEPTION 'the query gave more than 16 MB' USING ERRCODE = 'program_limit_exceeded', HINT = 'Map over keys, and let each item read the rest from its table.';
        END IF;
        RETURN (SELECT COALESCE(jsonb_agg(CASE WHEN (SELECT count(*) FROM jsonb_object_keys(e.value)) = 1 THEN (SELECT f.value FROM jsonb_each(e.value) f) ELSE e.value END ORDER BY e.n), '[]')
                FROM jsonb_array_elements(doc #> ARRAY['nodes', node, 'rows']) WITH ORDINALITY e(value, n));
    END IF;
    items := dts._resolve(n #> '{map,items}', doc);
    RETURN CASE jsonb_typeof(items) WHEN 'array' THEN items
        WHEN 'object' THEN (SELECT COALESCE(jsonb_agg(jsonb_build_object('key', o.key, 'value', o.value) ORDER BY o.key), '[]') FROM jsonb_each(items) o)
        WHEN 'null' THEN '[]' END;
END $$;
COMMENT ON FUNCTION dts._items(text, jsonb, jsonb) IS 'The items of a map: an array; an object gives its members as key and value; the rows of its query.';

-- A map: all items at once; when they have ended, their outputs in order.
CREATE FUNCTION dts._step_map(r dts.workflow_run, plan jsonb, x dts.workflow_node, n jsonb) RETURNS dts._step_result
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE s dts._step_result; doc jsonb := dts._doc(r, plan, COALESCE(n -> 'reads', '[]') || CASE WHEN n -> 'query' = 'true' THEN jsonb_build_array(x.node || '.items') ELSE '[]' END); items jsonb; failed int; outputs jsonb;
BEGIN
    IF x.memory IS NULL THEN
        IF n -> 'query' = 'true' AND doc #>> ARRAY['nodes', x.node || '.items', 'state'] <> 'succeeded' THEN
            s.action := CASE doc #>> ARRAY['nodes', x.node || '.items', 'state'] WHEN 'skipped' THEN 'skip' WHEN 'cancelled' THEN 'end cancelled' ELSE 'end failed' END;
            s.message := format('its items: %s', COALESCE(doc #>> ARRAY['nodes', x.node || '.items', 'error'], doc #>> ARRAY['nodes', x.node || '.items', 'state']));
            RETURN s;
        END IF;
        items := dts._items(x.node || '.items', n, doc);
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
