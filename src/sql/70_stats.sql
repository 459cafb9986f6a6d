-- Figures: rows for people, Prometheus text for scrapers. Both from shared memory, without counting tasks.

CREATE FUNCTION dts.stats() RETURNS TABLE (name text, queue text, value float8)
    LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT d.name, NULL::text, d.value FROM dts._database_stats() d
    UNION ALL
    SELECT v.name, q.name, v.value
    FROM dts._queue_stats() s JOIN dts.queue q ON q.id = s.queue
    CROSS JOIN LATERAL (VALUES ('tasks_submitted_total', s.submitted::float8), ('tasks_succeeded_total', s.succeeded), ('tasks_failed_total', s.failed),
        ('tasks_retried_total', s.retried), ('tasks_expired_total', s.expired), ('tasks_cancelled_total', s.cancelled), ('tasks_started_total', s.started),
        ('run_seconds_total', s.run_us_total / 1e6), ('wait_seconds_total', s.wait_us_total / 1e6), ('tasks_per_second', s.per_second),
        ('run_seconds_p50', dts._quantile(s.run_us, 0.5)), ('run_seconds_p99', dts._quantile(s.run_us, 0.99)),
        ('wait_seconds_p50', dts._quantile(s.wait_us, 0.5)), ('wait_seconds_p99', dts._quantile(s.wait_us, 0.99))) v(name, value) $$;
COMMENT ON FUNCTION dts.stats() IS 'Counters, gauges and latencies since the server started: of this database (queue is NULL) and of each queue. wait is from due (or submitted) to started. For administrators and monitors.';

CREATE FUNCTION dts._quantile(buckets bigint[], q float8) RETURNS float8
    LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT min(power(2, b.i)) / 1e6 FROM (SELECT u.i, sum(u.n) OVER (ORDER BY u.i) AS c, sum(u.n) OVER () AS total FROM unnest($1) WITH ORDINALITY u(n, i)) b
    WHERE b.c >= $2 * b.total AND b.total > 0 $$;
COMMENT ON FUNCTION dts._quantile(bigint[], float8) IS 'Upper bound, in seconds, of the histogram bucket that holds a quantile.';

CREATE FUNCTION dts._label(value text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT replace(replace(replace($1, E'\\', E'\\\\'), '"', E'\\"'), E'\n', E'\\n') $$;
COMMENT ON FUNCTION dts._label(text) IS 'A value escaped as a Prometheus label.';

CREATE FUNCTION dts._metric_help(name text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE $1
        WHEN 'running' THEN 'Whether tasks are started in this database (1) or not (0).'
        WHEN 'executors' THEN 'Executors of this database.'
        WHEN 'executors_cluster' THEN 'Executors of all databases, starting ones included; at most dts.max_workers.'
        WHEN 'executors_started_total' THEN 'Executors started for this database.'
        WHEN 'pools_wanting' THEN 'Owners, in all databases, that want an executor and cannot have one.'
        WHEN 'lanes' THEN 'Lanes of this database in shared memory; at most dts.max_lanes for all databases.'
        WHEN 'lane_merges_total' THEN 'Range merges because a lane had more than 14 separate ranges.'
        WHEN 'scheduler_wakeups_total' THEN 'Turns of the scheduler''s loop.'
        WHEN 'sweeps_total' THEN 'Looks for tasks that were written behind the functions of dts.'
        WHEN 'swept_tasks_total' THEN 'Tasks that such a look found.'
        WHEN 'crash_suspects_total' THEN 'Tasks that were running when their process crashed the server.'
        WHEN 'cancel_requests' THEN 'Requests to cancel a running task that stand, in all databases.'
        WHEN 'tasks_submitted_total' THEN 'Tasks submitted.'
        WHEN 'tasks_succeeded_total' THEN 'Tasks that succeeded.'
        WHEN 'tasks_failed_total' THEN 'Tasks that failed for good.'
        WHEN 'tasks_retried_total' THEN 'Attempts that failed and are followed by another one.'
        WHEN 'tasks_expired_total' THEN 'Tasks that expired before they started.'
        WHEN 'tasks_cancelled_total' THEN 'Tasks that were cancelled.'
        WHEN 'tasks_started_total' THEN 'Attempts that were started.'
        WHEN 'tasks_per_second' THEN 'Tasks that ended per second, over the last minute.'
        WHEN 'run_seconds' THEN 'Run time of attempts.'
        WHEN 'wait_seconds' THEN 'Time from due (or submitted, if later) to started.'
        ELSE 'See dts.stats().' END $$;
COMMENT ON FUNCTION dts._metric_help(text) IS 'What a metric means.';

CREATE FUNCTION dts.metrics() RETURNS text
    LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH plain AS (
        SELECT s.name, format('dts_%s%s %s', s.name, CASE WHEN s.queue IS NULL THEN '' ELSE '{queue="' || dts._label(s.queue) || '"}' END, s.value) AS line
        FROM dts.stats() s WHERE s.name !~ '_p[0-9]+$' AND s.name !~ '^(run|wait)_seconds_total$'
    ), histogram AS (
        SELECT h.name, h.queue, h.total_us, b.i, b.n, sum(b.n) OVER (PARTITION BY h.name, h.queue ORDER BY b.i) AS cumulated
        FROM (SELECT q.name AS queue, x.name, x.buckets, x.total_us FROM dts._queue_stats() s JOIN dts.queue q ON q.id = s.queue
              CROSS JOIN LATERAL (VALUES ('run_seconds', s.run_us, s.run_us_total), ('wait_seconds', s.wait_us, s.wait_us_total)) x(name, buckets, total_us)) h
        CROSS JOIN LATERAL unnest(h.buckets) WITH ORDINALITY b(n, i)
    ), lines AS (
        SELECT p.name, 1 AS part, 0 AS i, ''::text AS queue, p.line FROM plain p
        UNION ALL
        SELECT h.name, 1, h.i::int, h.queue, format('dts_%s_bucket{queue="%s",le="%s"} %s', h.name, dts._label(h.queue),
               CASE WHEN h.i = 40 THEN '+Inf' ELSE (power(2, h.i) / 1e6)::text END, h.cumulated) FROM histogram h
        UNION ALL
        SELECT h.name, 1, 41, h.queue, format('dts_%s_sum{queue="%s"} %s', h.name, dts._label(h.queue), h.total_us / 1e6) FROM histogram h WHERE h.i = 40
        UNION ALL
        SELECT h.name, 1, 42, h.queue, format('dts_%s_count{queue="%s"} %s', h.name, dts._label(h.queue), h.cumulated) FROM histogram h WHERE h.i = 40
        UNION ALL
        SELECT x.name, 0, 0, '', format(E'# HELP dts_%1$s %2$s\n# TYPE dts_%1$s %3$s', x.name, dts._metric_help(x.name), CASE WHEN x.name LIKE '%\_total' THEN 'counter' ELSE 'gauge' END) FROM (SELECT DISTINCT p.name FROM plain p) x
        UNION ALL
        SELECT x.name, 0, 0, '', format(E'# HELP dts_%1$s %2$s\n# TYPE dts_%1$s histogram', x.name, dts._metric_help(x.name)) FROM (VALUES ('run_seconds'), ('wait_seconds')) x(name)
    )
    SELECT string_agg(l.line, E'\n' ORDER BY l.name, l.part, l.queue, l.i) || E'\n' FROM lines l $$;
COMMENT ON FUNCTION dts.metrics() IS 'The figures of dts.stats(), with latency histograms, in the Prometheus text format. For administrators and monitors.';
