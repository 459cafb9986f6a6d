-- Limits: how many tasks of a queue, handler, owner or tenant run at once, and how many start in a time; pausing them. One row for each
-- object that has any. What a queue alone has (its own pause, batches) is in dts.queue.

CREATE FUNCTION dts._limit_state() RETURNS TABLE (entry int, running int, is_full boolean, next_at timestamptz, unfinished bigint, bytes bigint)
    LANGUAGE c VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'dts_limit_state';
COMMENT ON FUNCTION dts._limit_state() IS 'Limits of this database in shared memory: places taken, whether none is free, and when the next task may start if its rate is used up.';

CREATE FUNCTION dts._payload_bytes(sql text, args jsonb) RETURNS bigint
    LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'dts_payload_bytes';
COMMENT ON FUNCTION dts._payload_bytes(text, jsonb) IS 'What a task counts in max_bytes: its text and arguments, uncompressed.';

CREATE FUNCTION dts._withheld(lane int) RETURNS boolean
    LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'dts_withheld';
COMMENT ON FUNCTION dts._withheld(int) IS 'Whether the workers that are free are reserved for others than this lane.';

CREATE FUNCTION dts._key_state(ckey bigint, OUT holder bigint, OUT held int) RETURNS record
    LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'dts_key_state';
COMMENT ON FUNCTION dts._key_state(bigint) IS 'The task that took a place of a concurrency key last, and how many are taken.';

CREATE FUNCTION dts._limit_name(e dts.limit_entry) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE $1.scope WHEN 'queue' THEN (SELECT q.name FROM dts.queue q WHERE q.id = $1.queue)
                         WHEN 'handler' THEN (SELECT h.name FROM dts.handler h WHERE h.id = $1.handler)
                         WHEN 'owner' THEN dts._role_name($1.owner) WHEN 'priority' THEN $1.priority::text ELSE $1.tenant END $$;
COMMENT ON FUNCTION dts._limit_name(dts.limit_entry) IS 'The name of what a limit is for.';

CREATE FUNCTION dts._limit_for(queue text, handler text, owner text, tenant text, priority int DEFAULT NULL) RETURNS dts.limit_entry
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE e dts.limit_entry;
BEGIN
    IF num_nonnulls(queue, handler, owner, tenant, priority) <> 1 THEN
        RAISE EXCEPTION 'exactly one of "queue", "handler", "owner" and "tenant" must be given' USING ERRCODE = 'invalid_parameter_value',
            DETAIL = format('Got %s of them.', num_nonnulls(queue, handler, owner, tenant, priority)), HINT = 'Example: queue => ''mail''.';
    END IF;
    e.queue := 0; e.handler := 0; e.owner := 0::oid::regrole; e.tenant := ''; e.priority := 0;
    IF queue IS NOT NULL THEN
        e.scope := 'queue';
        e.queue := (dts._queue_row(queue)).id;
    ELSIF handler IS NOT NULL THEN
        e.scope := 'handler';
        SELECT h.id INTO e.handler FROM dts.handler h WHERE h.name = _limit_for.handler AND h.dropped_at IS NULL;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'handler "%" does not exist', handler USING ERRCODE = 'undefined_object', HINT = 'The view dts.handlers shows those there are.';
        END IF;
    ELSIF owner IS NOT NULL THEN
        e.scope := 'owner';
        SELECT r.oid INTO e.owner FROM pg_roles r WHERE r.rolname = _limit_for.owner;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'role "%" does not exist', owner USING ERRCODE = 'undefined_object', HINT = 'Role names are case-sensitive here.';
        END IF;
    ELSIF priority IS NOT NULL THEN
        e.scope := 'priority';
        IF priority NOT BETWEEN 0 AND 9 THEN
            RAISE EXCEPTION 'argument "priority" must be between 0 and 9' USING ERRCODE = 'invalid_parameter_value', DETAIL = format('Got %s.', priority), HINT = 'The limit is for tasks of this priority and above.';
        END IF;
        e.priority := priority;
    ELSE
        e.scope := 'tenant';
        IF tenant = '' OR octet_length(tenant) > 200 THEN
            RAISE EXCEPTION 'argument "tenant" must be 1 to 200 bytes long' USING ERRCODE = 'invalid_parameter_value', HINT = 'It is what tasks give as tenant.';
        END IF;
        e.tenant := tenant;
    END IF;
    RETURN e;
