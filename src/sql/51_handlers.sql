-- Handlers: create, alter, drop. A handler belongs to a role; members of that role may use and change it, everybody may use a shared one.

CREATE FUNCTION dts._handler_row(caller oid, name text) RETURNS dts.handler
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE h dts.handler;
BEGIN
    IF name IS NULL THEN
        RAISE EXCEPTION 'handler name must not be null' USING ERRCODE = 'null_value_not_allowed', HINT = 'The view dts.handlers shows those there are.';
    END IF;
    SELECT * INTO h FROM dts.handler x WHERE x.name = _handler_row.name AND x.dropped_at IS NULL;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'handler "%" does not exist', name
            USING ERRCODE = 'undefined_object', HINT = 'Create it with dts.create_handler, or see dts.handlers.';
    ELSIF NOT dts._role_may(caller, h.owner) THEN
        RAISE EXCEPTION 'permission denied for handler "%"', name
            USING ERRCODE = 'insufficient_privilege', DETAIL = 'Only members of its owner''s role and administrators may change it.',
            HINT = 'Ask its owner, or create a handler of your own under another name.';
    END IF;
    RETURN h;
END $$;
COMMENT ON FUNCTION dts._handler_row(oid, text) IS 'The handler of this name if the caller may change it; 42704 or 42501 else.';

CREATE FUNCTION dts._role_may(role oid, owner oid) RETURNS boolean
    LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'dts_role_may';
COMMENT ON FUNCTION dts._role_may(oid, oid) IS 'Whether a role may see and steer what belongs to an owner: a member of it, or an administrator.';

CREATE FUNCTION dts._check_handler(caller oid, sql text, queue text, priority int, max_attempts int, retry jsonb, timeout interval, expires interval, transactional boolean) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM dts._check_queue(NULL, NULL, NULL, priority, max_attempts, retry, timeout, expires);
    IF queue IS NOT NULL THEN PERFORM dts._queue_row(queue); END IF;
    IF sql IS NOT NULL THEN PERFORM dts._check_sql(sql, transactional, 1); END IF;
END $$;
COMMENT ON FUNCTION dts._check_handler(oid, text, text, int, int, jsonb, interval, interval, boolean) IS 'Refuses bad settings of a handler.';

CREATE FUNCTION dts._create_handler(caller oid, name text, sql text, queue text, priority int, max_attempts int, retry jsonb,
    timeout interval, expires interval, transactional boolean, capture boolean, shared boolean, description text, kind text, requires text[]) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE h dts.handler;
