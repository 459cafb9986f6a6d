-- What agents call, and what is seen of them. Claim, complete, fail and heartbeat are C (src/sql_agent.cpp).

CREATE FUNCTION dts.claim(agent text, queues text[] DEFAULT NULL, labels text[] DEFAULT NULL, max int DEFAULT 1, lease interval DEFAULT '1 minute')
    RETURNS TABLE (task bigint, token uuid, attempt int, max_attempts int, kind text, queue text, owner text, handler text, argv text[], env jsonb, stdin text, dir text,
                   container jsonb, payload jsonb, task_labels jsonb, timeout interval, lease_until timestamptz, idempotency_key text, submitted_at timestamptz, run_at timestamptz)
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dts_claim';
COMMENT ON FUNCTION dts.claim(text, text[], text[], int, interval) IS
'Claims tasks for an agent: at most max, from queues that are granted to the caller (all of them, if not given), whose required labels are among labels. Each is the agent''s for lease, which dts.heartbeat renews; a lease that is over is a failed attempt. token proves the claim; idempotency_key is the same in all attempts. The claim is on disk when this returns from its own transaction. No row: there is nothing to do now, see dts.wait_for_work.';

CREATE FUNCTION dts.heartbeat(agent text, tokens uuid[] DEFAULT NULL) RETURNS TABLE (token uuid, task bigint, state text, lease_until timestamptz)
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dts_heartbeat';
COMMENT ON FUNCTION dts.heartbeat(text, uuid[]) IS
'Renews leases, each for its period from now, but not beyond the timeout of the attempt. state: held; cancelled or lost: drop the work; busy: not renewed now, ask again. Without tokens it only says that the agent is there.';

CREATE FUNCTION dts.complete(task bigint, token uuid, result jsonb DEFAULT NULL) RETURNS text
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dts_complete';
COMMENT ON FUNCTION dts.complete(bigint, uuid, jsonb) IS
'Ends a claimed task as succeeded, with its result, in the caller''s transaction: what else that transaction does takes effect exactly once. Returns succeeded, also for a repeated call, or cancelled. SQLSTATE TQ010: the lease is over, nothing was changed; 55P03: somebody holds the task just now, call again.';

CREATE FUNCTION dts.fail(task bigint, token uuid, error text, exit_code int DEFAULT NULL, retry boolean DEFAULT NULL, delay interval DEFAULT NULL, fields jsonb DEFAULT NULL) RETURNS text
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dts_fail';
COMMENT ON FUNCTION dts.fail(bigint, uuid, text, int, boolean, interval, jsonb) IS
'Ends an attempt of a claimed task with an error (SQLSTATE TQ011 in its history). retry: whether another attempt is worth it; not given: as the task''s retry policy and its retry_exit_codes say. delay: until that, instead of the policy''s. Returns retry, failed (attempts are used up, or no retry) or cancelled. SQLSTATE TQ010: the lease is over, nothing was changed; 55P03: call again.';

CREATE PROCEDURE dts.wait_for_work(agent text, queues text[] DEFAULT NULL, labels text[] DEFAULT NULL, timeout interval DEFAULT '1 minute', INOUT ready boolean DEFAULT NULL)
    LANGUAGE c AS 'MODULE_PATHNAME', 'dts_wait_for_work';
COMMENT ON PROCEDURE dts.wait_for_work(text, text[], text[], interval, boolean) IS
'Waits until there may be something to claim (true), at most for timeout (false), without polling and without a snapshot. One statement of its own, not inside a transaction block; works through a pooler in transaction mode, which keeps a connection for it meanwhile.';

CREATE FUNCTION dts._waiting_agents() RETURNS TABLE (role oid, name text, since timestamptz)
    LANGUAGE c VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'dts_waiting_agents';
COMMENT ON FUNCTION dts._waiting_agents() IS 'Agents that are in dts.wait_for_work now.';

-- ---- log lines

