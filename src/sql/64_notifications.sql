-- Notifications are tasks: submitted in the transaction of the state change that they tell of, durable, retried.

CREATE FUNCTION dts._notification_events() RETURNS text[] LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
    AS $$ SELECT ARRAY['success', 'failure', 'retry', 'dead', 'cancel', 'skip', 'late'] $$;
COMMENT ON FUNCTION dts._notification_events() IS 'What a notification can tell of; src/store/notifications.cpp counts on the order.';

CREATE FUNCTION dts._notification_row(caller oid, name text) RETURNS dts.notification
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE n dts.notification;
BEGIN
    IF name IS NULL THEN
        RAISE EXCEPTION 'notification name must not be null' USING ERRCODE = 'null_value_not_allowed', HINT = 'The view dts.notifications shows those there are.';
    END IF;
    SELECT * INTO n FROM dts.notification x WHERE x.name = _notification_row.name;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'notification "%" does not exist', name USING ERRCODE = 'undefined_object', HINT = 'Create it with dts.create_notification, or see dts.notifications.';
    ELSIF NOT dts._role_may(caller, n.owner) THEN
        RAISE EXCEPTION 'permission denied for notification "%"', name USING ERRCODE = 'insufficient_privilege', DETAIL = 'Only members of its owner''s role and administrators may change it.',
            HINT = 'Ask its owner, or create one of your own under another name.';
    END IF;
    RETURN n;
END $$;
COMMENT ON FUNCTION dts._notification_row(oid, text) IS 'The notification of this name if the caller may change it; 42704 or 42501 else.';

-- The task that tells: what the target says, with the event bound into it. A target that says nothing of the event gets it whole.
CREATE FUNCTION dts._notification_task(target jsonb, event jsonb) RETURNS jsonb
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE
        WHEN target ? 'channel' THEN (target - 'channel') || jsonb_build_object('sql', 'SELECT pg_catalog.pg_notify($1, $2)',
             'args', jsonb_build_array(target -> 'channel', left((event - '{result,notices}'::text[])::text, 7000 / pg_encoding_max_length((SELECT d.encoding FROM pg_database d WHERE d.datname = current_database())))))
        WHEN target ? 'sql' AND NOT target ? 'args' THEN target || jsonb_build_object('args', CASE WHEN target ->> 'sql' ~ '\$1' THEN jsonb_build_array(event) END)
        WHEN target ? 'handler' AND NOT target ? 'payload' THEN target || jsonb_build_object('payload', event)
        -- A request with no body of its own carries the event; a mail with no text of its own says the least.
        WHEN target ? 'http' THEN dts._task_of(target || jsonb_build_object('http', CASE WHEN jsonb_typeof(target -> 'http') = 'string' THEN jsonb_build_object('url', target -> 'http', 'body', '${event}')
             WHEN target -> 'http' ?| '{body,form,body_text,body_base64}' THEN target -> 'http' ELSE (target -> 'http') || '{"body": "${event}"}' END), jsonb_build_object('event', event))
        WHEN target ? 'mail' THEN dts._task_of(target || jsonb_build_object('mail', jsonb_build_object('subject', 'dts: task ${event.task}: ${event.event}',
             'body', E'Task ${event.task} of queue ${event.queue}: ${event.event}, attempt ${event.attempt} of ${event.max_attempts}.\n\n${event.error.message:-}\n') || (target -> 'mail')), jsonb_build_object('event', event))
        ELSE dts._task_of(target, jsonb_build_object('event', event)) END $$;
COMMENT ON FUNCTION dts._notification_task(jsonb, jsonb) IS 'The task that tells of an event.';

CREATE FUNCTION dts._notification_example() RETURNS jsonb
    LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT jsonb_build_object('notification', '', 'event', 'failure', 'task', 1, 'queue', 'default', 'owner', '', 'handler', '', 'schedule', '', 'workflow', '', 'run', 1, 'labels', '{}'::jsonb, 'attempt', 1, 'max_attempts', 1,
        'submitted_at', now(), 'started_at', now(), 'at', now(), 'seconds', 0.5, 'error', '{"message": "", "sqlstate": ""}'::jsonb, 'result', '[]'::jsonb, 'notices', '', 'sql', '', 'held', 0) $$;
