-- Looking at one task, and for tasks that do not move.

CREATE FUNCTION dts.state(task bigint) RETURNS text
    LANGUAGE sql STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp AS $$ SELECT dts._state_name(dts._state($1)) $$;
COMMENT ON FUNCTION dts.state(bigint) IS 'The state of a task: ready (also when due later), blocked, running, waiting, succeeded, failed, expired, cancelled or skipped; 42704 if it is unknown or not visible to the caller.';

CREATE FUNCTION dts._result(caller oid, task bigint) RETURNS jsonb
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE r dts.run;
BEGIN
    IF task IS NULL THEN
        RAISE EXCEPTION 'argument "task" must not be null' USING ERRCODE = 'null_value_not_allowed', HINT = 'Give the id that dts.submit returned.';
    END IF;
    SELECT x.* INTO r FROM dts.run x JOIN dts.lane l ON l.id = x.lane
    WHERE x.task = _result.task AND dts._role_may(caller, l.owner) ORDER BY x.outcome = 10 DESC, x.ended_at DESC LIMIT 1;
    IF NOT FOUND AND NOT EXISTS (SELECT FROM dts.task x JOIN dts.lane l ON l.id = x.lane WHERE x.id = _result.task AND dts._role_may(caller, l.owner)) THEN
        SELECT y.output INTO r.result FROM dts.workflow_run y WHERE y.id = _result.task AND dts._role_may(caller, y.owner);
        IF FOUND THEN
            RETURN r.result::jsonb;
        END IF;
        RAISE EXCEPTION 'task % does not exist', task USING ERRCODE = 'undefined_object', HINT = 'It may have been removed by the retention of its queue, or belong to another role.';
    END IF;
    RETURN r.result::jsonb;
END $$;
COMMENT ON FUNCTION dts._result(oid, bigint) IS 'dts.result, as the owner of the extension.';
CREATE FUNCTION dts.result(task bigint) RETURNS jsonb
    LANGUAGE c STABLE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dts_as_owner';
COMMENT ON FUNCTION dts.result(bigint) IS 'The rows that the task''s last statement returned, as a JSON array of objects; NULL if it returned none, has not succeeded or was not captured.';

CREATE FUNCTION dts._seconds(value interval) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN $1 < '1 minute' THEN trim_scale(round(extract(epoch FROM $1), CASE WHEN $1 < '1 s' THEN 2 WHEN $1 < '10 s' THEN 1 ELSE 0 END)) || ' s' ELSE date_trunc('second', $1)::text END $$;
COMMENT ON FUNCTION dts._seconds(interval) IS 'A duration as people write it.';

CREATE FUNCTION dts._limit_holders(caller oid, e dts.limit_entry) RETURNS text
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
    SELECT string_agg(CASE WHEN dts._role_may(caller, x.owner) THEN format('task %s', x.task) ELSE 'a task of another role' END
                      || COALESCE(format(', running for %s', dts._seconds(clock_timestamp() - x.started_at)), ''), '; ' ORDER BY x.started_at)
    FROM (SELECT h.task, h.started_at, l.owner::oid AS owner FROM (SELECT y.task, y.started_at, y.state FROM dts._held() y UNION ALL SELECT y.task, y.started_at, 'running' FROM dts.lease y WHERE y.ended IS NULL) h JOIN dts.task t ON t.id = h.task JOIN dts.lane l ON l.id = t.lane
          WHERE CASE e.scope WHEN 'queue' THEN l.queue = e.queue WHEN 'handler' THEN l.handler = e.handler WHEN 'owner' THEN l.owner = e.owner WHEN 'priority' THEN l.priority >= e.priority ELSE l.tenant = e.tenant END
            AND h.state <> 'held' ORDER BY h.started_at LIMIT 3) x $$;
COMMENT ON FUNCTION dts._limit_holders(oid, dts.limit_entry) IS 'Which tasks take the places of a limit, in words: the three that have run longest.';