CREATE FUNCTION dts._log(caller oid, task bigint, token uuid, chunk text, stream text, seq int) RETURNS boolean
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE l dts.lease; t dts.task; room int; most int := pg_size_bytes(current_setting('dts.max_log_size')); piece text := chunk; cut boolean;
BEGIN
    IF chunk IS NULL OR stream IS NULL THEN
        RAISE EXCEPTION 'argument "%" must not be null', CASE WHEN chunk IS NULL THEN 'chunk' ELSE 'stream' END USING ERRCODE = 'null_value_not_allowed', HINT = 'Give text.';
    ELSIF octet_length(stream) NOT BETWEEN 1 AND 63 THEN
        RAISE EXCEPTION 'argument "stream" must be 1 to 63 bytes long' USING ERRCODE = 'invalid_parameter_value', HINT = 'For example stdout or stderr.';
    ELSIF seq < 1 THEN
        RAISE EXCEPTION 'argument "seq" must be positive' USING ERRCODE = 'invalid_parameter_value', HINT = 'Number the chunks of an attempt from 1, or leave it out.';
    ELSIF octet_length(chunk) > 65536 THEN
        RAISE EXCEPTION 'argument "chunk" is too large' USING ERRCODE = 'program_limit_exceeded', DETAIL = format('It has %s bytes, at most 65536 are allowed.', octet_length(chunk)), HINT = 'Send it in pieces.';
    END IF;
    SELECT x.* INTO t FROM dts.task x WHERE x.id = _log.task AND x.state = 2 AND x.token = _log.token;
    SELECT x.* INTO l FROM dts.lease x WHERE x.token = t.token AND x.ended IS NULL AND dts._role_may(caller, x.role) FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the lease on task % is over', COALESCE(task::text, 'NULL') USING ERRCODE = 'TQ010', HINT = 'Drop the work and claim again; nothing was changed.';
    END IF;
    room := most - l.log_bytes;
    IF room <= 0 THEN
        RETURN false;
    END IF;
    cut := octet_length(chunk) > room;
    IF cut THEN  -- to characters that fit for sure, with a clear mark
        piece := left(chunk, room / 4) || E'\n(cut: dts.max_log_size is reached)\n';
    END IF;
    INSERT INTO dts.log_chunk AS c (task, attempt, seq, lane, stream, chunk) VALUES (t.id, t.attempt, COALESCE(_log.seq, l.log_seq + 1), t.lane, _log.stream, piece)
    ON CONFLICT DO NOTHING;
    IF FOUND THEN
        UPDATE dts.lease x SET log_bytes = CASE WHEN cut THEN most ELSE x.log_bytes + octet_length(chunk) END, log_seq = greatest(x.log_seq, COALESCE(_log.seq, x.log_seq + 1)) WHERE x.token = l.token;
    END IF;
    RETURN NOT cut;
END $$;
COMMENT ON FUNCTION dts._log(oid, bigint, uuid, text, text, int) IS 'dts.log, as the owner of the extension.';
CREATE FUNCTION dts.log(task bigint, token uuid, chunk text, stream text DEFAULT 'stdout', seq int DEFAULT NULL) RETURNS boolean
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dts_as_owner';
COMMENT ON FUNCTION dts.log(bigint, uuid, text, text, int) IS
'Keeps a piece of what a claimed task printed, at most 64 kB; the task''s owner reads it with dts.task_log. seq numbers the pieces of an attempt: one that is sent twice is kept once. Returns false once dts.max_log_size is reached: the rest is cut. SQLSTATE TQ010: the lease is over.';

CREATE VIEW dts.logs WITH (security_barrier) AS
SELECT c.task, c.attempt::int AS attempt, c.seq, c.stream, c.at, c.chunk
FROM dts.log_chunk c
JOIN dts.lane l ON l.id = c.lane
WHERE dts._caller_may(l.owner);
COMMENT ON VIEW dts.logs IS 'What agents logged, for the owners of the tasks.';

CREATE FUNCTION dts.task_log(task bigint) RETURNS TABLE (attempt int, seq int, stream text, at timestamptz, chunk text)
    LANGUAGE sql STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp AS $$
    SELECT x.attempt, x.seq, x.stream, x.at, x.chunk FROM dts.logs x WHERE x.task = $1 ORDER BY x.attempt, x.seq $$;
COMMENT ON FUNCTION dts.task_log(bigint) IS 'What agents logged while they ran a task of the caller, in order.';

