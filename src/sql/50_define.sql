-- Definitions. The public functions are one C trampoline (src/sql_define.cpp): it passes the caller's role as first argument to the
-- private function of the same name with a leading underscore and runs that as the owner of the extension.
-- The private functions hold constant statements only and are granted to nobody.

CREATE FUNCTION dts._changed(kind text, id int) RETURNS void
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dts_definition_changed';
COMMENT ON FUNCTION dts._changed(text, int) IS 'Tells the running processes, when this transaction commits, that a queue or handler has changed.';

CREATE FUNCTION dts._site_changed() RETURNS trigger
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dts_site_changed';
COMMENT ON FUNCTION dts._site_changed() IS 'Makes the scheduler look at once whether this database may run here: a restore has just written where it came from.';
CREATE TRIGGER site_changed AFTER INSERT OR UPDATE OR DELETE ON dts.site FOR EACH ROW EXECUTE FUNCTION dts._site_changed();
ALTER TABLE dts.site ENABLE ALWAYS TRIGGER site_changed;

CREATE FUNCTION dts._check_retry(retry jsonb) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dts_check_retry';
COMMENT ON FUNCTION dts._check_retry(jsonb) IS 'Refuses a malformed retry policy.';

CREATE FUNCTION dts._check_sql(sql text, transactional boolean, max_params int) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dts_check_sql';
COMMENT ON FUNCTION dts._check_sql(text, boolean, int) IS 'Refuses SQL that cannot be parsed or cannot be run as a task.';

CREATE FUNCTION dts._check_interval(name text, value interval) RETURNS void
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF value IS NOT NULL AND (value <= '0'::interval OR value > '100 years'::interval) THEN
        RAISE EXCEPTION 'argument "%" must be a positive interval', name
            USING ERRCODE = 'invalid_parameter_value', DETAIL = format('Got %s.', value),
                  HINT = 'Give an interval between 1 millisecond and 100 years.';
    END IF;
END $$;
COMMENT ON FUNCTION dts._check_interval(text, interval) IS 'Refuses an interval that is not positive.';

CREATE FUNCTION dts._check_name(what text, value text) RETURNS void
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF value IS NULL THEN
        RAISE EXCEPTION '% name must not be null', what USING ERRCODE = 'null_value_not_allowed', HINT = 'Names are text of 1 to 63 bytes.';
    ELSIF octet_length(value) > 63 THEN
        RAISE EXCEPTION '% name is too long', what
            USING ERRCODE = 'name_too_long', DETAIL = format('It has %s bytes, at most 63 are allowed.', octet_length(value)),
            HINT = 'Choose a shorter name, and say more in the description.';
    ELSIF value = '' OR value <> btrim(value) OR value ~ '[[:cntrl:]]' THEN
        RAISE EXCEPTION 'invalid % name "%"', what, value
            USING ERRCODE = 'invalid_parameter_value', HINT = 'A name must not be empty, begin or end with a blank, or hold control characters.';
    END IF;
END $$;
COMMENT ON FUNCTION dts._check_name(text, text) IS 'Refuses a name that is empty, too long, padded or holds control characters.';

CREATE FUNCTION dts._check_number(owner oid, what text) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE n bigint; most int := current_setting('dts.max_definitions')::int;
BEGIN
    IF most = 2147483647 OR (SELECT r.rolsuper FROM pg_roles r WHERE r.oid = owner) THEN
        RETURN;
    END IF;
    EXECUTE format('SELECT count(*) FROM (SELECT FROM dts.%I x WHERE x.owner::oid = $1%s LIMIT $2) y', what, CASE WHEN what IN ('handler', 'workflow') THEN ' AND x.dropped_at IS NULL' ELSE '' END) INTO n USING owner, most;
    IF n >= most THEN
        RAISE EXCEPTION 'role "%" has too many definitions: %', dts._role_name(owner), n USING ERRCODE = 'program_limit_exceeded', DETAIL = format('Of each kind, here %s, a role may have %s.', what, most),
            HINT = 'Drop what is not needed, or let a superuser raise dts.max_definitions for this role.';
    END IF;
END $$;
COMMENT ON FUNCTION dts._check_number(oid, text) IS 'Refuses one more definition for a role that has dts.max_definitions of this kind.';

CREATE FUNCTION dts._audit(caller oid, action text, object text, before jsonb, after jsonb) RETURNS void
    LANGUAGE sql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
    AS $$ INSERT INTO dts.audit_entry (who, action, object, before, after) VALUES ($1, $2, $3, $4, $5) $$;
COMMENT ON FUNCTION dts._audit(oid, text, text, jsonb, jsonb) IS 'Writes one entry of the audit log.';

CREATE FUNCTION dts._queue_row(name text) RETURNS dts.queue
    LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE q dts.queue;
BEGIN
    IF name IS NULL THEN
        RAISE EXCEPTION 'queue name must not be null' USING ERRCODE = 'null_value_not_allowed', HINT = 'The view dts.queues shows those there are.';
    END IF;
    SELECT * INTO q FROM dts.queue x WHERE x.name = _queue_row.name AND x.dropped_at IS NULL;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'queue "%" does not exist', name
            USING ERRCODE = 'undefined_object', HINT = 'Create it with dts.create_queue, or see dts.queues.';
    END IF;
    RETURN q;
