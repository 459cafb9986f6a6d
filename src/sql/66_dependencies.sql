-- Looking at dependencies.

CREATE VIEW dts.dependencies WITH (security_barrier) AS
SELECT d.child AS task, d.parent AS depends_on,
       ARRAY(SELECT dts._state_name(s) FROM pg_catalog.unnest(ARRAY[10, 11, 12, 13, 14]::int2[]) s WHERE d.accept::int & (1 << (s - 10)) <> 0) AS accepts,
       CASE WHEN d.outcome = 15 THEN 'unknown' ELSE dts._state_name(d.outcome) END AS outcome,
       CASE WHEN t.need IS NULL THEN 'all' ELSE t.need::text END AS need,
       CASE WHEN t.flags & (1 << 20) <> 0 THEN 'fail' WHEN t.flags & (1 << 21) <> 0 THEN 'cancel' ELSE 'skip' END AS on_unsatisfied
FROM dts.dependency d
JOIN dts.task t ON t.id = d.child
JOIN dts.lane l ON l.id = t.lane
WHERE t.state = 1 AND d.counted = (t.need IS NOT NULL) AND dts._caller_sees(l.owner);
COMMENT ON VIEW dts.dependencies IS 'What blocked tasks wait for: a row for each task that one still depends on. Dependencies that are satisfied and have nothing more to say are gone.';

CREATE FUNCTION dts.parent_results(task bigint DEFAULT dts.current_task()) RETURNS TABLE (task bigint, state text, result jsonb)
    LANGUAGE sql STABLE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT p.id, COALESCE(r.outcome, dts.state(p.id)), r.result
    FROM dts._parents($1) p(id)
    LEFT JOIN LATERAL (SELECT x.outcome, x.result FROM dts.runs x WHERE x.task = p.id AND x.outcome <> 'retry' ORDER BY x.ended_at DESC LIMIT 1) r ON true
    ORDER BY p.id $$;
COMMENT ON FUNCTION dts.parent_results(bigint) IS 'The tasks that a task depends on, how they ended, and what they returned: for use inside a task, where it means the task itself.';

CREATE FUNCTION dts._explain_blocked(task bigint, need int) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN count(*) = 0 THEN 'blocked, but nothing that it waits for is left: it is looked at again when the scheduler starts, or by dts.rescan()'
        ELSE format('blocked: it waits for %s%s task(s): %s%s', CASE WHEN need IS NOT NULL THEN format('%s more of ', need - count(*) FILTER (WHERE e.accepted)) ELSE '' END,
                    count(*) FILTER (WHERE e.outcome IS NULL),
                    (SELECT string_agg(format('%s (%s)', o.parent, o.state), ', ') FROM (
                        SELECT x.parent, COALESCE((SELECT CASE WHEN t.state = 0 AND t.run_at > clock_timestamp() THEN 'due ' || t.run_at ELSE dts._state_name(t.state) END
                                                   FROM dts.task t WHERE t.id = x.parent), 'ended') AS state
                        FROM dts.dependency x WHERE x.child = $1 AND x.outcome IS NULL ORDER BY x.parent LIMIT 5) o),
                    CASE WHEN count(*) FILTER (WHERE e.outcome IS NULL) > 5 THEN ', ...' ELSE '' END) END
    FROM (SELECT d.outcome, d.outcome IS NOT NULL AND d.accept::int & (1 << (d.outcome - 10)) <> 0 AS accepted FROM dts.dependency d WHERE d.child = $1) e $$;
COMMENT ON FUNCTION dts._explain_blocked(bigint, int) IS 'What a blocked task waits for, for dts.explain.';

CREATE FUNCTION dts._explain_waiting(caller oid, task bigint) RETURNS text
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
    SELECT COALESCE((SELECT CASE WHEN r.paused THEN format('waiting: its run is paused; dts.resume_run(%s) lets it go on', r.id)
                                 WHEN r.gate IS NOT NULL AND r.begun_at IS NULL THEN 'waiting: ' || dts._explain_gate(caller, r)
                                 WHEN n.memory ->> 'signal' ~ '^approval:' THEN format('waiting for approval: dts.approve(%s, %L) or dts.reject', r.id, n.node)
                                 ELSE format('waiting for a signal: dts.signal(%s, %L)', r.id, n.memory ->> 'signal') END
                            || COALESCE((SELECT format('; it expires at %s', t.expires_at) FROM dts.task t WHERE t.id = $2 AND t.expires_at IS NOT NULL), '')
                     FROM dts.workflow_node n JOIN dts.workflow_run r ON r.id = n.run WHERE n.task = $2 LIMIT 1), 'waiting, but for nothing that is known') $$;
COMMENT ON FUNCTION dts._explain_waiting(oid, bigint) IS 'What a waiting task waits for, for dts.explain.';

-- A task is stuck if its edges, read in full, decide it, and have for long. Kept in step with src/core/dependency.hpp by a test.
CREATE FUNCTION dts._stuck_blocked(grace interval) RETURNS TABLE (task bigint, since timestamptz, verdict text)
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
    WITH e AS (SELECT t.id, t.submitted_at, t.need, d.parent, d.accept::int AS accept,
                      CASE WHEN d.parent IS NULL OR d.outcome IS NOT NULL OR p.id IS NOT NULL THEN d.outcome
                           ELSE COALESCE(r.outcome, CASE WHEN d.accept::int & 64 <> 0 THEN 10 ELSE 15 END) END AS outcome, r.ended_at
               FROM dts.task t LEFT JOIN dts.dependency d ON d.child = t.id AND d.counted = (t.need IS NOT NULL) LEFT JOIN dts.task p ON p.id = d.parent
               LEFT JOIN LATERAL (SELECT x.outcome, x.ended_at FROM dts.run x WHERE d.outcome IS NULL AND p.id IS NULL AND x.task = d.parent AND x.outcome <> 20
                                  ORDER BY x.ended_at DESC LIMIT 1) r ON true
               WHERE t.state = 1),
         c AS (SELECT e.id, e.need, greatest(max(e.ended_at), min(e.submitted_at)) AS since, count(*) FILTER (WHERE e.accept & (1 << (e.outcome - 10)) <> 0) AS accepted,
                      count(*) FILTER (WHERE e.accept & (1 << (e.outcome - 10)) = 0) AS refused, count(*) FILTER (WHERE e.parent IS NOT NULL AND e.outcome IS NULL) AS open
               FROM e GROUP BY e.id, e.need)
    SELECT c.id, c.since, CASE WHEN c.need IS NULL AND c.refused = 0 OR c.accepted >= c.need THEN 'ready' ELSE 'dead' END
    FROM c WHERE c.since < clock_timestamp() - grace
      AND (CASE WHEN c.need IS NULL THEN c.refused > 0 OR c.open = 0 ELSE c.accepted >= c.need OR c.accepted + c.open < c.need END) $$;
COMMENT ON FUNCTION dts._stuck_blocked(interval) IS 'Blocked tasks whose dependencies have long decided what becomes of them.';