CREATE FUNCTION dts._explain_limit(caller oid, l dts.lane) RETURNS text
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE e dts.limit_entry; s record; name text;
BEGIN
    FOR e IN SELECT x.* FROM dts.limit_entry x WHERE (x.scope, x.queue) = ('queue', l.queue) OR (x.scope, x.handler) = ('handler', l.handler)
             OR (x.scope, x.owner) = ('owner', l.owner) OR (x.scope, x.tenant) = ('tenant', l.tenant)
                OR x.id = (SELECT y.id FROM dts.limit_entry y WHERE y.scope = 'priority' AND y.priority <= l.priority ORDER BY y.priority DESC LIMIT 1) ORDER BY x.paused DESC, x.id LOOP
        name := dts._limit_name(e);
        SELECT * INTO s FROM dts._limit_state() y WHERE y.entry = e.id;
        IF e.paused THEN
            RETURN format('%s "%s" is paused; dts.resume(%s => %L) lets it go on', e.scope, name, e.scope, name);
        ELSIF s.is_full THEN
            RETURN format('%s "%s" has reached its limit of %s running at once%s', e.scope, name, e.concurrency, COALESCE(': held by ' || dts._limit_holders(caller, e), ''));
        ELSIF s.next_at IS NOT NULL THEN
            RETURN format('%s "%s" has used up its rate of %s in %s; the next task may start in %s', e.scope, name, e.rate, dts._seconds(e.per),
                          dts._seconds(greatest(s.next_at - clock_timestamp(), '0')));
        END IF;
    END LOOP;
    IF dts._withheld(l.id) THEN
        RETURN format('the workers that are free are reserved: %s', (SELECT string_agg(format('%s for %s "%s"', x.reserved, x.scope, dts._limit_name(x)), ', ' ORDER BY x.id) FROM dts.limit_entry x WHERE x.reserved > 0));
    END IF;
    RETURN NULL;
END $$;
COMMENT ON FUNCTION dts._explain_limit(oid, dts.lane) IS 'The limit that keeps tasks of a lane from starting now, in words, or NULL.';

CREATE FUNCTION dts._explain_key(caller oid, t dts.task) RETURNS text
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE k record; first dts.task; since timestamptz; mine boolean; key text := t.extra ->> 'concurrency_key'; holder bigint;
BEGIN
    SELECT * INTO k FROM dts._key_state(t.ckey);
    holder := k.holder;
    IF holder IS NULL THEN
        SELECT * INTO first FROM dts.task x WHERE x.ckey = t.ckey AND x.id <> t.id AND x.state <> 4 ORDER BY x.id LIMIT 1;
        IF NOT FOUND THEN RETURN format('key "%s" has just become free; the task is about to be made ready', key); END IF;
        holder := first.id;
    END IF;
    SELECT dts._role_may(caller, l.owner) INTO mine FROM dts.task x JOIN dts.lane l ON l.id = x.lane WHERE x.id = holder;
    since := COALESCE((SELECT h.started_at FROM dts._held() h WHERE h.task = holder), (SELECT x.started_at FROM dts.lease x WHERE x.task = holder AND x.ended IS NULL ORDER BY x.started_at DESC LIMIT 1));
    RETURN format('key "%s" is held by %s%s', key, CASE WHEN mine THEN format('task %s', holder) ELSE 'a task of another role' END,
                  CASE WHEN since IS NOT NULL THEN format(', running for %s', dts._seconds(clock_timestamp() - since)) WHEN first.run_at > clock_timestamp() THEN format(', which is due at %s', first.run_at) ELSE '' END);
END $$;
COMMENT ON FUNCTION dts._explain_key(oid, dts.task) IS 'What holds the concurrency key of a parked task, in words.';

