-- Operations: partitions and retention of history, adoption, rescan.

CREATE FUNCTION dts._maintain_history(patience_ms int DEFAULT 0) RETURNS int
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET datestyle = 'ISO' SET default_tablespace = '' SET default_table_access_method = 'heap'
    SET default_toast_compression = 'pglz' SET quote_all_identifiers = off AS $$
DECLARE
    today date := (clock_timestamp() AT TIME ZONE 'UTC')::date; d date; part record; oldest timestamptz; left_over int := 0; name text;
BEGIN
    FOR d IN SELECT x::date FROM generate_series(today - 1, today + 3, '1 day') x LOOP
        name := 'run_' || to_char(d, 'YYYYMMDD');
        IF to_regclass('dts.' || name) IS NULL THEN
            BEGIN
                -- Made apart and attached: attaching does not wait for readers or writers of the parent.
                EXECUTE format('CREATE TABLE dts.%I (LIKE dts.run INCLUDING DEFAULTS INCLUDING CONSTRAINTS, CHECK (ended_at >= %L AND ended_at < %L))', name, d, d + 1);
                EXECUTE format('ALTER TABLE dts.%I ENABLE ROW LEVEL SECURITY', name);
                -- Each partition has its own index: one on the parent would be made again by a restore, under the name that the dump uses.
                EXECUTE format('CREATE INDEX %I ON dts.%I (task)', name || '_task', name);
                EXECUTE format('ALTER TABLE dts.run ATTACH PARTITION dts.%I FOR VALUES FROM (%L) TO (%L)', name, d, d + 1);
            -- The scheduler and a session that must write history before it has begun may both be here.
            EXCEPTION WHEN duplicate_table OR unique_violation THEN NULL;
            END;
        END IF;
    END LOOP;
    IF patience_ms <= 0 THEN
        RETURN 0;
    END IF;
    SELECT clock_timestamp() - max(retention) INTO oldest FROM dts.queue;
    FOR part IN
        SELECT c.oid::regclass AS rel FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'dts.run'::regclass AND c.relname ~ '^run_[0-9]{8}$' AND to_date(substr(c.relname, 5), 'YYYYMMDD') + 1 < oldest
    LOOP
        -- The parent is locked for the drop only, which makes new readers wait, never writers; behind a long reader it is given up and tried again.
        BEGIN
            PERFORM set_config('lock_timeout', patience_ms::text, true);
            EXECUTE format('DROP TABLE %s', part.rel);
        EXCEPTION WHEN lock_not_available THEN left_over := left_over + 1;
        END;
        SET LOCAL lock_timeout = 0;
    END LOOP;
    RETURN left_over;
END $$;
COMMENT ON FUNCTION dts._maintain_history(int) IS 'Creates the partitions of dts.run ahead and, with patience, drops those older than every queue''s retention. Returns how many could not be dropped because somebody read them.';

