-- Defining workflows: from JSON, or from dts.node().

CREATE FUNCTION dts.node(name text, sql text DEFAULT NULL, needs text[] DEFAULT NULL, handler text DEFAULT NULL, "when" text DEFAULT NULL, map jsonb DEFAULT NULL,
    args jsonb DEFAULT NULL, payload jsonb DEFAULT NULL, retry jsonb DEFAULT NULL, max_attempts int DEFAULT NULL, timeout interval DEFAULT NULL, queue text DEFAULT NULL,
    priority int DEFAULT NULL, compensate text DEFAULT NULL, sleep interval DEFAULT NULL, signal text DEFAULT NULL, workflow text DEFAULT NULL, params jsonb DEFAULT NULL, until text DEFAULT NULL, approval text DEFAULT NULL, "switch" jsonb DEFAULT NULL,
    command text[] DEFAULT NULL, concurrency_key text DEFAULT NULL, options jsonb DEFAULT NULL) RETURNS jsonb
    LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT dts._given(jsonb_build_object('node', name, 'sql', sql, 'needs', needs, 'handler', handler, 'when', "when", 'map', map, 'args', args, 'payload', payload, 'retry', retry,
        'max_attempts', max_attempts, 'timeout', timeout::text, 'queue', queue, 'priority', priority, 'compensate', CASE WHEN compensate IS NOT NULL THEN jsonb_build_object('sql', compensate) END,
        'sleep', sleep::text, 'signal', signal, 'workflow', workflow, 'params', params, 'until', until,
        'approval', CASE WHEN approval IS NOT NULL THEN jsonb_build_object('prompt', approval) END, 'switch', "switch", 'command', command, 'concurrency_key', concurrency_key)) || COALESCE(options, '{}') $$;
COMMENT ON FUNCTION dts.node(text, text, text[], text, text, jsonb, jsonb, jsonb, jsonb, int, interval, text, int, text, interval, text, text, jsonb, text, text, jsonb, text[], text, jsonb) IS
'A node for dts.create_workflow. needs: nodes before it, as a, a:failed, a? (succeeded or skipped), a.case of a switch. when: a condition in SQL/JSON path. map: items (an array, or a reference in quotes), or {"items": ..., "max_parallel": ...}. compensate: SQL that undoes it. workflow: runs another one, with params. until: an instant. approval: what is to be approved. switch: a condition for each case. command: a program and its arguments, for an agent. concurrency_key: of the tasks of its queue with this key, a text with references, one runs at a time. options: any other key of a node, as JSON.';

CREATE FUNCTION dts.param(name text, type text DEFAULT 'any', "default" jsonb DEFAULT NULL) RETURNS jsonb
    LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT jsonb_build_object('param', name, 'type', type) || CASE WHEN "default" IS NOT NULL THEN jsonb_build_object('default', "default") ELSE '{}' END $$;
COMMENT ON FUNCTION dts.param(text, text, jsonb) IS 'A parameter for dts.create_workflow: its type (string, number, integer, boolean, object, array, any) and default; without a default it must be given.';

CREATE FUNCTION dts.workflow_options(concurrency int DEFAULT NULL, concurrency_key text DEFAULT NULL, on_conflict text DEFAULT NULL, deadline interval DEFAULT NULL, output text DEFAULT NULL,
    on_success text DEFAULT NULL, on_failure text DEFAULT NULL, on_cancel text DEFAULT NULL, on_exit text DEFAULT NULL, description text DEFAULT NULL, options jsonb DEFAULT NULL) RETURNS jsonb
    LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT dts._given(jsonb_build_object('deadline', deadline::text, 'output', output, 'description', description,
        'concurrency', NULLIF(dts._given(jsonb_build_object('limit', COALESCE(concurrency, CASE WHEN concurrency_key IS NOT NULL THEN 1 END), 'key', concurrency_key, 'on_conflict', on_conflict)), '{}'),
        'on', (SELECT jsonb_object_agg(h.name, jsonb_build_object('sql', h.sql)) FROM (VALUES ('success', on_success), ('failure', on_failure), ('cancel', on_cancel), ('exit', on_exit)) h(name, sql) WHERE h.sql IS NOT NULL)))
        || COALESCE(options, '{}') $$;
