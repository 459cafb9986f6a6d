-- Dependencies: chains, joins, children of tasks that are ending just now; workflows.
CREATE TABLE chaos.edge (child bigint, parent bigint);
GRANT ALL ON chaos.edge TO chaos_users;
CREATE INDEX ON chaos.edge (child);

-- A diamond, of which one side may fail for good: then what follows is skipped.
CREATE FUNCTION chaos.load_diamond() RETURNS void LANGUAGE plpgsql AS $$
DECLARE id bigint[]; k bigint[] := ARRAY(SELECT nextval('chaos.k') FROM generate_series(1, 5)); fail float := CASE WHEN random() < 0.2 THEN 1 ELSE 0 END;
BEGIN
    id := ARRAY(SELECT dts.submit_many(jsonb_build_array(
        jsonb_build_object('name', 'end', 'sql', 'SELECT chaos.work($1)', 'args', jsonb_build_array(k[1]), 'depends_on', '["left", "right"]'::jsonb, 'max_attempts', 60),
        jsonb_build_object('name', 'left', 'sql', 'SELECT chaos.work($1, $2)', 'args', jsonb_build_array(k[2], fail), 'depends_on', '["begin"]'::jsonb, 'max_attempts', CASE WHEN fail = 0 THEN 60 ELSE 1 END),
        jsonb_build_object('name', 'right', 'sql', 'SELECT chaos.work($1)', 'args', jsonb_build_array(k[3]), 'depends_on', '["begin"]'::jsonb, 'max_attempts', 60, 'queue', 'batch'),
        jsonb_build_object('name', 'begin', 'sql', 'SELECT chaos.work($1)', 'args', jsonb_build_array(k[4]), 'max_attempts', 60),
        jsonb_build_object('name', 'after', 'sql', 'SELECT chaos.work($1)', 'args', jsonb_build_array(k[5]), 'depends_on', '["end"]'::jsonb, 'max_attempts', 60))));
    FOR i IN 1..5 LOOP PERFORM chaos.note(id[i], CASE WHEN i = 2 AND fail = 1 THEN 'must_fail' ELSE 'node' END, k[i]); END LOOP;
    INSERT INTO chaos.edge VALUES (id[1], id[2]), (id[1], id[3]), (id[2], id[4]), (id[3], id[4]), (id[5], id[1]);
END $$;
-- Children of tasks that are submitted, running, or ending at this moment.
CREATE FUNCTION chaos.load_late_child() RETURNS void LANGUAGE plpgsql AS $$
DECLARE parents bigint[] := ARRAY(SELECT DISTINCT x FROM (SELECT chaos.some_task() FROM generate_series(1, 1 + floor(random() * 4)::int)) y(x) WHERE x IS NOT NULL); id bigint;
BEGIN
    IF parents = '{}' THEN RETURN; END IF;
    id := chaos.submit('node', depends_on => dts.after(parents));
    INSERT INTO chaos.edge SELECT id, p FROM unnest(parents) p;
END $$;
CREATE FUNCTION chaos.load_wide_join() RETURNS void LANGUAGE plpgsql AS $$
DECLARE parents bigint[]; id bigint;
BEGIN
    IF random() > 0.2 THEN RETURN; END IF;
    parents := ARRAY(SELECT chaos.submit('node', queue => 'batch') FROM generate_series(1, 30));
    id := chaos.submit('node', depends_on => dts.after(parents));
    INSERT INTO chaos.edge SELECT id, p FROM unnest(parents) p;
END $$;
CREATE VIEW chaos.check_dependency_order AS SELECT g.child, g.parent FROM chaos.edge g JOIN chaos.clear c ON c.task = g.child LEFT JOIN chaos.ends p ON p.task = g.parent WHERE c.started_at < p.ended_at AND NOT EXISTS (SELECT FROM chaos.blur b WHERE b.during @> p.ended_at) OR (c.started_at IS NOT NULL AND p.task IS NULL);
COMMENT ON VIEW chaos.check_dependency_order IS 'no task starts before the tasks it depends on have ended';
CREATE VIEW chaos.check_verdict AS SELECT g.child, c.outcome, array_agg(p.outcome) AS parents FROM chaos.edge g JOIN chaos.ends c ON c.task = g.child JOIN chaos.ends p ON p.task = g.parent
    GROUP BY 1, 2 HAVING c.outcome NOT IN ('cancelled', 'expired') AND (c.outcome = 'skipped') = bool_and(p.outcome = 'succeeded');
