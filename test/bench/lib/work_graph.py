"""Graphs of tasks: chain, fan-out and join, a random graph beside independent tasks, a cascade of skips."""
import time

from dts import Dts
from pg import SqlError

NODE = "jsonb_build_object('name', 't' || i, 'sql', 'SELECT 1', 'queue', 'q', 'max_attempts', 1, 'depends_on', %s)"
SHAPES = {
    "chain": "CASE WHEN i > 1 THEN to_jsonb('t' || (i - 1)) ELSE '[]' END",
    "fan": "CASE WHEN i = 1 THEN '[]'::jsonb WHEN i < {n} THEN '[\"t1\"]' ELSE (SELECT jsonb_agg('t' || k) FROM generate_series(2, {n} - 1) k) END",
    "graph": "COALESCE((SELECT jsonb_agg('t' || p) FROM edge e WHERE e.i = g.i), '[]')",
}


def shape(dts, kind, n, first="SELECT 1"):
    """Submits a graph to the paused queue. Returns the seconds that it took."""
    if kind == "graph":
        dts.app.run("CREATE TEMP TABLE IF NOT EXISTS edge AS SELECT i, (1 + floor(random() * (i - 1)))::int AS p "
                    f"FROM generate_series(2, {n}) i, generate_series(1, 3)")
        dts.app.run("CREATE INDEX IF NOT EXISTS edge_i ON edge (i)")
    node = NODE % SHAPES[kind].format(n=n)
    if first != "SELECT 1":
        node = f"CASE WHEN i = 1 THEN {node} || '{{\"sql\": \"{first}\"}}' ELSE {node} END"
    dts.app.run("DROP TABLE IF EXISTS made")
    dts.app.run(f"CREATE TEMP TABLE made AS SELECT jsonb_agg({node} ORDER BY i) AS tasks FROM generate_series(1, {n}) g(i)")
    began = time.monotonic()
    dts.app.run("SELECT count(*) FROM dts.submit_many((SELECT tasks FROM made))")
    return time.monotonic() - began


def run(dts, n):
    """Resumes the queue; seconds until the last of n tasks has ended, by the history."""
    began = dts.admin.value("SELECT clock_timestamp()")
    dts.resume("q")
    while dts.admin.value("SELECT count(*) FROM (SELECT FROM dts.task LIMIT 1) t") != "0":
        time.sleep(0.02)
        if time.monotonic() > run.until:
            raise SqlError("the graph does not end")
    dts.pause("q")
    rows = dts.admin.run(f"SELECT count(*), extract(epoch FROM max(ended_at) - '{began}') FROM dts.run WHERE ended_at >= '{began}'")
    if int(rows[0][0]) != n:
        raise SqlError(f"{n} tasks submitted, {rows[0][0]} in history")
    return float(rows[0][1])


def graph(bench, name):
    if not bench.dts:
        return
    dts = Dts(bench.server, "bench_graph")
    dts.queue("q", 60)
    dts.admin.run("SELECT dts.grant_usage('bench_app')")
    dts.app.run("SELECT setseed(0.5)")
    dts.warm_up("q")
    size = 100_000  # what the target is for
    found = {k: [] for k in ("chain", "fan", "start", "graph", "plain", "cascade")}
    for _ in range(bench.repeats):
        run.until = time.monotonic() + 300
        shape(dts, "chain", 1000)
        found["chain"].append(run(dts, 1000))  # 1,000 steps: seconds are milliseconds a step
        shape(dts, "fan", 10_002)
        found["fan"].append(run(dts, 10_002))
        found["start"].append(shape(dts, "graph", size))
        found["graph"].append(size / run(dts, size))
        found["plain"].append(dts.drain("q", size)[0])
    for _ in range(bench.repeats):  # last: a drain refuses a queue in which something failed
        run.until = time.monotonic() + 300
        shape(dts, "chain", 10_000, "SELECT 1/0")
        found["cascade"].append(run(dts, 10_000))
    report = bench.report
    report.check(name, "chain of 1,000: a step", found["chain"], "ms", at_most=1)
    report.check(name, "fan-out of 10,000 and join", found["fan"], "s", at_most=1)
    report.check(name, f"submit of {size:,} nodes, 3 edges each", found["start"], "s", at_most=1)
    report.figure(name, "random graph", found["graph"], "tasks/s")
    report.figure(name, "independent tasks", found["plain"], "tasks/s")
    report.ratio(name, "rate: graph / independent", found["graph"], found["plain"], at_least=0.3)
    report.check(name, "cascade of 10,000 skips", found["cascade"], "s")
    dts.close()
