-- Notifications: who wants to be told of which ends of which tasks, and how.

CREATE TABLE dts.notification (
    id int4 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE,
    owner regrole NOT NULL,
    events text[] NOT NULL,
    target jsonb NOT NULL,
    queue int4,
    handler int4,
    schedule text,
    workflow text,
    labels jsonb,
    task int8,
    longer_than interval,
    per_minute int4 NOT NULL,
    paused boolean NOT NULL DEFAULT false,
    description text,
    created_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);
COMMENT ON TABLE dts.notification IS 'Notifications: of which ends of which tasks somebody is told, and how. Read the view dts.notifications.';

-- As many rows as a notification may be sent in a minute; each is used once in any minute. Taken with SKIP LOCKED, so that nobody waits for somebody else's commit,
-- and the limit is exact: a row that another transaction holds is as good as used.
CREATE TABLE dts.notification_place (
    notification int4 NOT NULL,
    n int4 NOT NULL,
    free_at timestamptz NOT NULL DEFAULT '-infinity',
    sent int8 NOT NULL DEFAULT 0,
    PRIMARY KEY (notification, n)
) WITH (fillfactor = 50);
COMMENT ON TABLE dts.notification_place IS 'What a notification may send in a minute: one row for each, with when it may be used again.';

-- Only ever added to and taken off by whoever sends next: no row that many would wait for.
CREATE TABLE dts.notification_held (
    notification int4 NOT NULL,
    task int8 NOT NULL,
    event text NOT NULL,
    at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);
CREATE INDEX notification_held_notification ON dts.notification_held (notification);
COMMENT ON TABLE dts.notification_held IS 'Events that were above the limit of their notification: the next one that is sent counts them.';

CREATE TABLE dts.notification_late (
    task int8 NOT NULL,
    attempt int2 NOT NULL,
    notification int4 NOT NULL,
    at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    PRIMARY KEY (task, attempt, notification)
);
COMMENT ON TABLE dts.notification_late IS 'Attempts of whose length somebody was told, each once.';
ALTER TABLE dts.notification ENABLE ROW LEVEL SECURITY;
ALTER TABLE dts.notification_place ENABLE ROW LEVEL SECURITY;
ALTER TABLE dts.notification_held ENABLE ROW LEVEL SECURITY;
ALTER TABLE dts.notification_late ENABLE ROW LEVEL SECURITY;
