-- Is all well, and if not, what to do: one look for people, one for probes.

CREATE FUNCTION dts.health(OUT ok boolean, OUT reason text) RETURNS record
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- Reads shared memory only, so that a probe may ask every second. A database that has had no task yet is well.
    reason := CASE WHEN pg_is_in_recovery() THEN 'a standby: nothing runs before its promotion'
                   WHEN dts._fence() <> 'no task was submitted here yet' THEN dts._fence()
                   WHEN NOT EXISTS (SELECT FROM dts._slots() s JOIN pg_database d ON d.oid = s.database WHERE s.kind = 'scheduler' AND d.datname = current_database())
                       THEN 'its scheduler is away, and should be back in a second' END;
    ok := reason IS NULL;
END $$;
COMMENT ON FUNCTION dts.health() IS 'One row for probes and load balancers: whether tasks run in this database, and why not. Reads shared memory only. For administrators and monitors.';

CREATE FUNCTION dts._doctor_server() RETURNS TABLE (severity text, subject text, finding text, advice text)
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
    SELECT 'error', 'database', h.reason, CASE WHEN h.reason ~ 'dts.adopt' THEN 'Make sure that the original does not run any more, then SELECT dts.adopt().'
           ELSE 'See "Nothing runs" in docs/operations.md.' END FROM dts.health() h WHERE NOT h.ok
    UNION ALL
    SELECT 'error', 'extension', format('the extension''s version is %s but the library''s is %s', e.extversion, dts.version()), 'ALTER EXTENSION dts UPDATE, or restart the server.'
    FROM pg_extension e WHERE e.extname = 'dts' AND e.extversion <> dts.version() AND NOT starts_with(e.extversion, dts.version())
    UNION ALL
    SELECT 'warning', 'max_worker_processes', format('%s processes are allowed; dts alone may use %s', w.allowed, w.wanted),
           'Raise max_worker_processes: 1 launcher, 1 scheduler for each database with dts, dts.max_workers executors, and what others need.'
    FROM (SELECT current_setting('max_worker_processes')::int AS allowed,
                 1 + COALESCE(current_setting('dts.max_workers', true), '0')::int + (SELECT count(*)::int FROM dts._slots() s WHERE s.kind = 'scheduler') AS wanted) w
    WHERE w.wanted > w.allowed - 1
    UNION ALL
    SELECT 'warning', 'dts.max_workers', format('%s owner(s) want an executor and cannot have one', s.value), 'Raise dts.max_workers, give long tasks a timeout, or look in dts.running for one that hangs.'
    FROM dts._database_stats() s WHERE s.name = 'pools_wanting' AND s.value > 0
      AND (SELECT x.value FROM dts._database_stats() x WHERE x.name = 'executors_cluster') >= current_setting('dts.max_workers', true)::int
    UNION ALL
    SELECT 'warning', 'dts.max_lanes', format('%s of %s lanes are used; lanes beyond are served by a slower path', s.value, current_setting('dts.max_lanes', true)), 'Raise dts.max_lanes.'
    FROM dts._database_stats() s WHERE s.name = 'lanes' AND s.value > 0.9 * current_setting('dts.max_lanes', true)::int
    UNION ALL
    SELECT 'warning', 'dts.max_queues', format('%s queue(s) have no place in shared memory; each has to wait for one when it gets work', x.n), 'Raise dts.max_queues, or drop queues that nobody uses.'
    FROM (SELECT count(*) AS n FROM dts.queue q WHERE q.dropped_at IS NULL AND q.id NOT IN (SELECT s.queue FROM dts._queue_stats() s)) x WHERE x.n > 0 AND dts._fence() IS NULL
    UNION ALL
    SELECT 'warning', 'swept_tasks_total', format('%s task(s) were found only by the sweep', s.value), 'Somebody writes dts.task behind its functions (a restore, logical replication, a superuser): SELECT dts.rescan() afterwards.'
    FROM dts._database_stats() s WHERE s.name = 'swept_tasks_total' AND s.value > 0
    UNION ALL
    SELECT 'warning', 'crash_suspects_total', format('%s task(s) were running when their process crashed the server', s.value), 'SELECT * FROM dts.dead_letters WHERE crashes > 0, and the server log.'
    FROM dts._database_stats() s WHERE s.name = 'crash_suspects_total' AND s.value > 0
    UNION ALL
    SELECT 'error', x.name, format('%s is off', x.name), 'Switch it on: a crash of the machine can lose or damage everything.'
    FROM unnest(ARRAY['fsync', 'full_page_writes']) x(name) WHERE current_setting(x.name) = 'off'
    UNION ALL
    SELECT 'warning', 'autovacuum', 'autovacuum is off', 'Switch it on: dts.task is inserted into and deleted from all the time.' WHERE current_setting('autovacuum') = 'off' OR current_setting('track_counts') = 'off'
$$;
COMMENT ON FUNCTION dts._doctor_server() IS 'What dts.doctor finds in the configuration and in shared memory.';