COMMENT ON FUNCTION dts._notification_example() IS 'An event with everything that events may have.';

CREATE FUNCTION dts._check_notification(caller oid, n dts.notification) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE wrong text; kinds int;
BEGIN
    PERFORM dts._check_name('notification', n.name);
    IF COALESCE(cardinality(n.events), 0) = 0 OR array_position(n.events, NULL) IS NOT NULL THEN
        RAISE EXCEPTION 'argument "events" must name at least one event' USING ERRCODE = 'invalid_parameter_value', HINT = 'There are: ' || array_to_string(dts._notification_events(), ', ') || '.';
    END IF;
    SELECT e INTO wrong FROM unnest(n.events) e WHERE NOT e = ANY (dts._notification_events()) LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'invalid value in argument "events": "%"', wrong USING ERRCODE = 'invalid_parameter_value', HINT = 'There are: ' || array_to_string(dts._notification_events(), ', ') || '.';
    ELSIF ('late' = ANY (n.events)) <> (n.longer_than IS NOT NULL) THEN
        RAISE EXCEPTION 'event "late" and argument "longer_than" go together' USING ERRCODE = 'invalid_parameter_value', HINT = 'A task is late when it has run longer than that: events => ''{late}'', longer_than => ''10 min''.';
    ELSIF n.longer_than < '1 s' THEN
        RAISE EXCEPTION 'argument "longer_than" must be at least 1 s' USING ERRCODE = 'invalid_parameter_value', DETAIL = format('Got %s.', n.longer_than), HINT = 'Shorter ones are for a timeout of the task.';
    ELSIF n.per_minute NOT BETWEEN 1 AND 1000 THEN
        RAISE EXCEPTION 'argument "per_minute" must be between 1 and 1000' USING ERRCODE = 'invalid_parameter_value', DETAIL = format('Got %s.', n.per_minute), HINT = 'What is above is counted in the next one that is sent.';
    ELSIF jsonb_typeof(n.labels) <> 'object' THEN
        RAISE EXCEPTION 'argument "labels" must be a JSON object' USING ERRCODE = 'invalid_parameter_value', HINT = 'Tasks match that have all of these labels.';
    ELSIF n.target IS NULL THEN
        RAISE EXCEPTION 'argument "target" must not be null' USING ERRCODE = 'null_value_not_allowed', HINT = 'Give {"channel": ...} or a task as in dts.submit_many: {"sql": ...}, {"handler": ...}.';
    ELSIF jsonb_typeof(n.target) <> 'object' THEN
        RAISE EXCEPTION 'argument "target" must be a JSON object' USING ERRCODE = 'invalid_parameter_value', HINT = 'Give {"channel": ...} or a task as in dts.submit_many: {"sql": ...}, {"handler": ...}.';
    ELSIF n.target ? 'channel' AND (jsonb_typeof(n.target -> 'channel') <> 'string' OR octet_length(n.target ->> 'channel') NOT BETWEEN 1 AND 63 OR n.target ?| '{sql,handler}') THEN
        RAISE EXCEPTION '"channel" in argument "target" must be a name of 1 to 63 bytes, alone' USING ERRCODE = 'invalid_parameter_value', HINT = 'It is what LISTEN names.';
    ELSIF n.target ?| '{owner,name,depends_on,run_at,delay,key,on_conflict,key_ttl,expires}' THEN
        RAISE EXCEPTION 'argument "target" must not say when, for whom or how often' USING ERRCODE = 'invalid_parameter_value', DETAIL = 'That is owner, name, depends_on, run_at, delay, key, on_conflict, key_ttl and expires.',
            HINT = 'A notification runs as the role that created it, at once; per_minute limits it.';
    END IF;
    -- As it will be when it tells of something: what is wrong with it is said now.
    PERFORM dts._check_task(n.owner, dts._notification_task(n.target, dts._notification_example()));
END $$;
COMMENT ON FUNCTION dts._check_notification(oid, dts.notification) IS 'Refuses bad settings of a notification.';

CREATE FUNCTION dts._create_notification(caller oid, name text, target jsonb, events text[], queue text, handler text, schedule text, workflow text, labels jsonb, longer_than interval,
    per_minute int, description text, task bigint) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE n dts.notification;
