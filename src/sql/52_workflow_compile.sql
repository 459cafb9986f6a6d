-- From a definition to a plan, with all findings at once. A plan is the definition made explicit: for each node its kind, its parents as
-- names with outcomes, the nodes whose outputs it reads, and whether its arguments are known when the run starts.

CREATE FUNCTION dts._kinds() RETURNS text[] LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
    AS $$ SELECT ARRAY['sql', 'handler', 'http', 'mail', 'command', 'workflow', 'sleep', 'until', 'signal', 'approval', 'switch', 'noop'] $$;
COMMENT ON FUNCTION dts._kinds() IS 'The kinds of nodes: each is the key of a node that says what it does.';

CREATE FUNCTION dts._given(object jsonb) RETURNS jsonb
    LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT COALESCE(jsonb_object_agg(o.key, o.value), '{}') FROM jsonb_each(object) o WHERE o.value <> 'null' $$;
COMMENT ON FUNCTION dts._given(jsonb) IS 'An object without members that are null; those inside of them stay.';

CREATE FUNCTION dts._map(map jsonb) RETURNS jsonb
    LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN jsonb_typeof(map) IN ('array', 'string') THEN jsonb_build_object('items', map) ELSE map END $$;
COMMENT ON FUNCTION dts._map(jsonb) IS 'The map of a node; an array or a reference alone are its items.';

CREATE FUNCTION dts._concurrency(concurrency jsonb) RETURNS jsonb
    LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE jsonb_typeof(concurrency) WHEN 'number' THEN jsonb_build_object('limit', concurrency) ELSE concurrency END $$;
COMMENT ON FUNCTION dts._concurrency(jsonb) IS 'How many runs of a workflow may be under way at once; a number alone is the limit.';

CREATE FUNCTION dts._query_of(def jsonb) RETURNS jsonb
    LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT i FROM (SELECT dts._map(def -> 'map') -> 'items' AS i) q WHERE jsonb_typeof(i) = 'object' AND i ? 'sql' AND i - '{sql,args}'::text[] = '{}' $$;
COMMENT ON FUNCTION dts._query_of(jsonb) IS 'The query that gives the items of a map, {"sql": ..., "args": ...}, or NULL.';

CREATE FUNCTION dts._node_keys() RETURNS text[] LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
    AS $$ SELECT ARRAY['node', 'needs', 'join', 'on_unsatisfied', 'when', 'map', 'repeat', 'continue_on', 'compensate', 'description'] $$;
COMMENT ON FUNCTION dts._node_keys() IS 'Keys of a node beside its kind, what belongs to that, and the options of a task.';

CREATE FUNCTION dts._task_keys() RETURNS text[] LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
    AS $$ SELECT ARRAY['args', 'payload', 'params', 'queue', 'priority', 'max_attempts', 'retry', 'timeout', 'transactional', 'capture', 'labels', 'tenant', 'concurrency_key'] $$;
COMMENT ON FUNCTION dts._task_keys() IS 'Keys of a node that go into the JSON object of its task.';