END $$;
COMMENT ON FUNCTION dts._limit_for(text, text, text, text, int) IS 'What a limit is for, from arguments of which one is given.';

CREATE FUNCTION dts._limit_row(queue text, handler text, owner text, tenant text, priority int DEFAULT NULL) RETURNS dts.limit_entry
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE e dts.limit_entry := dts._limit_for(queue, handler, owner, tenant, priority); found_row dts.limit_entry;
BEGIN
    INSERT INTO dts.limit_entry (scope, queue, handler, owner, tenant, priority) VALUES (e.scope, e.queue, e.handler, e.owner, e.tenant, e.priority) ON CONFLICT DO NOTHING;
    SELECT * INTO found_row FROM dts.limit_entry x
    WHERE (x.scope, x.queue, x.handler, x.owner, x.tenant, x.priority) = (e.scope, e.queue, e.handler, e.owner, e.tenant, e.priority) FOR UPDATE;
    RETURN found_row;
END $$;
COMMENT ON FUNCTION dts._limit_row(text, text, text, text, int) IS 'The row for a limit, made if there is none, and locked.';

CREATE FUNCTION dts._forget_limit(scope text, object int) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE e int;
BEGIN
    FOR e IN SELECT x.id FROM dts.limit_entry x WHERE x.scope = _forget_limit.scope AND CASE _forget_limit.scope WHEN 'queue' THEN x.queue ELSE x.handler END = object FOR UPDATE LOOP
        PERFORM dts._changed('limit', e);
        DELETE FROM dts.limit_entry x WHERE x.id = e;
    END LOOP;
END $$;
COMMENT ON FUNCTION dts._forget_limit(text, int) IS 'Takes the limit of a dropped queue or handler away, here and in shared memory.';

