-- What people and tools read. Views are owned by the extension's owner, are security barriers, and show a role its own tasks
-- (those of roles it is a member of); administrators see all, monitors see all but texts, payloads, results and errors.

CREATE FUNCTION dts._state_name(state int2) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE $1 WHEN 0 THEN 'ready' WHEN 1 THEN 'blocked' WHEN 2 THEN 'running' WHEN 3 THEN 'waiting' WHEN 4 THEN 'parked' WHEN 10 THEN 'succeeded' WHEN 11 THEN 'failed'
                   WHEN 12 THEN 'expired' WHEN 13 THEN 'cancelled' WHEN 14 THEN 'skipped' WHEN 20 THEN 'retry' END $$;
COMMENT ON FUNCTION dts._state_name(int2) IS 'The name of a stored state.';

CREATE FUNCTION dts._kind_name(kind int2) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$ SELECT CASE $1 WHEN 0 THEN 'sql' WHEN 1 THEN 'http' WHEN 2 THEN 'mail' WHEN 3 THEN 'command' WHEN 4 THEN 'external' END $$;
COMMENT ON FUNCTION dts._kind_name(int2) IS 'The name of a stored kind.';

CREATE FUNCTION dts._role_name(role oid) RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT COALESCE((SELECT rolname::text FROM pg_roles WHERE oid = $1), '(dropped role ' || $1 || ')') $$;
COMMENT ON FUNCTION dts._role_name(oid) IS 'The name of a role, also of one that was dropped.';

CREATE FUNCTION dts._slots() RETURNS TABLE (slot int, kind text, database oid, owner oid, pid int, started_at timestamptz, task bigint, held int,
    task_started_at timestamptz, tasks_run bigint, idle boolean, lane int)
    LANGUAGE c VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'dts_slots';
COMMENT ON FUNCTION dts._slots() IS 'The processes of dts in shared memory, of all databases.';

CREATE FUNCTION dts._held(OUT pid int, OUT task bigint, OUT state text, OUT started_at timestamptz, OUT place int) RETURNS SETOF record
    LANGUAGE c VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'dts_held';
COMMENT ON FUNCTION dts._held() IS 'The tasks that executors of this database hold: claimed (held), running, or closed (their end is decided and about to be committed).';

CREATE FUNCTION dts._progress() RETURNS TABLE (task bigint, done bigint, total bigint, message text, at timestamptz)
    LANGUAGE c VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'dts_progress_of_all';
COMMENT ON FUNCTION dts._progress() IS 'What running tasks of this database said last with dts.progress, of those that the caller may see.';

CREATE FUNCTION dts._queue_stats() RETURNS TABLE (queue int, submitted bigint, succeeded bigint, failed bigint, retried bigint, expired bigint, cancelled bigint,
    started bigint, run_us_total bigint, wait_us_total bigint, last_error text, last_error_at timestamptz, run_us bigint[], wait_us bigint[], per_second float8)
    LANGUAGE c VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'dts_queue_stats';
COMMENT ON FUNCTION dts._queue_stats() IS 'Counters and latency histograms of this database''s queues since the server started, from shared memory. Bucket i of a histogram counts durations below 2^i microseconds.';

CREATE FUNCTION dts._database_stats() RETURNS TABLE (name text, value float8)
    LANGUAGE c VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'dts_database_stats';
COMMENT ON FUNCTION dts._database_stats() IS 'Counters and gauges of this database''s scheduler, from shared memory.';

CREATE VIEW dts.running WITH (security_barrier) AS
SELECT h.task AS id, q.name AS queue, dts._role_name(l.owner) AS owner, l.priority, l.tenant,
       CASE WHEN t.handler <> 0 THEN (SELECT x.name FROM dts.handler x WHERE x.id = t.handler) END AS handler,
       CASE WHEN dts._caller_may(l.owner) THEN t.sql END AS sql, t.attempt + (t.state <> 2)::int AS attempt, h.pid AS worker_pid, h.started_at,
       pg_catalog.clock_timestamp() - h.started_at AS elapsed, p.done, p.total, p.message, p.at AS progress_at,
       CASE WHEN p.total > p.done AND p.done > 0 THEN p.at + (p.at - h.started_at) * ((p.total - p.done)::float8 / p.done) END AS expected_end,
       NULL::text AS agent, NULL::timestamptz AS lease_until
