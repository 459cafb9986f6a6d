-- Definitions: queues, lanes, handlers. Kept by pg_dump. Only the owner of the extension writes here.

CREATE TABLE dts.site (
    system_identifier bigint NOT NULL,
    database oid NOT NULL,
    site text NOT NULL,
    adopted_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);
COMMENT ON TABLE dts.site IS 'Where this database may run tasks. A row that names another place (a restored dump, a clone) fences the database until dts.adopt().';

CREATE TABLE dts.queue (
    id int4 GENERATED ALWAYS AS IDENTITY (START WITH 2) PRIMARY KEY,
    name text NOT NULL UNIQUE,
    paused boolean NOT NULL DEFAULT false,
    batch_size int4 NOT NULL DEFAULT 1 CHECK (batch_size BETWEEN 1 AND 60),
    durable boolean NOT NULL DEFAULT false,
    history text NOT NULL DEFAULT 'all' CHECK (history IN ('all', 'failures', 'none')),
    retention interval NOT NULL DEFAULT '30 days',
    priority int4 NOT NULL DEFAULT 5 CHECK (priority BETWEEN 0 AND 9),
    max_attempts int4 NOT NULL DEFAULT 5 CHECK (max_attempts BETWEEN 1 AND 1000),
    retry jsonb,
    timeout interval,
    expires interval,
    dropped_at timestamptz,
    description text,
    created_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);
COMMENT ON TABLE dts.queue IS 'Queues: a named set of tasks with limits, defaults and a pause switch. Read the view dts.queues.';

-- A restore brings the default queue with the settings it had, and finds the new one that CREATE EXTENSION made.
CREATE FUNCTION dts._default_queue() RETURNS trigger
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM dts.queue q WHERE q.id = NEW.id;
    RETURN NEW;
END $$;
COMMENT ON FUNCTION dts._default_queue() IS 'The default queue of a dump takes the place of the one that CREATE EXTENSION made.';
CREATE TRIGGER default_queue BEFORE INSERT ON dts.queue FOR EACH ROW WHEN (NEW.id = 1) EXECUTE FUNCTION dts._default_queue();
COMMENT ON TRIGGER default_queue ON dts.queue IS 'The default queue of a dump takes the place of the one that CREATE EXTENSION made.';

CREATE TABLE dts.lane (
    id int4 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    owner regrole NOT NULL,
    queue int4 NOT NULL,
    tenant text NOT NULL DEFAULT '',
    priority int4 NOT NULL,
    handler int4 NOT NULL DEFAULT 0,
    runner int2 NOT NULL DEFAULT 0,
    requires text NOT NULL DEFAULT ''
);
CREATE INDEX lane_lookup ON dts.lane (owner, queue, priority, tenant, handler, runner, requires);
COMMENT ON TABLE dts.lane IS 'The unit of claiming: one (owner, queue, tenant, priority, handler, runner: 0 executor, 1 courier, 2 agent; labels that an agent must offer). Not unique on purpose: two sessions that make the same lane at once never wait for each other.';

CREATE TABLE dts.handler (
    id int4 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE,
    owner regrole NOT NULL,
    kind text NOT NULL DEFAULT 'sql' CHECK (kind IN ('sql', 'http', 'mail', 'external')),
    sql text,
    spec jsonb,
    requires text NOT NULL DEFAULT '',
    shared boolean NOT NULL DEFAULT false,
    queue text,
    priority int4 CHECK (priority BETWEEN 0 AND 9),
    max_attempts int4 CHECK (max_attempts BETWEEN 1 AND 1000),
    retry jsonb,
    timeout interval,
    expires interval,
    transactional boolean NOT NULL DEFAULT true,
    capture boolean NOT NULL DEFAULT true,
    dropped_at timestamptz,
    description text,
    created_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);
COMMENT ON TABLE dts.handler IS 'Handlers: named, reusable task definitions, submitted with a JSON payload. Read the view dts.handlers.';

CREATE TABLE dts.limit_entry (
    id int4 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    scope text NOT NULL CHECK (scope IN ('queue', 'handler', 'owner', 'tenant', 'priority')),
    queue int4 NOT NULL DEFAULT 0,
    handler int4 NOT NULL DEFAULT 0,
    owner regrole NOT NULL,
    tenant text NOT NULL DEFAULT '',
    priority int4 NOT NULL DEFAULT 0 CHECK (priority BETWEEN 0 AND 9),
    paused boolean NOT NULL DEFAULT false,
    concurrency int4 CHECK (concurrency >= 0),
    rate int4 CHECK (rate > 0),
    per interval NOT NULL DEFAULT '1 second',
    burst int4 CHECK (burst > 0),
    max_waiting bigint CHECK (max_waiting >= 0),
    max_bytes bigint CHECK (max_bytes >= 0),
    reserved int4 CHECK (reserved > 0),
    retention interval,
    weight int4 CHECK (weight BETWEEN 1 AND 1000),
    key_concurrency int4 CHECK (key_concurrency > 0),
    key_fifo boolean NOT NULL DEFAULT false,
    changed_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    UNIQUE (scope, queue, handler, owner, tenant, priority)
);
COMMENT ON TABLE dts.limit_entry IS 'Limits and pauses of queues, handlers, owners and tenants. Read the view dts.limits.';