CREATE FUNCTION dts._purge(max_rows int) RETURNS bigint
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE n bigint; total bigint := 0; longest interval; now timestamptz := clock_timestamp();
BEGIN
    SELECT max(retention) INTO longest FROM dts.queue;
    WITH old AS (SELECT r.ctid, r.tableoid FROM dts.queue q JOIN dts.lane l ON l.queue = q.id LEFT JOIN dts.limit_entry e ON (e.scope, e.owner) = ('owner', l.owner)
                 JOIN dts.run r ON r.lane = l.id AND r.ended_at < now - least(q.retention, e.retention)
                 WHERE least(q.retention, e.retention) < longest LIMIT max_rows)
    DELETE FROM dts.run r USING old WHERE r.ctid = old.ctid AND r.tableoid = old.tableoid;
    GET DIAGNOSTICS n = ROW_COUNT; total := total + n;
    DELETE FROM dts.dead_letter d USING (SELECT x.id FROM dts.queue q JOIN dts.lane l ON l.queue = q.id LEFT JOIN dts.limit_entry e ON (e.scope, e.owner) = ('owner', l.owner)
                                           JOIN dts.dead_letter x ON x.lane = l.id AND x.failed_at < now - least(q.retention, e.retention) LIMIT max_rows) old
    WHERE d.id = old.id;
    GET DIAGNOSTICS n = ROW_COUNT; total := total + n;
    DELETE FROM dts.key k USING (SELECT x.owner, x.key FROM dts.key x WHERE x.free_at < now LIMIT max_rows FOR UPDATE SKIP LOCKED) old WHERE (k.owner, k.key) = (old.owner, old.key);
    GET DIAGNOSTICS n = ROW_COUNT; total := total + n;
    WITH old AS (SELECT r.id FROM dts.workflow_run r WHERE r.ended_at < now - longest LIMIT max_rows),
         n AS (DELETE FROM dts.workflow_node x USING old WHERE x.run = old.id), s AS (DELETE FROM dts.signal x USING old WHERE x.run = old.id)
    DELETE FROM dts.workflow_run x USING old WHERE x.id = old.id;
    GET DIAGNOSTICS n = ROW_COUNT; total := total + n;
    DELETE FROM dts.log_chunk c WHERE c.ctid = ANY (ARRAY(SELECT x.ctid FROM dts.log_chunk x JOIN dts.lane l ON l.id = x.lane JOIN dts.queue q ON q.id = l.queue
        WHERE x.at < now - (SELECT min(y.retention) FROM dts.queue y) AND x.at < now - q.retention LIMIT max_rows));
    GET DIAGNOSTICS n = ROW_COUNT; total := total + n;
    DELETE FROM dts.agent a WHERE a.seen_at < now - '7 days'::interval AND NOT EXISTS (SELECT FROM dts.lease l WHERE (l.role, l.agent) = (a.role, a.name));
    DELETE FROM dts.fire f WHERE f.ctid = ANY (ARRAY(SELECT x.ctid FROM dts.fire x WHERE x.decided_at < now - longest LIMIT max_rows));
    GET DIAGNOSTICS n = ROW_COUNT; total := total + n;
    -- Batches of which everything ended long ago. Nobody adds to a row of dts.batch that is older than a day.
    WITH old AS (SELECT b.id FROM dts.batch b LEFT JOIN LATERAL (SELECT max(t.at) AS at, sum(CASE WHEN t.what = 0 THEN t.n ELSE -t.n END) AS open FROM dts.batch_tally t WHERE t.batch = b.id) c ON true
                 WHERE b.created_at < now - greatest(longest, '3 days') AND COALESCE(c.at < now - longest AND c.open = 0, true) LIMIT max_rows),
         n AS (DELETE FROM dts.batch_tally x USING old WHERE x.batch = old.id)
    DELETE FROM dts.batch b USING old WHERE b.id = old.id;
    GET DIAGNOSTICS n = ROW_COUNT; total := total + n;
    -- Notifications of one task go with it.
    DELETE FROM dts.notification n WHERE n.task IS NOT NULL AND NOT EXISTS (SELECT FROM dts.task t WHERE t.id = n.task) AND NOT EXISTS (SELECT FROM dts.dead_letter d WHERE d.id = n.task);
    DELETE FROM dts.notification_place p WHERE NOT EXISTS (SELECT FROM dts.notification n WHERE n.id = p.notification);
    DELETE FROM dts.notification_held h WHERE NOT EXISTS (SELECT FROM dts.notification n WHERE n.id = h.notification);
    DELETE FROM dts.audit_entry a WHERE a.ctid = ANY (ARRAY(SELECT x.ctid FROM dts.audit_entry x WHERE x.at < now - longest LIMIT max_rows));
    GET DIAGNOSTICS n = ROW_COUNT; total := total + n;
    RETURN total;
END $$;
COMMENT ON FUNCTION dts._purge(int) IS 'Removes history, dead letters, runs of workflows, forgotten keys and audit entries beyond retention, at most max_rows of each.';

CREATE FUNCTION dts._rescan(caller oid) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM dts._changed('rescan', 0), dts._audit(caller, 'rescan', current_database(), NULL, NULL);
END $$;
COMMENT ON FUNCTION dts._rescan(oid) IS 'dts.rescan, as the owner of the extension.';
CREATE FUNCTION dts.rescan() RETURNS void LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dts_as_owner';
COMMENT ON FUNCTION dts.rescan() IS 'Makes the executors look through all tasks again, after rows of dts were written behind its functions. For administrators.';

CREATE FUNCTION dts._place(OUT system_identifier bigint, OUT database oid, OUT site text) RETURNS record
    LANGUAGE c STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'dts_place';
COMMENT ON FUNCTION dts._place() IS 'The place where this database is now: system identifier, database, dts.site.';

CREATE FUNCTION dts._adopt(caller oid) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE before jsonb;
BEGIN
    SELECT jsonb_agg(to_jsonb(s)) INTO before FROM dts.site s;
    DELETE FROM dts.site;
    INSERT INTO dts.site (system_identifier, database, site) SELECT p.system_identifier, p.database, p.site FROM dts._place() p;
    PERFORM dts._audit(caller, 'adopt', current_database(), before, (SELECT to_jsonb(s) FROM dts.site s)), dts._changed('adopt', 0);
END $$;
COMMENT ON FUNCTION dts._adopt(oid) IS 'dts.adopt, as the owner of the extension.';
CREATE FUNCTION dts.adopt() RETURNS void LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dts_as_owner';
COMMENT ON FUNCTION dts.adopt() IS 'Accepts that this database runs tasks here, after a restore, a clone or pg_upgrade. Make sure that the original does not run any more. For administrators.';

CREATE FUNCTION dts.version() RETURNS text LANGUAGE c STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'dts_version';
COMMENT ON FUNCTION dts.version() IS 'The version of the library that the server has loaded.';