COMMENT ON FUNCTION dts.workflow_options(int, text, text, interval, text, text, text, text, text, text, jsonb) IS
'What holds for a workflow as a whole, for dts.create_workflow. concurrency: how many of its runs may be under way at once, for each concurrency_key (a text with ${params.x}; with a key alone one). on_conflict: wait, skip or replace. on_success, on_failure, on_cancel, on_exit: SQL that runs behind a run. options: any other key of a definition, as JSON.';

CREATE FUNCTION dts._create_workflow(caller oid, name text, definition jsonb) RETURNS int
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET jit = off AS $$
DECLARE w dts.workflow; d jsonb := dts._normal_definition(definition); f record; n int; child text;
BEGIN
    PERFORM dts._check_name('workflow', name);
    IF definition IS NULL THEN
        RAISE EXCEPTION 'argument "definition" must not be null' USING ERRCODE = 'null_value_not_allowed', HINT = 'Give JSON, or nodes made by dts.node().';
    END IF;
    SELECT count(*) OVER () AS n, x.* INTO f FROM dts._findings(d, caller) x LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'the definition of workflow "%" is not valid: %', name, f.message
            USING ERRCODE = 'invalid_parameter_value', HINT = f.hint,
                  DETAIL = (SELECT string_agg(format('%s: %s', y.pointer, y.message), E'\n') FROM (SELECT * FROM dts._findings(d, caller) LIMIT 20) y);
    END IF;
    FOR child IN SELECT h #>> '{}' FROM unnest('{$.nodes.*.handler,$.on.*.handler,$.nodes.*.compensate.handler}'::jsonpath[]) p, jsonb_path_query(d, p) h LOOP
        IF NOT EXISTS (SELECT FROM dts.handler h WHERE h.name = child AND h.dropped_at IS NULL AND (h.shared OR dts._role_may(caller, h.owner))) THEN
            RAISE EXCEPTION 'handler "%" does not exist', child USING ERRCODE = 'undefined_object', HINT = 'Create it with dts.create_handler, or see dts.handlers.';
        END IF;
    END LOOP;
    SELECT * INTO w FROM dts.workflow x WHERE x.name = _create_workflow.name AND x.dropped_at IS NULL FOR UPDATE;
    IF FOUND AND NOT dts._role_may(caller, w.owner) THEN
        RAISE EXCEPTION 'permission denied for workflow "%"', name USING ERRCODE = 'insufficient_privilege', HINT = 'It belongs to another role; choose another name.';
    ELSIF FOUND THEN
        SELECT v.version INTO n FROM dts.workflow_version v WHERE v.workflow = w.id AND v.version = w.version AND v.definition = d;
        IF FOUND THEN
            RETURN n;  -- nothing has changed
        END IF;
        n := (SELECT max(v.version) + 1 FROM dts.workflow_version v WHERE v.workflow = w.id);
        UPDATE dts.workflow x SET version = n, description = d ->> 'description' WHERE x.id = w.id;
    ELSE
        n := 1;
        PERFORM dts._check_number(caller, 'workflow');
        INSERT INTO dts.workflow (name, owner, version, description) VALUES (name, caller::regrole, n, d ->> 'description') RETURNING * INTO w;
    END IF;
    INSERT INTO dts.workflow_version (workflow, version, definition, plan, created_by) VALUES (w.id, n, d, dts._plan(d), caller::regrole);
    PERFORM dts._audit(caller, 'create_workflow', name, NULL, jsonb_build_object('version', n));
    RETURN n;
END $$;
COMMENT ON FUNCTION dts._create_workflow(oid, text, jsonb) IS 'dts.create_workflow, as the owner of the extension.';
CREATE FUNCTION dts.create_workflow(name text, definition jsonb) RETURNS int LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dts_as_owner';
COMMENT ON FUNCTION dts.create_workflow(text, jsonb) IS 'Defines a workflow, or a new version of it, from JSON: {"nodes": {"a": {"sql": "..."}, "b": {"needs": ["a"], ...}}, "params": {...}, "on": {...}}. Returns the version. Runs that have started stay on theirs. Everything is checked here; dts.validate_workflow gives all findings.';