FROM dts._held() h
LEFT JOIN dts._progress() p ON p.task = h.task AND dts._caller_may((SELECT x.owner FROM dts.task y JOIN dts.lane x ON x.id = y.lane WHERE y.id = h.task))
JOIN dts.task t ON t.id = h.task
JOIN dts.lane l ON l.id = t.lane
JOIN dts.queue q ON q.id = l.queue
WHERE h.state IN ('running', 'closed') AND dts._caller_sees(l.owner)
UNION ALL
SELECT t.id, q.name, dts._role_name(l.owner), l.priority, l.tenant,
       CASE WHEN t.handler <> 0 THEN (SELECT x.name FROM dts.handler x WHERE x.id = t.handler) END,
       NULL, t.attempt::int, NULL, x.started_at, pg_catalog.clock_timestamp() - x.started_at, NULL, NULL, NULL, NULL, NULL, x.agent, x.until
FROM dts.lease x
JOIN dts.task t ON t.id = x.task AND t.state = 2 AND t.token = x.token
JOIN dts.lane l ON l.id = t.lane
JOIN dts.queue q ON q.id = l.queue
WHERE x.ended IS NULL AND dts._caller_sees(l.owner);
COMMENT ON VIEW dts.running IS 'Tasks that run now: in the server, from shared memory, with the worker''s process id, elapsed time, and what it says of its progress (dts.progress); or by an agent, with the end of its lease.';

CREATE VIEW dts.tasks WITH (security_barrier) AS
SELECT t.id,
       CASE WHEN t.state = 4 THEN 'ready' WHEN t.state = 0 THEN CASE WHEN h.state IN ('running', 'closed') THEN 'running' WHEN t.run_at > pg_catalog.clock_timestamp() THEN 'scheduled' ELSE 'ready' END
            ELSE dts._state_name(t.state) END AS state,
       dts._kind_name(t.kind) AS kind, q.name AS queue, dts._role_name(l.owner) AS owner, l.tenant, l.priority,
       CASE WHEN t.handler <> 0 THEN (SELECT x.name FROM dts.handler x WHERE x.id = t.handler) END AS handler,
       CASE WHEN dts._caller_may(l.owner) THEN t.sql END AS sql,
       CASE WHEN dts._caller_may(l.owner) THEN t.args END AS args,
       t.attempt::int AS attempts, t.max_attempts::int AS max_attempts, t.submitted_at, t.run_at, COALESCE(h.started_at, x.started_at) AS started_at, NULL::timestamptz AS ended_at, t.expires_at,
       CASE WHEN t.timeout_ms > 0 THEN t.timeout_ms * '1 ms'::interval END AS timeout,
       (SELECT k.key FROM dts.key k WHERE k.task = t.id AND dts._caller_may(l.owner)) AS key,
       NULL::jsonb AS result, NULL::text AS error, t.extra -> 'labels' AS labels, (SELECT b.name FROM dts.batch b WHERE b.id = t.batch) AS batch
FROM dts.task t
JOIN dts.lane l ON l.id = t.lane
JOIN dts.queue q ON q.id = l.queue
LEFT JOIN dts._held() h ON h.task = t.id
LEFT JOIN dts.lease x ON t.state = 2 AND x.token = t.token
WHERE dts._caller_sees(l.owner)
UNION ALL
SELECT r.task, dts._state_name(r.outcome), dts._kind_name(r.kind), q.name, dts._role_name(l.owner), l.tenant, l.priority,
       CASE WHEN r.handler <> 0 THEN (SELECT x.name FROM dts.handler x WHERE x.id = r.handler) END,
       CASE WHEN dts._caller_may(l.owner) THEN r.sql END, NULL, r.attempt, NULL, r.submitted_at, r.due_at, r.started_at, r.ended_at, NULL, NULL,
       (SELECT k.key FROM dts.key k WHERE k.task = r.task AND dts._caller_may(l.owner)),
       CASE WHEN dts._caller_may(l.owner) THEN r.result::jsonb END,
       CASE WHEN dts._caller_may(l.owner) THEN r.error ->> 'message' END, r.labels, (SELECT b.name FROM dts.batch b WHERE b.id = r.batch)
FROM dts.run r
JOIN dts.lane l ON l.id = r.lane
JOIN dts.queue q ON q.id = l.queue
WHERE r.outcome <> 20 AND dts._caller_sees(l.owner)
  AND NOT (r.outcome = 11 AND EXISTS (SELECT FROM dts.task u WHERE u.id = r.task))
  AND NOT EXISTS (SELECT FROM dts.run later WHERE later.task = r.task AND later.ended_at > r.ended_at AND r.outcome IN (11, 13))
