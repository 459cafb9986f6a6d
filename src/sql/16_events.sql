-- Subscriptions: what is submitted when an event is emitted, or when rows of a table change.

CREATE TABLE dts.subscription (
    id int4 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE,
    owner regrole NOT NULL,
    topic text,
    relation text,
    operations text[],
    task jsonb NOT NULL,
    each boolean NOT NULL DEFAULT false,
    match jsonb,
    condition text,
    roles text[],
    min_rows bigint,
    within interval,
    quiet interval,
    trouble text,
    description text,
    created_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    CONSTRAINT subscription_source CHECK ((topic IS NULL) <> (relation IS NULL))
);
CREATE INDEX subscription_topic ON dts.subscription (topic);
COMMENT ON TABLE dts.subscription IS 'What is submitted on events and changes of tables. Read the view dts.subscriptions.';

-- Append-only, so that writers of the same table never wait for each other; the scheduler adds up.
CREATE TABLE dts.change_count (
    subscription int4 NOT NULL,
    rows bigint NOT NULL,
    first_at timestamptz NOT NULL,
    last_at timestamptz NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX change_count_subscription ON dts.change_count (subscription);
COMMENT ON TABLE dts.change_count IS 'Rows that have changed since a subscription with a threshold was last due.';

CREATE TABLE dts.event_waiter (
    run bigint NOT NULL,
    node text NOT NULL,
    topic text NOT NULL,
    match jsonb NOT NULL,
    roles jsonb,
    PRIMARY KEY (run, node)
);
CREATE INDEX event_waiter_topic ON dts.event_waiter (topic);
COMMENT ON TABLE dts.event_waiter IS 'Nodes of unfinished runs that wait for an event.';

ALTER TABLE dts.subscription ENABLE ROW LEVEL SECURITY;
ALTER TABLE dts.change_count ENABLE ROW LEVEL SECURITY;
ALTER TABLE dts.event_waiter ENABLE ROW LEVEL SECURITY;
