-- Handlers that send requests and mails, hosts as the couriers see them.

CREATE FUNCTION dts._check_request(kind text, request jsonb, role oid) RETURNS void
    LANGUAGE c STABLE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dts_check_request';
COMMENT ON FUNCTION dts._check_request(text, jsonb, oid) IS 'Refuses the template of a request that can never be sent.';

CREATE FUNCTION dts._create_request_handler(caller oid, name text, http jsonb, mail jsonb, queue text, priority int, max_attempts int, retry jsonb, timeout interval, expires interval, shared boolean, description text) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE h dts.handler; k text := CASE WHEN http IS NOT NULL THEN 'http' ELSE 'mail' END;
BEGIN
    PERFORM dts._check_name('handler', name);
    IF (http IS NULL) = (mail IS NULL) THEN
        RAISE EXCEPTION 'one of "http" and "mail" must be given' USING ERRCODE = 'invalid_parameter_value', HINT = 'Its keys are the arguments of dts.submit_http or dts.submit_mail.';
    END IF;
    PERFORM dts._check_request(k, COALESCE(http, mail), caller);
    PERFORM dts._check_queue(NULL, NULL, NULL, priority, max_attempts, retry, timeout, expires);
    IF queue IS NOT NULL THEN PERFORM dts._queue_row(queue); END IF;
    IF shared AND NOT dts._role_may(caller, 10::oid) THEN
        RAISE EXCEPTION 'permission denied to share a handler' USING ERRCODE = 'insufficient_privilege',
            DETAIL = 'A shared handler runs with the rights of whoever submits it.', HINT = 'Ask an administrator of dts.';
    END IF;
    PERFORM dts._check_number(caller, 'handler');
    BEGIN
        INSERT INTO dts.handler (name, owner, kind, spec, queue, priority, max_attempts, retry, timeout, expires, transactional, shared, description)
        VALUES (_create_request_handler.name, caller, k, COALESCE(http, mail), _create_request_handler.queue, _create_request_handler.priority, _create_request_handler.max_attempts,
                _create_request_handler.retry, _create_request_handler.timeout, _create_request_handler.expires, false, COALESCE(_create_request_handler.shared, false), _create_request_handler.description)
        RETURNING * INTO h;
    EXCEPTION WHEN unique_violation THEN
        RAISE EXCEPTION 'handler "%" already exists', name USING ERRCODE = 'duplicate_object', HINT = 'Change it with dts.alter_request_handler.';
    END;
    PERFORM dts._audit(caller, 'create_handler', name, NULL, to_jsonb(h)), dts._changed('handler', h.id);
END $$;
COMMENT ON FUNCTION dts._create_request_handler(oid, text, jsonb, jsonb, text, int, int, jsonb, interval, interval, boolean, text) IS 'dts.create_request_handler, as the owner of the extension.';

CREATE FUNCTION dts._alter_request_handler(caller oid, name text, request jsonb) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE old dts.handler := dts._handler_row(caller, name); new dts.handler;
BEGIN
    IF old.kind NOT IN ('http', 'mail') THEN
        RAISE EXCEPTION 'handler "%" sends no request', name USING ERRCODE = 'wrong_object_type', HINT = 'Change it with dts.alter_handler.';
    ELSIF request IS NULL THEN
        RAISE EXCEPTION 'argument "request" must not be null' USING ERRCODE = 'null_value_not_allowed', HINT = 'Its keys are the arguments of dts.submit_http or dts.submit_mail.';
    ELSIF old.shared AND NOT dts._role_may(caller, 10::oid) THEN
        RAISE EXCEPTION 'permission denied to change shared handler "%"', name USING ERRCODE = 'insufficient_privilege', HINT = 'Ask an administrator of dts.';
    END IF;
    PERFORM dts._check_request(old.kind, request, caller);
    UPDATE dts.handler h SET spec = request WHERE h.id = old.id RETURNING * INTO new;
    PERFORM dts._audit(caller, 'alter_handler', name, to_jsonb(old), to_jsonb(new)), dts._changed('handler', old.id);
END $$;
COMMENT ON FUNCTION dts._alter_request_handler(oid, text, jsonb) IS 'dts.alter_request_handler, as the owner of the extension.';

CREATE FUNCTION dts.create_request_handler(name text, http jsonb DEFAULT NULL, mail jsonb DEFAULT NULL, queue text DEFAULT NULL, priority int DEFAULT NULL, max_attempts int DEFAULT NULL, retry jsonb DEFAULT NULL,
    timeout interval DEFAULT NULL, expires interval DEFAULT NULL, shared boolean DEFAULT NULL, description text DEFAULT NULL) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dts_as_owner';
