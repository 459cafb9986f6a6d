-- What may stand where in a definition: a table of keys and kinds of values, for findings. A value with references is judged by the type of the
-- parameter, if it is one as a whole; else it is known later.

CREATE FUNCTION dts._shapes() RETURNS jsonb LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT '{"workflow": {"nodes": "object", "params": "object", "on": "object", "output": "any", "deadline": "interval", "concurrency": "any", "description": "text", "name": "text", "schedule": "any", "labels": "object"},
             "node": {"queue": "text", "tenant": "text", "concurrency_key": "text", "priority": "int 0 9", "max_attempts": "int 1 1000", "timeout": "interval", "labels": "object", "transactional": "bool",
                      "capture": "bool", "description": "text", "on_unsatisfied": "choice skip fail cancel", "sleep": "interval", "until": "instant", "workflow": "text", "handler": "text", "switch": "object",
                      "continue_on": "object", "repeat": "object", "approval": "object"},
             "map": {"items": "any", "max_parallel": "int 1 1000000", "tolerate": "int 0 1000000000", "on_empty": "choice succeed skip fail"},
             "repeat": {"until": "any", "while": "any", "interval": "interval", "limit": "int 1 1000000000"},
             "signal": {"name": "text", "event": "text", "match": "object", "roles": "texts", "expires": "interval"},
             "approval": {"prompt": "text", "roles": "texts", "quorum": "int 1 1000", "expires": "interval"},
             "continue_on": {"failure": "bool", "skipped": "bool"}}'::jsonb $$;
COMMENT ON FUNCTION dts._shapes() IS 'The keys of the objects of a definition, and the kind of value of each.';

CREATE FUNCTION dts._misfit(value jsonb, kind text) RETURNS text
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE word text[] := string_to_array(kind, ' '); type text := jsonb_typeof(value); t text := value #>> '{}';
BEGIN
    CASE word[1]
    WHEN 'any' THEN RETURN NULL;
    WHEN 'text' THEN RETURN CASE WHEN type <> 'string' OR t = '' THEN 'a string' END;
    WHEN 'bool' THEN RETURN CASE WHEN type <> 'boolean' THEN 'true or false' END;
    WHEN 'object' THEN RETURN CASE WHEN type <> 'object' THEN 'an object' END;
    WHEN 'texts' THEN RETURN CASE WHEN type <> 'array' OR jsonb_path_exists(value, '$[*] ? (@.type() != "string")') THEN 'an array of strings' END;
    WHEN 'choice' THEN RETURN CASE WHEN type <> 'string' OR NOT t = ANY (word[2:]) THEN array_to_string(word[2:], ', ') END;
    WHEN 'int' THEN
        RETURN CASE WHEN type = 'number' AND t::numeric = trunc(t::numeric) AND t::numeric BETWEEN word[2]::numeric AND word[3]::numeric THEN NULL ELSE format('a whole number from %s to %s', word[2], word[3]) END;
    WHEN 'interval' THEN
        RETURN CASE WHEN type = 'number' AND t::numeric >= 0 OR type = 'string' AND t::interval >= '0' THEN NULL ELSE 'an interval, as text or as a number of seconds' END;
    WHEN 'instant' THEN
        PERFORM t::timestamptz;
        RETURN CASE WHEN type <> 'string' THEN 'an instant, as text' END;
    END CASE;
EXCEPTION WHEN invalid_datetime_format OR datetime_field_overflow OR interval_field_overflow OR invalid_parameter_value THEN
    RETURN CASE word[1] WHEN 'interval' THEN 'an interval, as text or as a number of seconds' ELSE 'an instant, as text' END;
END $$;
COMMENT ON FUNCTION dts._misfit(jsonb, text) IS 'What a value should be that does not fit its place, or NULL.';

CREATE FUNCTION dts._may_hold(kind text, type text) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT type = 'any' OR CASE split_part(kind, ' ', 1) WHEN 'any' THEN true WHEN 'object' THEN type = 'object' WHEN 'texts' THEN type = 'array' WHEN 'bool' THEN type = 'boolean'
        WHEN 'int' THEN type IN ('integer', 'number') WHEN 'interval' THEN type IN ('string', 'integer', 'number') WHEN 'text' THEN type NOT IN ('object', 'array') ELSE type = 'string' END $$;