CREATE FUNCTION dts._explain_run(caller oid, run bigint) RETURNS text
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
    SELECT format('run of workflow "%s", version %s: ', w.name, r.version) || CASE
        WHEN r.ended_at IS NOT NULL THEN format('%s at %s, in %s', r.state, r.ended_at, r.ended_at - r.started_at)
             || CASE WHEN r.state = 'failed' THEN format('; dts.retry_run(%s) goes on from what failed', r.id) ELSE '' END
        ELSE CASE WHEN r.state = 'cancelling' THEN 'being cancelled' WHEN r.paused THEN format('paused; dts.resume_run(%s) lets it go on', r.id)
                  WHEN r.gate IS NOT NULL AND r.begun_at IS NULL AND r.due_at <= clock_timestamp() THEN 'waiting for its turn: ' || dts._explain_gate(caller, r) || '; it has waited' ELSE 'running' END
             || format(' for %s, %s of %s nodes have ended', dts._seconds(clock_timestamp() - r.started_at), n.ended, n.total) || COALESCE('; ' || n.said, '') END
    FROM dts.workflow_run r JOIN dts.workflow w ON w.id = r.workflow,
         LATERAL (SELECT count(*) AS total, count(*) FILTER (WHERE t.id IS NULL) AS ended,
                         string_agg(format('"%s" (task %s) is %s', x.node, x.task, dts._state_name(t.state)), ', ' ORDER BY x.task) FILTER (WHERE t.state IN (0, 2, 3)) AS said
                  FROM dts.workflow_node x LEFT JOIN dts.task t ON t.id = x.task WHERE x.run = r.id AND x.idx = 0 AND x.node <> '(end)') n
    WHERE r.id = run AND dts._role_may(caller, r.owner) $$;
COMMENT ON FUNCTION dts._explain_run(oid, bigint) IS 'How a run of a workflow stands, in words; NULL if there is none.';

CREATE FUNCTION dts._explain_put_off(t dts.task) RETURNS text
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
    SELECT format('put off until %s: ', t.run_at) || COALESCE((SELECT CASE h.circuit
        WHEN 'open' THEN format('host "%s" failed %s times in a row and gets no request before %s; dts.reset_host(%L) lets them go at once', h.host, h.failures, h.open_until, h.host)
        WHEN 'half open' THEN format('host "%s" failed %s times in a row, and one request tries whether it is back; dts.reset_host(%L) lets them go at once', h.host, h.failures, h.host)
        ELSE format('host "%s" has %s requests under way, as many as it gets', h.host, h.in_flight) END
        FROM dts._hosts() h WHERE h.host = dts._host_of(t)), 'its host took no more requests') $$;
COMMENT ON FUNCTION dts._explain_put_off(dts.task) IS 'Why a request was put off by the courier, in words.';

CREATE FUNCTION dts._explain_runner(t dts.task, l dts.lane, q dts.queue) RETURNS text
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE l.runner WHEN 1 THEN 'ready; a courier is about to take it' ELSE dts._explain_agents(t, l, q) END $$;
COMMENT ON FUNCTION dts._explain_runner(dts.task, dts.lane, dts.queue) IS 'Why a task of a courier or of agents does not run yet, when nothing else holds it up.';

CREATE FUNCTION dts._explain(caller oid, task bigint) RETURNS text
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    t dts.task; l dts.lane; q dts.queue; h record; r dts.run; now timestamptz := clock_timestamp();
    busy int; idle int; cap int := COALESCE(NULLIF(current_setting('dts.max_workers', true), ''), '0')::int; since text := ''; limited text;