CREATE FUNCTION dts._set_limit(caller oid, queue text, handler text, owner text, tenant text, concurrency int, rate int, per interval, burst int, max_waiting bigint, weight int, key_concurrency int, key_fifo boolean, reset text[], priority int, reserved int, max_bytes bigint, retention interval) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE old dts.limit_entry; new dts.limit_entry; x text;
BEGIN
    IF concurrency < 0 THEN
        RAISE EXCEPTION 'argument "concurrency" must not be negative' USING ERRCODE = 'invalid_parameter_value', DETAIL = format('Got %s.', concurrency),
            HINT = 'Take a limit away with reset => ''{concurrency}''.';
    ELSIF rate NOT BETWEEN 1 AND 1000000 THEN
        RAISE EXCEPTION 'argument "rate" must be between 1 and 1000000' USING ERRCODE = 'invalid_parameter_value', DETAIL = format('Got %s.', rate),
            HINT = 'It counts tasks in each "per"; take a limit away with reset => ''{rate}''.';
    ELSIF per < '1 millisecond' OR per > '31 days' THEN
        RAISE EXCEPTION 'argument "per" must be between 1 millisecond and 31 days' USING ERRCODE = 'invalid_parameter_value', DETAIL = format('Got %s.', per),
            HINT = 'Example: rate => 10, per => ''1 second''.';
    ELSIF burst NOT BETWEEN 1 AND 1000000 THEN
        RAISE EXCEPTION 'argument "burst" must be between 1 and 1000000' USING ERRCODE = 'invalid_parameter_value', DETAIL = format('Got %s.', burst),
            HINT = 'So many tasks may start at once after a pause; without it no interval ever holds more than "rate".';
    ELSIF max_waiting < 0 THEN
        RAISE EXCEPTION 'argument "max_waiting" must not be negative' USING ERRCODE = 'invalid_parameter_value', DETAIL = format('Got %s.', max_waiting),
            HINT = 'Take the cap away with reset => ''{max_waiting}''.';
    ELSIF weight NOT BETWEEN 1 AND 1000 THEN
        RAISE EXCEPTION 'argument "weight" must be between 1 and 1000' USING ERRCODE = 'invalid_parameter_value', DETAIL = format('Got %s.', weight),
            HINT = '1 is the default; 2 gives twice the share.';
    ELSIF weight IS NOT NULL AND owner IS NULL AND tenant IS NULL THEN
        RAISE EXCEPTION 'argument "weight" is for owners and tenants' USING ERRCODE = 'invalid_parameter_value', HINT = 'It says how they share workers.';
    ELSIF reserved < 1 OR reserved >= current_setting('dts.max_workers')::int THEN
        RAISE EXCEPTION 'argument "reserved" must be between 1 and %', current_setting('dts.max_workers')::int - 1 USING ERRCODE = 'invalid_parameter_value', DETAIL = format('Got %s.', reserved),
            HINT = 'One worker at least is left to all others: raise dts.max_workers. Take it away with reset => ''{reserved}''.';
    ELSIF reserved IS NOT NULL AND queue IS NULL AND priority IS NULL THEN
        RAISE EXCEPTION 'argument "reserved" is for queues and priorities' USING ERRCODE = 'invalid_parameter_value', HINT = 'For owners and tenants there is "weight".';
    ELSIF max_bytes < 0 THEN
        RAISE EXCEPTION 'argument "max_bytes" must not be negative' USING ERRCODE = 'invalid_parameter_value', DETAIL = format('Got %s.', max_bytes),
            HINT = 'Take the cap away with reset => ''{max_bytes}''.';
    ELSIF retention IS NOT NULL AND owner IS NULL THEN
        RAISE EXCEPTION 'argument "retention" is for owners' USING ERRCODE = 'invalid_parameter_value', HINT = 'A queue has a retention of its own: dts.alter_queue.';
    ELSIF key_concurrency NOT BETWEEN 1 AND 10000 THEN
        RAISE EXCEPTION 'argument "key_concurrency" must be between 1 and 10000' USING ERRCODE = 'invalid_parameter_value', DETAIL = format('Got %s.', key_concurrency),
            HINT = 'So many tasks of one concurrency_key may run at once; 1 is the default.';
    ELSIF queue IS NULL AND num_nonnulls(key_concurrency, key_fifo) > 0 THEN
        RAISE EXCEPTION 'argument "%" is for queues', CASE WHEN key_fifo IS NULL THEN 'key_concurrency' ELSE 'key_fifo' END USING ERRCODE = 'invalid_parameter_value',
            HINT = 'A concurrency_key belongs to its queue.';
    END IF;
    PERFORM dts._check_interval('retention', retention);
    FOREACH x IN ARRAY COALESCE(reset, '{}') LOOP
        IF x IS NULL OR x NOT IN ('concurrency', 'rate', 'burst', 'max_waiting', 'weight', 'key_concurrency', 'reserved', 'max_bytes', 'retention') THEN
            RAISE EXCEPTION 'invalid value in argument "reset": "%"', x USING ERRCODE = 'invalid_parameter_value', HINT = 'Use concurrency, rate, burst, max_waiting, max_bytes, weight, reserved, retention or key_concurrency.';
        END IF;
    END LOOP;
    IF num_nonnulls(queue, handler, owner, tenant, priority) <> 1 THEN
        RAISE EXCEPTION 'exactly one of "queue", "handler", "owner", "tenant" and "priority" must be given' USING ERRCODE = 'invalid_parameter_value',
            DETAIL = format('Got %s of them.', num_nonnulls(queue, handler, owner, tenant, priority)), HINT = 'Example: queue => ''mail'', concurrency => 5.';
    END IF;
    old := dts._limit_row(queue, handler, owner, tenant, priority);
    new := old;
    IF 'concurrency' = ANY (reset) THEN new.concurrency := NULL; END IF;
    IF 'rate' = ANY (reset) THEN new.rate := NULL; new.per := '1 second'; new.burst := NULL; END IF;
    IF 'burst' = ANY (reset) THEN new.burst := NULL; END IF;
    IF 'max_waiting' = ANY (reset) THEN new.max_waiting := NULL; END IF;
    IF 'weight' = ANY (reset) THEN new.weight := NULL; END IF;
    IF 'key_concurrency' = ANY (reset) THEN new.key_concurrency := NULL; END IF;
    IF 'reserved' = ANY (reset) THEN new.reserved := NULL; END IF;
    IF 'max_bytes' = ANY (reset) THEN new.max_bytes := NULL; END IF;
    IF 'retention' = ANY (reset) THEN new.retention := NULL; END IF;
    new.reserved := COALESCE(_set_limit.reserved, new.reserved);
    new.max_bytes := COALESCE(_set_limit.max_bytes, new.max_bytes);
    new.retention := COALESCE(_set_limit.retention, new.retention);
    new.concurrency := COALESCE(_set_limit.concurrency, new.concurrency);
    new.rate := COALESCE(_set_limit.rate, new.rate);
    new.per := COALESCE(_set_limit.per, new.per);
    new.burst := COALESCE(_set_limit.burst, new.burst);
    new.max_waiting := COALESCE(_set_limit.max_waiting, new.max_waiting);
    new.weight := COALESCE(_set_limit.weight, new.weight);
    new.key_concurrency := COALESCE(_set_limit.key_concurrency, new.key_concurrency);
    new.key_fifo := COALESCE(_set_limit.key_fifo, new.key_fifo);
    IF new.key_fifo AND new.key_concurrency > 1 THEN
        RAISE EXCEPTION 'argument "key_fifo" allows one task of a key at a time' USING ERRCODE = 'invalid_parameter_value', DETAIL = format('"key_concurrency" is %s.', new.key_concurrency),
            HINT = 'Several at once have no order.';
    END IF;
    IF new.rate IS NULL AND (_set_limit.per IS NOT NULL OR _set_limit.burst IS NOT NULL) THEN
        RAISE EXCEPTION 'argument "%" needs "rate"', CASE WHEN burst IS NULL THEN 'per' ELSE 'burst' END USING ERRCODE = 'invalid_parameter_value',
            HINT = 'Example: rate => 10, per => ''1 second''.';
    ELSIF extract(epoch FROM new.per) / new.rate * COALESCE(new.burst, 1) > 31 * 86400 THEN
        RAISE EXCEPTION 'argument "burst" would take more than 31 days to fill' USING ERRCODE = 'invalid_parameter_value', HINT = 'Give a smaller burst, or a higher rate.';
    END IF;
    UPDATE dts.limit_entry e SET concurrency = new.concurrency, rate = new.rate, per = new.per, burst = new.burst, max_waiting = new.max_waiting, max_bytes = new.max_bytes, reserved = new.reserved, retention = new.retention, weight = new.weight, key_concurrency = new.key_concurrency, key_fifo = new.key_fifo, changed_at = clock_timestamp()
    WHERE e.id = old.id RETURNING * INTO new;
    PERFORM dts._audit(caller, 'set_limit', format('%s %s', new.scope, dts._limit_name(new)), to_jsonb(old), to_jsonb(new)), dts._changed('limit', old.id);
