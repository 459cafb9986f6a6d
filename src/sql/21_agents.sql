-- What belongs to programs outside the server that run tasks: leases, presence, rights, log lines.

CREATE TABLE dts.lease (
    token uuid PRIMARY KEY,
    task bigint NOT NULL,
    started_at timestamptz NOT NULL,
    until timestamptz NOT NULL,
    deadline timestamptz,
    period interval NOT NULL,
    role regrole NOT NULL,
    log_bytes int4 NOT NULL DEFAULT 0,
    log_seq int4 NOT NULL DEFAULT 0,
    ended int2,
    agent text NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX lease_task ON dts.lease (task);
CREATE INDEX lease_until ON dts.lease (until);
COMMENT ON TABLE dts.lease IS 'Tasks that agents have in hand, one row for each claim that has not ended: until when, whose. ended: the task was cancelled, and the agent is to hear of it. Read the views dts.running and dts.agents.';

CREATE TABLE dts.agent (
    role regrole NOT NULL,
    name text NOT NULL,
    since timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    seen_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    queues int4[] NOT NULL DEFAULT '{}',
    labels text[] NOT NULL DEFAULT '{}',
    PRIMARY KEY (role, name)
);
COMMENT ON TABLE dts.agent IS 'Agents that were seen lately. Read the view dts.agents.';

CREATE TABLE dts.agent_grant (
    role regrole NOT NULL,
    queue int4 NOT NULL,
    granted_by regrole NOT NULL,
    granted_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    PRIMARY KEY (role, queue)
);
COMMENT ON TABLE dts.agent_grant IS 'Which roles may claim tasks from which queues. Read the view dts.agent_queues.';

CREATE TABLE dts.log_chunk (
    task bigint NOT NULL,
    attempt int2 NOT NULL,
    seq int4 NOT NULL,
    lane int4 NOT NULL,
    at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    stream text NOT NULL,
    chunk text NOT NULL,
    PRIMARY KEY (task, attempt, seq)
);
CREATE INDEX log_chunk_at ON dts.log_chunk (at);
COMMENT ON TABLE dts.log_chunk IS 'What agents logged while they ran a task. Read dts.task_log.';

ALTER TABLE dts.lease ENABLE ROW LEVEL SECURITY;
ALTER TABLE dts.agent ENABLE ROW LEVEL SECURITY;
ALTER TABLE dts.agent_grant ENABLE ROW LEVEL SECURITY;
ALTER TABLE dts.log_chunk ENABLE ROW LEVEL SECURITY;
