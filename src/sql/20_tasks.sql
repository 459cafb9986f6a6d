-- Unfinished tasks and what belongs to them. Fixed-width columns first: the claim reads them by fixed offsets.
-- Task states: 0 ready, 1 blocked, 2 leased, 3 waiting, 4 parked behind a concurrency key; ends: 10 succeeded, 11 failed, 12 expired, 13 cancelled, 14 skipped.
-- src/core/task_state.hpp holds the same numbers and the legal moves.

CREATE SEQUENCE dts.task_id_seq AS bigint;
COMMENT ON SEQUENCE dts.task_id_seq IS 'Task ids.';

CREATE TABLE dts.task (
    id bigint NOT NULL,
    run_at timestamptz NOT NULL,
    submitted_at timestamptz NOT NULL,
    lane int4 NOT NULL,
    timeout_ms int4 NOT NULL,
    handler int4 NOT NULL,
    flags int4 NOT NULL,
    state int2 NOT NULL,
    kind int2 NOT NULL,
    attempt int2 NOT NULL,
    max_attempts int2 NOT NULL,
    crashes int2 NOT NULL,
    expires_at timestamptz,
    lease_until timestamptz,
    token uuid,
    need int4,
    edges int4,
    ckey bigint,
    batch bigint,
    sql text,
    args jsonb,
    extra jsonb,
    CONSTRAINT task_pkey PRIMARY KEY (id)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0,
        autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 100000,
        autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 1000000, vacuum_truncate = false);
CREATE INDEX task_claim ON dts.task (lane, run_at, id) WHERE state = 0;
CREATE INDEX task_lease ON dts.task (lease_until) WHERE state = 2;
CREATE INDEX task_blocked ON dts.task (id) WHERE state IN (1, 3);
CREATE INDEX task_ckey ON dts.task (ckey, id) WHERE ckey IS NOT NULL;
CREATE INDEX task_batch ON dts.task (batch, id) WHERE batch IS NOT NULL;
CREATE INDEX task_expires ON dts.task (expires_at) WHERE expires_at IS NOT NULL;
COMMENT ON TABLE dts.task IS 'Unfinished tasks only: inserted, at most a few times updated, deleted in the transaction that ends them. Read the view dts.tasks.';

-- No foreign keys: their check would lock the parent's row, which an executor holds as long as the task runs.
CREATE TABLE dts.dependency (
    parent bigint NOT NULL,
    child bigint NOT NULL,
    accept int2 NOT NULL,
    counted boolean NOT NULL,
    outcome int2,
    CONSTRAINT dependency_pkey PRIMARY KEY (parent, child)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0,
        autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 100000,
        autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 1000000, vacuum_truncate = false);
CREATE INDEX dependency_child ON dts.dependency (child, parent);
CREATE INDEX dependency_decided ON dts.dependency (child) WHERE outcome IS NOT NULL;
COMMENT ON TABLE dts.dependency IS 'Edges among unfinished tasks: the ends of the parent that the child accepts, and, once the parent has ended in a way worth remembering, its outcome. Read the view dts.dependencies.';

CREATE TABLE dts.run (
    task bigint NOT NULL,
    ended_at timestamptz NOT NULL,
    started_at timestamptz,
    due_at timestamptz NOT NULL,
    submitted_at timestamptz NOT NULL,
    row_count bigint NOT NULL,
    lane int4 NOT NULL,
    handler int4 NOT NULL,
    worker_pid int4 NOT NULL,
    flags int4 NOT NULL,
    outcome int2 NOT NULL,
    kind int2 NOT NULL,
    attempt int2 NOT NULL,
    retry_at timestamptz,
    token uuid,
    batch bigint,
    sql text,
    result text,
    error jsonb,
    notices text,
    labels jsonb,
    agent text
) PARTITION BY RANGE (ended_at);
COMMENT ON TABLE dts.run IS 'History, one row for each attempt, append-only, partitioned by day; dts creates and drops the partitions. Read the view dts.runs.';

CREATE TABLE dts.dead_letter (
    id bigint PRIMARY KEY,
    failed_at timestamptz NOT NULL,
    submitted_at timestamptz NOT NULL,
    lane int4 NOT NULL,
    timeout_ms int4 NOT NULL,
    handler int4 NOT NULL,
    flags int4 NOT NULL,
    kind int2 NOT NULL,
    attempt int2 NOT NULL,
    max_attempts int2 NOT NULL,
    crashes int2 NOT NULL,
    batch bigint,
    sql text,
    args jsonb,
    extra jsonb,
    error jsonb
);
CREATE INDEX dead_letter_failed_at ON dts.dead_letter (failed_at);
COMMENT ON TABLE dts.dead_letter IS 'Tasks whose attempts are used up, kept whole for dts.redrive. Read the view dts.dead_letters.';

CREATE TABLE dts.key (
    owner regrole NOT NULL,
    key text NOT NULL,
    task bigint NOT NULL,
    keep interval,
    free_at timestamptz,
    PRIMARY KEY (owner, key)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX key_task ON dts.key (task);
CREATE INDEX key_free_at ON dts.key (free_at) WHERE free_at IS NOT NULL;
COMMENT ON TABLE dts.key IS 'Idempotency keys, unique for each owner. free_at: when a key whose task has ended is forgotten.';

CREATE TABLE dts.request (
    id uuid PRIMARY KEY DEFAULT pg_catalog.gen_random_uuid(),
    task bigint NOT NULL,
    kind text NOT NULL CHECK (kind IN ('cancel', 'reschedule', 'priority')),
    run_at timestamptz,
    priority int4,
    by_role regrole NOT NULL,
    at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);
CREATE INDEX request_task ON dts.request (task);
COMMENT ON TABLE dts.request IS 'Steering of tasks that somebody held when it was asked for; the scheduler applies it as soon as the task is free.';

CREATE TABLE dts.audit_entry (
    at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    who regrole NOT NULL,
    action text NOT NULL,
    object text NOT NULL,
    before jsonb,
    after jsonb
);
CREATE INDEX audit_entry_at ON dts.audit_entry (at);
COMMENT ON TABLE dts.audit_entry IS 'Who steered or changed what, when, before and after. Read the view dts.audit.';

ALTER TABLE dts.site ENABLE ROW LEVEL SECURITY;
ALTER TABLE dts.queue ENABLE ROW LEVEL SECURITY;
ALTER TABLE dts.lane ENABLE ROW LEVEL SECURITY;
ALTER TABLE dts.handler ENABLE ROW LEVEL SECURITY;
ALTER TABLE dts.limit_entry ENABLE ROW LEVEL SECURITY;
ALTER TABLE dts.task ENABLE ROW LEVEL SECURITY;
ALTER TABLE dts.dependency ENABLE ROW LEVEL SECURITY;
ALTER TABLE dts.run ENABLE ROW LEVEL SECURITY;
ALTER TABLE dts.dead_letter ENABLE ROW LEVEL SECURITY;
ALTER TABLE dts.key ENABLE ROW LEVEL SECURITY;
ALTER TABLE dts.request ENABLE ROW LEVEL SECURITY;
ALTER TABLE dts.audit_entry ENABLE ROW LEVEL SECURITY;