END $$;
COMMENT ON FUNCTION dts._set_limit(oid, text, text, text, text, int, int, interval, int, bigint, int, int, boolean, text[], int, int, bigint, interval) IS 'dts.set_limit, as the owner of the extension.';
CREATE FUNCTION dts.set_limit(queue text DEFAULT NULL, handler text DEFAULT NULL, owner text DEFAULT NULL, tenant text DEFAULT NULL, concurrency int DEFAULT NULL,
    rate int DEFAULT NULL, per interval DEFAULT NULL, burst int DEFAULT NULL, max_waiting bigint DEFAULT NULL, weight int DEFAULT NULL, key_concurrency int DEFAULT NULL, key_fifo boolean DEFAULT NULL, reset text[] DEFAULT NULL,
    priority int DEFAULT NULL, reserved int DEFAULT NULL, max_bytes bigint DEFAULT NULL, retention interval DEFAULT NULL) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dts_as_owner';
COMMENT ON FUNCTION dts.set_limit(text, text, text, text, int, int, interval, int, bigint, int, int, boolean, text[], int, int, bigint, interval) IS
'Limits a queue, a handler, an owner, a tenant, or the tasks of a priority and above (give one of the five). concurrency: so many tasks run at once; rate: so many start in each per (1 second); burst: so many may start at once after a pause, at the price of more than rate in one interval. max_waiting: a submit beyond so many unfinished tasks is refused with SQLSTATE TQ001; max_bytes: so does one beyond so many bytes of text and arguments of unfinished tasks. reserved: of dts.max_workers so many are kept free for this queue or priority, so that long tasks of others cannot take all. retention: the history of an owner is kept no longer. weight (1): the share of an owner or tenant in the workers. key_concurrency (1): so many tasks of one concurrency_key run at once; key_fifo: strictly in the order of submission, a failed one holds up the rest until it has ended. What is left out stays, what reset names (concurrency, rate, burst, max_waiting, max_bytes, weight, reserved, retention, key_concurrency) is taken away. Takes effect at the next claim.';

