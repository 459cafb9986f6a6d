-- Events: dts.emit submits tasks, starts workflows and wakes nodes by topic and match, in the caller's transaction; changes of tables do the same.

CREATE FUNCTION dts._subscription_row(caller oid, name text) RETURNS dts.subscription
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE s dts.subscription;
BEGIN
    SELECT * INTO s FROM dts.subscription x WHERE x.name = _subscription_row.name;
    IF FOUND AND NOT dts._role_may(caller, s.owner) THEN
        RAISE EXCEPTION 'permission denied for subscription "%"', name USING ERRCODE = 'insufficient_privilege', HINT = 'It belongs to another role; choose another name.';
    END IF;
    RETURN s;
END $$;
COMMENT ON FUNCTION dts._subscription_row(oid, text) IS 'The subscription of this name, or nothing; an error if it is not the caller''s.';

CREATE FUNCTION dts._compile_subscription(caller oid, task jsonb, names text[]) RETURNS jsonb
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE bound record; ref text; compiled jsonb := task; kinds int;
BEGIN
    IF task IS NULL THEN
        RAISE EXCEPTION 'argument "task" must not be null' USING ERRCODE = 'null_value_not_allowed', HINT = 'Give what dts.submit_many takes: {"sql": "...", "args": [...]} or {"workflow": "...", "params": {...}}.';
    ELSIF jsonb_typeof(task) <> 'object' THEN
        RAISE EXCEPTION 'argument "task" must be a JSON object' USING ERRCODE = 'invalid_parameter_value', HINT = 'Give what dts.submit_many takes: {"sql": "...", "args": [...]} or {"workflow": "...", "params": {...}}.';
    END IF;
    kinds := (SELECT count(*) FROM unnest('{sql,handler,workflow,http,mail}'::text[]) k WHERE task ? k);
    IF kinds <> 1 THEN
        RAISE EXCEPTION 'argument "task" must say one thing to do' USING ERRCODE = 'invalid_parameter_value', DETAIL = format('It has %s.', kinds), HINT = 'Give exactly one of sql, handler, workflow, http and mail.';
    END IF;
    FOR ref IN SELECT k FROM unnest('{name,owner,depends_on,node}'::text[]) k WHERE task ? k LOOP
        RAISE EXCEPTION 'option "%" is not for the task of a subscription', ref USING ERRCODE = 'invalid_parameter_value', HINT = 'It belongs to the owner of the subscription, and depends on nothing.';
    END LOOP;
    IF jsonb_typeof(task -> 'sql') = 'string' THEN
        bound := dts._bind_sql(task ->> 'sql', '{}');
        IF bound.wrong IS NOT NULL THEN
            RAISE EXCEPTION 'reference % inside a literal or quoted name', bound.wrong USING ERRCODE = 'invalid_parameter_value', HINT = 'Values are bound, not pasted: take it out of the quotes; to build a text, use || or format().';
        ELSIF bound.args IS NOT NULL AND task ? 'args' THEN
            RAISE EXCEPTION '"args" beside references in the SQL' USING ERRCODE = 'invalid_parameter_value', HINT = 'Use one of the two.';
        ELSIF bound.args IS NOT NULL THEN
            compiled := compiled || jsonb_build_object('sql', bound.text, 'args', bound.args);
        END IF;
    END IF;
    FOR ref IN SELECT r FROM dts._references(compiled - 'sql') r WHERE split_part(split_part(split_part(r, '.', 1), '?', 1), ':-', 1) <> ALL (names) AND r !~ '^secret:' LOOP
        RAISE EXCEPTION 'unknown reference ${%}', ref USING ERRCODE = 'invalid_parameter_value', HINT = format('References begin with %s.', array_to_string(names, ' or '));
    END LOOP;
    IF jsonb_typeof(task -> 'sql') = 'string' THEN
        PERFORM dts._check_sql(compiled ->> 'sql', COALESCE(task -> 'transactional' <> 'false', true), jsonb_array_length(CASE jsonb_typeof(compiled -> 'args') WHEN 'array' THEN compiled -> 'args' ELSE '[]' END));
    END IF;
    IF task ? 'workflow' THEN
        PERFORM dts._workflow_row(caller, task ->> 'workflow');
    ELSE
        -- Whether it could be submitted is found out by doing it; its values are not known yet.
        BEGIN
            PERFORM dts.submit_many(jsonb_build_array(compiled - '{args,payload,key,on_conflict,labels,tenant,run_at,delay,concurrency_key}'::text[] || jsonb_build_object('owner', dts._role_name(caller)) || CASE WHEN task ?| '{sql,handler}' THEN '{"node": true}'::jsonb ELSE '{}' END));
            RAISE EXCEPTION USING ERRCODE = 'TQ000';
        EXCEPTION WHEN SQLSTATE 'TQ000' THEN NULL;
        END;
    END IF;
    RETURN compiled;
