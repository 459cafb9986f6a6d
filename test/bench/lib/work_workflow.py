"""Workflows: small ones in one call, values passed on, a map, retries of a diamond, runs that wait for their turn; a graph of a million tasks."""
import json
import time

from dts import Dts
from procs import peak_mb
from work_graph import run, shape


def flow_of_five(queue, **more):
    step = {"sql": "SELECT 1", "queue": queue}
    return json.dumps({"nodes": {"a": step, "b": step | {"needs": ["a"]}, "c": step | {"needs": ["a"]}, "d": step | {"needs": ["b", "c"]}, "e": step | {"needs": ["d"]}}} | more)


def passing(queue, n):
    """A chain in which each step works on the output of the one before it."""
    first = {"sql": "SELECT 1 AS x", "queue": queue}
    return json.dumps({"nodes": {f"n{i}": first if i == 1 else {"needs": [f"n{i - 1}"], "sql": f"SELECT ${{nodes.n{i - 1}.output.x}}::int + 1 AS x", "queue": queue}
                                 for i in range(1, n + 1)}})


def diamond(queue, layers):
    """Two nodes a layer, each of which needs both of the layer before: 2^layers paths. The first layer fails once."""
    def node(layer, k):
        if layer == 1:
            return {"sql": "SELECT 1 / ${params.ok}::int", "queue": queue, "max_attempts": 1}
        return {"sql": "SELECT 1", "queue": queue, "needs": [f"l{layer - 1}_1", f"l{layer - 1}_2"]}
    return json.dumps({"params": {"ok": {"type": "integer", "default": 0}}, "nodes": {f"l{i}_{k}": node(i, k) for i in range(1, layers + 1) for k in (1, 2)}})


def flows(bench, name):
    """Small workflows of five nodes, started in one call: alone, and where only some of them may be under way at once."""
    if not bench.dts:
        return
    dts = Dts(bench.server, "bench_flows")
    dts.queue("q", 60)
    n = bench.pick(1000, 10_000)
    dts.app.run(f"SELECT dts.create_workflow('small', '{flow_of_five('q')}'::jsonb)")
    dts.app.run(f"SELECT dts.create_workflow('keyed', '{flow_of_five('q', params={'k': {'type': 'integer'}}, concurrency={'limit': 1, 'key': '${params.k}'})}'::jsonb)")
    params = {"small": f"array_fill('{{}}'::jsonb, ARRAY[{n}])", "keyed": f"ARRAY(SELECT jsonb_build_object('k', i % 100) FROM generate_series(1, {n}) i)"}
    start, drain = {w: [] for w in params}, {w: [] for w in params}
    for _ in range(bench.repeats):
        for w, values in params.items():
            run.until = time.monotonic() + 300
            began = time.monotonic()
            dts.app.run(f"SELECT count(*) FROM dts.start_many('{w}', {values})")
            start[w].append((time.monotonic() - began) / n * 1e3)
            drain[w].append(n / run(dts, 6 * n))
    report = bench.report
    report.check(name, "start of a run of five nodes", start["small"], "ms")
    report.figure(name, "runs of five nodes", drain["small"], "runs/s")
    report.figure(name, "the same, one of each of 100 keys under way", drain["keyed"], "runs/s")
    report.ratio(name, "rate: one of each key / all at once", drain["keyed"], drain["small"])
    dts.close()


def values(bench, name):
    """What references cost: a chain that passes values on, a map of 10,000 items; and retries planned on a diamond."""
    if not bench.dts:
        return
    dts = Dts(bench.server, "bench_values")
    dts.queue("q", 60)
    for workflow, definition in (("passing", passing("q", 1000)), ("diamond", diamond("q", 100)),
                                 ("map", '{"nodes": {"m": {"map": {"items": {"sql": "SELECT i FROM generate_series(1, 10000) i"}}, "sql": "SELECT ${item}::int", "queue": "q"}}}')):
        dts.app.run(f"SELECT dts.create_workflow('{workflow}', '{definition}'::jsonb)")
    chain, mapped, retry = [], [], []
    for _ in range(bench.repeats):
        run.until = time.monotonic() + 300
        dts.app.run("SELECT dts.start('passing')")
        chain.append(run(dts, 1001))  # seconds are milliseconds a step
        dts.app.run("SELECT dts.start('map')")
        mapped.append(10_000 / run(dts, 10_003))
        started = dts.app.value("SELECT dts.start('diamond')")
        run(dts, 201)
        began = time.monotonic()
        dts.app.run(f"SELECT dts.retry_run({started}, params => '{{\"ok\": 1}}')")
        retry.append((time.monotonic() - began) * 1e3)
        run(dts, 201)
    report = bench.report
    report.check(name, "chain of 1,000 that passes values on: a step", chain, "ms")
    report.figure(name, "map of 10,000 items", mapped, "items/s")
    report.check(name, "retry of a diamond of 100 layers, planned and submitted", retry, "ms", at_most=100)
    dts.close()


def million(bench, name):
    """A graph too large to be held in memory twice: it is submitted, it ends, and no process has grown with it."""
    if not bench.dts:
        return
    dts = Dts(bench.server, "bench_million")
    dts.queue("q", 60)
    dts.warm_up("q")
    size = bench.pick(200_000, 1_000_000)
    run.until = time.monotonic() + 1800
    submitted = shape(dts, "graph", size)
    client = peak_mb(dts.app.pid)
    rate = size / run(dts, size)
    pids = [int(r[0]) for r in dts.admin.run("SELECT pid FROM dts.workers WHERE kind IN ('executor', 'scheduler') AND pid > 0")]
    report = bench.report
    report.figure(name, f"submit of {size:,} nodes, 3 edges each", [submitted], "s")
    report.figure(name, "its backend, at most", [client], "MB", note="with the JSON of the graph")
    report.figure(name, "drain", [rate], "tasks/s")
    report.check(name, "any worker, at most (without shared memory)", [max(map(peak_mb, pids), default=0)], "MB", at_most=200)
    dts.close()
