"""What happens over time and with depth: a pinned horizon, slow committers, large backlogs."""
import threading
import time

from dts import Dts
from pg import SqlError, Server


def no_dts(bench, name):
    if not bench.dts:
        bench.report.missing(name, "dts", "dts not measured")
    return not bench.dts


class Feeder(threading.Thread):
    """Keeps a backlog, so that the executors never run dry, from a session whose CPU time is left out."""

    def __init__(self, dts, queue, chunk):
        super().__init__(daemon=True)
        self.session = dts.server.session(dts.database, user="bench_app", sync_commit="off")
        self.sql = f"SELECT count(*) FROM dts.submit_many(array_fill('SELECT 1'::text, ARRAY[{chunk}]), queue => '{queue}')"
        self.chunk, self.submitted, self.done, self.stopped, self.error = chunk, 0, 0, False, None

    def run(self):
        try:
            while not self.stopped:
                if self.submitted - self.done < self.chunk:
                    self.session.run(self.sql)
                    self.submitted += self.chunk
                else:
                    time.sleep(0.005)
        except SqlError as error:
            self.error = error
        self.session.close()


def flow(dts, queue, seconds, chunk):
    """Drains under a constant backlog and returns samples (time, tasks done, CPU seconds), two a second."""
    feeder = Feeder(dts, queue, chunk)
    base = dts.done(queue)
    feeder.start()
    dts.resume(queue)
    samples, began, following = [], time.monotonic(), 0.0
    while (at := time.monotonic() - began) < seconds:
        feeder.done = dts.done(queue) - base
        if at >= following:
            samples.append((at, feeder.done, dts.server.cpu(dts.admin.pid, dts.app.pid, dts.server.admin.pid, feeder.session.pid)))
            following += 0.5
        if feeder.error:
            raise feeder.error
        time.sleep(0.02)
    feeder.stopped = True
    feeder.join(60)
    dts.wait_done(queue, base + feeder.submitted)
    dts.pause(queue)
    return samples


def window(samples, first, last):
    """(tasks/s, CPU us/task) between two moments."""
    inside = [s for s in samples if first <= s[0] <= last]
    (t0, n0, c0), (t1, n1, c1) = inside[0], inside[-1]
    if n1 == n0:
        return 0.0, 0.0
    return (n1 - n0) / (t1 - t0), (c1 - c0) / (n1 - n0) * 1e6


def pinned(bench, name):
    """The same flow without, with, and again without a snapshot that keeps every dead row."""
    if no_dts(bench, name):
        return
    # Windows of equal length, over more than one round of autovacuum: it works for the clean flow as well, and a short clean
    # window would show the rate before it began.
    pinned_for, edge = bench.pick(40, 180), bench.pick(15, 60)
    clean_for = edge + 1
    for batch, chunk in ((1, 10_000), (60, 50_000)):
        label = "batch 60" if batch == 60 else "one by one"
        dts = Dts(bench.server, "bench_pinned")
        dts.queue("q", batch)
        dts.warm_up("q")
        clean = [window(flow(dts, "q", clean_for, chunk), 1, clean_for)]
        holder = dts.server.session(dts.database)
        holder.run("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM pg_class")
        samples = flow(dts, "q", pinned_for, chunk)
        dead = dts.admin.value("SELECT pg_relation_size('dts.task') / 1048576")
        holder.run("ROLLBACK")
        holder.close()
        dts.admin.run("VACUUM dts.task")
        clean.append(window(flow(dts, "q", clean_for, chunk), 1, clean_for))
        dts.close()
        show_pinned(bench.report, name, label, clean, window(samples, 1, edge), window(samples, pinned_for - edge, pinned_for), f"dts.task grew to {dead} MB")


def show_pinned(report, name, label, clean, first, last, note):
    report.figure(name, f"{label}, clean", [c[0] for c in clean], "tasks/s", [c[1] for c in clean])
    report.figure(name, f"{label}, pinned, first window", [first[0]], "tasks/s", [first[1]])
    report.figure(name, f"{label}, pinned, last window", [last[0]], "tasks/s", [last[1]], note)
    report.ratio(name, f"{label}: rate pinned (last) / clean", [last[0]], [c[0] for c in clean], at_least=0.9)
    report.ratio(name, f"{label}: rate last / first window", [last[0]], [first[0]])
    report.ratio(name, f"{label}: CPU per task pinned (last) / clean", [last[1]], [c[1] for c in clean])


DEPTH_ROUNDS = 9


def claim_cost(dts, have, want, count):
    """CPU us/task of the first tasks of a deep queue, and how many are left in it."""
    if have < want:
        dts.fill("q", want - have)
        dts.admin.run("VACUUM dts.task")
    base, cpu = dts.done("q"), dts.cpu()
    dts.resume("q")
    dts.wait_done("q", base + count)
    done, cpu = dts.done("q") - base, dts.cpu() - cpu
    dts.pause("q")
    time.sleep(0.3)
    return cpu / done * 1e6, want - (dts.done("q") - base)