END $$;
COMMENT ON FUNCTION dts._compile_subscription(oid, jsonb, text[]) IS 'Checks the task of a subscription; returns it with references in its SQL as parameters.';

CREATE FUNCTION dts._save_subscription(caller oid, s dts.subscription, action text) RETURNS int
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE old dts.subscription;
BEGIN
    PERFORM dts._check_name('subscription', s.name);
    IF s.condition IS NOT NULL AND dts._check_condition(to_jsonb(s.condition)) IS NOT NULL THEN
        RAISE EXCEPTION 'invalid value for argument "when"' USING ERRCODE = 'invalid_parameter_value', DETAIL = dts._check_condition(to_jsonb(s.condition)), HINT = 'Write a predicate in SQL/JSON path: $.event.payload.amount > 100, or $.row.state == "paid".';
    END IF;
    old := dts._subscription_row(caller, s.name);
    IF old.id IS NOT NULL THEN
        UPDATE dts.subscription x SET owner = caller::regrole, topic = s.topic, relation = s.relation, operations = s.operations, task = s.task, each = s.each, match = s.match, condition = s.condition, roles = s.roles,
            min_rows = s.min_rows, within = s.within, quiet = s.quiet, trouble = NULL WHERE x.id = old.id RETURNING x.id INTO s.id;
    ELSE
        PERFORM dts._check_number(caller, 'subscription');
        INSERT INTO dts.subscription (name, owner, topic, relation, operations, task, each, match, condition, roles, min_rows, within, quiet)
        VALUES (s.name, caller::regrole, s.topic, s.relation, s.operations, s.task, s.each, s.match, s.condition, s.roles, s.min_rows, s.within, s.quiet) RETURNING id INTO s.id;
    END IF;
    PERFORM dts._drop_change_triggers(caller, s.id), dts._audit(caller, action, s.name, CASE WHEN old.id IS NOT NULL THEN to_jsonb(old) END, to_jsonb(s));
    RETURN s.id;
END $$;
COMMENT ON FUNCTION dts._save_subscription(oid, dts.subscription, text) IS 'Writes a new or changed subscription. Returns its id.';

CREATE FUNCTION dts._on_event(caller oid, name text, topic text, task jsonb, match jsonb, "when" text, roles text[]) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE s dts.subscription; missing text;
BEGIN
    PERFORM dts._check_name('topic', rtrim(topic, '*'));
    IF topic ~ '\*.' THEN
        RAISE EXCEPTION 'invalid value for argument "topic": "%"', topic USING ERRCODE = 'invalid_parameter_value', HINT = 'A * stands at the end only: orders.* is every topic that begins so.';
    END IF;
    SELECT r INTO missing FROM unnest(roles) r WHERE r <> 'public' AND NOT EXISTS (SELECT FROM pg_roles g WHERE g.rolname = r) LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'role "%" does not exist', missing USING ERRCODE = 'undefined_object', DETAIL = 'Given in argument "roles".', HINT = 'Role names are case-sensitive here.';
    END IF;
    s.name := name; s.topic := topic; s.match := match; s.condition := "when"; s.roles := roles; s.each := false;
    s.task := dts._compile_subscription(caller, task, '{event}');
    PERFORM dts._save_subscription(caller, s, 'on_event');
END $$;
COMMENT ON FUNCTION dts._on_event(oid, text, text, jsonb, jsonb, text, text[]) IS 'dts.on_event, as the owner of the extension.';
CREATE FUNCTION dts.on_event(name text, topic text, task jsonb, match jsonb DEFAULT NULL, "when" text DEFAULT NULL, roles text[] DEFAULT NULL) RETURNS void LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dts_as_owner';
COMMENT ON FUNCTION dts.on_event(text, text, jsonb, jsonb, text, text[]) IS
'Submits a task, or starts a workflow, for each event of a topic (orders.paid, or orders.* for all that begin so) whose payload contains match and for which the condition in SQL/JSON path over $.event holds. task: as an element of dts.submit_many; ${event.payload.x}, ${event.topic} and ${event.by} are bound in args, payload, params, key. It belongs to the caller and runs as that role. roles: whose events count beside those of the owner''s members; public for everybody''s. The same name again changes it.';