CREATE FUNCTION dts._set_paused(caller oid, wanted boolean, queue text, handler text, owner text, tenant text) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE e dts.limit_entry := dts._limit_for(queue, handler, owner, tenant); was boolean; changed text; id int;
BEGIN
    IF e.scope = 'queue' THEN
        SELECT q.paused INTO was FROM dts.queue q WHERE q.id = e.queue;
    ELSE
        e := dts._limit_row(queue, handler, owner, tenant);
        was := e.paused;
    END IF;
    IF was = wanted THEN
        RAISE NOTICE '% "%" is % paused', e.scope, dts._limit_name(e), CASE WHEN wanted THEN 'already' ELSE 'not' END;
        RETURN;
    END IF;
    IF e.scope = 'queue' THEN
        UPDATE dts.queue q SET paused = wanted WHERE q.id = e.queue;
        changed := 'queue'; id := e.queue;
    ELSE
        UPDATE dts.limit_entry x SET paused = wanted, changed_at = clock_timestamp() WHERE x.id = e.id;
        changed := 'limit'; id := e.id;
    END IF;
    PERFORM dts._audit(caller, CASE WHEN wanted THEN 'pause' ELSE 'resume' END,
                       CASE e.scope WHEN 'queue' THEN queue ELSE format('%s %s', e.scope, dts._limit_name(e)) END, NULL, NULL), dts._changed(changed, id);
END $$;
COMMENT ON FUNCTION dts._set_paused(oid, boolean, text, text, text, text) IS 'dts.pause and dts.resume.';

CREATE FUNCTION dts._pause(caller oid, queue text, handler text, owner text, tenant text) RETURNS void
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$ SELECT dts._set_paused($1, true, $2, $3, $4, $5) $$;
COMMENT ON FUNCTION dts._pause(oid, text, text, text, text) IS 'dts.pause, as the owner of the extension.';
CREATE FUNCTION dts._resume(caller oid, queue text, handler text, owner text, tenant text) RETURNS void
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$ SELECT dts._set_paused($1, false, $2, $3, $4, $5) $$;
COMMENT ON FUNCTION dts._resume(oid, text, text, text, text) IS 'dts.resume, as the owner of the extension.';
CREATE FUNCTION dts.pause(queue text DEFAULT NULL, handler text DEFAULT NULL, owner text DEFAULT NULL, tenant text DEFAULT NULL) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dts_as_owner';
COMMENT ON FUNCTION dts.pause(text, text, text, text) IS 'Pauses a queue, a handler, an owner or a tenant (give one of the four): no task of it is started; running ones go on.';
CREATE FUNCTION dts.resume(queue text DEFAULT NULL, handler text DEFAULT NULL, owner text DEFAULT NULL, tenant text DEFAULT NULL) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dts_as_owner';
COMMENT ON FUNCTION dts.resume(text, text, text, text) IS 'Resumes a paused queue, handler, owner or tenant.';

