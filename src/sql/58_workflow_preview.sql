-- What a start would do, without doing it.

CREATE FUNCTION dts._layers(plan jsonb) RETURNS TABLE (node text, layer int)
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE left_over text[] := ARRAY(SELECT jsonb_object_keys(plan -> 'nodes')); now text[];
BEGIN
    layer := 1;
    WHILE left_over <> '{}' LOOP
        now := ARRAY(SELECT n FROM unnest(left_over) n WHERE NOT EXISTS (SELECT FROM jsonb_array_elements(plan #> ARRAY['nodes', n, 'needs']) p WHERE p ->> 'node' = ANY (left_over)));
        RETURN QUERY SELECT n, _layers.layer FROM unnest(now) n;
        left_over := ARRAY(SELECT n FROM unnest(left_over) n WHERE NOT n = ANY (now));
        layer := layer + 1;
    END LOOP;
END $$;
COMMENT ON FUNCTION dts._layers(jsonb) IS 'The nodes of a plan by how many others at least end before them.';

CREATE FUNCTION dts._preview(caller oid, workflow text, params jsonb) RETURNS text
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET jit = off AS $$
DECLARE w dts.workflow := dts._workflow_row(caller, workflow); plan jsonb; doc jsonb;
BEGIN
    SELECT v.plan #> '{}' INTO plan FROM dts.workflow_version v WHERE v.workflow = w.id AND v.version = w.version;
    doc := jsonb_build_object('params', dts._checked_params(plan, COALESCE(params, '{}')));
    RETURN format('%s, version %s, with %s', workflow, w.version, doc ->> 'params')
        || CASE WHEN plan ? 'concurrency' THEN format(E'\nat most %s at once%s, otherwise %s', plan #>> '{concurrency,limit}', COALESCE(' of key "' || NULLIF(dts._gate_of(plan, doc -> 'params', w.id, NULL), '') || '"', ''),
                           CASE plan #>> '{concurrency,on_conflict}' WHEN 'skip' THEN 'it is cancelled' WHEN 'replace' THEN 'those before it are cancelled' ELSE 'it waits' END) ELSE '' END || E'\n' || (
        SELECT string_agg(format('%s. %s: %s', l.layer, l.node,
                   CASE WHEN n ->> 'kind' = 'sql' THEN n #>> '{task,sql}' ELSE (n ->> 'kind') || ' ' || COALESCE(n -> 'task' ->> (n ->> 'kind'), '') END)
               || COALESCE(' with ' || (SELECT string_agg(dts._preview_value(a.value, doc), ', ' ORDER BY a.n)
                                        FROM jsonb_array_elements(CASE jsonb_typeof(n #> '{task,args}') WHEN 'array' THEN n #> '{task,args}' END) WITH ORDINALITY a(value, n)), '')
               || COALESCE(', after ' || (SELECT string_agg((p ->> 'node') || COALESCE(' (' || (SELECT string_agg(o, ' or ') FROM jsonb_array_elements_text(p -> 'on') o) || ')', ''), ', ') FROM jsonb_array_elements(n -> 'needs') p), '')
               || COALESCE(', for each of ' || CASE WHEN n -> 'query' = 'true' THEN 'the rows of ' || l.node || '.items' ELSE dts._preview_value(n #> '{map,items}', doc) END, '')
               || CASE WHEN NOT n ? 'when' THEN '' WHEN cardinality(ARRAY(SELECT dts._condition_nodes(n ->> 'when'))) > 0 THEN format(', if %s', n ->> 'when')
                       WHEN dts._holds(n -> 'when', doc) THEN format(', since %s', n ->> 'when') ELSE format(', skipped: not %s', n ->> 'when') END, E'\n' ORDER BY l.layer, l.node)
        FROM dts._layers(plan) l, LATERAL (SELECT plan -> 'nodes' -> l.node AS n) q);
END $$;
COMMENT ON FUNCTION dts._preview(oid, text, jsonb) IS 'dts.preview, as the owner of the extension.';

CREATE FUNCTION dts._preview_value(value jsonb, doc jsonb) RETURNS text
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN dts._resolve(value, doc)::text;
EXCEPTION WHEN OTHERS THEN
    RETURN value #>> '{}';  -- it is known only when others have ended
END $$;
COMMENT ON FUNCTION dts._preview_value(jsonb, jsonb) IS 'A value as far as it is known before a run starts.';

CREATE FUNCTION dts.preview(workflow text, params jsonb DEFAULT '{}') RETURNS text LANGUAGE c STABLE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dts_as_owner';
COMMENT ON FUNCTION dts.preview(text, jsonb) IS 'What dts.start would do with these parameters, without doing it: nodes in an order in which they may run, their statements and values, what they wait for, what is skipped.';