-- ---- parents of a claimed task

CREATE FUNCTION dts._claimed_parents(caller oid, task bigint, token uuid) RETURNS jsonb
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE t dts.task;
BEGIN
    SELECT x.* INTO t FROM dts.task x JOIN dts.lease l ON l.token = x.token AND l.ended IS NULL AND dts._role_may(caller, l.role)
    WHERE x.id = _claimed_parents.task AND x.state = 2 AND x.token = _claimed_parents.token;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the lease on task % is over', COALESCE(task::text, 'NULL') USING ERRCODE = 'TQ010', HINT = 'Drop the work and claim again; nothing was changed.';
    END IF;
    RETURN (SELECT COALESCE(jsonb_agg(jsonb_build_object('task', p.id, 'state', dts._state_name(r.outcome), 'result', r.result::jsonb) ORDER BY p.id), '[]')
            FROM dts._parents(t.id) p(id)
            LEFT JOIN LATERAL (SELECT x.outcome, x.result FROM dts.run x WHERE x.task = p.id AND x.outcome <> 20 ORDER BY x.ended_at DESC LIMIT 1) r ON true);
END $$;
COMMENT ON FUNCTION dts._claimed_parents(oid, bigint, uuid) IS 'dts.claimed_parents, as the owner of the extension.';
CREATE FUNCTION dts.claimed_parents(task bigint, token uuid) RETURNS jsonb
    LANGUAGE c STABLE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dts_as_owner';
COMMENT ON FUNCTION dts.claimed_parents(bigint, uuid) IS 'For the agent that has it in hand: the tasks that a task depends on, how they ended and what they returned, as an array of objects with task, state and result.';

-- ---- rights

CREATE FUNCTION dts._agent_functions() RETURNS text[] LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
    AS $$ SELECT ARRAY['claim', 'heartbeat', 'complete', 'fail', 'log', 'wait_for_work', 'claimed_parents'] $$;
COMMENT ON FUNCTION dts._agent_functions() IS 'What dts.grant_agent grants.';

CREATE FUNCTION dts._queue_ids(queues text[]) RETURNS int[]
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE x text; q dts.queue; result int[] := '{}';
BEGIN
    FOREACH x IN ARRAY queues LOOP
        q := dts._queue_row(x);
        result := result || q.id;
    END LOOP;
    RETURN result;
END $$;
COMMENT ON FUNCTION dts._queue_ids(text[]) IS 'Ids of queues; 42704 if one does not exist.';

CREATE FUNCTION dts.grant_agent(role text, queues text[]) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE ids int[];
BEGIN
    IF queues IS NULL OR queues = '{}' THEN
        RAISE EXCEPTION 'argument "queues" must name a queue' USING ERRCODE = 'invalid_parameter_value', HINT = 'Give the queues that it may claim from: ARRAY[''default''].';
    END IF;
    ids := dts._queue_ids(queues);
    PERFORM dts._grant(role, dts._agent_functions(), '{}');
    INSERT INTO dts.agent_grant (role, queue, granted_by) SELECT r.oid, i, current_user::regrole FROM pg_roles r, unnest(ids) i WHERE r.rolname = grant_agent.role ON CONFLICT DO NOTHING;
    PERFORM dts._audit((SELECT r.oid FROM pg_roles r WHERE r.rolname = current_user), 'grant_agent', role, NULL, to_jsonb(queues));
END $$;
COMMENT ON FUNCTION dts.grant_agent(text, text[]) IS 'Lets a role, and its members, claim tasks of these queues as an agent: it sees what they are to do, whoever owns them. For superusers and the owner of the extension.';
CREATE FUNCTION dts.revoke_agent(role text, queues text[] DEFAULT NULL) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE ids int[] := CASE WHEN queues IS NOT NULL THEN dts._queue_ids(queues) END;
BEGIN
    IF role IS NULL THEN
        RAISE EXCEPTION 'argument "role" must not be null' USING ERRCODE = 'null_value_not_allowed', HINT = 'Give the name of a role.';
    ELSIF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role) THEN
        RAISE EXCEPTION 'role "%" does not exist', role USING ERRCODE = 'undefined_object', HINT = 'Role names are case-sensitive here.';
    END IF;
    DELETE FROM dts.agent_grant g USING pg_roles r WHERE r.rolname = revoke_agent.role AND g.role = r.oid AND (ids IS NULL OR g.queue = ANY (ids));
    PERFORM dts._audit((SELECT r.oid FROM pg_roles r WHERE r.rolname = current_user), 'revoke_agent', role, to_jsonb(queues), NULL);