CREATE FUNCTION dts._places(scope int, object bigint, tenant text) RETURNS int
    LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'dts_places';
COMMENT ON FUNCTION dts._places(int, bigint, text) IS 'How many executors work for a queue, handler, owner or tenant, or are about to.';

CREATE FUNCTION dts._in_progress(caller oid, queue text, handler text, owner text, tenant text) RETURNS int
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE e dts.limit_entry := dts._limit_for(queue, handler, owner, tenant);
BEGIN
    RETURN dts._places(array_position('{queue,handler,owner,tenant}'::text[], e.scope) - 1, CASE e.scope WHEN 'queue' THEN e.queue WHEN 'handler' THEN e.handler ELSE e.owner::oid::bigint END, e.tenant);
END $$;
COMMENT ON FUNCTION dts._in_progress(oid, text, text, text, text) IS 'dts.in_progress, as the owner of the extension.';
CREATE FUNCTION dts.in_progress(queue text DEFAULT NULL, handler text DEFAULT NULL, owner text DEFAULT NULL, tenant text DEFAULT NULL) RETURNS int
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dts_as_owner';
COMMENT ON FUNCTION dts.in_progress(text, text, text, text) IS 'How many executors work for a queue, a handler, an owner or a tenant (give one of the four), or are about to. Once it is paused and this is 0, nothing of it runs.';
CREATE PROCEDURE dts.drain(queue text DEFAULT NULL, handler text DEFAULT NULL, owner text DEFAULT NULL, tenant text DEFAULT NULL, timeout interval DEFAULT NULL, INOUT running int DEFAULT NULL)
    LANGUAGE c AS 'MODULE_PATHNAME', 'dts_drain';
COMMENT ON PROCEDURE dts.drain(text, text, text, text, interval, int) IS 'Pauses a queue, a handler, an owner or a tenant (give one of the four) and waits, at most for timeout, until what runs of it has ended; gives how many executors still work for it. dts.resume lets it go on. Not inside a transaction block.';

CREATE VIEW dts.limits WITH (security_barrier) AS
SELECT e.scope, CASE e.scope WHEN 'queue' THEN q.name WHEN 'handler' THEN (SELECT h.name FROM dts.handler h WHERE h.id = e.handler)
       WHEN 'owner' THEN dts._role_name(e.owner) WHEN 'priority' THEN e.priority::text ELSE e.tenant END AS name, e.paused OR COALESCE(q.paused, false) AS paused, e.concurrency, COALESCE(s.running, 0) AS running,
       e.rate, CASE WHEN e.rate IS NOT NULL THEN e.per END AS per, e.burst, e.max_waiting, CASE WHEN e.max_waiting IS NOT NULL THEN s.unfinished END AS unfinished, e.max_bytes, CASE WHEN e.max_bytes IS NOT NULL THEN s.bytes END AS bytes, e.reserved, e.retention, COALESCE(e.weight, 1) AS weight, COALESCE(e.key_concurrency, 1) AS key_concurrency, e.key_fifo, s.next_at, e.changed_at
FROM dts.limit_entry e
LEFT JOIN dts._limit_state() s ON s.entry = e.id
LEFT JOIN dts.queue q ON q.id = e.queue AND e.scope = 'queue'
WHERE CASE e.scope WHEN 'owner' THEN dts._caller_sees(e.owner) WHEN 'tenant' THEN dts._caller_sees(10::oid) ELSE true END AND q.dropped_at IS NULL;
COMMENT ON VIEW dts.limits IS 'Limits of queues, handlers, owners, tenants and priorities: what is allowed, how many run, and when the next task may start if the rate is used up.';