BEGIN
    IF task IS NULL THEN
        RAISE EXCEPTION 'argument "task" must not be null' USING ERRCODE = 'null_value_not_allowed', HINT = 'Give the id that dts.submit returned.';
    END IF;
    SELECT * INTO t FROM dts.task x WHERE x.id = task;
    IF NOT FOUND THEN
        SELECT x.* INTO r FROM dts.run x JOIN dts.lane y ON y.id = x.lane WHERE x.task = _explain.task AND dts._role_may(caller, y.owner) ORDER BY x.ended_at DESC LIMIT 1;
        IF NOT FOUND THEN  -- a queue without history still keeps its dead letters
            SELECT d.id, d.failed_at, 11, d.attempt, d.error INTO r.task, r.ended_at, r.outcome, r.attempt, r.error
            FROM dts.dead_letter d JOIN dts.lane y ON y.id = d.lane WHERE d.id = _explain.task AND dts._role_may(caller, y.owner);
        END IF;
        IF NOT FOUND AND dts._explain_run(caller, task) IS NOT NULL THEN
            RETURN dts._explain_run(caller, task);
        END IF;
        IF r.task IS NULL THEN
            RAISE EXCEPTION 'task % does not exist', task USING ERRCODE = 'undefined_object', HINT = 'It may have been removed by the retention of its queue, or belong to another role.';
        END IF;
        RETURN CASE r.outcome
            WHEN 10 THEN format('succeeded at %s, attempt %s, in %s', r.ended_at, r.attempt, r.ended_at - r.started_at)
            WHEN 11 THEN format('failed for good at %s after %s attempt(s): %s; dts.redrive(%s) gives it a new life', r.ended_at, r.attempt, r.error ->> 'message', task)
            WHEN 14 THEN format('skipped at %s: %s', r.ended_at, r.error ->> 'message')
            WHEN 12 THEN format('expired at %s: it had not started by then', r.ended_at)
            ELSE format('%s at %s%s', dts._state_name(r.outcome), r.ended_at, ': ' || (r.error ->> 'message')) END;
    END IF;
    SELECT * INTO l FROM dts.lane x WHERE x.id = t.lane;
    IF l.id IS NULL OR NOT dts._role_may(caller, l.owner) THEN
        RAISE EXCEPTION 'task % does not exist', task USING ERRCODE = 'undefined_object', HINT = 'It may have been removed by the retention of its queue, or belong to another role.';
    END IF;
    SELECT * INTO q FROM dts.queue x WHERE x.id = l.queue;
    SELECT x.* INTO h FROM dts._held() x WHERE x.task = _explain.task;
    IF h.state IN ('running', 'closed') THEN
        RETURN format('running for %s in process %s, attempt %s', now - h.started_at, h.pid, t.attempt + (t.state <> 2)::int);
    ELSIF t.state = 2 THEN
        RETURN COALESCE((SELECT format('running for %s by agent "%s" (role "%s"), attempt %s; its lease ends in %s if it is not renewed', dts._seconds(now - x.started_at), x.agent, dts._role_name(x.role),
                                       t.attempt, dts._seconds(greatest(x.until - now, '0'))) FROM dts.lease x WHERE x.token = t.token AND x.ended IS NULL),
                        format('running under a lease until %s, attempt %s', t.lease_until, t.attempt));
    ELSIF t.state = 1 THEN
        RETURN dts._explain_blocked(task, t.need);
    ELSIF t.state = 3 THEN
        RETURN dts._explain_waiting(caller, task);
    END IF;
    IF EXISTS (SELECT FROM dts.request x WHERE x.task = _explain.task AND x.kind = 'cancel') THEN
        RETURN 'a request to cancel it stands: it will not start, and ends as cancelled';
    ELSIF t.expires_at <= now THEN
        RETURN format('expired at %s: it will end as expired', t.expires_at);
    ELSIF dts._fence() IS NOT NULL THEN
        RETURN format('nothing runs in this database: %s', dts._fence());
    ELSIF q.paused THEN
        RETURN format('queue "%s" is paused; dts.resume(''%s'') lets it go on', q.name, q.name);
    ELSIF t.run_at > now THEN
        RETURN CASE WHEN t.flags & (1 << 24) <> 0 THEN dts._explain_put_off(t)
                    WHEN t.attempt > 0 THEN format('attempt %s failed (%s); the next one is due at %s', t.attempt,
                        (SELECT x.error ->> 'message' FROM dts.run x WHERE x.task = _explain.task ORDER BY x.ended_at DESC LIMIT 1), t.run_at)
                    ELSE format('scheduled for %s (in %s)', t.run_at, t.run_at - now) END;
    ELSIF NOT EXISTS (SELECT FROM pg_roles x WHERE x.oid = l.owner AND x.rolcanlogin) THEN
        RETURN format('its owner "%s" does not exist or may not log in', dts._role_name(l.owner));
    ELSIF NOT has_database_privilege(l.owner, current_database(), 'CONNECT') THEN
        RETURN format('its owner "%s" may not connect to this database', dts._role_name(l.owner));
    ELSIF current_setting('dts.allow_superuser_tasks', true) = 'off' AND EXISTS (SELECT FROM pg_roles x WHERE x.oid = l.owner AND x.rolsuper) THEN
        RETURN format('its owner "%s" is a superuser, and dts.allow_superuser_tasks is off', dts._role_name(l.owner));
    ELSIF t.state = 4 THEN
        RETURN dts._explain_key(caller, t);
    ELSIF h.state = 'held' THEN
        RETURN format('claimed by process %s, which runs it next', h.pid);
    END IF;
    limited := dts._explain_limit(caller, l);
    IF limited IS NOT NULL THEN
        RETURN limited;
    ELSIF NOT EXISTS (SELECT FROM dts._queue_stats() x WHERE x.queue = l.queue) THEN
        RETURN format('ready; all %s places of queues in shared memory (dts.max_queues) are taken by queues that have work, and it gets the next one', current_setting('dts.max_queues', true));
    ELSIF l.runner <> 0 THEN
        RETURN dts._explain_runner(t, l, q);
    ELSIF dts._start_failure(l.owner) IS NOT NULL THEN
        RETURN format('no executor could be started: %s', dts._start_failure(l.owner));
    END IF;
    SELECT count(*) FILTER (WHERE x.task IS NOT NULL), count(*) FILTER (WHERE x.idle), format(' for %s', now - max(x.task_started_at))
    INTO busy, idle, since FROM dts._slots() x WHERE x.kind = 'executor';
    IF busy >= cap THEN
        RETURN format('no executor: dts.max_workers = %s, all busy%s', cap, COALESCE(since, ''));
    ELSIF EXISTS (SELECT FROM dts.task x WHERE x.lane = t.lane AND x.state = 0 AND (x.run_at, x.id) < (t.run_at, t.id)) THEN
        RETURN format('ready; %s task(s) of its lane (queue "%s", priority %s) are before it', (SELECT count(*) FROM (SELECT FROM dts.task x
            WHERE x.lane = t.lane AND x.state = 0 AND (x.run_at, x.id) < (t.run_at, t.id) LIMIT 100000) y), q.name, l.priority);
    END IF;
    RETURN 'ready; an executor is about to take it';
