"""Outside workers: claim and complete over libpq, beside the usual hand-written queue (FOR UPDATE SKIP LOCKED, a history row, a token)."""
from dts import Dts
from pg import SqlError
from work_flow import no_dts

CLIENTS = 8

QUEUE = """
CREATE TABLE job (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, argv text[] NOT NULL, state int NOT NULL DEFAULT 0, token uuid);
CREATE INDEX job_ready ON job (id) WHERE state = 0;
ALTER TABLE job SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_cost_delay = 0, fillfactor = 80);
CREATE TABLE job_done (id bigint, ended_at timestamptz, result jsonb);
GRANT ALL ON job, job_done TO bench_app"""

# Two transactions each, as a worker does: claim, and complete when the work is done. Arrays, so that one script serves all sizes.
SCRIPTS = {
    "dts": """SELECT COALESCE(array_agg(task), '{{}}') AS tasks, COALESCE(array_agg(token), '{{}}') AS tokens FROM dts.claim('bench :client_id', ARRAY['q'], max => {size}) \\gset
SELECT count(dts.complete(x.task, x.token, '{{"ok": true}}')) FROM unnest(':tasks'::bigint[], ':tokens'::uuid[]) x (task, token);
""",
    "hand-written": """WITH c AS (UPDATE job SET state = 1, token = gen_random_uuid() WHERE id IN (SELECT id FROM job WHERE state = 0 ORDER BY id LIMIT {size} FOR UPDATE SKIP LOCKED) RETURNING id, token)
SELECT COALESCE(array_agg(id), '{{}}') AS tasks, COALESCE(array_agg(token), '{{}}') AS tokens FROM c \\gset
WITH d AS (DELETE FROM job j USING unnest(':tasks'::bigint[], ':tokens'::uuid[]) x (id, token) WHERE (j.id, j.token) = (x.id, x.token) RETURNING j.id) INSERT INTO job_done SELECT id, clock_timestamp(), '{{"ok": true}}' FROM d;
"""}


def fill(dts, label, n):
    if label == "dts":
        dts.app.run(f"SELECT count(dts.submit_command(ARRAY['true'], queue => 'q')) FROM generate_series(1, {n})")
        dts.admin.run("VACUUM dts.task")
    else:
        dts.admin.run(f"INSERT INTO job (argv) SELECT ARRAY['true'] FROM generate_series(1, {n})")
        dts.admin.run("VACUUM job")


def left(dts, label):
    return int(dts.admin.value("SELECT count(*) FROM " + ("dts.task" if label == "dts" else "job")))


def agents(bench, name):
    if no_dts(bench, name):
        return
    dts = Dts(bench.server, "bench_agents")
    dts.queue("q", 1, paused=False)
    dts.admin.run("SELECT dts.grant_agent('bench_app', ARRAY['q'])")
    dts.admin.run(QUEUE)
    for size in (1, 20):
        rates, cpus = {k: [] for k in SCRIPTS}, {k: [] for k in SCRIPTS}
        for turn in range(bench.repeats + 1):
            seconds = 1 if turn == 0 else bench.pick(2, 10)
            n = seconds * (10_000 if size == 1 else 80_000)
            for label, script in SCRIPTS.items():
                fill(dts, label, n)
                cpu = dts.cpu()
                bench.server.pgbench(dts.database, script.format(size=size), "-c", CLIENTS, "-j", 2, "-T", seconds, user="bench_app")
                cpu, rest = dts.cpu() - cpu, left(dts, label)
                if rest in (0, n):
                    raise SqlError(f"{label}: {rest} of {n} tasks are left after {seconds} s")
                if turn > 0:
                    rates[label].append((n - rest) / seconds)
                    cpus[label].append(cpu / (n - rest) * 1e6)
                clear(dts, label)
        for label in SCRIPTS:
            bench.report.figure(name, f"{label}, {CLIENTS} workers, {size} at a time, durable", rates[label], "tasks/s", cpus[label])
        bench.report.ratio(name, f"dts / hand-written queue, {size} at a time", rates["dts"], rates["hand-written"])
    dts.close()


def clear(dts, label):
    if label == "dts":
        dts.admin.run("SELECT count(dts.cancel(id)) FROM dts.task")
    else:
        dts.admin.run("TRUNCATE job, job_done")