CREATE FUNCTION dts._drop_change_triggers(caller oid, subscription int) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE t record;
BEGIN
    FOR t IN SELECT g.tgname, g.tgrelid FROM pg_trigger g WHERE g.tgfoid = 'dts._changed_rows()'::regprocedure AND g.tgname ~ format('^dts_%s_', subscription) AND g.tgparentid = 0 LOOP
        EXECUTE format('DROP TRIGGER %I ON %s', t.tgname, t.tgrelid::regclass);
    END LOOP;
    DELETE FROM dts.change_count c WHERE c.subscription = _drop_change_triggers.subscription;
END $$;
COMMENT ON FUNCTION dts._drop_change_triggers(oid, int) IS 'Removes the triggers of a subscription, and what they counted.';

CREATE FUNCTION dts._changed_rows() RETURNS trigger LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dts_changed_rows';
COMMENT ON FUNCTION dts._changed_rows() IS 'The trigger of dts.on_change.';

CREATE FUNCTION dts._on_change(caller oid, name text, relation regclass, task jsonb, operations text[], "when" text, rows bigint, within interval, quiet interval) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE s dts.subscription; c pg_class; o text; gathers boolean := rows IS NOT NULL OR within IS NOT NULL OR quiet IS NOT NULL;
BEGIN
    IF relation IS NULL THEN
        RAISE EXCEPTION 'argument "relation" must not be null' USING ERRCODE = 'null_value_not_allowed', HINT = 'Give a table.';
    END IF;
    SELECT * INTO c FROM pg_class x WHERE x.oid = relation;
    IF c.relkind NOT IN ('r', 'p') OR c.relpersistence = 't' THEN
        RAISE EXCEPTION '"%" is not a table that can be watched', c.relname USING ERRCODE = 'wrong_object_type', HINT = 'Only permanent and unlogged tables and partitioned tables can be watched.';
    ELSIF NOT pg_has_role(caller, c.relowner, 'USAGE') THEN
        RAISE EXCEPTION 'must be owner of table %', c.relname USING ERRCODE = 'insufficient_privilege', HINT = 'The subscription puts triggers on the table.';
    ELSIF c.relnamespace = 'dts'::regnamespace OR c.relnamespace = 'pg_catalog'::regnamespace THEN
        RAISE EXCEPTION 'table "%" cannot be watched', c.relname USING ERRCODE = 'invalid_parameter_value', HINT = 'It belongs to the system, or to dts.';
    ELSIF COALESCE(operations, '{}') = '{}' OR NOT operations <@ '{insert,update,delete}' THEN
        RAISE EXCEPTION 'invalid value for argument "operations": "%"', operations USING ERRCODE = 'invalid_parameter_value', HINT = 'Use insert, update, delete.';
    END IF;
    PERFORM dts._check_bounds('rows', rows, 1, 1000000000000);
    IF within <= '0' OR quiet <= '0' THEN
        RAISE EXCEPTION 'argument "%" must be positive', CASE WHEN within <= '0' THEN 'within' ELSE 'quiet' END USING ERRCODE = 'invalid_parameter_value', HINT = 'For example 5 minutes.';
    END IF;
    s.name := name; s.relation := format('%I.%I', (SELECT n.nspname FROM pg_namespace n WHERE n.oid = c.relnamespace), c.relname); s.operations := operations; s.condition := "when"; s.min_rows := rows; s.within := within; s.quiet := quiet;
    s.task := dts._compile_subscription(caller, task, CASE WHEN gathers THEN '{change}' ELSE '{change,row}'::text[] END);
    s.each := EXISTS (SELECT FROM dts._references(s.task - 'sql') r WHERE r ~ '^row\M');
    s.id := dts._save_subscription(caller, s, 'on_change');
    FOREACH o IN ARRAY operations LOOP
        EXECUTE format('CREATE TRIGGER %I AFTER %s ON %s REFERENCING %s TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION dts._changed_rows(%L, %L)',
                       format('dts_%s_%s', s.id, o), o, relation, CASE o WHEN 'delete' THEN 'OLD' ELSE 'NEW' END, s.id, CASE WHEN s.each OR s.condition IS NOT NULL THEN 'rows' ELSE 'count' END);
    END LOOP;
    IF quiet IS NOT NULL THEN  -- silence counts from now on
        INSERT INTO dts.change_count (subscription, rows, first_at, last_at) VALUES (s.id, 0, clock_timestamp(), clock_timestamp());
    END IF;
    PERFORM dts._changed('change', 0);