UNION ALL
-- Dead letters of queues that keep no history.
SELECT d.id, 'failed', dts._kind_name(d.kind), q.name, dts._role_name(l.owner), l.tenant, l.priority,
       CASE WHEN d.handler <> 0 THEN (SELECT x.name FROM dts.handler x WHERE x.id = d.handler) END,
       CASE WHEN dts._caller_may(l.owner) THEN d.sql END, NULL, d.attempt, d.max_attempts, d.submitted_at, d.failed_at, NULL, d.failed_at, NULL, NULL,
       (SELECT k.key FROM dts.key k WHERE k.task = d.id AND dts._caller_may(l.owner)), NULL,
       CASE WHEN dts._caller_may(l.owner) THEN d.error ->> 'message' END, d.extra -> 'labels', (SELECT b.name FROM dts.batch b WHERE b.id = d.batch)
FROM dts.dead_letter d
JOIN dts.lane l ON l.id = d.lane
JOIN dts.queue q ON q.id = l.queue
WHERE dts._caller_sees(l.owner) AND NOT EXISTS (SELECT FROM dts.run r WHERE r.task = d.id AND r.outcome = 11);
COMMENT ON VIEW dts.tasks IS 'Every task known: unfinished ones, and finished ones within the retention of their queue.';

CREATE VIEW dts.runs WITH (security_barrier) AS
SELECT r.task, r.attempt::int AS attempt, dts._state_name(r.outcome) AS outcome, dts._kind_name(r.kind) AS kind, q.name AS queue, dts._role_name(l.owner) AS owner, l.tenant, l.priority,
       CASE WHEN r.handler <> 0 THEN (SELECT x.name FROM dts.handler x WHERE x.id = r.handler) END AS handler,
       CASE WHEN dts._caller_may(l.owner) THEN r.sql END AS sql, r.submitted_at, r.due_at, r.started_at, r.ended_at, r.started_at - r.due_at AS waited, r.ended_at - r.started_at AS duration,
       r.retry_at, NULLIF(r.worker_pid, 0) AS worker_pid, r.row_count,
       CASE WHEN dts._caller_may(l.owner) THEN r.result::jsonb END AS result, r.flags & 1 <> 0 AS result_truncated,
       r.error ->> 'sqlstate' AS sqlstate,
       CASE WHEN dts._caller_may(l.owner) THEN r.error ->> 'message' END AS error,
       CASE WHEN dts._caller_may(l.owner) THEN r.error END AS error_fields,
       CASE WHEN dts._caller_may(l.owner) THEN r.notices END AS notices, r.labels, (SELECT b.name FROM dts.batch b WHERE b.id = r.batch) AS batch, r.agent
FROM dts.run r
JOIN dts.lane l ON l.id = r.lane
JOIN dts.queue q ON q.id = l.queue
WHERE dts._caller_sees(l.owner);
COMMENT ON VIEW dts.runs IS 'Every attempt within retention: when it was due, started and ended, its outcome (retry: it failed and will be tried again), result, error and notices.';

CREATE VIEW dts.dead_letters WITH (security_barrier) AS
SELECT d.id, q.name AS queue, dts._role_name(l.owner) AS owner, l.tenant, l.priority,
       CASE WHEN d.handler <> 0 THEN (SELECT x.name FROM dts.handler x WHERE x.id = d.handler) END AS handler,
       CASE WHEN dts._caller_may(l.owner) THEN d.sql END AS sql, CASE WHEN dts._caller_may(l.owner) THEN d.args END AS args,
       d.attempt::int AS attempts, d.crashes::int AS crashes, d.submitted_at, d.failed_at, d.error ->> 'sqlstate' AS sqlstate,
       CASE WHEN dts._caller_may(l.owner) THEN d.error ->> 'message' END AS error,
       CASE WHEN dts._caller_may(l.owner) THEN d.error END AS error_fields, d.extra -> 'labels' AS labels, (SELECT b.name FROM dts.batch b WHERE b.id = d.batch) AS batch
FROM dts.dead_letter d
JOIN dts.lane l ON l.id = d.lane
JOIN dts.queue q ON q.id = l.queue
WHERE dts._caller_sees(l.owner);
COMMENT ON VIEW dts.dead_letters IS 'Tasks whose attempts are used up, kept whole. dts.redrive gives one a new life.';

CREATE VIEW dts.handlers WITH (security_barrier) AS
SELECT h.name, h.kind, dts._role_name(h.owner) AS owner, h.shared, CASE WHEN h.shared OR dts._caller_may(h.owner) THEN h.sql END AS sql, h.queue, h.priority, h.max_attempts, h.retry,
       h.timeout, h.expires, h.transactional, h.capture, pg_catalog.string_to_array(h.requires, ',') AS requires, h.description, h.created_at
