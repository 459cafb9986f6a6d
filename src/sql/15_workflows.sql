-- Workflows: definitions with immutable versions, runs, and which task is which node of which run. The work itself is tasks.

CREATE TABLE dts.workflow (
    id int4 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE,
    owner regrole NOT NULL,
    version int4 NOT NULL,
    description text,
    dropped_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);
COMMENT ON TABLE dts.workflow IS 'Workflows by name, with the version that new runs take. Read the view dts.workflows.';

CREATE TABLE dts.workflow_version (
    workflow int4 NOT NULL,
    version int4 NOT NULL,
    definition jsonb NOT NULL,
    plan jsonb NOT NULL,
    created_by regrole NOT NULL,
    created_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    PRIMARY KEY (workflow, version)
);
COMMENT ON TABLE dts.workflow_version IS 'Versions of workflows, never changed: as they were defined, and compiled.';

-- Ids of runs are those of tasks, so that a run can be asked for where a task can.
CREATE TABLE dts.workflow_run (
    id bigint PRIMARY KEY,
    workflow int4 NOT NULL,
    version int4 NOT NULL,
    owner regrole NOT NULL,
    state text NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'cancelling', 'succeeded', 'failed', 'cancelled')),
    paused boolean NOT NULL DEFAULT false,
    attempt int4 NOT NULL DEFAULT 1,
    depth int4 NOT NULL DEFAULT 0,
    parent_task bigint,
    key text,
    params jsonb NOT NULL,
    output jsonb,
    labels jsonb,
    schedule jsonb,
    started_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    ended_at timestamptz,
    deadline timestamptz,
    gate text,
    due_at timestamptz,
    begun_at timestamptz,
    left_at timestamptz
);
CREATE UNIQUE INDEX workflow_run_key ON dts.workflow_run (workflow, owner, key) WHERE key IS NOT NULL;
CREATE INDEX workflow_run_ended_at ON dts.workflow_run (ended_at);
CREATE INDEX workflow_run_gate ON dts.workflow_run (workflow, gate, begun_at, due_at, id) WHERE gate IS NOT NULL AND left_at IS NULL;
COMMENT ON TABLE dts.workflow_run IS 'Instances of workflows. gate: the concurrency key, if the workflow has a limit; since due_at the run waits, from begun_at to left_at it has a place. Read the view dts.workflow_runs.';

CREATE TABLE dts.workflow_node (
    run bigint NOT NULL,
    node text NOT NULL,
    idx int4 NOT NULL,
    task bigint NOT NULL,
    item jsonb,
    child_run bigint,
    memory jsonb,
    PRIMARY KEY (run, node, idx)
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.1);
CREATE INDEX workflow_node_task ON dts.workflow_node (task);
COMMENT ON TABLE dts.workflow_node IS 'Which task is which node of which run. idx: 0 for the node itself, else the item of a map, or the turn of a loop. memory: what a node has done before it waited. Read the view dts.workflow_nodes.';

CREATE TABLE dts.signal (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run bigint NOT NULL,
    name text NOT NULL,
    payload jsonb,
    by_role regrole NOT NULL,
    at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    taken_by bigint
);
CREATE INDEX signal_run ON dts.signal (run, name);
COMMENT ON TABLE dts.signal IS 'Signals to runs, and decisions on approvals, kept until a node takes them and as long as the run.';

ALTER TABLE dts.workflow ENABLE ROW LEVEL SECURITY;
ALTER TABLE dts.workflow_version ENABLE ROW LEVEL SECURITY;
ALTER TABLE dts.workflow_run ENABLE ROW LEVEL SECURITY;
ALTER TABLE dts.workflow_node ENABLE ROW LEVEL SECURITY;
ALTER TABLE dts.signal ENABLE ROW LEVEL SECURITY;