END $$;
COMMENT ON FUNCTION dts._on_change(oid, text, regclass, jsonb, text[], text, bigint, interval, interval) IS 'dts.on_change, as the owner of the extension.';
CREATE FUNCTION dts.on_change(name text, relation regclass, task jsonb, operations text[] DEFAULT '{insert,update,delete}', "when" text DEFAULT NULL, rows bigint DEFAULT NULL, within interval DEFAULT NULL, quiet interval DEFAULT NULL) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dts_as_owner';
COMMENT ON FUNCTION dts.on_change(text, regclass, jsonb, text[], text, bigint, interval, interval) IS
'Submits a task, or starts a workflow, when rows of a table change: in the transaction of the change, once for each statement; for each row if the task says ${row.column} (of a deleted row, what it was). when: only for rows that satisfy this condition in SQL/JSON path over $.row and $.change. With rows, within or quiet it is gathered instead: after so many rows, so long after the first of them, or when nothing has come for so long, whichever is first; then the scheduler submits it. ${change.table}, ${change.operation}, ${change.rows}. For owners of the table; it belongs to the caller and runs as that role. The same name again changes it.';

CREATE FUNCTION dts._drop_subscription(caller oid, name text) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE s dts.subscription := dts._subscription_row(caller, name);
BEGIN
    IF name IS NULL THEN
        RAISE EXCEPTION 'subscription name must not be null' USING ERRCODE = 'null_value_not_allowed', HINT = 'See dts.subscriptions.';
    ELSIF s.id IS NULL THEN
        RAISE EXCEPTION 'subscription "%" does not exist', name USING ERRCODE = 'undefined_object', HINT = 'See dts.subscriptions.';
    END IF;
    DELETE FROM dts.subscription x WHERE x.id = s.id;
    PERFORM dts._drop_change_triggers(caller, s.id), dts._audit(caller, 'drop_subscription', name, to_jsonb(s), NULL);
END $$;
COMMENT ON FUNCTION dts._drop_subscription(oid, text) IS 'dts.drop_subscription, as the owner of the extension.';
CREATE FUNCTION dts.drop_subscription(name text) RETURNS void LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dts_as_owner';
COMMENT ON FUNCTION dts.drop_subscription(text) IS 'Ends a subscription made by dts.on_event or dts.on_change.';

-- One task for each document. What a subscriber got wrong is not the fault of who emits or writes: his transaction goes on.
CREATE FUNCTION dts._fire(s dts.subscription, docs jsonb) RETURNS bigint
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT has_function_privilege(s.owner::oid, 'dts.submit_many(jsonb)'::regprocedure, 'EXECUTE') THEN
        RAISE EXCEPTION 'its owner may not submit tasks' USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN (SELECT count(*) FROM dts.submit_many((SELECT jsonb_agg(dts._task_of(s.task, d) || jsonb_build_object('owner', dts._role_name(s.owner), 'labels', COALESCE(dts._resolve(s.task -> 'labels', d), '{}') || jsonb_build_object('subscription', s.name)))
                                                  FROM jsonb_array_elements(docs) d)));
EXCEPTION
    WHEN transaction_rollback THEN RAISE;
    WHEN OTHERS THEN
        RAISE WARNING 'subscription "%" failed: %', s.name, SQLERRM USING ERRCODE = SQLSTATE;
        PERFORM dts._audit(s.owner, 'subscription_failed', s.name, NULL, jsonb_build_object('error', SQLERRM, 'sqlstate', SQLSTATE));
        RETURN 0;
END $$;
COMMENT ON FUNCTION dts._fire(dts.subscription, jsonb) IS 'Submits the task of a subscription for each of these documents. Returns how many.';

