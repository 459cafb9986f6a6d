-- Schedules: definitions, where each stands, what was decided, and which of their tasks have not ended. docs/schedules.md.

CREATE TABLE dts.calendar (
    name text PRIMARY KEY,
    owner regrole NOT NULL,
    entries text[] NOT NULL,
    description text,
    created_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);
COMMENT ON TABLE dts.calendar IS 'Calendars: named sets of days and hours for schedules. Read the view dts.calendars.';

CREATE TABLE dts.schedule (
    id int4 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE,
    owner regrole NOT NULL,
    timing text NOT NULL,
    zone text NOT NULL DEFAULT 'UTC',
    what jsonb NOT NULL,
    both_days boolean NOT NULL DEFAULT false,
    only_in text,
    not_in text,
    shift text CHECK (shift IN ('next', 'previous')),
    starts_at timestamptz,
    ends_at timestamptz,
    max_runs int8,
    jitter interval,
    missed text NOT NULL DEFAULT 'once' CHECK (missed IN ('skip', 'once', 'all', 'within')),
    missed_max int4 NOT NULL DEFAULT 100,
    missed_within interval,
    overlap text NOT NULL DEFAULT 'skip' CHECK (overlap IN ('skip', 'queue one', 'queue all', 'replace', 'allow')),
    overlap_max int4 NOT NULL DEFAULT 1,
    late interval,
    paused boolean NOT NULL DEFAULT false,
    description text,
    created_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);
COMMENT ON TABLE dts.schedule IS 'Schedules: a timing and what it submits. Read the view dts.schedules.';

CREATE TABLE dts.schedule_clock (
    schedule int4 PRIMARY KEY,
    fired_until timestamptz NOT NULL,
    passed_until timestamptz NOT NULL DEFAULT '-infinity',
    next_fire timestamptz,
    runs int8 NOT NULL DEFAULT 0,
    succeeded int8 NOT NULL DEFAULT 0,
    failed int8 NOT NULL DEFAULT 0,
    waiting timestamptz[] NOT NULL DEFAULT '{}',
    last_due timestamptz,
    last_fired_at timestamptz,
    last_task int8,
    last_success timestamptz,
    last_end timestamptz,
    trouble text
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0, vacuum_truncate = false);
CREATE INDEX schedule_owner ON dts.schedule (owner);
CREATE INDEX schedule_clock_next ON dts.schedule_clock (next_fire, schedule);
COMMENT ON TABLE dts.schedule_clock IS 'Where each schedule stands. Everything due up to fired_until is decided; this moves in the transaction that creates the task. Due times after it and up to passed_until were decided by a clock that was set back since: what was fired then is not fired again.';

CREATE TABLE dts.schedule_run (
    task int8 PRIMARY KEY,
    schedule int4 NOT NULL,
    due_at timestamptz NOT NULL,
    backfill int4,
    wakes boolean NOT NULL,
    ended_at timestamptz,
    outcome int2
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX schedule_run_schedule ON dts.schedule_run (schedule);
CREATE INDEX schedule_run_woke ON dts.schedule_run (ended_at) WHERE wakes AND ended_at IS NOT NULL;
COMMENT ON TABLE dts.schedule_run IS 'Tasks of schedules that have not ended, or whose end the scheduler has not counted yet.';

CREATE TABLE dts.fire (
    schedule int4 NOT NULL,
    decided_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    due_at timestamptz NOT NULL,
    due_to timestamptz NOT NULL,
    count int8 NOT NULL,
    decision text NOT NULL,
    reason text NOT NULL,
    task int8,
    detail text
);
CREATE INDEX fire_schedule ON dts.fire (schedule, due_at);
CREATE INDEX fire_decided_at ON dts.fire (decided_at);
COMMENT ON TABLE dts.fire IS 'What was decided for each due time of each schedule, and why. Read the view dts.fires.';

CREATE TABLE dts.backfill (
    id int4 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    schedule int4 NOT NULL,
    from_at timestamptz NOT NULL,
    to_at timestamptz NOT NULL,
    max_parallel int4 NOT NULL,
    newest_first boolean NOT NULL,
    total int8 NOT NULL,
    state text NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'done', 'cancelled', 'failed')),
    succeeded int8 NOT NULL DEFAULT 0,
    failed int8 NOT NULL DEFAULT 0,
    detail text,
    created_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    ended_at timestamptz
);
COMMENT ON TABLE dts.backfill IS 'Backfills: past due times of a schedule that are run again or for the first time. Read the view dts.backfills.';

CREATE TABLE dts.backfill_due (
    backfill int4 NOT NULL,
    due_at timestamptz NOT NULL,
    PRIMARY KEY (backfill, due_at)
);
COMMENT ON TABLE dts.backfill_due IS 'Due times of backfills that have not been submitted yet.';

CREATE TABLE dts.zone (
    name text PRIMARY KEY,
    print int8
);
COMMENT ON TABLE dts.zone IS 'The clock changes of the zones that schedules use, as a hash: another edition of the zone database shows.';

ALTER TABLE dts.zone ENABLE ROW LEVEL SECURITY;
ALTER TABLE dts.calendar ENABLE ROW LEVEL SECURITY;
ALTER TABLE dts.schedule ENABLE ROW LEVEL SECURITY;
ALTER TABLE dts.schedule_clock ENABLE ROW LEVEL SECURITY;
ALTER TABLE dts.schedule_run ENABLE ROW LEVEL SECURITY;
ALTER TABLE dts.fire ENABLE ROW LEVEL SECURITY;
ALTER TABLE dts.backfill ENABLE ROW LEVEL SECURITY;
ALTER TABLE dts.backfill_due ENABLE ROW LEVEL SECURITY;