BEGIN
    PERFORM dts._check_name('handler', name);
    IF COALESCE(kind, 'sql') NOT IN ('sql', 'external') THEN
        RAISE EXCEPTION 'invalid value for argument "kind": "%"', kind USING ERRCODE = 'invalid_parameter_value', HINT = 'Use sql, or external for work that agents do.';
    ELSIF sql IS NULL AND COALESCE(kind, 'sql') = 'sql' THEN
        RAISE EXCEPTION 'argument "sql" must not be null' USING ERRCODE = 'null_value_not_allowed', HINT = 'Give the statement to run; $1 is the payload.';
    ELSIF kind = 'external' AND (sql IS NOT NULL OR transactional) THEN
        RAISE EXCEPTION 'argument "%" does not go with kind external', CASE WHEN sql IS NOT NULL THEN 'sql' ELSE 'transactional' END USING ERRCODE = 'invalid_parameter_value',
            HINT = 'What is to be done is known to the agents; they get the payload.';
    ELSIF COALESCE(kind, 'sql') = 'sql' AND requires <> '{}' THEN
        RAISE EXCEPTION 'argument "requires" needs kind external' USING ERRCODE = 'invalid_parameter_value', HINT = 'Labels are asked of agents.';
    END IF;
    PERFORM dts._check_handler(caller, sql, queue, priority, max_attempts, retry, timeout, expires, COALESCE(transactional, true));
    IF shared AND NOT dts._role_may(caller, 10::oid) THEN
        RAISE EXCEPTION 'permission denied to share a handler' USING ERRCODE = 'insufficient_privilege',
            DETAIL = 'A shared handler runs with the rights of whoever submits it.', HINT = 'Ask an administrator of dts.';
    END IF;
    PERFORM dts._check_number(caller, 'handler');
    BEGIN
        INSERT INTO dts.handler (name, owner, kind, requires, sql, queue, priority, max_attempts, retry, timeout, expires, transactional, capture, shared, description)
        VALUES (_create_handler.name, caller, COALESCE(_create_handler.kind, 'sql'), dts._check_labels(_create_handler.requires), _create_handler.sql, _create_handler.queue, _create_handler.priority, _create_handler.max_attempts, _create_handler.retry,
                _create_handler.timeout, _create_handler.expires, COALESCE(_create_handler.transactional, _create_handler.kind IS DISTINCT FROM 'external'), COALESCE(_create_handler.capture, true),
                COALESCE(_create_handler.shared, false), _create_handler.description)
        RETURNING * INTO h;
    EXCEPTION WHEN unique_violation THEN
        RAISE EXCEPTION 'handler "%" already exists', name USING ERRCODE = 'duplicate_object', HINT = 'Change it with dts.alter_handler.';
    END;
    PERFORM dts._audit(caller, 'create_handler', name, NULL, to_jsonb(h)), dts._changed('handler', h.id);
END $$;
COMMENT ON FUNCTION dts._create_handler(oid, text, text, text, int, int, jsonb, interval, interval, boolean, boolean, boolean, text, text, text[]) IS 'dts.create_handler, as the owner of the extension.';

CREATE FUNCTION dts._alter_handler(caller oid, name text, sql text, queue text, priority int, max_attempts int, retry jsonb,
    timeout interval, expires interval, transactional boolean, capture boolean, shared boolean, description text, reset text[]) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE old dts.handler := dts._handler_row(caller, name); new dts.handler;
BEGIN
    IF old.kind <> 'sql' AND (sql IS NOT NULL OR transactional) THEN
        RAISE EXCEPTION 'argument "%" does not go with kind %', CASE WHEN sql IS NOT NULL THEN 'sql' ELSE 'transactional' END, old.kind USING ERRCODE = 'invalid_parameter_value',
            HINT = 'Only handlers of kind sql have it.';
    END IF;
    PERFORM dts._check_handler(caller, COALESCE(sql, old.sql), queue, priority, max_attempts, retry, timeout, expires, COALESCE(transactional, old.transactional));
    -- A shared handler stays in the hands of administrators: its text runs with the rights of those who submit it.
    IF (shared OR old.shared) AND NOT dts._role_may(caller, 10::oid) THEN
        RAISE EXCEPTION 'permission denied to change shared handler "%"', name USING ERRCODE = 'insufficient_privilege', HINT = 'Ask an administrator of dts.';
    END IF;
    PERFORM dts._check_reset(reset);
    UPDATE dts.handler h SET
        retry = CASE WHEN 'retry' = ANY (reset) THEN NULL ELSE h.retry END, timeout = CASE WHEN 'timeout' = ANY (reset) THEN NULL ELSE h.timeout END,
        expires = CASE WHEN 'expires' = ANY (reset) THEN NULL ELSE h.expires END, description = CASE WHEN 'description' = ANY (reset) THEN NULL ELSE h.description END
    WHERE h.id = old.id;
    UPDATE dts.handler h SET
        sql = COALESCE(_alter_handler.sql, h.sql), queue = COALESCE(_alter_handler.queue, h.queue), priority = COALESCE(_alter_handler.priority, h.priority),
        max_attempts = COALESCE(_alter_handler.max_attempts, h.max_attempts), retry = COALESCE(_alter_handler.retry, h.retry),
        timeout = COALESCE(_alter_handler.timeout, h.timeout), expires = COALESCE(_alter_handler.expires, h.expires),
        transactional = COALESCE(_alter_handler.transactional, h.transactional), capture = COALESCE(_alter_handler.capture, h.capture),
        shared = COALESCE(_alter_handler.shared, h.shared), description = COALESCE(_alter_handler.description, h.description)
    WHERE h.id = old.id RETURNING * INTO new;
    PERFORM dts._audit(caller, 'alter_handler', name, to_jsonb(old), to_jsonb(new)), dts._changed('handler', old.id);