BEGIN
    n.task := task; n.name := name; n.owner := caller::regrole; n.events := events; n.target := target; n.labels := labels; n.longer_than := longer_than; n.per_minute := COALESCE(per_minute, 10);
    n.description := description; n.schedule := schedule; n.workflow := workflow;
    IF queue IS NOT NULL THEN n.queue := (dts._queue_row(queue)).id; END IF;
    IF handler IS NOT NULL THEN
        SELECT h.id INTO n.handler FROM dts.handler h WHERE h.name = _create_notification.handler AND h.dropped_at IS NULL AND (h.shared OR dts._role_may(caller, h.owner));
        IF NOT FOUND THEN
            RAISE EXCEPTION 'handler "%" does not exist', handler USING ERRCODE = 'undefined_object', HINT = 'See dts.handlers.';
        END IF;
    END IF;
    IF schedule IS NOT NULL THEN PERFORM dts._schedule_row(caller, schedule); END IF;
    IF workflow IS NOT NULL THEN PERFORM dts._workflow_row(caller, workflow); END IF;
    IF task IS NOT NULL THEN
        PERFORM FROM (SELECT t.id, t.lane FROM dts.task t UNION ALL SELECT d.id, d.lane FROM dts.dead_letter d) x JOIN dts.lane l ON l.id = x.lane
        WHERE x.id = _create_notification.task AND dts._role_may(caller, l.owner);
        IF NOT FOUND THEN
            RAISE EXCEPTION 'task % does not exist', task USING ERRCODE = 'undefined_object', HINT = 'It may have ended, or belong to another role.';
        END IF;
    END IF;
    PERFORM dts._check_notification(caller, n);
    PERFORM dts._check_number(n.owner::oid, 'notification');
    BEGIN
        INSERT INTO dts.notification (name, owner, events, target, queue, handler, schedule, workflow, labels, task, longer_than, per_minute, description)
        VALUES (n.name, n.owner, n.events, n.target, n.queue, n.handler, n.schedule, n.workflow, n.labels, n.task, n.longer_than, n.per_minute, n.description) RETURNING * INTO n;
    EXCEPTION WHEN unique_violation THEN
        RAISE EXCEPTION 'notification "%" already exists', name USING ERRCODE = 'duplicate_object', HINT = 'Change it with dts.alter_notification.';
    END;
    INSERT INTO dts.notification_place (notification, n) SELECT n.id, i FROM generate_series(1, n.per_minute) i;
    PERFORM dts._audit(caller, 'create_notification', name, NULL, to_jsonb(n)), dts._changed('notification', n.id);
END $$;
COMMENT ON FUNCTION dts._create_notification(oid, text, jsonb, text[], text, text, text, text, jsonb, interval, int, text, bigint) IS 'dts.create_notification, as the owner of the extension.';
CREATE FUNCTION dts.create_notification(name text, target jsonb, events text[] DEFAULT '{failure}', queue text DEFAULT NULL, handler text DEFAULT NULL, schedule text DEFAULT NULL,
    workflow text DEFAULT NULL, labels jsonb DEFAULT NULL, longer_than interval DEFAULT NULL, per_minute int DEFAULT 10, description text DEFAULT NULL, task bigint DEFAULT NULL) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dts_as_owner';
COMMENT ON FUNCTION dts.create_notification(text, jsonb, text[], text, text, text, text, jsonb, interval, int, text, bigint) IS
'Tells of ends of the caller''s tasks, by a task that is submitted in the same transaction. target: {"channel": name} for NOTIFY, or a task as in dts.submit_many, where ${event.task}, ${event.error.message}, ... stand for what happened; a target that names nothing of it gets the whole event as $1 or payload. events: success, failure (also expired), retry, dead (letter), cancel, skip, late (runs longer than longer_than). queue, handler, schedule, workflow (its runs), labels, task (one, by its id): which tasks; all of the caller''s without. per_minute: at most so many; the next one counts what was held back.';

