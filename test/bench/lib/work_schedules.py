"""Schedules: what many of them cost, how soon one fires, and how many fire in one second."""
import time

import procs
from dts import Dts
from report import quantile
from work_flow import no_dts
from work_idle import commits, dts_pids


def scheduler(dts):
    return int(dts.admin.value(f"SELECT pid FROM dts.workers WHERE kind = 'scheduler' AND database = '{dts.database}'") or 0)


def make(dts, name, n, timing):
    """In the application's role; returns microseconds for one."""
    began = time.monotonic()
    for first in range(1, n + 1, 10_000):
        dts.app.run(f"DO $$ BEGIN FOR i IN {first}..{min(n, first + 9_999)} LOOP PERFORM dts.schedule('{name} ' || i, {timing}, 'SELECT 1'); END LOOP; END $$")
    return (time.monotonic() - began) / n * 1e6


def wait_until(dts, query, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if dts.admin.value(query) == "t":
            return True
        time.sleep(0.05)
    return False


def lateness(bench, name, dts):
    """One schedule each second on an idle server: from the due time to the decision, and to the start of the task."""
    n = bench.pick(20, 120)
    dts.app.run("SELECT dts.schedule('tick', '* * * * * *', 'SELECT 1', overlap => 'allow', overlap_max => 100)")
    wait_until(dts, f"SELECT count(*) > {n} FROM dts.fires WHERE schedule = 'tick'", n + 30)
    dts.app.run("SELECT dts.pause_schedule('tick')")
    rows = dts.admin.run("SELECT extract(epoch FROM f.lateness), extract(epoch FROM r.started_at - f.due_at) FROM dts.fires f JOIN dts.run r ON r.task = f.task "
                         "WHERE f.schedule = 'tick' ORDER BY f.due_at OFFSET 3")
    decided, started = [float(r[0]) * 1000 for r in rows], [float(r[1]) * 1000 for r in rows]
    bench.report.figure(name, f"lateness at idle, p50 of {len(rows)}", [quantile(decided, 0.5)], "ms")
    bench.report.check(name, "lateness at idle, p99", [quantile(decided, 0.99)], "ms", at_most=5)
    bench.report.check(name, "due time to start of the task, p99", [quantile(started, 0.99)], "ms", at_most=10)


def burst(bench, name, dts):
    """Ten thousand in one second, beside all the others."""
    n = 10_000
    for turn in range(bench.repeats):
        at = float(dts.admin.value("SELECT floor(extract(epoch FROM clock_timestamp())) + 30"))
        made = make(dts, f"burst {turn}", n, f"'at ' || to_char(to_timestamp({at}) AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS')")
        if time.time() > at - 1:
            bench.report.missing(name, "burst", f"the machine is too busy: making {n} took {made * n / 1e6:.0f} s")
            return
        pid = scheduler(dts)
        time.sleep(max(0.0, at - 0.3 - time.time()))
        cpu = procs.cpu_of(pid)
        time.sleep(max(0.0, at + 2.5 - time.time()))
        cpu = procs.cpu_of(pid) - cpu
        wait_until(dts, f"SELECT count(*) = {n} FROM dts.fire f JOIN dts.schedule s ON s.id = f.schedule WHERE s.name LIKE 'burst {turn} %'", 30)
        row = dts.admin.run(f"SELECT count(*), extract(epoch FROM max(f.decided_at - f.due_at)) FROM dts.fire f JOIN dts.schedule s ON s.id = f.schedule WHERE s.name LIKE 'burst {turn} %'")[0]
        burst.last.append(float(row[1]))
        burst.cpu.append(cpu / n * 1e6)
        if int(row[0]) != n:
            bench.report.missing(name, "burst", f"{row[0]} of {n} fired")
            return
    bench.report.check(name, f"{n} due in one second: the last is decided after", burst.last, "s", at_most=1)
    bench.report.figure(name, "scheduler's CPU for each", burst.cpu, "us")


burst.last, burst.cpu = [], []


def changes(dts, count):
    """One change each in a transaction of its own, among so many schedules, in ms."""
    times = []
    for i in range(100):
        began = time.monotonic()
        dts.app.run(f"SELECT dts.alter_schedule('many {1 + i * 7 % count}', '{i % 60} {i % 24} 1 1 *')")
        times.append((time.monotonic() - began) * 1000)
    return times


def schedules(bench, name):
    if no_dts(bench, name):
        return
    dts = Dts(bench.server, "bench_schedules")
    many = 100_000
    few = 100
    bench.server.configure(autovacuum="off")
    try:
        dts.app.run("SELECT dts.submit('SELECT 1')")
        lateness(bench, name, dts)
        make(dts, "many", few, "'0 0 1 1 *'")
        small = changes(dts, few)
        dts.app.run(f"SELECT dts.unschedule('many ' || i) FROM generate_series(1, {few}) i")
        bench.report.figure(name, "making one of them", [make(dts, "many", many, "'0 0 1 1 *'")], "us")
        dts.admin.run("ANALYZE")
        big = changes(dts, many)
        bench.report.figure(name, f"changing one of {few}, p50", [quantile(small, 0.5)], "ms")
        bench.report.figure(name, f"changing one of {many}, p50", [quantile(big, 0.5)], "ms")
        bench.report.ratio(name, f"changing one: of {many} / of {few}", [quantile(big, 0.5)], [quantile(small, 0.5)])
        burst(bench, name, dts)
        start_up(bench, name, dts, many)
        idle(bench, name, dts)
    finally:
        bench.server.reset("autovacuum")
        dts.close()


def start_up(bench, name, dts, many):
    """A new scheduler: from the end of the old one until the new one has found out when it is next needed."""
    took = []
    for _ in range(bench.repeats):
        pid = scheduler(dts)
        began = time.monotonic()
        dts.admin.run(f"SELECT pg_terminate_backend({pid}, 10000)")
        while True:
            now = scheduler(dts)
            if now not in (0, pid):
                state = dts.admin.run(f"SELECT state, query FROM pg_stat_activity WHERE pid = {now}")
                fence = dts.admin.value("SELECT dts._fence() IS NULL")
                if state and state[0][0] == "idle" and fence == "t":
                    break
            if time.monotonic() - began > 60:
                bench.report.missing(name, "start-up", "no scheduler came")
                return
            time.sleep(0.005)
        took.append(time.monotonic() - began)
    bench.report.check(name, f"start-up with {many} schedules", took, "s", at_most=1)


def idle(bench, name, dts):
    seconds = bench.pick(10, 60)
    dts.app.close()
    dts.admin.close()
    time.sleep(bench.pick(5, 15))
    pids, transactions, began = dts_pids(bench.server), commits(bench.server, dts.database), time.monotonic()
    before = procs.wakeups(pids)
    time.sleep(seconds)
    elapsed = time.monotonic() - began
    after = procs.wakeups(pids)
    bench.report.check(name, "wake-ups of an idle server with all of them", [sum(after[p] - before.get(p, 0) for p in after) / elapsed], "1/s", at_most=1)
    bench.report.check(name, "transactions of the idle database", [(commits(bench.server, dts.database) - transactions) / elapsed], "1/s", at_most=0.1)