CREATE FUNCTION dts._definition(parts jsonb[]) RETURNS jsonb
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE p jsonb; kind text; what text; result jsonb := '{}'; place text[];
BEGIN
    FOREACH p IN ARRAY COALESCE(parts, '{}') LOOP
        kind := CASE WHEN jsonb_typeof(p) <> 'object' THEN NULL WHEN p ? 'node' THEN 'node' WHEN p ? 'param' THEN 'param' ELSE 'options' END;
        IF kind IS NULL THEN
            RAISE EXCEPTION 'argument "nodes" must hold what dts.node(), dts.param() and dts.workflow_options() make' USING ERRCODE = 'invalid_parameter_value', HINT = 'See the reference of dts.create_workflow.';
        END IF;
        FOR what, p IN SELECT CASE kind WHEN 'options' THEN x.key ELSE p ->> kind END, CASE kind WHEN 'options' THEN x.value ELSE p - kind END
                       FROM jsonb_each(CASE kind WHEN 'options' THEN p ELSE '{"x": 1}' END) x LOOP
            place := CASE kind WHEN 'options' THEN ARRAY[what] ELSE ARRAY[kind || 's', COALESCE(what, '')] END;
            IF result #> place IS NOT NULL THEN
                RAISE EXCEPTION '% "%" is given twice', CASE kind WHEN 'node' THEN 'node' WHEN 'param' THEN 'parameter' ELSE 'option' END, what
                    USING ERRCODE = 'duplicate_object', HINT = 'Names are unique within a workflow.';
            END IF;
            result := jsonb_set(CASE WHEN cardinality(place) = 2 AND NOT result ? place[1] THEN result || jsonb_build_object(place[1], '{}'::jsonb) ELSE result END, place, p);
        END LOOP;
    END LOOP;
    RETURN result;
END $$;
COMMENT ON FUNCTION dts._definition(jsonb[]) IS 'A definition from its parts.';

CREATE FUNCTION dts.create_workflow(name text, VARIADIC nodes jsonb[]) RETURNS int
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$ SELECT dts.create_workflow(name, dts._definition(nodes)) $$;
COMMENT ON FUNCTION dts.create_workflow(text, jsonb[]) IS 'Defines a workflow from nodes made by dts.node(), parameters made by dts.param(), and dts.workflow_options(): dts.create_workflow(''nightly'', dts.node(''a'', ''SELECT 1''), dts.node(''b'', ''SELECT 2'', needs => ''{a}'')).';

CREATE FUNCTION dts._drop_workflow(caller oid, name text) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE w dts.workflow;
BEGIN
    w := dts._workflow_row(caller, name);
    IF EXISTS (SELECT FROM dts.workflow_run r WHERE r.workflow = w.id AND r.ended_at IS NULL) THEN
        RAISE EXCEPTION 'workflow "%" has running instances', name USING ERRCODE = 'object_in_use', HINT = 'Cancel them with dts.cancel_run, or wait for their end.';
    END IF;
    -- The row stays for history, under a name that frees the old one.
    UPDATE dts.workflow x SET dropped_at = clock_timestamp(), name = left(x.name, 40) || ' (dropped ' || x.id || ')' WHERE x.id = w.id;
    PERFORM dts._audit(caller, 'drop_workflow', name, NULL, NULL);
END $$;
COMMENT ON FUNCTION dts._drop_workflow(oid, text) IS 'dts.drop_workflow, as the owner of the extension.';
CREATE FUNCTION dts.drop_workflow(name text) RETURNS void LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dts_as_owner';
COMMENT ON FUNCTION dts.drop_workflow(text) IS 'Drops a workflow that has no running instance.';

CREATE FUNCTION dts._workflow_row(caller oid, name text) RETURNS dts.workflow
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE w dts.workflow;
BEGIN
    IF name IS NULL THEN
        RAISE EXCEPTION 'workflow name must not be null' USING ERRCODE = 'null_value_not_allowed', HINT = 'See dts.workflows.';
    END IF;
    SELECT * INTO w FROM dts.workflow x WHERE x.name = _workflow_row.name AND x.dropped_at IS NULL;
    IF NOT FOUND OR NOT dts._role_may(caller, w.owner) THEN
        RAISE EXCEPTION 'workflow "%" does not exist', name USING ERRCODE = 'undefined_object', HINT = 'Create it with dts.create_workflow, or see dts.workflows.';
    END IF;
    RETURN w;
END $$;
COMMENT ON FUNCTION dts._workflow_row(oid, text) IS 'A workflow of the caller, or an error.';