CREATE FUNCTION dts._alter_notification(caller oid, name text, target jsonb, events text[], longer_than interval, per_minute int, paused boolean, description text) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE old dts.notification := dts._notification_row(caller, name); new dts.notification := old;
BEGIN
    -- What runs with a role's rights only its members decide.
    IF target IS NOT NULL AND NOT pg_has_role(caller, old.owner, 'MEMBER') THEN
        RAISE EXCEPTION 'permission denied to change what notification "%" does', name USING ERRCODE = 'insufficient_privilege', DETAIL = 'It runs with the rights of a role that you are no member of.',
            HINT = 'You may pause it, and change its events and limit.';
    END IF;
    new.target := COALESCE(target, old.target); new.events := COALESCE(events, old.events); new.longer_than := CASE WHEN NOT 'late' = ANY (new.events) THEN longer_than ELSE COALESCE(longer_than, old.longer_than) END;
    new.per_minute := COALESCE(per_minute, old.per_minute); new.paused := COALESCE(paused, old.paused); new.description := COALESCE(description, old.description);
    PERFORM dts._check_notification(caller, new);
    UPDATE dts.notification n SET target = new.target, events = new.events, longer_than = new.longer_than, per_minute = new.per_minute, paused = new.paused, description = new.description WHERE n.id = old.id;
    DELETE FROM dts.notification_place p WHERE p.notification = old.id AND p.n > new.per_minute;
    INSERT INTO dts.notification_place (notification, n) SELECT old.id, i FROM generate_series(old.per_minute + 1, new.per_minute) i ON CONFLICT DO NOTHING;
    PERFORM dts._audit(caller, 'alter_notification', name, to_jsonb(old), to_jsonb(new)), dts._changed('notification', old.id);
END $$;
COMMENT ON FUNCTION dts._alter_notification(oid, text, jsonb, text[], interval, int, boolean, text) IS 'dts.alter_notification, as the owner of the extension.';
CREATE FUNCTION dts.alter_notification(name text, target jsonb DEFAULT NULL, events text[] DEFAULT NULL, longer_than interval DEFAULT NULL, per_minute int DEFAULT NULL, paused boolean DEFAULT NULL,
    description text DEFAULT NULL) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dts_as_owner';
COMMENT ON FUNCTION dts.alter_notification(text, jsonb, text[], interval, int, boolean, text) IS 'Changes a notification; what is left out or NULL stays. paused: it tells of nothing, and nothing is counted.';

CREATE FUNCTION dts._drop_notification(caller oid, name text) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE old dts.notification := dts._notification_row(caller, name);
BEGIN
    DELETE FROM dts.notification n WHERE n.id = old.id;
    DELETE FROM dts.notification_place p WHERE p.notification = old.id;
    DELETE FROM dts.notification_held h WHERE h.notification = old.id;
    DELETE FROM dts.notification_late l WHERE l.notification = old.id;
    PERFORM dts._audit(caller, 'drop_notification', name, to_jsonb(old), NULL), dts._changed('notification', old.id);
END $$;
COMMENT ON FUNCTION dts._drop_notification(oid, text) IS 'dts.drop_notification, as the owner of the extension.';
CREATE FUNCTION dts.drop_notification(name text) RETURNS void LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dts_as_owner';
COMMENT ON FUNCTION dts.drop_notification(text) IS 'Drops a notification. What it has submitted still runs.';

-- Sends one, or holds it back.
CREATE FUNCTION dts._tell(n dts.notification, event jsonb) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET jit = off AS $$
DECLARE held int;
BEGIN
    UPDATE dts.notification_place p SET free_at = clock_timestamp() + '1 minute'::interval, sent = p.sent + 1
    WHERE (p.notification, p.n) = (SELECT x.notification, x.n FROM dts.notification_place x WHERE x.notification = n.id AND x.free_at <= clock_timestamp() ORDER BY x.n LIMIT 1 FOR UPDATE SKIP LOCKED);
    IF NOT FOUND THEN
        INSERT INTO dts.notification_held (notification, task, event) VALUES (n.id, (event ->> 'task')::int8, event ->> 'event');
        RETURN;
    END IF;
    WITH h AS (SELECT x.ctid FROM dts.notification_held x WHERE x.notification = n.id FOR UPDATE SKIP LOCKED), d AS (DELETE FROM dts.notification_held x USING h WHERE x.ctid = h.ctid RETURNING 1)
    SELECT count(*) INTO held FROM d;
    PERFORM dts.submit_many(jsonb_build_array('{"labels": {}}' || dts._notification_task(n.target, event || jsonb_build_object('notification', n.name, 'held', held))
        || jsonb_build_object('owner', dts._role_name(n.owner), 'labels', COALESCE(n.target -> 'labels', '{}') || jsonb_build_object('notification', n.name, 'of', event -> 'task'))));