-- References are ${path} in strings: a whole string keeps the type of what it refers to, inside a text it becomes text.
CREATE FUNCTION dts._references(value jsonb) RETURNS SETOF text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT DISTINCT m[1] FROM jsonb_path_query(value, 'strict $.**?(@.type() == "string")') s, regexp_matches(s #>> '{}', '\$\{([^}]*)\}', 'g') m $$;
COMMENT ON FUNCTION dts._references(jsonb) IS 'The references in the strings of a JSON value.';

CREATE FUNCTION dts._condition_nodes(condition text) RETURNS SETOF text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT DISTINCT COALESCE(m[1], m[2]) FROM regexp_matches(condition, '\$\.nodes\.(?:"([^"]+)"|(\w+))', 'g') m $$;
COMMENT ON FUNCTION dts._condition_nodes(text) IS 'The nodes that a condition, a predicate in SQL/JSON path, looks at.';

CREATE FUNCTION dts._conditions(def jsonb) RETURNS SETOF text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT c FROM unnest(ARRAY[def ->> 'when', def #>> '{repeat,until}', def #>> '{repeat,while}']
                         || ARRAY(SELECT v.value #>> '{}' FROM jsonb_each(CASE jsonb_typeof(def -> 'switch') WHEN 'object' THEN def -> 'switch' ELSE '{}' END) v)) c WHERE c IS NOT NULL $$;
COMMENT ON FUNCTION dts._conditions(jsonb) IS 'The conditions of a node.';

CREATE FUNCTION dts._look_up(doc jsonb, reference text) RETURNS jsonb
    LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT doc #> string_to_array(split_part(split_part(reference, ':-', 1), '?', 1), '.') $$;
COMMENT ON FUNCTION dts._look_up(jsonb, text) IS 'The value of a reference in the document of a run.';

CREATE FUNCTION dts._resolve(value jsonb, doc jsonb) RETURNS jsonb
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE t text; ref text; found jsonb; result text := ''; rest text;
BEGIN
    CASE jsonb_typeof(value)
    WHEN 'object' THEN
        RETURN (SELECT COALESCE(jsonb_object_agg(e.key, dts._resolve(e.value, doc)), '{}') FROM jsonb_each(value) e);
    WHEN 'array' THEN
        RETURN (SELECT COALESCE(jsonb_agg(dts._resolve(e.value, doc) ORDER BY e.n), '[]') FROM jsonb_array_elements(value) WITH ORDINALITY e(value, n));
    WHEN 'string' THEN
        t := value #>> '{}';
        IF position('${' IN t) = 0 THEN
            RETURN value;
        END IF;
        rest := t;
        LOOP
            ref := substring(rest FROM '\$\{([^}]*)\}');
            EXIT WHEN ref IS NULL;
            found := dts._look_up(doc, ref);
            IF found IS NULL AND ref ~ ':-' THEN
                found := to_jsonb(substring(ref FROM ':-(.*)$'));
            ELSIF found IS NULL AND ref !~ '\?$' THEN
                IF doc #> ARRAY['nodes', split_part(ref, '.', 2), 'cut'] = 'true' THEN
                    RAISE EXCEPTION 'the result of "%" was cut', split_part(ref, '.', 2) USING ERRCODE = 'program_limit_exceeded', HINT = 'Raise dts.max_result_size, or keep the rows in a table.';
                END IF;
                RAISE EXCEPTION '"${%}" has no value', ref USING ERRCODE = 'undefined_object', HINT = 'Write ${...?} for null, or ${...:-default}, where it may be missing.';
            END IF;
            IF t = '${' || ref || '}' THEN
                RETURN COALESCE(found, 'null');
            END IF;
            result := result || substr(rest, 1, position('${' IN rest) - 1) || COALESCE(found #>> '{}', '');
            rest := substr(rest, position('${' || ref || '}' IN rest) + length(ref) + 3);
        END LOOP;
        RETURN to_jsonb(result || rest);
    ELSE
        RETURN value;
    END CASE;
END $$;
COMMENT ON FUNCTION dts._resolve(jsonb, jsonb) IS 'A JSON value with its references replaced from a document, by position: never by pasting into SQL.';

-- A request stays a template until the courier sends it, which escapes each value for its place: it takes along what its references name.
CREATE FUNCTION dts._request_values(request jsonb, doc jsonb) RETURNS jsonb
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE ref text; path text[]; found jsonb; result jsonb := '{}'; i int;
BEGIN
    FOR ref IN SELECT dts._references(request) LOOP
        CONTINUE WHEN ref LIKE 'secret:%';
        path := string_to_array(split_part(split_part(ref, ':-', 1), '?', 1), '.');
        found := doc #> path;
        CONTINUE WHEN found IS NULL;
        FOR i IN 1 .. cardinality(path) - 1 LOOP
            IF result #> path[:i] IS NULL THEN
                result := jsonb_set(result, path[:i], '{}');
            END IF;
        END LOOP;
        result := jsonb_set(result, path, found);
    END LOOP;
    RETURN result;
END $$;
COMMENT ON FUNCTION dts._request_values(jsonb, jsonb) IS 'The part of a document that the references of a request name.';

CREATE FUNCTION dts._bound_options(task jsonb, doc jsonb) RETURNS jsonb
    LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT t || jsonb_strip_nulls(jsonb_build_object('concurrency_key', t ->> 'concurrency_key', 'tenant', t ->> 'tenant')) FROM (SELECT dts._resolve(task, doc) AS t) x $$;
COMMENT ON FUNCTION dts._bound_options(jsonb, jsonb) IS 'What is said of a task, with its references replaced; keys are texts, whatever they refer to.';

CREATE FUNCTION dts._task_of(task jsonb, doc jsonb) RETURNS jsonb
    LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT dts._bound_options(task - ARRAY['sql', 'http', 'mail'], doc) || CASE WHEN task ? 'sql' THEN jsonb_build_object('sql', task -> 'sql') ELSE '{}' END
        || COALESCE((SELECT jsonb_object_agg(k, r.v || jsonb_build_object('values', dts._request_values(r.v, doc)))
                     FROM unnest(ARRAY['http', 'mail']) k, LATERAL (SELECT CASE jsonb_typeof(task -> k) WHEN 'string' THEN jsonb_build_object('url', task -> k) ELSE task -> k END AS v) r WHERE task ? k), '{}') $$;
COMMENT ON FUNCTION dts._task_of(jsonb, jsonb) IS 'The task of a node, with what its references name.';

-- ${...} in SQL becomes a parameter. A scanner for quotes and comments keeps it out of literals, where it could only be pasted.
CREATE FUNCTION dts._bind_sql(sql text, params jsonb, OUT text text, OUT args jsonb, OUT wrong text)
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE part text; ref text; n int := 0; refs text[] := '{}';
BEGIN
    text := '';
    FOR part IN SELECT m[1] FROM regexp_matches(sql, $re$((?:[eE]'(?:[^'\\]|\\.|'')*')|(?:'(?:[^']|'')*')|(?:"(?:[^"]|"")*")|(?:--[^\n]*)|(?:/\*.*?\*/)|(?:\$(\w*)\$.*?\$\2\$)|(?:\$\{[^}]*\})|[^'"$/eE-]+|.)$re$, 'g') m LOOP
        ref := substring(part FROM '^\$\{([^}]*)\}$');
        IF ref IS NULL THEN
            IF part ~ '\$\{' AND part !~ '^(--|/\*)' THEN
                wrong := substring(part FROM '\$\{[^}]*\}?');
            END IF;
            text := text || part;
        ELSE
            n := COALESCE(array_position(refs, ref), 0);
            IF n = 0 THEN
                refs := refs || ref;
                n := cardinality(refs);
            END IF;
            -- A parameter takes its type from where it stands, unless it is known to be JSON.
            text := text || '$' || n || CASE WHEN ref ~ '^nodes\.[^.]+\.(output|rows)$' OR params -> substring(ref FROM '^params\.([^.]+)$') ->> 'type' IN ('object', 'array') THEN '::jsonb' ELSE '' END;
        END IF;
    END LOOP;
    args := (SELECT jsonb_agg('${' || r || '}' ORDER BY o) FROM unnest(refs) WITH ORDINALITY u(r, o));
END $$;
COMMENT ON FUNCTION dts._bind_sql(text, jsonb) IS 'SQL text with references as parameters, and the template of their values.';

CREATE FUNCTION dts._need(need jsonb, OUT node text, OUT outcomes text[], OUT branch text)
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE t text := need #>> '{}';
BEGIN
    IF jsonb_typeof(need) = 'object' THEN
        node := need ->> 'node';
        outcomes := (SELECT array_agg(x) FROM jsonb_array_elements_text(CASE jsonb_typeof(need -> 'on') WHEN 'array' THEN need -> 'on' ELSE jsonb_build_array(need -> 'on') END) x WHERE x IS NOT NULL);
        RETURN;
    END IF;
    node := substring(t FROM '^[^:.?]*');
    branch := substring(t FROM '^[^:.?]*\.([^:?]*)');
    outcomes := CASE WHEN t ~ '\?$' THEN '{succeeded,skipped}' WHEN t ~ ':' THEN string_to_array(replace(substring(t FROM ':(.*)$'), ' ', ''), ',') END;
END $$;
COMMENT ON FUNCTION dts._need(jsonb) IS 'One element of needs: "a", "a:failed", "a:failed,skipped", "a:ended", "a?" (succeeded or skipped), "a.case" of a switch, or {"node": "a", "on": [...]}.';

CREATE FUNCTION dts._plan_node(def jsonb, params jsonb) RETURNS jsonb
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE kind text; task jsonb; bound record; refs text[]; inline boolean; needs jsonb; outside boolean;
BEGIN
    SELECT k INTO kind FROM unnest(dts._kinds()) k WHERE def ? k LIMIT 1;
    task := (SELECT COALESCE(jsonb_object_agg(e.key, e.value), '{}') FROM jsonb_each(def) e WHERE e.key = kind OR e.key = ANY (dts._task_keys()) OR NOT (e.key = ANY (dts._node_keys() || dts._kinds())));
    IF kind = 'sql' THEN
        bound := dts._bind_sql(def ->> 'sql', params);
        IF bound.args IS NOT NULL THEN
            task := task || jsonb_build_object('sql', bound.text, 'args', bound.args);
        END IF;
    END IF;
    refs := ARRAY(SELECT dts._references((task - 'sql') || jsonb_build_object('map', def -> 'map')));
    needs := (SELECT jsonb_agg(dts._given(jsonb_build_object('node', n.node || COALESCE('.' || n.branch, ''), 'on', n.outcomes))) FROM jsonb_array_elements(
                CASE jsonb_typeof(def -> 'needs') WHEN 'array' THEN def -> 'needs' WHEN 'string' THEN jsonb_build_array(def -> 'needs') ELSE '[]' END) x, dts._need(x) n);
    -- Without anything to find out when it is its turn it is a plain task. Kinds that others run, and loops, are tasks of a task.
    outside := kind = 'handler' AND EXISTS (SELECT FROM dts.handler h WHERE h.name = def ->> 'handler' AND h.dropped_at IS NULL AND h.kind <> 'sql');
    -- What is said of the task itself (its concurrency key, its queue) must be known when it is submitted: with the run, or at its turn.
    inline := kind IN ('sql', 'handler') AND NOT outside AND COALESCE(def -> 'transactional', 'true') <> 'false' AND NOT def ?| '{map,repeat}'
              AND NOT EXISTS (SELECT FROM dts._references(task - '{sql,args,payload}'::text[]) x WHERE x !~ '^(params|run)\.');
    RETURN dts._given(jsonb_build_object('kind', kind, 'task', task, 'map', dts._map(def -> 'map'), 'query', dts._query_of(def) IS NOT NULL, 'repeat', def -> 'repeat', 'when', def -> 'when', 'join', def -> 'join',
        'on_unsatisfied', def -> 'on_unsatisfied', 'continue_on', def -> 'continue_on', 'compensate', def -> 'compensate', 'description', def -> 'description',
        'needs', needs,
        'reads', (SELECT jsonb_agg(DISTINCT r) FROM (SELECT (string_to_array(split_part(split_part(x, ':-', 1), '?', 1), '.'))[2] FROM unnest(refs) x WHERE x ~ '^nodes\.'
                    UNION SELECT dts._condition_nodes(c) FROM dts._conditions(def) c) q(r)),
        'outside', NULLIF(outside, false), 'inline', inline, 'plain', inline AND NOT def ? 'when' AND NOT EXISTS (SELECT FROM unnest(refs) x WHERE x !~ '^params\.')));
END $$;
COMMENT ON FUNCTION dts._plan_node(jsonb, jsonb) IS 'A node, compiled.';

CREATE FUNCTION dts._normal_definition(definition jsonb) RETURNS jsonb
    LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN jsonb_typeof(definition) = 'object' AND definition ? 'node' AND NOT definition ? 'nodes'
                THEN jsonb_build_object('nodes', jsonb_build_object(definition ->> 'node', definition - 'node')) ELSE definition END $$;
COMMENT ON FUNCTION dts._normal_definition(jsonb) IS 'A definition, also from a single dts.node().';

CREATE FUNCTION dts._params_schema(params jsonb) RETURNS jsonb
    LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN params IS NULL THEN '{}' WHEN jsonb_typeof(params -> 'properties') = 'object' THEN params -> 'properties' ELSE params END $$;
COMMENT ON FUNCTION dts._params_schema(jsonb) IS 'Parameters by name, from the short form or a JSON schema of an object.';

CREATE FUNCTION dts._plan(definition jsonb) RETURNS jsonb
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT dts._given(jsonb_build_object('params', dts._params_schema(definition -> 'params'), 'required', definition #> '{params,required}', 'output', definition -> 'output', 'deadline', definition -> 'deadline',
        'concurrency', dts._concurrency(definition -> 'concurrency'),
        'nodes', (SELECT jsonb_object_agg(n.key, dts._plan_node(CASE WHEN dts._query_of(n.value) IS NULL THEN n.value ELSE n.value - '{join,on_unsatisfied,when}'::text[] || jsonb_build_object('needs', jsonb_build_array(n.key || '.items:ended')) END,
                                                                dts._params_schema(definition -> 'params'))) FROM jsonb_each(definition -> 'nodes') n)
            -- The query of a map is a node of its own, with all that decides whether the map runs.
            || COALESCE((SELECT jsonb_object_agg(n.key || '.items', dts._plan_node(n.value - (dts._kinds() || '{map,compensate,args,payload,params,transactional,labels}'::text[]) || dts._query_of(n.value), dts._params_schema(definition -> 'params')) || '{"plain": false}')
                         FROM jsonb_each(definition -> 'nodes') n WHERE dts._query_of(n.value) IS NOT NULL), '{}')
            -- A case of a switch that somebody needs is a node of its own, which succeeds if it was taken: so it joins like any other.
            || COALESCE((SELECT jsonb_object_agg(b.node || '.' || b.branch, dts._plan_node(jsonb_build_object('noop', true, 'needs', jsonb_build_array(b.node),
                            'when', format('$.nodes.%s.output == %s', to_jsonb(b.node), to_jsonb(b.branch))), '{}'))
                         FROM (SELECT DISTINCT m.node, m.branch FROM jsonb_each(definition -> 'nodes') x,
                               jsonb_array_elements(CASE jsonb_typeof(x.value -> 'needs') WHEN 'array' THEN x.value -> 'needs' WHEN 'string' THEN jsonb_build_array(x.value -> 'needs') ELSE '[]' END) y, dts._need(y) m
                               WHERE m.branch IS NOT NULL) b), '{}'),
        'on', (SELECT jsonb_object_agg(n.key, dts._plan_node(n.value, dts._params_schema(definition -> 'params'))) FROM jsonb_each(definition -> 'on') n))) $$;
COMMENT ON FUNCTION dts._plan(jsonb) IS 'The plan of a definition that was found good.';