COMMENT ON FUNCTION dts._may_hold(text, text) IS 'Whether a parameter of this type can stand where this kind of value is wanted.';

-- Keys that the table does not know are others' business, unless `strict`.
CREATE FUNCTION dts._shape_findings(place text, shape text, object jsonb, params jsonb, strict boolean) RETURNS TABLE (pointer text, message text, hint text)
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE kinds jsonb := dts._shapes() -> shape; e record; wanted text; type text;
BEGIN
    IF jsonb_typeof(object) IS DISTINCT FROM 'object' THEN
        RETURN;
    END IF;
    FOR e IN SELECT x.key, x.value, kinds ->> x.key AS kind FROM jsonb_each(object) x WHERE x.value <> 'null' LOOP
        IF e.kind IS NULL THEN
            IF strict THEN
                RETURN QUERY SELECT format('%s/%s', place, e.key), format('unknown key "%s"', e.key), dts._similar(e.key, ARRAY(SELECT jsonb_object_keys(kinds)));
            END IF;
            CONTINUE;
        END IF;
        IF jsonb_typeof(e.value) = 'string' AND e.value #>> '{}' ~ '\$\{' THEN
            type := COALESCE(params -> substring(e.value #>> '{}' FROM '^\$\{params\.([^.}?:]+)\}$') ->> 'type', 'any');
            IF NOT dts._may_hold(e.kind, type) THEN
                RETURN QUERY SELECT format('%s/%s', place, e.key), format('"%s" cannot be a parameter of type %s', e.key, type), 'Change the type of the parameter, or refer to a part of it.';
            END IF;
            CONTINUE;
        END IF;
        wanted := dts._misfit(e.value, e.kind);
        IF wanted IS NOT NULL THEN
            RETURN QUERY SELECT format('%s/%s', place, e.key), format('invalid value for "%s"', e.key), format('Give %s.', wanted);
        END IF;
    END LOOP;
END $$;
COMMENT ON FUNCTION dts._shape_findings(text, text, jsonb, jsonb, boolean) IS 'Values that do not fit their places.';

CREATE FUNCTION dts._option_findings(place text, def jsonb, params jsonb, caller oid) RETURNS TABLE (pointer text, message text, hint text)
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE k text;
BEGIN
    RETURN QUERY SELECT * FROM dts._shape_findings(place, 'node', def, params, false);
    RETURN QUERY SELECT s.* FROM unnest('{map,repeat,signal,approval,continue_on}'::text[]) x,
        dts._shape_findings(format('%s/%s', place, x), x, CASE x WHEN 'map' THEN dts._map(def -> x) ELSE def -> x END, params, true) s;
    IF def ? 'signal' AND NOT (jsonb_typeof(def -> 'signal') = 'object' OR jsonb_typeof(def -> 'signal') = 'string' AND def ->> 'signal' <> '') THEN
        RETURN QUERY SELECT place || '/signal', 'invalid value for "signal"', 'Give a name, or an object with name or event.';
    END IF;
    IF def ? 'switch' AND def -> 'switch' = '{}' THEN
        RETURN QUERY SELECT place || '/switch', '"switch" has no case', 'Write {"big": "$.nodes.a.output.n > 5", "else": true}.';
    END IF;
    IF jsonb_typeof(def -> 'join') = 'number' AND dts._misfit(def -> 'join', format('int 1 %s', CASE jsonb_typeof(def -> 'needs') WHEN 'array' THEN jsonb_array_length(def -> 'needs') ELSE 1 END)) IS NOT NULL THEN
        RETURN QUERY SELECT place || '/join', '"join" is more than the node needs, or less than one', 'Use "all", "any" or at most the number of its needs.';
    END IF;
    IF jsonb_typeof(def -> 'queue') = 'string' AND def ->> 'queue' !~ '\$\{' AND NOT EXISTS (SELECT FROM dts.queue q WHERE q.name = def ->> 'queue' AND q.dropped_at IS NULL) THEN
        RETURN QUERY SELECT place || '/queue', format('queue "%s" does not exist', def ->> 'queue'), 'Create it with dts.create_queue, or see dts.queues.';
    END IF;
    IF def ? 'retry' AND def -> 'retry' <> 'null' THEN
        BEGIN
            PERFORM dts._check_retry(def -> 'retry');
        EXCEPTION WHEN OTHERS THEN
            RETURN QUERY SELECT place || '/retry', SQLERRM, 'See "Retries" in the concepts.';
        END;
    END IF;
    -- A comparison of things of different types never holds.
    RETURN QUERY SELECT place, format('"%s" compares a parameter of type %s with %s', m[1], t.type, m[3]), 'What cannot be compared does not hold.'
    FROM dts._conditions(def) c, regexp_matches(c, '(\$\.params\.(\w+)\s*(?:==|!=|<>|<=|>=|<|>)\s*("[^"]*"|-?[0-9][0-9.]*|true|false))', 'g') m,
         LATERAL (SELECT params -> m[2] ->> 'type' AS type) t
    WHERE t.type IS NOT NULL AND t.type <> 'any' AND NOT (CASE WHEN m[3] ~ '^"' THEN t.type = 'string' WHEN m[3] IN ('true', 'false') THEN t.type = 'boolean' ELSE t.type IN ('number', 'integer') END);
    -- Files to attach are named by programs outside the server; their node is played by those.
    FOREACH k IN ARRAY '{http,mail}'::text[] LOOP
        IF def ? k AND NOT COALESCE(def ->> k ~ '^\$\{[^}]*\}$', false) THEN
            BEGIN
                PERFORM dts._check_request(k, CASE jsonb_typeof(def -> k) WHEN 'string' THEN jsonb_build_object('url', def -> k) WHEN 'object' THEN (def -> k) - 'attachments' ELSE def -> k END, caller);
            EXCEPTION WHEN insufficient_privilege OR undefined_object THEN
                NULL;  -- rules and secrets may come later
            WHEN OTHERS THEN
                RETURN QUERY SELECT format('%s/%s', place, k), SQLERRM, format('See the arguments of dts.submit_%s.', k);
            END;
        END IF;
    END LOOP;
END $$;
COMMENT ON FUNCTION dts._option_findings(text, jsonb, jsonb, oid) IS 'What is wrong with the values in a node.';

CREATE FUNCTION dts._reference_findings(place text, value jsonb, names text[], params text[], in_map boolean, secrets boolean) RETURNS TABLE (pointer text, message text, hint text)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT place, f.message, f.hint FROM dts._references(value) r, LATERAL (SELECT regexp_replace(split_part(r, ':-', 1), '\?$', '') AS path) p,
    LATERAL (SELECT split_part(p.path, '.', 1) AS root, split_part(p.path, '.', 2) AS name, split_part(p.path, '.', 3) AS part) x,
    LATERAL (SELECT format('unknown parameter in ${%s}', r) AS message, dts._similar(x.name, params) AS hint WHERE x.root = 'params' AND NOT x.name = ANY (params)
             UNION ALL SELECT format('unknown node in ${%s}', r), dts._similar(x.name, names) WHERE x.root = 'nodes' AND NOT x.name = ANY (names)
             UNION ALL SELECT format('unknown part of a node in ${%s}', r), 'Nodes have output, rows and state.' WHERE x.root = 'nodes' AND x.name = ANY (names) AND NOT x.part = ANY ('{output,rows,state}')
             UNION ALL SELECT format('${%s} outside of a map', r), 'Only a node with "map" has items.' WHERE x.root IN ('item', 'index') AND NOT in_map
             UNION ALL SELECT format('unknown reference ${%s}', r), 'References begin with params, nodes, item, index or run.' WHERE NOT x.root = ANY ('{params,nodes,item,index,run}')) f
    WHERE NOT (secrets AND r LIKE 'secret:%') $$;
COMMENT ON FUNCTION dts._reference_findings(text, jsonb, text[], text[], boolean, boolean) IS 'References that lead nowhere.';
