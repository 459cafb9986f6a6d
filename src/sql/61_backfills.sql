-- Backfills: due times of a schedule that are past are run again, or for the first time.

CREATE FUNCTION dts._backfill(caller oid, name text, from_at timestamptz, to_at timestamptz, max_parallel int, "order" text, only_missing boolean) RETURNS int
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE s dts.schedule := dts._schedule_row(caller, name); b int; n int8;
BEGIN
    PERFORM dts._check_bounds('max_parallel', max_parallel, 1, 1000), dts._check_choice('order', "order", ARRAY['oldest first', 'newest first']);
    IF from_at IS NULL OR to_at IS NULL THEN
        RAISE EXCEPTION 'arguments "from_at" and "to_at" must not be null' USING ERRCODE = 'null_value_not_allowed', HINT = 'Give the first instant, and the first that is too late.';
    ELSIF from_at >= to_at OR from_at = '-infinity' OR to_at = 'infinity' THEN
        RAISE EXCEPTION 'argument "to_at" must be after "from_at", and both finite' USING ERRCODE = 'invalid_parameter_value', DETAIL = format('Got %s and %s.', from_at, to_at), HINT = 'The end is the first instant that is too late.';
    ELSIF to_at > dts._schedule_clock_now() THEN
        RAISE EXCEPTION 'argument "to_at" is in the future' USING ERRCODE = 'invalid_parameter_value', HINT = 'What is still to come the schedule fires itself.';
    ELSIF s.timing ~* '@reboot|after\s+end\s*$|^\s*@?after' THEN
        RAISE EXCEPTION 'schedule "%" has no past due times', name USING ERRCODE = 'feature_not_supported', HINT = 'Only cron, fixed intervals and instants can be filled back.';
    END IF;
    -- Bounds of the schedule are about its own runs, not about what is asked for here.
    s.starts_at := NULL; s.ends_at := NULL;
    INSERT INTO dts.backfill (schedule, from_at, to_at, max_parallel, newest_first, total)
    VALUES (s.id, _backfill.from_at, _backfill.to_at, COALESCE(_backfill.max_parallel, 1), COALESCE("order", 'oldest first') = 'newest first', 0) RETURNING id INTO b;
    INSERT INTO dts.backfill_due (backfill, due_at)
    SELECT b, d FROM dts._schedule_dues(s, _backfill.from_at - '1 us'::interval, _backfill.to_at - '1 us'::interval, 100001) d
    WHERE NOT (COALESCE(only_missing, false) AND (
        EXISTS (SELECT FROM dts.fire f JOIN dts.run r ON r.task = f.task AND r.outcome = 10 WHERE f.schedule = s.id AND f.due_at = d AND f.decision = 'fired')
        OR EXISTS (SELECT FROM dts.schedule_run r WHERE r.schedule = s.id AND r.due_at = d AND (r.ended_at IS NULL OR r.outcome = 10))));
    GET DIAGNOSTICS n = ROW_COUNT;
    IF n > 100000 THEN
        RAISE EXCEPTION 'backfill has more than 100000 due times' USING ERRCODE = 'program_limit_exceeded', HINT = 'Fill back in several steps.';
    END IF;
    UPDATE dts.backfill x SET total = n, state = CASE WHEN n = 0 THEN 'done' ELSE 'running' END, ended_at = CASE WHEN n = 0 THEN clock_timestamp() END WHERE x.id = b;
    PERFORM dts._audit(caller, 'backfill', name, NULL, jsonb_build_object('id', b, 'from', from_at, 'to', to_at, 'runs', n)), dts._changed('schedule', s.id);
    RETURN b;
END $$;
COMMENT ON FUNCTION dts._backfill(oid, text, timestamptz, timestamptz, int, text, boolean) IS 'dts.backfill, as the owner of the extension.';

CREATE FUNCTION dts._cancel_backfill(caller oid, backfill int) RETURNS int8
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE b dts.backfill; s dts.schedule; n int8;
BEGIN
    SELECT * INTO b FROM dts.backfill x WHERE x.id = _cancel_backfill.backfill FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'backfill % does not exist', COALESCE(backfill::text, 'NULL') USING ERRCODE = 'undefined_object', HINT = 'The view dts.backfills shows those there are.';
    END IF;
    SELECT * INTO s FROM dts.schedule x WHERE x.id = b.schedule;
    PERFORM dts._schedule_row(caller, s.name);
    DELETE FROM dts.backfill_due d WHERE d.backfill = b.id;
    GET DIAGNOSTICS n = ROW_COUNT;
    UPDATE dts.backfill x SET state = 'cancelled', ended_at = clock_timestamp() WHERE x.id = b.id AND x.state = 'running';
    PERFORM dts._audit(caller, 'cancel_backfill', s.name, to_jsonb(b), NULL);
    RETURN n;
END $$;
COMMENT ON FUNCTION dts._cancel_backfill(oid, int) IS 'dts.cancel_backfill, as the owner of the extension.';
CREATE FUNCTION dts.backfill(name text, from_at timestamptz, to_at timestamptz, max_parallel int DEFAULT 1, "order" text DEFAULT 'oldest first', only_missing boolean DEFAULT false) RETURNS int
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dts_as_owner';
COMMENT ON FUNCTION dts.backfill(text, timestamptz, timestamptz, int, text, boolean) IS
'Runs a schedule for its due times in [from_at, to_at), max_parallel at once, oldest first or newest first; only_missing leaves out those with a success in history. Returns the id of the backfill; dts.backfills shows progress.';
CREATE FUNCTION dts.cancel_backfill(backfill int) RETURNS int8 LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dts_as_owner';
COMMENT ON FUNCTION dts.cancel_backfill(int) IS 'Ends a backfill: runs that were submitted go on, the others are given up. Returns how many.';

CREATE VIEW dts.backfills WITH (security_barrier) AS
SELECT b.id, s.name AS schedule, b.from_at, b.to_at, b.state, b.total, (SELECT pg_catalog.count(*) FROM dts.backfill_due d WHERE d.backfill = b.id) AS waiting,
       r.running, b.succeeded + r.succeeded AS succeeded, b.failed + r.failed AS failed, b.max_parallel, CASE WHEN b.newest_first THEN 'newest first' ELSE 'oldest first' END AS "order",
       b.detail, b.created_at, b.ended_at
FROM dts.backfill b JOIN dts.schedule s ON s.id = b.schedule
CROSS JOIN LATERAL (SELECT pg_catalog.count(*) FILTER (WHERE x.ended_at IS NULL) AS running, pg_catalog.count(*) FILTER (WHERE x.outcome = 10) AS succeeded,
                           pg_catalog.count(*) FILTER (WHERE x.outcome <> 10) AS failed FROM dts.schedule_run x WHERE x.backfill = b.id) r
WHERE dts._caller_sees(s.owner);
COMMENT ON VIEW dts.backfills IS 'Backfills and their progress.';