COMMENT ON FUNCTION dts.create_request_handler(text, jsonb, jsonb, text, int, int, jsonb, interval, interval, boolean, text) IS
'Creates a handler that sends an HTTP request or a mail: an object whose keys are the arguments of dts.submit_http or dts.submit_mail. ${payload.field} in its texts stands for a field of the payload, escaped for its place (URL, header, form), and keeps its type where it is a whole JSON string. ${...?} is null and ${...:-x} is x where there is none. The other arguments are defaults of its tasks.';
CREATE FUNCTION dts.alter_request_handler(name text, request jsonb) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dts_as_owner';
COMMENT ON FUNCTION dts.alter_request_handler(text, jsonb) IS 'Gives a handler that sends requests another one; attempts that start from now on use it. Other settings: dts.alter_handler.';

-- ---- hosts

CREATE FUNCTION dts._hosts(OUT host text, OUT circuit text, OUT in_flight int, OUT failures int, OUT open_until timestamptz, OUT succeeded bigint, OUT failed bigint, OUT put_off bigint,
    OUT mean_us float8, OUT last_error text, OUT last_failure_at timestamptz) RETURNS SETOF record
    LANGUAGE c VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'dts_hosts';
COMMENT ON FUNCTION dts._hosts() IS 'The hosts that this database has sent requests to, from shared memory.';

CREATE FUNCTION dts._reset_circuit(host text) RETURNS boolean
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dts_reset_circuit';
COMMENT ON FUNCTION dts._reset_circuit(text) IS 'Closes the circuit of a host; whether it is known.';
CREATE FUNCTION dts._request_host(url text) RETURNS text
    LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'dts_request_host';
COMMENT ON FUNCTION dts._request_host(text) IS 'Host and port of a URL, as dts.hosts names them; NULL if it has none.';
CREATE FUNCTION dts._hasten(task bigint) RETURNS boolean
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dts_hasten';
COMMENT ON FUNCTION dts._hasten(bigint) IS 'Makes a request that was put off due now; whether it was.';

CREATE FUNCTION dts._host_of(t dts.task) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN r ? 'url' THEN dts._request_host(r ->> 'url') ELSE pg_catalog.current_setting('dts.smtp_url', true) END
    FROM (SELECT COALESCE((SELECT h.spec FROM dts.handler h WHERE h.id = t.handler), t.args) AS r) x $$;
COMMENT ON FUNCTION dts._host_of(dts.task) IS 'The host that a request or mail goes to, as dts.hosts names it.';

CREATE FUNCTION dts._reset_host(caller oid, host text) RETURNS boolean
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF host IS NULL THEN
        RAISE EXCEPTION 'argument "host" must not be null' USING ERRCODE = 'null_value_not_allowed', HINT = 'Give a host of the view dts.hosts, as "name:port".';
    ELSIF NOT dts._reset_circuit(host) THEN
        RETURN false;
    END IF;
    PERFORM dts._hasten(t.id) FROM dts.lane l JOIN dts.task t ON t.lane = l.id AND t.state = 0 AND t.run_at > clock_timestamp()
    WHERE l.runner = 1 AND t.flags & (1 << 24) <> 0 AND dts._host_of(t) = host;
    PERFORM dts._audit(caller, 'reset_host', host, NULL, NULL);
    RETURN true;
END $$;
COMMENT ON FUNCTION dts._reset_host(oid, text) IS 'dts.reset_host, as the owner of the extension.';
CREATE FUNCTION dts.reset_host(host text) RETURNS boolean
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dts_as_owner';
COMMENT ON FUNCTION dts.reset_host(text) IS 'Closes the circuit of a host ("name:port", as in dts.hosts): requests go there again at once, also those that were put off. Returns whether the host is known.';

CREATE VIEW dts.hosts WITH (security_barrier) AS
SELECT h.host, h.circuit, h.in_flight, h.failures, h.open_until, h.succeeded, h.failed, h.put_off, h.mean_us * '1 us'::interval AS mean_time, h.last_error, h.last_failure_at
FROM dts._hosts() h
WHERE dts._caller_may(10::oid);
COMMENT ON VIEW dts.hosts IS 'Hosts that requests went to since the server started: whether their circuit lets requests through (open: they wait), how many are under way, failures in a row. For administrators.';
