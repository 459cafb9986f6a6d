-- What came of it, as the role "clerk" sees it in the public views.
\pset null ''
\echo Tasks by queue and state:
SELECT queue, state, count(*) AS tasks, sum(attempts) AS attempts FROM dts.tasks GROUP BY queue, state ORDER BY queue, state;

\echo Waiting and running, by priority of the transfers (those due at once):
SELECT priority, count(*) AS runs, min(waited) AS "least wait", max(waited) AS "longest wait", avg(duration) AS "mean run time"
FROM dts.runs WHERE queue = 'transfers' AND outcome = 'succeeded' AND due_at = submitted_at GROUP BY priority ORDER BY priority DESC;

\echo The slowest runs:
SELECT task, queue, COALESCE(handler, left(sql, 46)) AS "what", outcome, duration FROM dts.runs ORDER BY duration DESC NULLS LAST LIMIT 5;

\echo Failed runs:
SELECT outcome, sqlstate, regexp_replace(error, '\d+', 'N') AS error, count(*) AS runs, count(DISTINCT task) AS tasks
FROM dts.runs WHERE outcome IN ('failed', 'retry') GROUP BY 1, 2, 3 ORDER BY runs DESC;

\echo Throughput of successful runs:
SELECT count(*) AS runs, max(ended_at) - min(started_at) AS "from first to last", max(n) AS "most in one second of the clock"
FROM (SELECT r.*, count(*) OVER (PARTITION BY date_trunc('second', ended_at)) AS n FROM dts.runs r WHERE outcome = 'succeeded') x;