CREATE FUNCTION dts._holds_soon(condition text, doc jsonb) RETURNS boolean LANGUAGE c STABLE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dts_holds_soon';
COMMENT ON FUNCTION dts._holds_soon(text, jsonb) IS 'Whether a condition holds; an error if that takes longer than somebody who emits can be made to wait.';

-- The condition of somebody else must neither fail nor hold up who emits: one that takes too long is not looked at again until its owner has changed it.
CREATE FUNCTION dts._wants(s dts.subscription, doc jsonb) RETURNS boolean
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN dts._holds_soon(s.condition, doc);
EXCEPTION
    WHEN transaction_rollback THEN RAISE;
    WHEN OTHERS THEN
        RAISE WARNING 'subscription "%" failed: %', s.name, SQLERRM USING ERRCODE = SQLSTATE;
        PERFORM dts._audit(s.owner, 'subscription_failed', s.name, NULL, jsonb_build_object('error', SQLERRM, 'sqlstate', SQLSTATE));
        IF SQLSTATE = '54000' THEN
            UPDATE dts.subscription x SET trouble = SQLERRM WHERE x.id = (SELECT y.id FROM dts.subscription y WHERE y.id = s.id FOR UPDATE SKIP LOCKED);
        END IF;
        RETURN false;
END $$;
COMMENT ON FUNCTION dts._wants(dts.subscription, jsonb) IS 'Whether the condition of a subscription holds for this event.';

CREATE FUNCTION dts._heard(caller oid, owner oid, roles text[]) RETURNS boolean
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT dts._role_may(caller, owner) OR EXISTS (SELECT FROM unnest(roles) r LEFT JOIN pg_roles g ON g.rolname = r WHERE r = 'public' OR g.oid IS NOT NULL AND pg_has_role(caller, g.oid, 'USAGE')) $$;
COMMENT ON FUNCTION dts._heard(oid, oid, text[]) IS 'Whether events of a role count for a subscription or a run of this owner.';

CREATE FUNCTION dts._emit(caller oid, topic text, payload jsonb) RETURNS bigint
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET jit = off AS $$
DECLARE n bigint := 0; s dts.subscription; w record; doc jsonb;
BEGIN
    PERFORM dts._check_name('topic', topic);
    IF topic ~ '\*' THEN
        RAISE EXCEPTION 'invalid value for argument "topic": "%"', topic USING ERRCODE = 'invalid_parameter_value', HINT = 'A * is for subscriptions.';
    END IF;
    payload := COALESCE(payload, '{}');
    doc := jsonb_build_object('event', jsonb_build_object('topic', topic, 'payload', payload, 'by', dts._role_name(caller)));
    FOR s IN SELECT * FROM dts.subscription x WHERE (x.topic = _emit.topic OR right(x.topic, 1) = '*' AND starts_with(_emit.topic, left(x.topic, -1)))
             AND x.trouble IS NULL AND (x.match IS NULL OR payload @> x.match) AND dts._heard(caller, x.owner, x.roles) ORDER BY x.id LOOP
        CONTINUE WHEN s.condition IS NOT NULL AND NOT dts._wants(s, doc);
        n := n + dts._fire(s, jsonb_build_array(doc));
    END LOOP;
    FOR w IN SELECT y AS run, x.node FROM dts.event_waiter x JOIN dts.workflow_run y ON y.id = x.run AND y.ended_at IS NULL
             WHERE x.topic = _emit.topic AND payload @> x.match AND dts._heard(caller, y.owner, ARRAY(SELECT jsonb_array_elements_text(x.roles)))
               AND NOT EXISTS (SELECT FROM dts.signal g WHERE g.run = x.run AND g.name = 'event:' || x.node AND g.taken_by IS NULL) ORDER BY x.run LOOP
        PERFORM dts._put_signal(caller, w.run, 'event:' || w.node, payload);
        n := n + 1;
    END LOOP;
    RETURN n;
END $$;
COMMENT ON FUNCTION dts._emit(oid, text, jsonb) IS 'dts.emit, as the owner of the extension.';
CREATE FUNCTION dts.emit(topic text, payload jsonb DEFAULT '{}') RETURNS bigint LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dts_as_owner';
COMMENT ON FUNCTION dts.emit(text, jsonb) IS 'Emits an event, in the caller''s transaction: submits the tasks and starts the workflows of the subscriptions that it matches, and is taken by the nodes of runs that wait for it, now or when they get there. Returns how many. An event that nobody is there for is gone.';

