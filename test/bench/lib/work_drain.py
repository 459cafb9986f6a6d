"""How fast a full queue is emptied, beside the floor and the peers."""
from dts import Dts
from peers import PeerError

# workload: (batch size, peers as (label, script, mode, quick jobs, full jobs), target against the floor, targets against peers by label)
SHAPES = {
    "drain1": (1, (("graphile-worker, default", "graphile", "default", 10_000, 30_000), ("pg-boss, one by one", "pgboss", "single", 3_000, 6_000)),
               {"graphile-worker, default": 6}),
    "drain60": (60, (("graphile-worker, batched", "graphile", "batched", 60_000, 200_000), ("pg-boss, batch 1000", "pgboss", "batch", 30_000, 100_000)),
                {"graphile-worker, batched": 1.5}),
}
FLOOR_TARGET = 0.6


class Rounds:
    """Results of all contestants, round by round. One that fails to start is dropped with its reason; dts and the floor may not fail."""

    def __init__(self):
        self.rates, self.cpus, self.clients, self.why = {}, {}, {}, {}

    def add(self, label, measure):
        if label in self.why:
            return
        try:
            rate, cpu, *client = measure()
        except PeerError as error:
            self.why[label] = str(error)
            return
        self.rates.setdefault(label, []).append(rate)
        self.cpus.setdefault(label, []).append(cpu)
        self.clients.setdefault(label, []).extend(client)

    def show(self, report, name, label):
        if label in self.why:
            report.missing(name, label, self.why[label])
        elif label in self.rates:
            client = self.clients[label]
            note = f"client {sorted(client)[len(client) // 2]:.0f} us/task" if client else ""
            report.figure(name, label, self.rates[label], "tasks/s", self.cpus[label], note)


def drain(bench, name):
    batch, peers, targets = SHAPES[name]
    size = bench.pick(60_000 if batch == 1 else 200_000, 200_000 if batch == 1 else 1_000_000)
    own, floor = f"dts, {'a transaction each' if batch == 1 else f'batch {batch}'}", f"floor, {batch} a transaction"
    rounds = Rounds()
    dts = Dts(bench.server, "bench_drain") if bench.dts else None
    if dts:
        dts.queue("q", batch)
        dts.warm_up("q")
    bench.floor.drain(batch, 2000)
    for _ in range(bench.repeats):
        if dts:
            rounds.add(own, lambda: dts.drain("q", size))
        rounds.add(floor, lambda: bench.floor.drain(batch, size))
        for label, script, mode, quick, full in peers:
            rounds.add(label, lambda: bench.peers.drain(script, mode, bench.pick(quick, full)))
    for label in (own, floor, *(p[0] for p in peers)):
        rounds.show(bench.report, name, label)
    if dts:
        ratios(bench.report, name, rounds, own, floor, targets, [p[0] for p in peers])
        dts.close()


def ratios(report, name, rounds, own, floor, targets, peers):
    report.ratio(name, "rate: dts / floor", rounds.rates[own], rounds.rates[floor], at_least=FLOOR_TARGET)
    report.ratio(name, "CPU per task: floor / dts", rounds.cpus[floor], rounds.cpus[own])
    for label in peers:
        if label in rounds.rates:
            report.ratio(name, f"rate: dts / {label}", rounds.rates[own], rounds.rates[label], at_least=targets.get(label))
            report.ratio(name, f"CPU per task: {label} / dts", rounds.cpus[label], rounds.cpus[own])


def drain_distinct(bench, name):
    """No text is seen twice, so no plan can be kept."""
    size = 10_000
    rounds = Rounds()
    dts = Dts(bench.server, "bench_distinct") if bench.dts else None
    if dts:
        dts.queue("q", 1)
        dts.warm_up("q")
    for _ in range(bench.repeats):
        if dts:
            rounds.add("dts", lambda: dts.drain("q", size, distinct=True))
        rounds.add("floor", lambda: bench.floor.drain(1, size, distinct=True))
    rounds.show(bench.report, name, "dts")
    rounds.show(bench.report, name, "floor")
    if dts:
        bench.report.ratio(name, "rate: dts / floor", rounds.rates["dts"], rounds.rates["floor"], at_least=FLOOR_TARGET)
        bench.report.ratio(name, "CPU per task: floor / dts", rounds.cpus["floor"], rounds.cpus["dts"])
        dts.close()