END $$;
COMMENT ON FUNCTION dts._tell(dts.notification, jsonb) IS 'Submits the task that tells of an event, or holds it back.';

CREATE FUNCTION dts._event(event text, task bigint, lane dts.lane, attempt int, max_attempts int, submitted_at timestamptz, started_at timestamptz, at timestamptz, labels jsonb, error jsonb, result text, notices text,
    sql text) RETURNS jsonb
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT jsonb_build_object('event', event, 'task', task, 'queue', (SELECT q.name FROM dts.queue q WHERE q.id = lane.queue), 'owner', dts._role_name(lane.owner),
        'handler', (SELECT h.name FROM dts.handler h WHERE h.id = lane.handler), 'tenant', NULLIF(lane.tenant, ''), 'attempt', attempt, 'max_attempts', max_attempts, 'submitted_at', submitted_at,
        'started_at', started_at, 'at', at, 'seconds', round(extract(epoch FROM at - started_at), 3), 'labels', labels, 'error', error, 'notices', notices, 'sql', left(sql, 1000),
        'schedule', (SELECT s.name FROM dts.schedule_run r JOIN dts.schedule s ON s.id = r.schedule WHERE r.task = _event.task LIMIT 1),
        'workflow', w.name, 'run', w.run, 'result', CASE WHEN w.run IS NOT NULL THEN w.output ELSE result::jsonb END)
    FROM (SELECT 1) one LEFT JOIN LATERAL (SELECT x.name, r.id AS run, r.output FROM dts.workflow_node y JOIN dts.workflow_run r ON r.id = y.run JOIN dts.workflow x ON x.id = r.workflow
                                           WHERE y.task = _event.task AND y.node = '(end)' LIMIT 1) w ON true $$;
COMMENT ON FUNCTION dts._event(text, bigint, dts.lane, int, int, timestamptz, timestamptz, timestamptz, jsonb, jsonb, text, text, text) IS 'What a notification says of a task.';

-- Called where a task's attempt ends, in that transaction. Whatever goes wrong here is none of the task's business.
CREATE FUNCTION dts._announce(wanted int[], events text[], task bigint, lane int, attempt int, max_attempts int, submitted_at timestamptz, started_at timestamptz, at timestamptz, labels jsonb, error jsonb, result text,
    notices text, sql text) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET jit = off AS $$
#variable_conflict use_variable
DECLARE n dts.notification; l dts.lane; doc jsonb; event text;
BEGIN
    SELECT * INTO l FROM dts.lane x WHERE x.id = lane;
    FOR n IN SELECT x.* FROM dts.notification x WHERE x.id = ANY (wanted) AND NOT x.paused AND x.events && events ORDER BY x.id LOOP
        event := (SELECT e FROM unnest(events) e WHERE e = ANY (n.events) LIMIT 1);
        CONTINUE WHEN NOT dts._role_may(n.owner, l.owner);
        CONTINUE WHEN n.labels IS NOT NULL AND NOT COALESCE(labels, '{}') @> n.labels;
        CONTINUE WHEN n.schedule IS NOT NULL AND NOT EXISTS (SELECT FROM dts.schedule_run r JOIN dts.schedule s ON s.id = r.schedule WHERE r.task = _announce.task AND s.name = n.schedule);
        CONTINUE WHEN n.workflow IS NOT NULL AND NOT EXISTS (SELECT FROM dts.workflow_node y JOIN dts.workflow_run r ON r.id = y.run JOIN dts.workflow x ON x.id = r.workflow
                                                             WHERE y.task = _announce.task AND y.node = '(end)' AND x.name = n.workflow);
        doc := COALESCE(doc, dts._event(event, task, l, attempt, max_attempts, submitted_at, started_at, at, labels, error, result, notices, sql));
        BEGIN
            PERFORM dts._tell(n, doc || jsonb_build_object('event', event));
        EXCEPTION WHEN query_canceled OR admin_shutdown THEN RAISE;
            WHEN OTHERS THEN RAISE LOG 'dts: notification "%" of task % was not sent: %', n.name, task, SQLERRM;
        END;
    END LOOP;