CREATE FUNCTION dts._change(subscription int, operation text, rows bigint, items jsonb) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET jit = off AS $$
DECLARE s dts.subscription; n bigint := rows; kept jsonb := items; change jsonb;
BEGIN
    SELECT * INTO s FROM dts.subscription x WHERE x.id = _change.subscription;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    change := jsonb_build_object('table', s.relation, 'operation', operation);
    IF s.condition IS NOT NULL THEN
        SELECT jsonb_agg(r), count(*) INTO kept, n FROM jsonb_array_elements(items) r WHERE dts._holds(to_jsonb(s.condition), jsonb_build_object('row', r, 'change', change));
    END IF;
    IF n = 0 THEN
        RETURN;
    END IF;
    change := change || jsonb_build_object('rows', n);
    IF s.min_rows IS NOT NULL OR s.within IS NOT NULL OR s.quiet IS NOT NULL THEN
        INSERT INTO dts.change_count (subscription, rows, first_at, last_at) VALUES (s.id, n, clock_timestamp(), clock_timestamp());
        PERFORM dts._changed('change', 0);
    ELSIF s.each THEN
        PERFORM dts._fire(s, (SELECT jsonb_agg(jsonb_build_object('row', r, 'change', change)) FROM jsonb_array_elements(kept) r));
    ELSE
        PERFORM dts._fire(s, jsonb_build_array(jsonb_build_object('change', change)));
    END IF;
END $$;
COMMENT ON FUNCTION dts._change(int, text, bigint, jsonb) IS 'What a statement has done to a table that a subscription watches.';

CREATE FUNCTION dts._look_at_changes() RETURNS timestamptz
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET jit = off AS $$
DECLARE s dts.subscription; c record; g record; look_at timestamptz; now timestamptz := clock_timestamp();
BEGIN
    FOR c IN SELECT x.subscription, count(*) AS entries, sum(x.rows) AS rows, min(x.first_at) FILTER (WHERE x.rows > 0) AS first_at, max(x.last_at) AS last_at FROM dts.change_count x GROUP BY x.subscription LOOP
        SELECT * INTO s FROM dts.subscription x WHERE x.id = c.subscription;
        CONTINUE WHEN NOT FOUND;
        IF c.rows >= s.min_rows OR c.first_at + s.within <= now OR c.last_at + s.quiet <= now THEN
            WITH gone AS (DELETE FROM dts.change_count x WHERE x.subscription = s.id RETURNING x.rows) SELECT sum(gone.rows) AS rows INTO g FROM gone;
            PERFORM dts._fire(s, jsonb_build_array(jsonb_build_object('change', jsonb_build_object('table', s.relation, 'rows', g.rows))));
            CONTINUE;
        ELSIF c.entries > 100 THEN
            WITH gone AS (DELETE FROM dts.change_count x WHERE x.subscription = s.id RETURNING x.*)
            INSERT INTO dts.change_count (subscription, rows, first_at, last_at) SELECT s.id, sum(gone.rows), COALESCE(min(gone.first_at) FILTER (WHERE gone.rows > 0), min(gone.first_at)), max(gone.last_at) FROM gone;
        END IF;
        look_at := LEAST(look_at, c.first_at + s.within, c.last_at + s.quiet);
    END LOOP;
    RETURN look_at;
END $$;
COMMENT ON FUNCTION dts._look_at_changes() IS 'Submits what is due of gathered changes. Returns when to look again, NULL: when something comes.';

CREATE VIEW dts.subscriptions WITH (security_barrier) AS
SELECT s.name, dts._role_name(s.owner) AS owner, s.topic, s.relation, s.operations, s.task, s.match, s.condition AS "when", s.roles, s.min_rows AS rows, s.within, s.quiet, s.created_at,
       (SELECT pg_catalog.sum(c.rows) FROM dts.change_count c WHERE c.subscription = s.id) AS gathered, s.trouble
FROM dts.subscription s WHERE dts._caller_may(s.owner);
COMMENT ON VIEW dts.subscriptions IS 'Subscriptions of the current role to events and to changes of tables. trouble: why it is not looked at until it is made again.';