END $$;
COMMENT ON FUNCTION dts._explain(oid, bigint) IS 'dts.explain, as the owner of the extension.';
CREATE FUNCTION dts.explain(task bigint) RETURNS text
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dts_as_owner';
COMMENT ON FUNCTION dts.explain(bigint) IS 'Says in words where a task stands and why it does not run now.';

CREATE FUNCTION dts._start_failure(owner oid) RETURNS text
    LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'dts_start_failure';
COMMENT ON FUNCTION dts._start_failure(oid) IS 'Why the last start of an executor for this owner failed, while the next try is awaited; else NULL.';

CREATE FUNCTION dts._fence() RETURNS text
    LANGUAGE c VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'dts_fence';
COMMENT ON FUNCTION dts._fence() IS 'Why nothing runs in this database (not preloaded, disabled, fenced, no scheduler), or NULL.';

CREATE FUNCTION dts.stuck() RETURNS TABLE (task bigint, state text, since timestamptz, reason text)
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE now timestamptz := clock_timestamp(); grace interval := '2 minutes';
BEGIN
    -- Each branch names a state whose deadline passed. In a healthy system all are empty.
    RETURN QUERY
    SELECT t.id, 'ready'::text, t.run_at, 'parked behind a concurrency key that nothing holds'::text FROM dts.task t CROSS JOIN LATERAL dts._key_state(t.ckey) k
    WHERE t.state = 4 AND t.run_at < now - grace AND k.held = 0 AND NOT EXISTS (SELECT FROM dts.task o WHERE o.ckey = t.ckey AND o.state <> 4)
    UNION ALL
    SELECT t.id, 'ready'::text, t.run_at, format('due for %s although an executor of its owner is idle', now - t.run_at)
    FROM dts.lane l JOIN dts.queue q ON q.id = l.queue AND NOT q.paused
    CROSS JOIN LATERAL (SELECT x.id, x.run_at FROM dts.task x WHERE x.lane = l.id AND x.state = 0 ORDER BY x.run_at, x.id LIMIT 1) t
    WHERE l.runner = 0 AND t.run_at < now - grace AND EXISTS (SELECT FROM dts._slots() s WHERE s.kind = 'executor' AND s.idle AND s.owner = l.owner
          AND s.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database()))
    UNION ALL
    SELECT t.id, 'ready', t.run_at, format('its lane %s does not exist', t.lane) FROM dts.task t WHERE NOT EXISTS (SELECT FROM dts.lane l WHERE l.id = t.lane)
    UNION ALL
    SELECT t.id, 'ready', t.run_at, format('its owner %s does not exist or may not log in', dts._role_name(l.owner))
    FROM dts.lane l JOIN dts.task t ON t.lane = l.id AND t.state = 0 AND t.run_at < now - grace
    WHERE NOT EXISTS (SELECT FROM pg_roles r WHERE r.oid = l.owner AND r.rolcanlogin)
    UNION ALL
    SELECT t.id, dts._state_name(t.state), t.run_at, format('state %s is not known', t.state) FROM dts.task t WHERE t.state NOT IN (0, 1, 2, 3, 4)
    UNION ALL
    SELECT t.id, 'running', t.lease_until, 'its lease is over and nobody took it back' FROM dts.task t WHERE t.state = 2 AND (t.lease_until IS NULL OR t.lease_until < now - grace)
    UNION ALL
    SELECT t.id, 'running', x.until, 'its agent''s lease is over and nobody took it back' FROM dts.lease x JOIN dts.task t ON t.id = x.task AND t.state = 2 AND t.token = x.token WHERE x.until < now - grace
    UNION ALL
    SELECT t.id, 'running', t.run_at, 'leased to no agent' FROM dts.task t WHERE t.state = 2 AND t.kind IN (3, 4) AND t.run_at < now - grace AND NOT EXISTS (SELECT FROM dts.lease x WHERE x.token = t.token)
    UNION ALL
    SELECT r.task, 'request', r.at, format('a request to %s waits for %s', r.kind, now - r.at) FROM dts.request r WHERE r.at < now - grace
           AND NOT EXISTS (SELECT FROM dts._held() h WHERE h.task = r.task)
    UNION ALL
    SELECT t.id, 'waiting', t.run_at, 'it waits, and nobody knows for what' FROM dts.task t WHERE t.state = 3 AND NOT EXISTS (SELECT FROM dts.workflow_node n WHERE n.task = t.id)
    UNION ALL
    SELECT r.id, 'waiting', r.due_at, 'this run may begin, and does not' FROM dts._waiting_gates() g
    CROSS JOIN LATERAL (SELECT x.* FROM dts.workflow_run x WHERE x.workflow = g.workflow AND x.gate = g.gate AND x.left_at IS NULL AND x.begun_at IS NULL AND x.ended_at IS NULL AND x.state = 'running'
                        AND NOT x.paused AND dts._run_alive(x.id) ORDER BY x.due_at, x.id LIMIT 1) r
    WHERE r.due_at < now - grace AND (SELECT count(*) FROM dts._holders(r)) < dts._gate_limit(r)
    UNION ALL
    SELECT b.task, 'blocked', b.since, format('its dependencies say that it is %s', b.verdict) FROM dts._stuck_blocked(grace) b
    UNION ALL
    SELECT t.id, 'ready', t.expires_at, 'it has expired and was not ended' FROM dts.task t WHERE t.expires_at < now - grace AND t.state = 0
           AND NOT EXISTS (SELECT FROM dts._held() h WHERE h.task = t.id);
END $$;
COMMENT ON FUNCTION dts.stuck() IS 'Tasks that do not move although they should, with the reason. Returns no row in a healthy system. For administrators and monitors.';