EXCEPTION WHEN query_canceled OR admin_shutdown THEN RAISE;
    WHEN OTHERS THEN RAISE LOG 'dts: notifications of task % were not sent: %', task, SQLERRM;
END $$;
COMMENT ON FUNCTION dts._announce(int[], text[], bigint, int, int, int, timestamptz, timestamptz, timestamptz, jsonb, jsonb, text, text, text) IS 'Submits the notifications of the end of an attempt.';

-- Called by the scheduler while something has run longer than the shortest of longer_than.
CREATE FUNCTION dts._announce_late() RETURNS bigint
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET jit = off AS $$
DECLARE r record; told bigint := 0;
BEGIN
    DELETE FROM dts.notification_late l WHERE NOT EXISTS (SELECT FROM dts.task t WHERE t.id = l.task);
    FOR r IN SELECT n AS notification, t, l, h.started_at FROM dts._held() h JOIN dts.task t ON t.id = h.task JOIN dts.lane l ON l.id = t.lane
             JOIN dts.notification n ON 'late' = ANY (n.events) AND NOT n.paused AND clock_timestamp() - h.started_at > n.longer_than
                  AND (n.queue IS NULL OR n.queue = l.queue) AND (n.handler IS NULL OR n.handler = l.handler) AND (n.task IS NULL OR n.task = t.id) AND COALESCE(t.extra -> 'labels', '{}') @> COALESCE(n.labels, '{}')
                  AND NOT COALESCE(t.extra -> 'labels', '{}') ? 'notification'
             WHERE h.state = 'running' AND n.workflow IS NULL AND dts._role_may(n.owner, l.owner)
               AND (n.schedule IS NULL OR EXISTS (SELECT FROM dts.schedule_run x JOIN dts.schedule s ON s.id = x.schedule WHERE x.task = t.id AND s.name = n.schedule)) LOOP
        INSERT INTO dts.notification_late (task, attempt, notification) VALUES ((r.t).id, (r.t).attempt, (r.notification).id) ON CONFLICT DO NOTHING;
        CONTINUE WHEN NOT FOUND;
        BEGIN
            PERFORM dts._tell(r.notification, dts._event('late', (r.t).id, r.l, (r.t).attempt + 1, (r.t).max_attempts, (r.t).submitted_at, r.started_at, clock_timestamp(), (r.t).extra -> 'labels', NULL, NULL, NULL, (r.t).sql));
            told := told + 1;
        EXCEPTION WHEN query_canceled OR admin_shutdown THEN RAISE;
            WHEN OTHERS THEN RAISE LOG 'dts: notification "%" of task % was not sent: %', (r.notification).name, (r.t).id, SQLERRM;
        END;
    END LOOP;
    RETURN told;
END $$;
COMMENT ON FUNCTION dts._announce_late() IS 'Tells of attempts that run longer than somebody wants, each once.';

CREATE VIEW dts.notifications WITH (security_barrier) AS
SELECT n.name, dts._role_name(n.owner) AS owner, n.events, CASE WHEN dts._caller_may(n.owner) THEN n.target END AS target, (SELECT q.name FROM dts.queue q WHERE q.id = n.queue) AS queue,
       (SELECT h.name FROM dts.handler h WHERE h.id = n.handler) AS handler, n.schedule, n.workflow, n.labels, n.task, n.longer_than, n.per_minute, n.paused,
       (SELECT pg_catalog.sum(p.sent)::int8 FROM dts.notification_place p WHERE p.notification = n.id) AS sent,
       (SELECT pg_catalog.count(*) FROM dts.notification_held h WHERE h.notification = n.id) AS held, n.description, n.created_at
FROM dts.notification n WHERE dts._caller_sees(n.owner);
COMMENT ON VIEW dts.notifications IS 'Notifications, with how many were sent, and how many events were held back by the limit and wait to be counted in the next.';