END $$;
COMMENT ON FUNCTION dts._queue_row(text) IS 'The queue of this name; 42704 if there is none.';

CREATE FUNCTION dts._create_queue(caller oid, name text, paused boolean, batch_size int, durable boolean, history text, retention interval,
    priority int, max_attempts int, retry jsonb, timeout interval, expires interval, description text) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE q dts.queue;
BEGIN
    PERFORM dts._check_name('queue', name);
    PERFORM dts._check_queue(batch_size, history, retention, priority, max_attempts, retry, timeout, expires);
    BEGIN
        INSERT INTO dts.queue (name, paused, batch_size, durable, history, retention, priority, max_attempts, retry, timeout, expires, description)
        VALUES (_create_queue.name, COALESCE(_create_queue.paused, false), COALESCE(_create_queue.batch_size, 1), COALESCE(_create_queue.durable, false),
                COALESCE(_create_queue.history, 'all'), COALESCE(_create_queue.retention, '30 days'::interval), COALESCE(_create_queue.priority, 5),
                COALESCE(_create_queue.max_attempts, 5), _create_queue.retry, _create_queue.timeout, _create_queue.expires, _create_queue.description)
        RETURNING * INTO q;
    EXCEPTION WHEN unique_violation THEN
        RAISE EXCEPTION 'queue "%" already exists', name USING ERRCODE = 'duplicate_object', HINT = 'Change it with dts.alter_queue.';
    END;
    PERFORM dts._audit(caller, 'create_queue', name, NULL, to_jsonb(q));
    PERFORM dts._changed('queue', q.id);
END $$;
COMMENT ON FUNCTION dts._create_queue(oid, text, boolean, int, boolean, text, interval, int, int, jsonb, interval, interval, text) IS 'dts.create_queue, as the owner of the extension.';

CREATE FUNCTION dts._check_queue(batch_size int, history text, retention interval, priority int, max_attempts int, retry jsonb, timeout interval, expires interval) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF batch_size NOT BETWEEN 1 AND 60 THEN
        RAISE EXCEPTION 'argument "batch_size" must be between 1 and 60' USING ERRCODE = 'invalid_parameter_value', DETAIL = format('Got %s.', batch_size),
            HINT = 'It is the number of short tasks that may share a transaction; 1 gives each its own.';
    ELSIF history NOT IN ('all', 'failures', 'none') THEN
        RAISE EXCEPTION 'invalid value for argument "history": "%"', history USING ERRCODE = 'invalid_parameter_value', HINT = 'Use all, failures or none.';
    ELSIF priority NOT BETWEEN 0 AND 9 THEN
        RAISE EXCEPTION 'argument "priority" must be between 0 and 9' USING ERRCODE = 'invalid_parameter_value', DETAIL = format('Got %s.', priority),
            HINT = 'Higher goes first; 5 is the default.';
    ELSIF max_attempts NOT BETWEEN 1 AND 1000 THEN
        RAISE EXCEPTION 'argument "max_attempts" must be between 1 and 1000' USING ERRCODE = 'invalid_parameter_value', DETAIL = format('Got %s.', max_attempts),
            HINT = '1 means that nothing is tried again.';
    END IF;
    PERFORM dts._check_interval('retention', retention), dts._check_interval('timeout', timeout), dts._check_interval('expires', expires);
    IF timeout > '20 days'::interval THEN
        RAISE EXCEPTION 'argument "timeout" must be at most 20 days' USING ERRCODE = 'invalid_parameter_value', DETAIL = format('Got %s.', timeout),
            HINT = 'Leave it out for no limit.';
    END IF;
    PERFORM dts._check_retry(retry);
END $$;
COMMENT ON FUNCTION dts._check_queue(int, text, interval, int, int, jsonb, interval, interval) IS 'Refuses bad settings of a queue.';

CREATE FUNCTION dts._check_reset(reset text[]) RETURNS void
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE x text;
BEGIN
    FOREACH x IN ARRAY COALESCE(reset, '{}') LOOP
        IF x IS NULL OR x NOT IN ('retry', 'timeout', 'expires', 'description') THEN
            RAISE EXCEPTION 'invalid value in argument "reset": "%"', x USING ERRCODE = 'invalid_parameter_value', HINT = 'Use retry, timeout, expires or description.';
        END IF;
    END LOOP;
END $$;
COMMENT ON FUNCTION dts._check_reset(text[]) IS 'Refuses names of settings that cannot be reset.';

CREATE FUNCTION dts._alter_queue(caller oid, name text, paused boolean, batch_size int, durable boolean, history text, retention interval,
    priority int, max_attempts int, retry jsonb, timeout interval, expires interval, description text, reset text[]) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE old dts.queue := dts._queue_row(name); new dts.queue;
