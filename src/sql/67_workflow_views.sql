-- Looking at workflows.

CREATE VIEW dts.workflows WITH (security_barrier) AS
SELECT w.name, dts._role_name(w.owner) AS owner, w.version, w.description, v.definition, v.created_at AS changed_at, w.created_at,
       (SELECT pg_catalog.count(*) FROM dts.workflow_run r WHERE r.workflow = w.id AND r.ended_at IS NULL) AS running
FROM dts.workflow w JOIN dts.workflow_version v ON v.workflow = w.id AND v.version = w.version
WHERE w.dropped_at IS NULL AND dts._caller_may(w.owner);
COMMENT ON VIEW dts.workflows IS 'Workflows of the current role, in their current version.';

CREATE VIEW dts.workflow_runs WITH (security_barrier) AS
SELECT r.id, w.name AS workflow, r.version, dts._role_name(r.owner) AS owner, CASE WHEN r.paused AND r.ended_at IS NULL THEN 'paused' WHEN r.gate IS NOT NULL AND r.begun_at IS NULL AND r.state = 'running' AND r.due_at <= pg_catalog.clock_timestamp() THEN 'waiting' ELSE r.state END AS state, r.attempt, r.key,
       CASE WHEN dts._caller_may(r.owner) THEN r.params END AS params, CASE WHEN dts._caller_may(r.owner) THEN r.output END AS output, r.labels, r.gate AS concurrency_key, r.started_at, r.begun_at, r.ended_at, r.deadline, v.definition,
       (SELECT n.run FROM dts.workflow_node n WHERE n.task = r.parent_task LIMIT 1) AS parent_run
FROM dts.workflow_run r JOIN dts.workflow w ON w.id = r.workflow JOIN dts.workflow_version v ON v.workflow = r.workflow AND v.version = r.version
WHERE dts._caller_sees(r.owner);
COMMENT ON VIEW dts.workflow_runs IS 'Instances of workflows, running and ended within retention. begun_at: when the run got its turn, if its workflow limits how many may be under way.';

CREATE VIEW dts.workflow_nodes WITH (security_barrier) AS
SELECT n.run, n.node, NULLIF(n.idx, 0) AS item, v.plan #>> ARRAY['nodes', n.node, 'kind'] AS kind, n.task,
       COALESCE(CASE WHEN t.state = 0 AND t.run_at > pg_catalog.clock_timestamp() THEN 'scheduled' ELSE dts._state_name(t.state) END, o.state) AS state,
       o.error, CASE WHEN dts._caller_may(r.owner) THEN o.output END AS output, o.started_at, o.ended_at, COALESCE(n.child_run, i.child_run) AS child_run
FROM dts.workflow_node n JOIN dts.workflow_run r ON r.id = n.run JOIN dts.workflow_version v ON v.workflow = r.workflow AND v.version = r.version
-- A single sub-run is the node's only item, and no row of its own.
LEFT JOIN dts.workflow_node i ON n.idx = 0 AND (i.run, i.node, i.idx) = (n.run, n.node, 1) AND i.child_run IS NOT NULL AND NOT v.plan #> ARRAY['nodes', n.node] ?| '{map,repeat}'
LEFT JOIN dts.task t ON t.id = n.task
LEFT JOIN LATERAL (SELECT dts._state_name(x.outcome) AS state, CASE WHEN dts._caller_may(r.owner) THEN x.error ->> 'message' END AS error, x.result::jsonb AS output,
                          COALESCE(x.started_at, x.ended_at) AS started_at, x.ended_at
                   FROM dts.run x WHERE x.task = n.task AND x.outcome <> 20 ORDER BY x.ended_at DESC LIMIT 1) o ON t.id IS NULL
WHERE n.node !~ '^\(' AND (n.node !~ '\.' OR n.node ~ '^(on|undo)\.') AND (n.idx = 0 OR n.child_run IS NULL OR v.plan #> ARRAY['nodes', n.node] ?| '{map,repeat}') AND dts._caller_sees(r.owner);
COMMENT ON VIEW dts.workflow_nodes IS 'The nodes of runs, and the items of their maps and turns of their loops, with the task that does the work. dts.explain(task) says why one waits.';

CREATE FUNCTION dts.graph(run bigint) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT E'flowchart TD\n' || COALESCE((SELECT string_agg(format('    %s["%s<br/>%s%s"]:::%s', replace(n.node, '-', '_'), n.node, n.state,
                    (SELECT format(' %s/%s', count(*) FILTER (WHERE i.state = 'succeeded'), count(*)) FROM dts.workflow_nodes i WHERE i.run = n.run AND i.node = n.node AND i.item IS NOT NULL HAVING count(*) > 0), n.state), E'\n' ORDER BY n.task)
                FROM dts.workflow_nodes n WHERE n.run = $1 AND n.item IS NULL), '')
        || COALESCE(E'\n' || (SELECT string_agg(format('    %s -->%s %s', replace(e.parent, '-', '_'), '|' || e.label || '|', replace(e.node, '-', '_')), E'\n') FROM (
                SELECT d.key AS node, m.parent, m.label FROM dts.workflow_runs r, jsonb_each(r.definition -> 'nodes') d,
                       jsonb_array_elements_text(CASE jsonb_typeof(d.value -> 'needs') WHEN 'array' THEN d.value -> 'needs' WHEN 'string' THEN jsonb_build_array(d.value -> 'needs') ELSE '[]' END) y,
                       LATERAL (SELECT substring(y FROM '^[^:.?]*') AS parent, NULLIF(substring(y FROM '[:.?].*$'), '') AS label) m
                WHERE r.id = $1 AND y !~ '^\{') e), '')
        || E'\n    classDef succeeded fill:#cfc\n    classDef failed fill:#fcc\n    classDef running fill:#ccf\n    classDef skipped fill:#eee\n    classDef waiting fill:#ffc' $$;
COMMENT ON FUNCTION dts.graph(bigint) IS 'A run as a Mermaid flow chart, with the states of its nodes.';

CREATE FUNCTION dts.timeline(run bigint, width int DEFAULT 60) RETURNS SETOF text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH n AS (SELECT x.node || COALESCE('[' || x.item || ']', '') AS name, x.state, x.started_at AS a, COALESCE(x.ended_at, clock_timestamp()) AS b FROM dts.workflow_nodes x WHERE x.run = $1 AND x.started_at IS NOT NULL),
         s AS (SELECT min(a) AS lo, greatest(extract(epoch FROM max(b) - min(a)), 0.000001) AS span FROM n),
         p AS (SELECT n.*, floor(extract(epoch FROM n.a - s.lo) / s.span * (width - 1))::int AS at, greatest(round(extract(epoch FROM n.b - n.a) / s.span * width)::int, 1) AS size FROM n, s)
    SELECT format('%s |%s%s%s| %s %s', rpad(p.name, (SELECT max(length(name)) FROM p)), repeat(' ', p.at), repeat('#', least(p.size, width - p.at)), repeat(' ', greatest(width - p.at - p.size, 0)), p.state,
                  round(extract(epoch FROM p.b - p.a)::numeric * 1000) || ' ms') FROM p ORDER BY p.a, p.b $$;
COMMENT ON FUNCTION dts.timeline(bigint, int) IS 'A run as a chart of bars in text, one line for each node that has run.';