def depth_case(bench, ready, future):
    dts = Dts(bench.server, "bench_depth")
    dts.queue("q", 1)
    dts.warm_up("q")
    if future:
        dts.fill("q", future, options=", delay => '1 day'")
    costs, left = [], 0
    for _ in range(DEPTH_ROUNDS):
        cost, left = claim_cost(dts, left, ready, 8000)
        costs.append(cost)
    dts.close()
    return costs


def depth(bench, name):
    """With one executor: two that come and go within so short a run differ by more than depth could cost."""
    if no_dts(bench, name):
        return
    deep = bench.pick(1_000_000, 10_000_000)
    bench.server.configure(dts__max_workers=1)
    try:
        shallow = depth_case(bench, 10_000, 0)
        ready = depth_case(bench, deep, 0)
        future = depth_case(bench, 10_000, deep)
        # The shallow case frames the others: its own drift is a ratio that shows how far the other two can be trusted.
        again = depth_case(bench, 10_000, 0)
    finally:
        bench.server.configure(dts__max_workers=2)
    cases = (("10,000 ready, before", shallow), (f"{deep:,} ready", ready), (f"10,000 ready, {deep:,} future", future), ("10,000 ready, after", again))
    for label, costs in cases:
        bench.report.figure(name, label, costs, "CPU us/task", costs)
    bench.report.ratio(name, "drift: 10,000 ready after / before", again, shallow)
    bench.report.ratio(name, f"CPU per task: {deep:,} ready / 10,000 ready", ready, shallow + again, at_most=1.2)
    bench.report.ratio(name, f"CPU per task: {deep:,} future / none", future, shallow + again, at_most=1.2)


SIZES = {"dts.task": "pg_relation_size('dts.task')", "task_pkey": "pg_relation_size('dts.task_pkey')", "task_claim": "pg_relation_size('dts.task_claim')"}
PRODUCERS = 99
RATE = 3000


def steady(bench, name):
    """A fixed rate of submits; one producer of a hundred holds each of its transactions open for five seconds."""
    if no_dts(bench, name):
        return
    seconds = bench.pick(60, 600)
    dts = Dts(bench.server, "bench_steady")
    dts.queue("q", 1, paused=False)
    submit = "SELECT dts.submit('SELECT 1', queue => 'q');\n"
    fast = bench.server.pgbench(dts.database, submit, "-M", "prepared", "-c", PRODUCERS, "-j", 2, "-R", RATE, "-T", seconds, user="bench_app", wait=False)
    slow = bench.server.pgbench(dts.database, f"BEGIN;\n{submit}\\sleep 5 s\nCOMMIT;\n", "-c", 1, "-T", seconds, user="bench_app", wait=False)
    samples, sizes, began = [], [], time.monotonic()
    while (at := time.monotonic() - began) < seconds - 1:
        samples.append((at, dts.done("q"), dts.cpu()))
        sizes.append([int(x) for x in dts.admin.run("SELECT " + ", ".join(SIZES.values()))[0]])
        time.sleep(1)
    for process in (fast, slow):
        Server.pgbench_result(process)
    waits = dts.admin.run("SELECT percentile_cont(0.99) WITHIN GROUP (ORDER BY w) * 1000 FROM (SELECT extract(epoch FROM started_at - submitted_at) AS w, "
                          "ntile(3) OVER (ORDER BY ended_at) AS third FROM dts.run) x GROUP BY third ORDER BY third")
    dts.close()
    show_steady(bench.report, name, seconds, samples, sizes, [float(w[0]) for w in waits])


def show_steady(report, name, seconds, samples, sizes, waits):
    third = seconds / 3
    first, last = window(samples, 2, third), window(samples, 2 * third, seconds)
    note = f"{RATE} submits/s offered, {PRODUCERS} fast producers, 1 slow"
    report.figure(name, "submitted and done, first third", [first[0]], "tasks/s", [first[1]], note)
    report.figure(name, "submitted and done, last third", [last[0]], "tasks/s", [last[1]])
    report.figure(name, "submit to start, p99, first third", [waits[0]], "ms")
    report.figure(name, "submit to start, p99, last third", [waits[-1]], "ms")
    for i, relation in enumerate(SIZES):
        early, late = sizes[len(sizes) // 3][i], sizes[-1][i]
        report.figure(name, f"size of {relation} at the end", [late / 1048576], "MB", note=f"{early / 1048576:.2f} MB after the first third")
    report.ratio(name, "rate: last / first third", [last[0]], [first[0]], at_least=0.9)
    report.ratio(name, "CPU per task: last / first third", [last[1]], [first[1]])
