"""What limits cost, and whether they hold: many queues of limit 1, a rate, tenants of which one floods, one held key."""
import time

from dts import Dts
from pg import SqlError

COST = 1.5


def wait_empty(dts, seconds=300):
    until = time.monotonic() + seconds
    while dts.admin.value("SELECT count(*) FROM (SELECT FROM dts.task LIMIT 1) t") != "0":
        time.sleep(0.02)
        if time.monotonic() > until:
            raise SqlError("the tasks do not end")


def measured(dts, owner_paused, n, submit):
    """Submits n tasks while their owner is paused, lets them go, and gives (tasks/s, CPU us/task, when they went)."""
    dts.admin.run("SELECT dts.pause(owner => 'bench_app')")
    submit()
    dts.admin.run("VACUUM dts.task")
    if owner_paused:
        time.sleep(1)  # a bucket is full again: its burst is part of what is looked at
    cpu = dts.cpu()
    began = dts.admin.value("SELECT clock_timestamp()")
    dts.admin.run("SELECT dts.resume(owner => 'bench_app')")
    wait_empty(dts)
    cpu = dts.cpu() - cpu
    rows = dts.admin.run(f"SELECT count(*), extract(epoch FROM max(ended_at) - '{began}') FROM dts.run WHERE ended_at >= '{began}' AND outcome = 10")
    if int(rows[0][0]) < n:
        raise SqlError(f"{n} tasks submitted, {rows[0][0]} in history")
    return n / float(rows[0][1]), cpu / n * 1e6, began


def queues(bench, name):
    """1,000 queues of limit 1, 100 tasks each, beside the same queues without limits, and beside one queue."""
    if not bench.dts:
        return
    dts = Dts(bench.server, "bench_limits")
    count, each = 1000, bench.pick(30, 100)
    dts.admin.run(f"SELECT count(dts.create_queue('l' || i)), count(dts.create_queue('f' || i)) FROM generate_series(1, {count}) i")
    dts.admin.run("SELECT dts.create_queue('one')")
    dts.admin.run(f"SELECT count(dts.set_limit(queue => 'l' || i, concurrency => 1)) FROM generate_series(1, {count}) i")

    def submit(prefix):
        if prefix == "'one'":
            return lambda: dts.fill("one", count * each)
        return lambda: dts.app.run(f"SELECT count(*) FROM generate_series(1, {count}) i, LATERAL "
                                   f"dts.submit_many(array_fill('SELECT 1'::text, ARRAY[{each}]), queue => {prefix}) x")

    ways = {"limit 1": "'l' || i", "without limits": "'f' || i", "one queue": "'one'"}
    found = {way: [] for way in ways}
    for way, prefix in ways.items():
        measured(dts, False, count * each, submit(prefix))
    for _ in range(bench.repeats):
        for way, prefix in ways.items():
            found[way].append(measured(dts, False, count * each, submit(prefix)))
    over = dts.admin.value("""SELECT count(*) FROM (SELECT r.started_at < lag(r.ended_at) OVER (PARTITION BY r.lane ORDER BY r.started_at, r.task) AS together
                              FROM dts.run r JOIN dts.lane l ON l.id = r.lane JOIN dts.queue q ON q.id = l.queue WHERE q.name ~ '^l') x WHERE together""")
    for way, rounds in found.items():
        bench.report.figure(name, f"{count:,} queues x {each}, {way}" if way != "one queue" else f"{count * each:,} tasks, one queue",
                            [r[0] for r in rounds], "tasks/s", [r[1] for r in rounds])
    bench.report.ratio(name, "CPU per task: limit 1 / without limits", [r[1] for r in found["limit 1"]], [r[1] for r in found["without limits"]], at_most=COST)
    bench.report.ratio(name, "CPU per task: limit 1 / one queue", [r[1] for r in found["limit 1"]], [r[1] for r in found["one queue"]])
    bench.report.check(name, "tasks that ran beside another of their queue", [float(over)], "tasks", at_most=0)
    dts.close()


def rate(bench, name):
    """One queue with 1,000 a second and no burst: the fullest second of any, and how much of the rate is used."""
    if not bench.dts:
        return
    dts = Dts(bench.server, "bench_rate")
    seconds = bench.pick(5, 20)
    dts.admin.run("SELECT dts.create_queue('limited'), dts.create_queue('free')")
    dts.admin.run("SELECT dts.set_limit(queue => 'limited', rate => 1000)")

    def submit(queue, n):
        return lambda: dts.fill(queue, n)

    measured(dts, False, 500, submit("limited", 500))
    fullest, used, cpu, free = [], [], [], []
    for _ in range(bench.repeats):
        n = 1000 * seconds
        _, one, began = measured(dts, True, n, submit("limited", n))
        rows = dts.admin.run(f"""SELECT max(n), ({n} - 1) / extract(epoch FROM max(started_at) - min(started_at)) / 1000 FROM (
            SELECT started_at, count(*) OVER (ORDER BY started_at RANGE BETWEEN '0.999999 s' PRECEDING AND CURRENT ROW) AS n
            FROM dts.run WHERE started_at >= '{began}') x""")
        fullest.append(float(rows[0][0]))
        used.append(float(rows[0][1]))
        cpu.append(one)
        # The same arrivals without a limit: what is paid for is the pace, not the wait.
        free.append(paced(dts, "free", seconds))
    bench.report.check(name, "starts in the fullest second", [max(fullest)], "tasks", at_most=1000)
    bench.report.check(name, "of the rate used", used, "x", at_least=0.95)
    bench.report.figure(name, "1,000/s by the limit", used, "x", cpu)
    bench.report.figure(name, "1,000/s by due times, without limit", [1.0] * len(free), "x", free)
    bench.report.ratio(name, "CPU per task: limit / due times", cpu, free, at_most=COST)
    dts.close()