BEGIN
    PERFORM dts._check_queue(batch_size, history, retention, priority, max_attempts, retry, timeout, expires);
    PERFORM dts._check_reset(reset);
    UPDATE dts.queue q SET
        retry = CASE WHEN 'retry' = ANY (reset) THEN NULL ELSE q.retry END, timeout = CASE WHEN 'timeout' = ANY (reset) THEN NULL ELSE q.timeout END,
        expires = CASE WHEN 'expires' = ANY (reset) THEN NULL ELSE q.expires END, description = CASE WHEN 'description' = ANY (reset) THEN NULL ELSE q.description END
    WHERE q.id = old.id;
    UPDATE dts.queue q SET
        paused = COALESCE(_alter_queue.paused, q.paused), batch_size = COALESCE(_alter_queue.batch_size, q.batch_size),
        durable = COALESCE(_alter_queue.durable, q.durable), history = COALESCE(_alter_queue.history, q.history),
        retention = COALESCE(_alter_queue.retention, q.retention), priority = COALESCE(_alter_queue.priority, q.priority),
        max_attempts = COALESCE(_alter_queue.max_attempts, q.max_attempts), retry = COALESCE(_alter_queue.retry, q.retry),
        timeout = COALESCE(_alter_queue.timeout, q.timeout), expires = COALESCE(_alter_queue.expires, q.expires),
        description = COALESCE(_alter_queue.description, q.description)
    WHERE q.id = old.id RETURNING * INTO new;
    PERFORM dts._audit(caller, 'alter_queue', name, to_jsonb(old), to_jsonb(new));
    PERFORM dts._changed('queue', old.id);
END $$;
COMMENT ON FUNCTION dts._alter_queue(oid, text, boolean, int, boolean, text, interval, int, int, jsonb, interval, interval, text, text[]) IS 'dts.alter_queue, as the owner of the extension.';

CREATE FUNCTION dts._drop_queue(caller oid, name text) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE old dts.queue := dts._queue_row(name);
BEGIN
    IF old.name = 'default' THEN
        RAISE EXCEPTION 'queue "default" cannot be dropped' USING ERRCODE = 'object_not_in_prerequisite_state',
            HINT = 'Pause it if nothing is to run there.';
    ELSIF EXISTS (SELECT FROM dts.task t JOIN dts.lane l ON l.id = t.lane WHERE l.queue = old.id) THEN
        RAISE EXCEPTION 'cannot drop queue "%" because it holds tasks', name
            USING ERRCODE = 'dependent_objects_still_exist', HINT = 'Cancel its tasks or wait until they have ended; dts.pause keeps new ones from starting.';
    END IF;
    -- The row stays under another name: a task whose submit has not committed yet may still refer to it, and history does.
    UPDATE dts.queue q SET name = format('%s (dropped %s)', left(old.name, 40), q.id), dropped_at = clock_timestamp(), paused = false WHERE q.id = old.id;
    PERFORM dts._forget_limit('queue', old.id);
    PERFORM dts._audit(caller, 'drop_queue', name, to_jsonb(old), NULL);
    PERFORM dts._changed('queue', old.id);
END $$;
COMMENT ON FUNCTION dts._drop_queue(oid, text) IS 'dts.drop_queue, as the owner of the extension.';

CREATE FUNCTION dts.create_queue(name text, paused boolean DEFAULT NULL, batch_size int DEFAULT NULL, durable boolean DEFAULT NULL, history text DEFAULT NULL,
    retention interval DEFAULT NULL, priority int DEFAULT NULL, max_attempts int DEFAULT NULL, retry jsonb DEFAULT NULL,
    timeout interval DEFAULT NULL, expires interval DEFAULT NULL, description text DEFAULT NULL) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dts_as_owner';
COMMENT ON FUNCTION dts.create_queue(text, boolean, int, boolean, text, interval, int, int, jsonb, interval, interval, text) IS
'Creates a queue. batch_size (1-60): short tasks that may share one commit; durable: wait for the disk at each commit; history: all, failures or none; retention of history; priority, max_attempts, retry, timeout, expires: defaults of its tasks.';
CREATE FUNCTION dts.alter_queue(name text, paused boolean DEFAULT NULL, batch_size int DEFAULT NULL, durable boolean DEFAULT NULL, history text DEFAULT NULL,
    retention interval DEFAULT NULL, priority int DEFAULT NULL, max_attempts int DEFAULT NULL, retry jsonb DEFAULT NULL,
    timeout interval DEFAULT NULL, expires interval DEFAULT NULL, description text DEFAULT NULL, reset text[] DEFAULT NULL) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dts_as_owner';
COMMENT ON FUNCTION dts.alter_queue(text, boolean, int, boolean, text, interval, int, int, jsonb, interval, interval, text, text[]) IS
'Changes settings of a queue; what is left out or NULL stays, what reset names (retry, timeout, expires, description) is taken away. Takes effect at the next claim.';
CREATE FUNCTION dts.drop_queue(name text) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dts_as_owner';
COMMENT ON FUNCTION dts.drop_queue(text) IS 'Drops a queue that holds no unfinished task; its history stays.';