END $$;
COMMENT ON FUNCTION dts._alter_handler(oid, text, text, text, int, int, jsonb, interval, interval, boolean, boolean, boolean, text, text[]) IS 'dts.alter_handler, as the owner of the extension.';

CREATE FUNCTION dts._drop_handler(caller oid, name text) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE old dts.handler := dts._handler_row(caller, name);
BEGIN
    IF EXISTS (SELECT FROM dts.task t WHERE t.handler = old.id) THEN
        RAISE EXCEPTION 'cannot drop handler "%" because unfinished tasks use it', name
            USING ERRCODE = 'dependent_objects_still_exist', HINT = 'Cancel them or wait until they have ended.';
    END IF;
    -- The row stays under another name: history and dead letters refer to it.
    UPDATE dts.handler h SET name = format('%s (dropped %s)', left(old.name, 40), h.id), dropped_at = clock_timestamp() WHERE h.id = old.id;
    PERFORM dts._forget_limit('handler', old.id);
    PERFORM dts._audit(caller, 'drop_handler', name, to_jsonb(old), NULL), dts._changed('handler', old.id);
END $$;
COMMENT ON FUNCTION dts._drop_handler(oid, text) IS 'dts.drop_handler, as the owner of the extension.';

CREATE FUNCTION dts.create_handler(name text, sql text DEFAULT NULL, queue text DEFAULT NULL, priority int DEFAULT NULL, max_attempts int DEFAULT NULL, retry jsonb DEFAULT NULL,
    timeout interval DEFAULT NULL, expires interval DEFAULT NULL, transactional boolean DEFAULT NULL, capture boolean DEFAULT NULL,
    shared boolean DEFAULT NULL, description text DEFAULT NULL, kind text DEFAULT NULL, requires text[] DEFAULT NULL) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dts_as_owner';
COMMENT ON FUNCTION dts.create_handler(text, text, text, int, int, jsonb, interval, interval, boolean, boolean, boolean, text, text, text[]) IS
'Creates a handler: a named task definition. Its SQL gets the payload as $1 (jsonb). The other arguments are defaults of its tasks. shared (administrators only): every role may submit it. kind: sql, or external for work that agents do with the payload; requires: labels that such an agent must offer.';
CREATE FUNCTION dts.alter_handler(name text, sql text DEFAULT NULL, queue text DEFAULT NULL, priority int DEFAULT NULL, max_attempts int DEFAULT NULL, retry jsonb DEFAULT NULL,
    timeout interval DEFAULT NULL, expires interval DEFAULT NULL, transactional boolean DEFAULT NULL, capture boolean DEFAULT NULL,
    shared boolean DEFAULT NULL, description text DEFAULT NULL, reset text[] DEFAULT NULL) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dts_as_owner';
COMMENT ON FUNCTION dts.alter_handler(text, text, text, int, int, jsonb, interval, interval, boolean, boolean, boolean, text, text[]) IS
'Changes a handler; what is left out or NULL stays, what reset names (retry, timeout, expires, description) is taken away. Waiting tasks run with the new SQL.';
CREATE FUNCTION dts.drop_handler(name text) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dts_as_owner';
COMMENT ON FUNCTION dts.drop_handler(text) IS 'Drops a handler that no unfinished task uses.';