COMMENT ON VIEW chaos.check_verdict IS 'a task runs if and only if all it depends on succeeded; else it is skipped';
CREATE VIEW chaos.check_edges AS SELECT parent, child FROM dts.dependency;
COMMENT ON VIEW chaos.check_edges IS 'no edge is left when all tasks have ended';

-- A workflow: a branch that may fail and is tried again, a pause, a map, a join.
SELECT dts.create_workflow('flow', '{"params": {"k": {"type": "integer"}}, "nodes": {
    "a": {"sql": "SELECT chaos.work(${params.k}::bigint) AS n", "max_attempts": 60},
    "b": {"needs": ["a"], "sql": "SELECT chaos.work(${params.k}::bigint + 1, 0.3)", "max_attempts": 60, "retry": {"base": 0.05, "cap": 0.2}},
    "nap": {"needs": ["a"], "sleep": "100 ms"},
    "m": {"needs": ["nap"], "map": {"items": [2, 3, 4]}, "sql": "SELECT chaos.work(${params.k}::bigint + ${item}::bigint)", "max_attempts": 60},
    "end": {"needs": ["b", "m"], "sql": "SELECT chaos.work(${params.k}::bigint + 5)", "max_attempts": 60}}}'::jsonb);
CREATE TABLE chaos.flow (run bigint PRIMARY KEY, k bigint, cancelled boolean NOT NULL DEFAULT false);
CREATE FUNCTION chaos.load_flow() RETURNS void LANGUAGE plpgsql AS $$
DECLARE first bigint; id bigint;
BEGIN
    IF random() > 0.3 THEN RETURN; END IF;
    first := nextval('chaos.k') + 1000000000;  -- apart from the keys of tasks
    FOR i IN 1..5 LOOP PERFORM nextval('chaos.k'); END LOOP;
    id := dts.start('flow', jsonb_build_object('k', first));
    INSERT INTO chaos.flow VALUES (id, first);
END $$;
CREATE FUNCTION chaos.load_cancel_flow() RETURNS void LANGUAGE plpgsql AS $$
DECLARE id bigint := (SELECT run FROM chaos.flow ORDER BY run DESC OFFSET 3 LIMIT 1);
BEGIN
    IF id IS NULL OR random() > 0.05 THEN RETURN; END IF;
    PERFORM dts.cancel_run(id);
    UPDATE chaos.flow SET cancelled = true WHERE run = id;
END $$;
CREATE VIEW chaos.check_flow AS SELECT f.run, r.state, (SELECT string_agg(concat_ws(' ', n.node, n.state, (SELECT string_agg(concat_ws(' ', x.attempt, x.outcome, x.sqlstate, left(x.error, 100)), '; ' ORDER BY x.ended_at) FROM dts.runs x WHERE x.task = n.task)), E'\n') FROM dts.workflow_nodes n WHERE n.run = f.run AND n.state <> 'succeeded') AS nodes FROM chaos.flow f LEFT JOIN dts.workflow_runs r ON r.id = f.run WHERE r.state IS DISTINCT FROM 'succeeded' AND NOT (f.cancelled AND r.state = 'cancelled');
COMMENT ON VIEW chaos.check_flow IS 'each run of a workflow ends, and succeeds unless it was cancelled';
CREATE VIEW chaos.check_flow_effects AS SELECT f.run, f.k + n AS k, count(e.k), r.state FROM chaos.flow f JOIN dts.workflow_runs r ON r.id = f.run CROSS JOIN generate_series(0, 5) n LEFT JOIN chaos.effect e ON e.k = f.k + n
    GROUP BY 1, 2, 4 HAVING count(e.k) > 1 OR (count(e.k) = 0 AND r.state = 'succeeded');
COMMENT ON VIEW chaos.check_flow_effects IS 'each node of a run has its effect exactly once';
-- Tasks of runs and schedules are made by dts, not by a client.
CREATE OR REPLACE VIEW chaos.check_rolled_back AS SELECT e.task FROM chaos.ends e LEFT JOIN chaos.journal j USING (task) WHERE j.task IS NULL AND e.queue NOT IN ('probe', 'unjournalled')
    AND NOT EXISTS (SELECT FROM dts.workflow_node n WHERE n.task = e.task) AND NOT EXISTS (SELECT FROM dts.workflow_run w WHERE w.id = e.task) AND NOT EXISTS (SELECT FROM dts.fire f WHERE f.task = e.task);
