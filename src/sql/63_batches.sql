-- Batches as people see them (src/sql/21_batches.sql).

CREATE FUNCTION dts.after_batch(batch text, outcomes text[] DEFAULT NULL, on_unsatisfied text DEFAULT 'skip') RETURNS jsonb
    LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT jsonb_build_object('batch', batch, 'on', COALESCE(to_jsonb(outcomes), '"succeeded"'), 'on_unsatisfied', COALESCE(on_unsatisfied, 'skip')) $$;
COMMENT ON FUNCTION dts.after_batch(text, text[], text) IS
'A value for the option depends_on: the task starts when all tasks of the batch have succeeded, or, with outcomes => ''{ended}'', have ended in any way. It waits for the tasks that the batch has when it is submitted, and for those that they submit to the batch while they run. on_unsatisfied: what becomes of it when that can no longer happen: skip, fail or cancel.';

CREATE VIEW dts.batches WITH (security_barrier) AS
SELECT b.name, dts._role_name(b.owner) AS owner, b.created_at, c.tasks, c.tasks - c.ended - r.running AS waiting, r.running, c.succeeded, c.failed, c.expired, c.cancelled, c.skipped,
       c.tasks = c.ended AS done, c.last_end_at,
       CASE WHEN c.recent > 0 THEN pg_catalog.round(c.recent / c.span, 2) END AS per_second,
       CASE WHEN c.tasks > c.ended AND c.recent > 0 THEN pg_catalog.clock_timestamp() + (c.tasks - c.ended) * c.span / c.recent * '1 second'::interval END AS expected_end
FROM (SELECT x.owner, x.name, pg_catalog.min(x.created_at) AS created_at, pg_catalog.array_agg(x.id) AS ids FROM dts.batch x GROUP BY x.owner, x.name) b
CROSS JOIN LATERAL (
    SELECT COALESCE(pg_catalog.sum(t.n) FILTER (WHERE t.what = 0), 0)::bigint AS tasks, COALESCE(pg_catalog.sum(t.n) FILTER (WHERE t.what >= 10), 0)::bigint AS ended,
           COALESCE(pg_catalog.sum(t.n) FILTER (WHERE t.what = 10), 0)::bigint AS succeeded, COALESCE(pg_catalog.sum(t.n) FILTER (WHERE t.what = 11), 0)::bigint AS failed,
           COALESCE(pg_catalog.sum(t.n) FILTER (WHERE t.what = 12), 0)::bigint AS expired, COALESCE(pg_catalog.sum(t.n) FILTER (WHERE t.what = 13), 0)::bigint AS cancelled,
           COALESCE(pg_catalog.sum(t.n) FILTER (WHERE t.what = 14), 0)::bigint AS skipped, pg_catalog.max(t.at) FILTER (WHERE t.what >= 10) AS last_end_at,
           COALESCE(pg_catalog.sum(t.n) FILTER (WHERE t.what >= 10 AND t.at > pg_catalog.clock_timestamp() - '1 minute'::interval), 0) AS recent,
           -- Over the last minute; over the time since the first task if that is less.
           GREATEST(LEAST(60, EXTRACT(epoch FROM pg_catalog.clock_timestamp() - b.created_at)), 0.001) AS span
    FROM dts.batch_tally t WHERE t.batch = ANY (b.ids)) c
CROSS JOIN LATERAL (
    SELECT pg_catalog.count(*) AS running FROM dts._held() h JOIN dts.task u ON u.id = h.task WHERE h.state IN ('running', 'closed') AND u.batch = ANY (b.ids)) r
WHERE dts._caller_sees(b.owner);
COMMENT ON VIEW dts.batches IS 'Batches: tasks submitted under one name with the option batch. How many tasks they have and how these stand, ends per second over the last minute, and when the last one is expected to end at that rate.';

CREATE FUNCTION dts.batch_progress(batch text, owner text DEFAULT NULL) RETURNS dts.batches
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE b dts.batches; mine text := COALESCE(batch_progress.owner, current_user);
BEGIN
    SELECT * INTO b FROM dts.batches x WHERE x.name = batch AND (batch_progress.owner IS NULL OR x.owner = batch_progress.owner) ORDER BY x.owner <> mine, x.owner LIMIT 1;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'batch "%" does not exist', batch USING ERRCODE = 'undefined_object', HINT = 'The view dts.batches shows those there are; one begins with its first task.';
    END IF;
    RETURN b;
END $$;
COMMENT ON FUNCTION dts.batch_progress(text, text) IS 'How a batch of the caller, or of a role whose tasks the caller may see, stands: a row of dts.batches.';

-- One scheduler does this, and nobody else changes rows: what was added up is gone in the same instant. Young rows stay apart by ten seconds, for the rate.
CREATE FUNCTION dts._compact_batches() RETURNS bigint
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE n bigint;
BEGIN
    WITH many AS (SELECT t.batch FROM dts.batch_tally t GROUP BY t.batch HAVING count(*) > 100),
         gone AS (DELETE FROM dts.batch_tally t USING many WHERE t.batch = many.batch RETURNING t.*)
    INSERT INTO dts.batch_tally (batch, at, n, what)
    SELECT g.batch, max(g.at), sum(g.n), g.what FROM gone g
    GROUP BY g.batch, g.what, CASE WHEN g.at > clock_timestamp() - '90 seconds'::interval THEN date_bin('10 seconds', g.at, 'epoch') END;
    GET DIAGNOSTICS n = ROW_COUNT;
    RETURN n;
END $$;
COMMENT ON FUNCTION dts._compact_batches() IS 'Adds up rows of dts.batch_tally.';