END $$;
COMMENT ON FUNCTION dts.revoke_agent(text, text[]) IS 'Takes the right to claim from these queues, or from all, from a role. What it has in hand it may still end. For superusers and the owner of the extension.';

-- ---- views

CREATE VIEW dts.agents WITH (security_barrier) AS
SELECT a.name, dts._role_name(a.role) AS role, a.since, greatest(a.seen_at, w.since) AS seen_at,
       CASE WHEN w.name IS NOT NULL THEN 'waiting' WHEN h.tasks IS NOT NULL THEN 'working' WHEN a.seen_at > pg_catalog.clock_timestamp() - '1 minute'::interval THEN 'idle' ELSE 'gone' END AS state,
       ARRAY(SELECT q.name FROM dts.queue q WHERE q.id = ANY (a.queues) ORDER BY q.name) AS queues, a.labels,
       COALESCE(h.tasks, '{}') AS tasks, h.oldest AS working_since, h.until AS next_lease_end
FROM dts.agent a
LEFT JOIN dts._waiting_agents() w ON (w.role, w.name) = (a.role::oid, a.name)
LEFT JOIN LATERAL (SELECT pg_catalog.array_agg(l.task ORDER BY l.started_at, l.task) AS tasks, pg_catalog.min(l.started_at) AS oldest, pg_catalog.min(l.until) AS until
                   FROM dts.lease l WHERE l.ended IS NULL AND (l.role, l.agent) = (a.role, a.name)) h ON true
WHERE dts._caller_sees(a.role);
COMMENT ON VIEW dts.agents IS 'Programs outside the server that claim tasks: who, since when, last seen, what they take, which tasks they have in hand. gone: not seen for a minute.';

CREATE VIEW dts.agent_queues WITH (security_barrier) AS
SELECT dts._role_name(g.role) AS role, q.name AS queue, dts._role_name(g.granted_by) AS granted_by, g.granted_at
FROM dts.agent_grant g JOIN dts.queue q ON q.id = g.queue AND q.dropped_at IS NULL
WHERE dts._caller_sees(g.role);
COMMENT ON VIEW dts.agent_queues IS 'Which roles may claim tasks from which queues (dts.grant_agent).';

CREATE FUNCTION dts._explain_agents(t dts.task, l dts.lane, q dts.queue) RETURNS text
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN f.n = 0 THEN format('no agent for queue "%s"%s was seen in the last five minutes', q.name, CASE WHEN l.requires <> '' THEN format(' with labels %s', l.requires) ELSE '' END)
                WHEN f.waiting > 0 THEN format('ready; agent "%s" is about to claim it', f.who)
                ELSE format('ready; %s agent(s) take from queue "%s", and none is waiting: the last one seen is "%s", %s ago, with %s task(s) in hand',
                            f.n, q.name, f.who, dts._seconds(clock_timestamp() - f.seen_at), (SELECT count(*) FROM dts.lease x WHERE x.ended IS NULL AND x.agent = f.who)) END
    FROM (SELECT count(*) AS n, count(w.name) AS waiting, (array_agg(a.name ORDER BY w.name IS NULL, a.seen_at DESC))[1] AS who, max(a.seen_at) AS seen_at
          FROM dts.agent a LEFT JOIN dts._waiting_agents() w ON (w.role, w.name) = (a.role::oid, a.name)
          WHERE q.id = ANY (a.queues) AND string_to_array(l.requires, ',') <@ a.labels AND (w.name IS NOT NULL OR a.seen_at > clock_timestamp() - '5 minutes'::interval)) f $$;
COMMENT ON FUNCTION dts._explain_agents(dts.task, dts.lane, dts.queue) IS 'Who could claim a task of agents, in words.';