def paced(dts, queue, seconds):
    """CPU of the same tasks, due one by one at the same pace."""
    dts.app.run(f"SELECT count(dts.submit('SELECT 1', queue => '{queue}', delay => '1 s'::interval + i * '1 ms'::interval)) FROM generate_series(1, {seconds * 1000}) i")
    cpu = dts.cpu()
    wait_empty(dts)
    return (dts.cpu() - cpu) / (seconds * 1000) * 1e6


def tenants(bench, name):
    """Tenants of which one floods: how long a lone task of another waits, in turns, and what the turns cost."""
    if not bench.dts:
        return
    dts = Dts(bench.server, "bench_tenants")
    count, flood = 10_000, bench.pick(20_000, 100_000)
    dts.admin.run("SELECT dts.create_queue('q')")
    cpu, plain, waits, lone_waits = [], [], [], []
    for _ in range(bench.repeats):
        def submit():
            dts.fill("q", flood, options=", tenant => 'flood'")
            dts.app.run(f"SELECT count(dts.submit('SELECT 1', queue => 'q', tenant => 't' || i)) FROM generate_series(1, {count}) i")
        _, one, began = measured(dts, False, flood + count, submit)
        cpu.append(one)
        # A round serves every tenant once: the flood has at most as many turns as the last of the others has waited for.
        waits.append(float(dts.admin.value(f"""SELECT count(*) FILTER (WHERE l.tenant = 'flood') / {count}.0 FROM dts.run r JOIN dts.lane l ON l.id = r.lane
            WHERE r.started_at >= '{began}' AND r.started_at < (SELECT max(x.started_at) FROM dts.run x JOIN dts.lane y ON y.id = x.lane
            WHERE x.started_at >= '{began}' AND y.tenant <> 'flood')""")))
        lone_waits.append(lone(dts))
        plain.append(measured(dts, False, flood + count, lambda: dts.fill("q", flood + count))[1])
    bench.report.figure(name, f"{count:,} tenants, one floods", [], "tasks/s", cpu)
    bench.report.figure(name, "the same tasks of one tenant", [], "tasks/s", plain)
    bench.report.ratio(name, "CPU per task: tenants / one tenant", cpu, plain, at_most=COST)
    bench.report.check(name, "turns of the flood while the others have one", waits, "turns", at_most=1)
    bench.report.check(name, "tasks that start before a lone one, of one busy tenant", lone_waits, "tasks", at_most=4)
    dts.close()


def lone(dts):
    """One tenant floods with tasks of 5 ms; a task of another comes: how many start between its submit and its start."""
    dts.app.run("SELECT count(*) FROM dts.submit_many(array_fill('SELECT pg_sleep(0.005)'::text, ARRAY[500]), queue => 'q', tenant => 'flood')")
    dts.app.run("SELECT pg_sleep(0.1)")
    task = dts.app.value("SELECT dts.submit('SELECT 1', queue => 'q', tenant => 'lone')")
    wait_empty(dts)
    return float(dts.admin.value(f"SELECT count(*) FROM dts.run r, (SELECT * FROM dts.run WHERE task = {task}) l WHERE r.started_at > l.submitted_at "
                                 "AND r.started_at < l.started_at AND r.task <> l.task"))


def keys(bench, name):
    """100,000 tasks behind one held key, and the cost of the others of that queue."""
    if not bench.dts:
        return
    dts = Dts(bench.server, "bench_keys")
    behind, n = bench.pick(100_000, 100_000), bench.pick(30_000, 60_000)
    dts.queue("q", 1, paused=False)

    def work():
        dts.pause("q")
        dts.app.run(f"SELECT count(dts.submit('SELECT 1', queue => 'q', concurrency_key => 'k' || i)) FROM generate_series(1, {n}) i")
        dts.admin.run("VACUUM dts.task")
        dts.admin.run("CHECKPOINT")
        base = dts.counters("q")[0]
        cpu = dts.cpu()
        dts.resume("q")
        until = time.monotonic() + 120
        while dts.counters("q")[0] < base + n:
            time.sleep(0.02)
            if time.monotonic() > until:
                raise SqlError("the tasks do not end")
        return (dts.cpu() - cpu) / n * 1e6

    def hold():
        holder = dts.app.value("SELECT dts.submit('SELECT pg_sleep(600)', queue => 'q', concurrency_key => 'held')")
        while dts.admin.value(f"SELECT count(*) FROM dts.running WHERE id = {holder}") == "0":
            time.sleep(0.02)
        return holder

    alone, beside, fill = [], [], []
    work()
    for _ in range(bench.repeats):
        # The holder is there in both cases, so that one executor is busy in both.
        holder = hold()
        alone.append(work())
        began = time.monotonic()
        dts.app.run(f"SELECT count(*) FROM dts.submit_many(array_fill('SELECT 1'::text, ARRAY[{behind}]), queue => 'q', concurrency_key => 'held')")
        fill.append(time.monotonic() - began)
        beside.append(work())
        dts.app.run(f"SELECT dts.cancel({holder})")
        wait_empty(dts)
    bench.report.figure(name, f"{n:,} tasks with keys of their own", [], "tasks/s", alone)
    bench.report.figure(name, f"the same beside {behind:,} behind one held key", [], "tasks/s", beside)
    bench.report.ratio(name, "CPU per task: beside a held key / alone", beside, alone, at_most=1.2)
    bench.report.check(name, f"submit of {behind:,} behind a held key", fill, "s")
    dts.close()