FROM dts.handler h WHERE h.dropped_at IS NULL AND (h.shared OR dts._caller_sees(h.owner));
COMMENT ON VIEW dts.handlers IS 'Handlers that the current role may use or see.';

CREATE VIEW dts.queues WITH (security_barrier) AS
SELECT q.name, q.paused, q.batch_size, q.durable, q.history, q.retention, q.priority, q.max_attempts, q.retry, q.timeout, q.expires, q.description,
       COALESCE(d.ready, 0) AS ready, COALESCE(d.scheduled, 0) AS scheduled, COALESCE(d.blocked, 0) AS blocked,
       COALESCE(d.running, 0) AS running, COALESCE(d.waiting, 0) AS waiting,
       (SELECT pg_catalog.count(*) FROM dts.dead_letter x JOIN dts.lane l ON l.id = x.lane WHERE l.queue = q.id AND dts._caller_sees(l.owner)) AS dead,
       d.oldest_ready_at, pg_catalog.clock_timestamp() - d.oldest_ready_at AS oldest_waits,
       COALESCE(s.submitted, 0) AS submitted, COALESCE(s.succeeded, 0) AS succeeded, COALESCE(s.failed, 0) AS failed, COALESCE(s.retried, 0) AS retried,
       pg_catalog.round(COALESCE(s.per_second, 0)::numeric, 2) AS per_second,
       CASE WHEN s.started > 0 THEN s.run_us_total / s.started * '1 us'::interval END AS mean_run_time,
       CASE WHEN dts._caller_may(10::oid) THEN s.last_error END AS last_error, s.last_error_at
FROM dts.queue q
LEFT JOIN dts._queue_stats() s ON s.queue = q.id
LEFT JOIN LATERAL (
    SELECT pg_catalog.count(*) FILTER (WHERE t.state = 4 OR t.state = 0 AND h.task IS NULL AND t.run_at <= pg_catalog.clock_timestamp()) AS ready,
           pg_catalog.count(*) FILTER (WHERE t.state = 0 AND h.task IS NULL AND t.run_at > pg_catalog.clock_timestamp()) AS scheduled,
           pg_catalog.count(*) FILTER (WHERE t.state = 1) AS blocked,
           pg_catalog.count(*) FILTER (WHERE t.state = 2 OR h.task IS NOT NULL) AS running,
           pg_catalog.count(*) FILTER (WHERE t.state = 3) AS waiting,
           pg_catalog.min(t.run_at) FILTER (WHERE t.state = 0 AND h.task IS NULL AND t.run_at <= pg_catalog.clock_timestamp()) AS oldest_ready_at
    FROM dts.lane l JOIN dts.task t ON t.lane = l.id
    LEFT JOIN (SELECT x.task FROM dts._held() x WHERE x.state IN ('running', 'closed')) h ON h.task = t.id
    WHERE l.queue = q.id AND dts._caller_sees(l.owner)) d ON true
WHERE q.dropped_at IS NULL;
COMMENT ON VIEW dts.queues IS 'Queues with their settings, depth by state, oldest ready task, counters since the server started, and tasks ended per second over the last minute. It counts rows: with millions of waiting tasks dts.stats() is cheaper.';

CREATE VIEW dts.workers WITH (security_barrier) AS
SELECT s.kind, s.pid, (SELECT d.datname FROM pg_catalog.pg_database d WHERE d.oid = s.database) AS database,
       CASE WHEN s.owner <> 0 THEN dts._role_name(s.owner) END AS owner, s.started_at,
       CASE WHEN s.kind <> 'executor' THEN NULL WHEN s.task IS NOT NULL THEN 'running' WHEN s.idle THEN 'idle' ELSE 'busy' END AS state,
       CASE WHEN s.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()) THEN s.task END AS task,
       s.task_started_at, s.tasks_run
FROM dts._slots() s
WHERE s.owner = 0 OR dts._caller_sees(s.owner);
COMMENT ON VIEW dts.workers IS 'The processes of dts, of all databases, from shared memory.';

CREATE VIEW dts.audit WITH (security_barrier) AS
SELECT a.at, dts._role_name(a.who) AS who, a.action, a.object, a.before, a.after
FROM dts.audit_entry a WHERE dts._caller_may(a.who) OR dts._caller_may(10::oid);
COMMENT ON VIEW dts.audit IS 'Every steering call and change of a definition: who, when, before and after. A role sees its own entries, administrators all.';
