"""The producers' side, and what a task writes to the log."""
import time

from dts import Dts
from floor import table_definitions
from pg import SqlError
from work_flow import no_dts

# The row that dts.submit writes for the same task, into a table with the same columns, indexes and sequence.
COLUMNS = "id, run_at, submitted_at, lane, timeout_ms, handler, flags, state, kind, attempt, max_attempts, crashes, sql"
VALUES = "nextval('clone.task_id_seq'), clock_timestamp(), clock_timestamp(), 1, 0, 0, 0, 0, 0, 0, 5, 0, 'SELECT 1'"


def open_with_clone(bench, database):
    dts = Dts(bench.server, database)
    dts.queue("q", 60)
    dts.admin.run(table_definitions("clone", ("task",)))
    dts.admin.run("GRANT USAGE ON SCHEMA clone TO bench_app; GRANT ALL ON ALL TABLES IN SCHEMA clone TO bench_app; GRANT ALL ON ALL SEQUENCES IN SCHEMA clone TO bench_app")
    dts.app.run("SELECT dts.submit('SELECT 1', queue => 'q')")
    return dts


TABLES = {"dts.submit": "dts.task", "dts.submit_many": "dts.task", "bare INSERT": "clone.task", "INSERT ... SELECT": "clone.task"}


def rows_of(dts, label):
    """What a contestant has really written: a rate of calls that leave no row behind would be worth nothing."""
    return int(dts.admin.value(f"SELECT count(*) FROM {TABLES[label]}"))


def submit(bench, name):
    if no_dts(bench, name):
        return
    dts = open_with_clone(bench, "bench_submit")
    contestants = {"dts.submit": "SELECT dts.submit('SELECT 1', queue => 'q');\n", "bare INSERT": f"INSERT INTO clone.task ({COLUMNS}) VALUES ({VALUES}) RETURNING id;\n"}
    for clients in (8, 16):
        rates, cpus = {k: [] for k in contestants}, {k: [] for k in contestants}
        for turn in range(bench.repeats + 1):
            for label, script in contestants.items():
                seconds = 1 if turn == 0 else bench.pick(4, 15)
                before, cpu = rows_of(dts, label), dts.cpu()
                rate = bench.server.pgbench(dts.database, script, "-M", "prepared", "-c", clients, "-j", 2, "-T", seconds, user="bench_app")
                cpu, rows = dts.cpu() - cpu, rows_of(dts, label) - before
                if not 0.9 < rows / (rate * seconds) < 1.1:
                    raise SqlError(f"{label}: {rows} rows after {seconds} s at {rate:.0f} a second")
                if turn > 0:
                    rates[label].append(rate)
                    cpus[label].append(cpu / rows * 1e6)
        for label in contestants:
            bench.report.figure(name, f"{label}, {clients} clients", rates[label], "tasks/s", cpus[label])
        bench.report.ratio(name, f"rate: dts.submit / bare INSERT, {clients} clients", rates["dts.submit"], rates["bare INSERT"], at_least=0.8)
        bench.report.ratio(name, f"CPU: bare INSERT / dts.submit, {clients} clients", cpus["bare INSERT"], cpus["dts.submit"])
    dts.close()


def submit_many(bench, name):
    if no_dts(bench, name):
        return
    n = 100_000
    dts = open_with_clone(bench, "bench_submit")
    session = bench.server.session(dts.database, user="bench_app", sync_commit="on")
    contestants = {
        "dts.submit_many": f"SELECT count(*) FROM dts.submit_many(array_fill('SELECT 1'::text, ARRAY[{n}]), queue => 'q')",
        "INSERT ... SELECT": f"INSERT INTO clone.task ({COLUMNS}) SELECT {VALUES} FROM generate_series(1, {n})"}
    rates, cpus = {k: [] for k in contestants}, {k: [] for k in contestants}
    for turn in range(bench.repeats + 1):
        for label, sql in contestants.items():
            before, cpu, began = rows_of(dts, label), dts.cpu(), time.perf_counter()
            session.run(sql)
            seconds, cpu = time.perf_counter() - began, dts.cpu() - cpu
            if rows_of(dts, label) - before != n:
                raise SqlError(f"{label} did not write {n} rows")
            if turn > 0:
                rates[label].append(n / seconds)
                cpus[label].append(cpu / n * 1e6)
    for label in contestants:
        bench.report.figure(name, f"{label}, {n:,}", rates[label], "tasks/s", cpus[label])
    bench.report.ratio(name, "rate: dts.submit_many / INSERT ... SELECT", rates["dts.submit_many"], rates["INSERT ... SELECT"], at_least=0.5)
    bench.report.ratio(name, "CPU: INSERT ... SELECT / dts.submit_many", cpus["INSERT ... SELECT"], cpus["dts.submit_many"])
    session.close()
    dts.close()


def wal_bytes(server):
    return int(server.admin.value("SELECT pg_current_wal_insert_lsn() - '0/0'"))


def wal_round(dts, n, single):
    """Bytes in the log for each task: submit, and from there to done."""
    dts.admin.run("VACUUM dts.task; CHECKPOINT")
    queue = dts.queue("one" if single else "batch", 1 if single else 60)
    base, start = dts.done(queue), wal_bytes(dts.server)
    if single:
        dts.server.pgbench(dts.database, "SELECT dts.submit('SELECT 1', queue => 'one');\n", "-M", "prepared", "-c", 2, "-t", n // 2, user="bench_app")
    else:
        dts.fill(queue, n)
    submitted = wal_bytes(dts.server)
    dts.resume(queue)
    dts.wait_done(queue, base + n)
    dts.pause(queue)
    return (submitted - start) / n, (wal_bytes(dts.server) - submitted) / n


def wal(bench, name):
    """Full-page images belong to checkpoints, not to tasks, and vacuum to neither: both are off."""
    if no_dts(bench, name):
        return
    n = bench.pick(10_000, 50_000)
    bench.server.configure(full_page_writes="off", autovacuum="off")
    dts = Dts(bench.server, "bench_wal")
    try:
        wal_round(dts, 1000, True)
        wal_round(dts, 1000, False)
        for label, single in (("dts.submit and a transaction each", True), ("dts.submit_many and batch 60", False)):
            rounds = [wal_round(dts, n, single) for _ in range(bench.repeats)]
            bench.report.figure(name, f"{label}: submit", [r[0] for r in rounds], "bytes/task")
            bench.report.figure(name, f"{label}: start to done", [r[1] for r in rounds], "bytes/task")
            bench.report.check(name, f"{label}: together", [sum(r) for r in rounds], "bytes/task", at_most=800)
    finally:
        bench.server.reset("full_page_writes", "autovacuum")
        dts.close()
