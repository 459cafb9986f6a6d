-- Batches: tasks submitted under one name. Their counts are sums over dts.batch_tally: each transaction adds a row of its own for what it did
-- to a batch, so nobody waits for a counter, and what rolled back was never counted.

CREATE TABLE dts.batch (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    owner regrole NOT NULL,
    name text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);
CREATE INDEX batch_lookup ON dts.batch (name, owner);
COMMENT ON TABLE dts.batch IS 'Batches by owner and name. Not unique on purpose: two sessions that begin the same batch at once do not wait for each other; what is asked about a batch is asked about all rows of its name. Read the view dts.batches.';

CREATE TABLE dts.batch_tally (
    batch bigint NOT NULL,
    at timestamptz NOT NULL,
    n bigint NOT NULL,
    what int2 NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0,
        autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 100000);
CREATE INDEX batch_tally_batch ON dts.batch_tally (batch);
COMMENT ON TABLE dts.batch_tally IS 'What transactions did to batches: n tasks submitted (what 0) or ended (what 10 to 14). The scheduler adds old rows up.';

ALTER TABLE dts.batch ENABLE ROW LEVEL SECURITY;
ALTER TABLE dts.batch_tally ENABLE ROW LEVEL SECURITY;
