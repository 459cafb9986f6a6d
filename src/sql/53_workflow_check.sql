-- What can be wrong with a definition: each finding with a JSON pointer and a hint, all at once.

CREATE FUNCTION dts._cycle(edges jsonb) RETURNS text
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'dts_cycle';
COMMENT ON FUNCTION dts._cycle(jsonb) IS 'The path of a cycle among nodes given with their parents; NULL if there is none.';

CREATE FUNCTION dts._similar(name text, names text[]) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN names = '{}' THEN 'There are none.' WHEN n IS NULL THEN format('There are: %s.', array_to_string(names[1:10], ', ')) ELSE format('Did you mean "%s"?', n) END
    FROM (SELECT (SELECT x FROM unnest(names) x WHERE lower(x) = lower(name) OR (length(name) > 2 AND (x LIKE left(name, -1) || '%' OR name LIKE left(x, -1) || '%')) LIMIT 1) AS n) q $$;
COMMENT ON FUNCTION dts._similar(text, text[]) IS 'A hint for a name that does not exist.';

CREATE FUNCTION dts._check_condition(condition jsonb) RETURNS text
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF jsonb_typeof(condition) = 'boolean' THEN
        RETURN NULL;
    ELSIF jsonb_typeof(condition) <> 'string' THEN
        RETURN 'a condition is a text in SQL/JSON path, or true or false';
    END IF;
    PERFORM (condition #>> '{}')::jsonpath;
    RETURN CASE WHEN condition #>> '{}' !~ '\$' THEN 'the condition looks at nothing: it begins with $.params, $.nodes or $.item' END;
EXCEPTION WHEN OTHERS THEN
    RETURN SQLERRM;
END $$;
COMMENT ON FUNCTION dts._check_condition(jsonb) IS 'What is wrong with a condition, or NULL.';

CREATE FUNCTION dts._node_findings(place text, name text, def jsonb, names text[], params text[]) RETURNS TABLE (pointer text, message text, hint text)
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE kinds text[]; k text; e record; bound record; template jsonb; note text; what jsonb;
BEGIN
    IF jsonb_typeof(def) <> 'object' THEN
        RETURN QUERY SELECT place, 'a node must be a JSON object', 'Write {"sql": "..."}, for example.';
        RETURN;
    END IF;
    kinds := ARRAY(SELECT x FROM unnest(dts._kinds()) x WHERE def ? x);
    IF cardinality(kinds) <> 1 THEN
        RETURN QUERY SELECT place, CASE WHEN kinds = '{}' THEN 'the node does nothing' ELSE format('the node does several things: %s', array_to_string(kinds, ', ')) END,
            format('Give exactly one of %s.', array_to_string(dts._kinds(), ', '));
    END IF;
    FOR e IN SELECT * FROM jsonb_each(def) LOOP
        IF NOT e.key = ANY (dts._kinds() || dts._node_keys() || dts._task_keys()) AND NOT COALESCE(kinds[1], '') IN ('http', 'mail')
           AND NOT (def ? 'command' AND e.key = ANY (ARRAY['env', 'stdin', 'dir', 'container', 'retry_exit_codes', 'requires'])) THEN
            RETURN QUERY SELECT place || '/' || e.key, format('unknown key "%s"', e.key), dts._similar(e.key, dts._kinds() || dts._node_keys() || dts._task_keys());
        END IF;
    END LOOP;
    FOR e IN SELECT n.node, n.outcomes, n.branch, i FROM jsonb_array_elements(CASE jsonb_typeof(def -> 'needs') WHEN 'array' THEN def -> 'needs' WHEN 'string' THEN jsonb_build_array(def -> 'needs') ELSE '[]' END)
             WITH ORDINALITY x(v, i), dts._need(x.v) n LOOP
        IF e.node IS NULL OR NOT e.node = ANY (names) THEN
            RETURN QUERY SELECT format('%s/needs/%s', place, e.i - 1), format('unknown node "%s"', e.node), dts._similar(COALESCE(e.node, ''), names);
        END IF;
        FOREACH k IN ARRAY COALESCE(e.outcomes, '{}') LOOP
            IF NOT k = ANY ('{succeeded,failed,expired,cancelled,skipped,ended}') THEN
                RETURN QUERY SELECT format('%s/needs/%s', place, e.i - 1), format('unknown outcome "%s"', k), 'Outcomes are succeeded, failed, expired, cancelled, skipped and ended.';
            END IF;
        END LOOP;
    END LOOP;
    IF def ? 'needs' AND jsonb_typeof(def -> 'needs') NOT IN ('array', 'string') THEN
        RETURN QUERY SELECT place || '/needs', '"needs" must be an array of nodes', 'Write ["a", "b:failed", "c?"].';
    END IF;
    IF def ? 'join' AND NOT (def -> 'join' IN ('"all"', '"any"') OR jsonb_typeof(def -> 'join') = 'number') THEN
        RETURN QUERY SELECT place || '/join', 'invalid join rule', 'Use "all", "any" or how many nodes must end so.';
    END IF;
    FOR e IN SELECT * FROM (VALUES ('/when', def -> 'when'), ('/repeat/until', def #> '{repeat,until}'), ('/repeat/while', def #> '{repeat,while}')) v(at, condition) WHERE v.condition IS NOT NULL
             UNION ALL SELECT '/switch/' || c.key, c.value FROM jsonb_each(CASE WHEN jsonb_typeof(def -> 'switch') = 'object' THEN def -> 'switch' ELSE '{}' END) c LOOP
        note := dts._check_condition(e.condition);
        IF note IS NOT NULL THEN
            RETURN QUERY SELECT place || e.at, note, 'Write a predicate in SQL/JSON path: $.nodes.load.output.n > 100 && $.params.region == "eu".';
        END IF;
        FOR k IN SELECT dts._condition_nodes(e.condition #>> '{}') LOOP
            IF NOT k = ANY (names) THEN
                RETURN QUERY SELECT place || e.at, format('unknown node "%s"', k), dts._similar(k, names);
            END IF;
        END LOOP;
    END LOOP;
    IF def ? 'repeat' AND (jsonb_typeof(def -> 'repeat') <> 'object' OR NOT def -> 'repeat' ?| '{until,while}') THEN
        RETURN QUERY SELECT place || '/repeat', '"repeat" must have "until" or "while"', 'Write {"until": condition, "interval": "10 s", "limit": 100}.';
    END IF;
    IF def ? 'map' AND (jsonb_typeof(dts._map(def -> 'map')) <> 'object' OR NOT dts._map(def -> 'map') ? 'items') THEN
        RETURN QUERY SELECT place || '/map', '"map" must have "items"', 'Items are an array, a reference to one, or {"sql": "SELECT ..."}.';
    END IF;
    IF dts._query_of(def) IS NOT NULL THEN
        RETURN QUERY SELECT * FROM dts._node_findings(place || '/map/items', name, dts._query_of(def), names, params);
        IF octet_length(name) > 57 THEN
            RETURN QUERY SELECT place, format('the name of "%s" is too long', name), 'A node with a query for its items has a name of at most 57 bytes.';
        END IF;
    ELSIF jsonb_typeof(dts._map(def -> 'map') -> 'items') NOT IN ('array', 'object', 'string') THEN
        RETURN QUERY SELECT place || '/map/items', format('the items of a map cannot be a %s', jsonb_typeof(dts._map(def -> 'map') -> 'items')), 'Items are an array, an object, a reference to one, or {"sql": "SELECT ..."}.';
    END IF;
    IF jsonb_typeof(def -> 'signal') = 'object' THEN
        IF def -> 'signal' ? 'name' = (def -> 'signal' ? 'event') THEN
            RETURN QUERY SELECT place || '/signal', 'a signal has a name, or an event', 'Write {"name": "go", "expires": "1 day"} or {"event": "orders.paid", "match": {"id": "${params.id}"}}.';
        END IF;
        FOR k IN SELECT r FROM dts._references(jsonb_build_array(def #> '{signal,event}', def #> '{signal,match}')) r WHERE r !~ '^(params|run)\.' LOOP
            RETURN QUERY SELECT place || '/signal', format('${%s} is not known when the run starts', k), 'A run listens from its start on: only params and run can say for what.';
        END LOOP;
    END IF;
    IF def ?& '{map,repeat}' THEN
        RETURN QUERY SELECT place || '/repeat', 'a node cannot have both "map" and "repeat"', 'Put one of them into a workflow of its own.';
    END IF;
    IF def ?| '{map,repeat}' AND kinds[1] = ANY ('{sleep,until,signal,approval,switch,noop}') THEN
        RETURN QUERY SELECT place, format('a node of kind %s cannot be repeated or mapped', kinds[1]), 'Put it into a workflow of its own, and map that.';
    END IF;
    IF def ? 'command' AND NOT COALESCE(def ->> 'command' ~ '^\$\{[^}]*\}$', false) THEN
        BEGIN  -- a value that is a reference as a whole is known at its turn only
            PERFORM dts._check_command((SELECT jsonb_object_agg(x.key, x.value) FROM jsonb_each(def) x WHERE NOT (jsonb_typeof(x.value) = 'string' AND x.value #>> '{}' ~ '^\$\{[^}]*\}$')));
        EXCEPTION WHEN OTHERS THEN
            RETURN QUERY SELECT place || '/command', replace(SQLERRM, 'argument "argv"', '"command"'), 'Write {"command": ["program", "argument"], "env": {"NAME": "value"}}.';
        END;
    END IF;
    IF jsonb_typeof(def -> 'sql') = 'string' THEN
        bound := dts._bind_sql(def ->> 'sql', '{}');
        template := bound.args;
        IF bound.wrong IS NOT NULL THEN
            RETURN QUERY SELECT place || '/sql', format('reference %s inside a literal or quoted name', bound.wrong), 'Values are bound, not pasted: take it out of the quotes; to build a text, use || or format().';
        END IF;
        IF template IS NOT NULL AND def ? 'args' THEN
            RETURN QUERY SELECT place || '/args', '"args" beside references in the SQL', 'Use one of the two.';
        END IF;
        BEGIN
            PERFORM dts._check_sql(bound.text, COALESCE(def -> 'transactional' <> 'false', true), 1000);
        EXCEPTION WHEN OTHERS THEN
            RETURN QUERY SELECT place || '/sql', SQLERRM, 'The statement must be one that a task can run.';
        END;
    ELSIF def ? 'sql' THEN
        RETURN QUERY SELECT place || '/sql', '"sql" must be a string', 'Write the statement as text.';
    END IF;
    what := (def - 'compensate' - 'needs') || CASE WHEN def ? 'sql' THEN jsonb_build_object('sql', template) ELSE '{}' END;
    RETURN QUERY SELECT f.* FROM jsonb_each(what) x, dts._reference_findings(format('%s/%s', place, x.key), x.value, names, params, def ? 'map', def ?| '{http,mail}') f;
END $$;
COMMENT ON FUNCTION dts._node_findings(text, text, jsonb, text[], text[]) IS 'What is wrong with one node by itself.';

CREATE FUNCTION dts._concurrency_findings(c jsonb, params text[]) RETURNS TABLE (pointer text, message text, hint text)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT '/concurrency', '"concurrency" must be a number or an object', 'Write 1, or {"limit": 1, "key": "${params.region}", "on_conflict": "wait"}.' WHERE jsonb_typeof(c) <> 'object'
    UNION ALL
    SELECT '/concurrency/' || k, format('unknown key "%s"', k), dts._similar(k, '{limit,key,on_conflict}')
    FROM jsonb_object_keys(CASE jsonb_typeof(c) WHEN 'object' THEN c ELSE '{}' END) k WHERE NOT k = ANY ('{limit,key,on_conflict}')
    UNION ALL
    SELECT '/concurrency/limit', '"limit" must be a whole number from 1 to 10000', 'So many runs of one key may be under way at once.'
    WHERE jsonb_typeof(c) = 'object' AND NOT COALESCE(CASE jsonb_typeof(c -> 'limit') WHEN 'number' THEN (c ->> 'limit')::numeric BETWEEN 1 AND 10000 AND (c ->> 'limit')::numeric = trunc((c ->> 'limit')::numeric) END, false)
    UNION ALL
    SELECT '/concurrency/key', '"key" must be a string', 'Write "${params.region}": runs of different keys do not wait for each other.' WHERE c ? 'key' AND jsonb_typeof(c -> 'key') <> 'string'
    UNION ALL
    SELECT '/concurrency/key', format('${%s} is not known when the run starts', r), CASE WHEN r ~ '^params\.' THEN dts._similar(split_part(r, '.', 2), params) ELSE 'Only params can say which runs exclude each other.' END
    FROM dts._references(c -> 'key') r WHERE NOT (r ~ '^params\.' AND split_part(split_part(split_part(r, '.', 2), ':-', 1), '?', 1) = ANY (params))
    UNION ALL
    SELECT '/concurrency/on_conflict', 'invalid value for "on_conflict"', 'Use wait, skip (the new run is cancelled) or replace (those before it are cancelled).'
    WHERE c ? 'on_conflict' AND NOT COALESCE(c ->> 'on_conflict', '') = ANY ('{wait,skip,replace}') $$;
COMMENT ON FUNCTION dts._concurrency_findings(jsonb, text[]) IS 'What is wrong with the concurrency of a workflow.';

CREATE FUNCTION dts._findings(definition jsonb, caller oid) RETURNS TABLE (pointer text, message text, hint text)
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE names text[]; params text[]; types jsonb; n record; parents jsonb; cycle text;
BEGIN
    IF jsonb_typeof(definition) IS DISTINCT FROM 'object' OR jsonb_typeof(definition -> 'nodes') IS DISTINCT FROM 'object' OR definition -> 'nodes' = '{}' THEN
        RETURN QUERY SELECT '/nodes', 'a workflow needs nodes', '{"nodes": {"a": {"sql": "SELECT 1"}, "b": {"needs": ["a"], "sql": "SELECT 2"}}}';
        RETURN;
    END IF;
    names := ARRAY(SELECT jsonb_object_keys(definition -> 'nodes'));
    RETURN QUERY SELECT * FROM dts._shape_findings('', 'workflow', definition, '{}', true);
    types := CASE WHEN jsonb_typeof(definition -> 'params') = 'object' THEN dts._params_schema(definition -> 'params') ELSE '{}' END;
    params := ARRAY(SELECT jsonb_object_keys(types));
    RETURN QUERY SELECT * FROM dts._reference_findings('/output', definition -> 'output', names, params, false, false);
    FOR n IN SELECT k FROM unnest(names) k WHERE k !~ '^[A-Za-z_][A-Za-z0-9_-]{0,62}$' LOOP
        RETURN QUERY SELECT '/nodes/' || n.k, format('invalid node name "%s"', n.k), 'Use letters, digits, _ and -, beginning with a letter, at most 63.';
    END LOOP;
    FOR n IN SELECT p.key, p.value FROM jsonb_each(types) p LOOP
        IF jsonb_typeof(n.value) <> 'object' OR NOT COALESCE(n.value ->> 'type', 'any') = ANY ('{any,string,number,integer,boolean,object,array}') THEN
            RETURN QUERY SELECT '/params/' || n.key, format('parameter "%s" has no known type', n.key), 'Write {"type": "string", "default": "x"}; types are string, number, integer, boolean, object and array.';
        ELSIF n.value ? 'default' AND dts._type_clash(n.value, n.value -> 'default') IS NOT NULL THEN
            RETURN QUERY SELECT format('/params/%s/default', n.key), dts._type_clash(n.value, n.value -> 'default'), 'The default must be of the type of the parameter.';
        END IF;
    END LOOP;
    RETURN QUERY SELECT * FROM dts._concurrency_findings(dts._concurrency(definition -> 'concurrency'), params);
    FOR n IN SELECT x.key, x.value FROM jsonb_each(definition -> 'nodes') x LOOP
        RETURN QUERY SELECT * FROM dts._node_findings('/nodes/' || n.key, n.key, n.value, names, params);
        RETURN QUERY SELECT * FROM dts._option_findings('/nodes/' || n.key, n.value, types, caller);
        IF n.value ? 'compensate' THEN
            RETURN QUERY SELECT * FROM dts._node_findings(format('/nodes/%s/compensate', n.key), n.key, n.value -> 'compensate', names, params);
            RETURN QUERY SELECT * FROM dts._option_findings(format('/nodes/%s/compensate', n.key), n.value -> 'compensate', types, caller);
        END IF;
        IF types -> substring(dts._map(n.value -> 'map') ->> 'items' FROM '^\$\{params\.([^.}]+)\}$') ->> 'type' NOT IN ('array', 'object', 'any') THEN
            RETURN QUERY SELECT format('/nodes/%s/map/items', n.key), format('the items of a map cannot be a %s', types -> substring(dts._map(n.value -> 'map') ->> 'items' FROM '^\$\{params\.([^.}]+)\}$') ->> 'type'),
                'Make it a parameter of type array.';
        END IF;
    END LOOP;
    FOR n IN SELECT x.key, x.value FROM jsonb_each(CASE jsonb_typeof(definition -> 'on') WHEN 'object' THEN definition -> 'on' ELSE '{}' END) x LOOP
        IF NOT n.key = ANY ('{success,failure,cancel,exit}') THEN
            RETURN QUERY SELECT '/on/' || n.key, format('unknown handler "%s"', n.key), 'Handlers are success, failure, cancel and exit.';
        END IF;
        RETURN QUERY SELECT * FROM dts._node_findings('/on/' || n.key, n.key, n.value, names, params);
        RETURN QUERY SELECT * FROM dts._option_findings('/on/' || n.key, n.value, types, caller);
    END LOOP;
    parents := (SELECT jsonb_object_agg(x.key, (SELECT COALESCE(jsonb_agg(DISTINCT m.node), '[]') FROM jsonb_array_elements(CASE jsonb_typeof(x.value -> 'needs') WHEN 'array' THEN x.value -> 'needs' WHEN 'string' THEN jsonb_build_array(x.value -> 'needs') ELSE '[]' END) y, dts._need(y) m
                                                WHERE m.node = ANY (names))) FROM jsonb_each(definition -> 'nodes') x WHERE jsonb_typeof(x.value) = 'object');
    cycle := dts._cycle(parents);
    IF cycle IS NOT NULL THEN
        RETURN QUERY SELECT '/nodes', format('the nodes form a cycle: %s', cycle), 'Each would wait for the one before it. For a loop use "repeat".';
        RETURN;
    END IF;
    -- Outputs come from ancestors only: of anything else it is not known whether it has ended.
    FOR n IN WITH RECURSIVE o AS (SELECT x.key AS node, x.value - 'compensate' AS def FROM jsonb_each(definition -> 'nodes') x WHERE jsonb_typeof(x.value) = 'object'),
                  reads AS (SELECT o.node, (string_to_array(r, '.'))[2] AS read FROM o, dts._references(o.def) r WHERE r ~ '^nodes\.'
                            UNION SELECT o.node, c FROM o, dts._conditions(o.def) q, dts._condition_nodes(q) c),
                  far AS (SELECT r.node, r.read FROM reads r WHERE r.read = ANY (names) AND NOT parents -> r.node ? r.read),  -- mostly a parent is read
                  up AS (SELECT DISTINCT f.node, p.parent FROM far f, jsonb_array_elements_text(parents -> f.node) p(parent)
                         UNION SELECT u.node, p.parent FROM up u, jsonb_array_elements_text(parents -> u.parent) p(parent))
             SELECT f.node, f.read FROM far f WHERE NOT EXISTS (SELECT FROM up u WHERE u.node = f.node AND u.parent = f.read) LOOP
        RETURN QUERY SELECT '/nodes/' || n.node, format('node "%s" reads "%s", which need not have ended before it', n.node, n.read), format('Add "%s" to its needs.', n.read);
    END LOOP;
    FOR n IN SELECT x.key, m.node, m.branch FROM jsonb_each(definition -> 'nodes') x, jsonb_array_elements(CASE jsonb_typeof(x.value -> 'needs') WHEN 'array' THEN x.value -> 'needs' WHEN 'string' THEN jsonb_build_array(x.value -> 'needs') ELSE '[]' END) y, dts._need(y) m WHERE m.branch IS NOT NULL LOOP
        IF octet_length(n.node) + octet_length(n.branch) > 62 THEN
            RETURN QUERY SELECT format('/nodes/%s/needs', n.key), format('"%s.%s" is too long', n.node, n.branch), 'The names of a switch and of a case have at most 62 bytes together.';
        ELSIF NOT COALESCE(definition -> 'nodes' -> n.node -> 'switch' ? n.branch, false) THEN
            RETURN QUERY SELECT format('/nodes/%s/needs', n.key), format('unreachable: "%s" has no case "%s"', n.node, n.branch),
                dts._similar(n.branch, ARRAY(SELECT jsonb_object_keys(CASE jsonb_typeof(definition -> 'nodes' -> n.node -> 'switch') WHEN 'object' THEN definition -> 'nodes' -> n.node -> 'switch' ELSE '{}' END)));
        END IF;
    END LOOP;
END $$;
COMMENT ON FUNCTION dts._findings(jsonb, oid) IS 'Everything that is wrong with a definition.';

CREATE FUNCTION dts._type_clash(schema jsonb, value jsonb) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN COALESCE(schema ->> 'type', 'any') <> 'any' AND NOT (schema ->> 'type' = jsonb_typeof(value) OR schema ->> 'type' = 'integer' AND jsonb_typeof(value) = 'number' AND value::numeric = trunc(value::numeric)
                     OR jsonb_typeof(value) = 'null' AND schema -> 'nullable' = 'true')
                THEN format('it must be of type %s, and is of type %s', schema ->> 'type', jsonb_typeof(value))
                WHEN schema ? 'enum' AND NOT schema -> 'enum' @> jsonb_build_array(value) THEN format('it must be one of %s', schema -> 'enum') END $$;
COMMENT ON FUNCTION dts._type_clash(jsonb, jsonb) IS 'Why a value does not fit a schema, or NULL.';

CREATE FUNCTION dts.validate_workflow(definition jsonb) RETURNS TABLE (pointer text, message text, hint text)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off AS $$ SELECT * FROM dts._findings(dts._normal_definition(definition), (SELECT r.oid FROM pg_roles r WHERE r.rolname = session_user)) $$;
COMMENT ON FUNCTION dts.validate_workflow(jsonb) IS 'All that is wrong with the definition of a workflow, each with a JSON pointer to the place and a hint; no row if it is good.';