CREATE FUNCTION dts._doctor_data() RETURNS TABLE (severity text, subject text, finding text, advice text)
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
    SELECT 'error', format('task %s', s.task), s.reason, 'SELECT dts.explain(...) of it; SELECT dts.rescan() makes executors look again.' FROM (SELECT * FROM dts.stuck() LIMIT 100) s
    UNION ALL
    SELECT 'error', format('owner %s', dts._role_name(l.owner)), 'its unfinished tasks cannot run: ' || w.why, w.advice
    FROM (SELECT DISTINCT y.owner FROM dts.lane y WHERE EXISTS (SELECT FROM dts.task t WHERE t.lane = y.id)) l
    CROSS JOIN LATERAL (SELECT CASE WHEN r.oid IS NULL THEN 'the role does not exist' WHEN NOT r.rolcanlogin THEN 'the role may not log in'
                                    WHEN NOT has_database_privilege(r.oid, current_database(), 'CONNECT') THEN 'the role may not connect to this database'
                                    WHEN r.rolsuper AND current_setting('dts.allow_superuser_tasks', true) = 'off' THEN 'it is a superuser, and dts.allow_superuser_tasks is off'
                                    ELSE dts._start_failure(l.owner) END AS why,
                               CASE WHEN r.oid IS NULL THEN 'Cancel them, or wait: the sweep ends them.' ELSE 'Grant what is missing, or cancel them.' END AS advice
                        FROM (SELECT) one LEFT JOIN pg_roles r ON r.oid = l.owner) w WHERE w.why IS NOT NULL
    UNION ALL
    SELECT 'notice', format('queue %s', q.name), 'it is paused, and tasks wait in it', format('SELECT dts.resume(%L) lets it go on.', q.name)
    FROM dts.queue q WHERE q.paused AND EXISTS (SELECT FROM dts.lane l JOIN dts.task t ON t.lane = l.id WHERE l.queue = q.id)
    UNION ALL
    SELECT 'warning', format('queue %s', w.name), format('tasks for agents%s wait since %s, and no such agent was seen lately', CASE WHEN w.requires <> '' THEN ' with labels ' || w.requires ELSE '' END, min(w.run_at)),
           'Start one that may claim from it (dts.agents, dts.agent_queues), or cancel them.'
    FROM (SELECT q.name, l.requires, t.run_at FROM dts.lane l JOIN dts.queue q ON q.id = l.queue AND NOT q.paused
          CROSS JOIN LATERAL (SELECT x.* FROM dts.task x WHERE x.lane = l.id AND x.state = 0 ORDER BY x.run_at, x.id LIMIT 1) t
          WHERE l.runner = 2 AND t.run_at < clock_timestamp() - '5 minutes'::interval AND dts._explain_agents(t, l, q) ~ '^no agent') w GROUP BY w.name, w.requires
    UNION ALL
    SELECT 'notice', 'dead letters', format('%s task(s) used up their attempts', c.n), 'SELECT queue, handler, sqlstate, count(*) FROM dts.dead_letters GROUP BY 1, 2, 3; dts.redrive when the cause is mended.'
    FROM (SELECT count(*) AS n FROM dts.dead_letter) c WHERE c.n > 0
    UNION ALL
    SELECT 'error', 'history', 'there is no partition for tomorrow', 'The scheduler makes them three days ahead: look in the server log for why it could not.'
    WHERE EXISTS (SELECT FROM dts.site) AND to_regclass('dts.run_' || to_char((clock_timestamp() + '1 day') AT TIME ZONE 'UTC', 'YYYYMMDD')) IS NULL AND NOT pg_is_in_recovery()
    UNION ALL
    SELECT 'notice', 'dts.task', format('autovacuum is switched off for it'), 'ALTER TABLE dts.task RESET (autovacuum_enabled).'
    FROM pg_class c WHERE c.oid = 'dts.task'::regclass AND 'autovacuum_enabled=false' = ANY (c.reloptions)
    UNION ALL
    SELECT 'notice', format('process %s', a.pid), format('its transaction keeps dead rows since %s', a.xact_start), 'dts stays fast, but its tables grow: end the transaction.'
    FROM pg_stat_activity a WHERE a.backend_xmin IS NOT NULL AND a.xact_start < clock_timestamp() - interval '1 hour' AND a.datname = current_database()
    UNION ALL
    SELECT 'notice', format('replication slot %s', s.slot_name), 'it keeps dead rows, and nobody uses it', 'Drop it if it is not needed any more: SELECT pg_drop_replication_slot(...).'
    FROM pg_replication_slots s WHERE NOT s.active AND (s.xmin IS NOT NULL OR s.catalog_xmin IS NOT NULL)
    UNION ALL
    SELECT 'warning', format('prepared transaction %s', p.gid), format('prepared at %s, it keeps dead rows and its locks', p.prepared), 'COMMIT PREPARED or ROLLBACK PREPARED it.'
    FROM pg_prepared_xacts p WHERE p.prepared < clock_timestamp() - interval '10 minutes'
    UNION ALL
    SELECT 'error', p.oid::regprocedure::text, 'PUBLIC may execute it', format('REVOKE ALL ON ROUTINE %s FROM PUBLIC.', p.oid::regprocedure)
    FROM pg_proc p WHERE p.pronamespace = 'dts'::regnamespace AND (p.proacl IS NULL OR EXISTS (SELECT FROM aclexplode(p.proacl) a WHERE a.grantee = 0))
    UNION ALL
    SELECT 'error', c.oid::regclass::text, 'a role beside its owner may write it', format('REVOKE INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER ON %s FROM it.', c.oid::regclass)
    FROM pg_class c WHERE c.relnamespace = 'dts'::regnamespace AND c.relkind IN ('r', 'p')
      AND EXISTS (SELECT FROM aclexplode(c.relacl) a WHERE a.grantee <> c.relowner AND a.privilege_type <> 'SELECT')
$$;
COMMENT ON FUNCTION dts._doctor_data() IS 'What dts.doctor finds in the data.';

CREATE FUNCTION dts.doctor() RETURNS TABLE (severity text, subject text, finding text, advice text)
    LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT d.* FROM (SELECT * FROM dts._doctor_server() UNION ALL SELECT * FROM dts._doctor_data()) d
    ORDER BY array_position(ARRAY['error', 'warning', 'notice'], d.severity), d.subject
$$;
COMMENT ON FUNCTION dts.doctor() IS 'Looks at configuration and data and says what is wrong (error), risky (warning) or worth knowing (notice), and what to do. No row: all is well. For administrators and monitors.';
