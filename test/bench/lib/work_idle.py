"""What dts costs when there is nothing to do, and how soon it starts what comes then."""
import time

import procs
from dts import Dts
from peers import PeerError
from pg import SqlError
from report import quantile
from work_flow import no_dts


def dts_pids(server):
    return {int(r[0]): r[1] for r in server.admin.run("SELECT pid, backend_type FROM pg_stat_activity WHERE backend_type LIKE 'dts %'")}


def commits(server, database):
    return int(server.admin.value(f"SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = '{database}'"))


def idle(bench, name):
    """Wake-ups after some work was done and has settled. Vacuum is off: its transactions would be taken for those of dts."""
    if no_dts(bench, name):
        return
    seconds = bench.pick(20, 120)
    bench.server.configure(autovacuum="off")
    dts = Dts(bench.server, "bench_idle")
    try:
        dts.queue("q", 1)
        dts.warm_up("q", 500)
        # Our own sessions must not add transactions to the database that is watched.
        dts.app.close()
        dts.admin.close()
        time.sleep(bench.pick(5, 15))
        busy = 0
        pids, before, transactions, began = dts_pids(bench.server), None, commits(bench.server, dts.database), time.monotonic()
        before = procs.wakeups(pids)
        cpu = sum(procs.cpu_of(p) for p in before)
        while time.monotonic() - began < seconds:
            time.sleep(2)
            busy += int(bench.server.admin.value("SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'dts %' AND (xact_start IS NOT NULL OR state = 'active')"))
        elapsed = time.monotonic() - began
        now = {**pids, **dts_pids(bench.server)}
        after = procs.wakeups(now)
        cpu = sum(procs.cpu_of(p) for p in after if p in before) - cpu
        show_idle(bench.report, name, now, {p: after[p] - before.get(p, 0) for p in after}, elapsed, cpu)
        bench.report.figure(name, "transactions of the idle database", [(commits(bench.server, dts.database) - transactions) / elapsed], "1/s")
        bench.report.figure(name, "processes seen in a transaction or active", [busy], "samples")
    finally:
        bench.server.reset("autovacuum")
        dts.close()


def show_idle(report, name, pids, wakes, elapsed, cpu):
    kinds = {}
    for pid, n in wakes.items():
        kinds[pids[pid]] = kinds.get(pids[pid], 0) + n
    note = ", ".join(f"{kind.removeprefix('dts ')} {n}" for kind, n in sorted(kinds.items())) or "no process of dts seen"
    if wakes:
        report.check(name, f"wake-ups of {len(wakes)} processes over {elapsed:.0f} s", [sum(wakes.values()) / elapsed], "1/s", at_most=1)
    else:
        report.missing(name, "wake-ups", "failed: " + note)
        return
    report.figure(name, "CPU of them", [cpu / elapsed * 1e6], "us/s", note=note)


def dts_latency(bench, dts, n, gap, sync_commit):
    producer = bench.server.session(dts.database, user="bench_app", sync_commit=sync_commit)
    first = None
    for _ in range(n):
        task = int(producer.value("SELECT dts.submit('SELECT 1', queue => 'ping')"))
        first = first or task
        time.sleep(gap)
    producer.close()
    for _ in range(50):
        rows = dts.admin.run(f"SELECT extract(epoch FROM started_at - submitted_at) FROM dts.run WHERE task >= {first}")
        if len(rows) == n:
            return [float(r[0]) for r in rows]
        time.sleep(0.1)
    raise SqlError(f"{len(rows)} of {n} single tasks have run")


def latency(bench, name):
    """
    The producer's own commit is part of the wait: nobody may start what is not committed. So there are two cases, and the disk decides the
    durable one; the target is for the other.
    """
    n, gap = bench.pick(500, 2000), 0.01
    dts = None
    if bench.dts:
        dts = Dts(bench.server, "bench_latency")
        dts.queue("ping", 1, paused=False)
        dts_latency(bench, dts, 50, gap, "off")
    for sync_commit, label in (("off", "asynchronous commit"), ("on", "durable commit")):
        show_latency(bench.report, name, f"floor, {label}", floor := bench.floor.latency(n, gap, sync_commit))
        if dts:
            own = dts_latency(bench, dts, n, gap, sync_commit)
            async_only = (0.5, 2) if sync_commit == "off" else (None, None)
            show_latency(bench.report, name, f"dts, {label}", own, *async_only)
            bench.report.ratio(name, f"p50: dts / floor, {label}", [quantile(own, 0.5)], [quantile(floor, 0.5)])
    for label, script, mode, count in (("graphile-worker, asynchronous commit", "graphile", "default", n), ("pg-boss, polling 0.5 s", "pgboss", "poll", 20)):
        try:
            show_latency(bench.report, name, label, bench.peers.latency(script, mode, count))
        except PeerError as error:
            bench.report.missing(name, label, str(error))
    if dts:
        dts.close()


def show_latency(report, name, label, waits, p50=None, p99=None):
    report.check(name, f"{label}, p50 of {len(waits)}", [quantile(waits, 0.5) * 1000], "ms", at_most=p50)
    if len(waits) >= 100:
        report.check(name, f"{label}, p99", [quantile(waits, 0.99) * 1000], "ms", at_most=p99)
