"""Runs the chosen workloads one after the other and shows their rows. Started by the script test/bench/run, which owns the server."""
import argparse
import os
import platform
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.dont_write_bytecode = True

import work_agents  # noqa: E402
import work_drain  # noqa: E402
import work_flow  # noqa: E402
import work_graph  # noqa: E402
import work_workflow  # noqa: E402
import work_http  # noqa: E402
import work_idle  # noqa: E402
import work_limits  # noqa: E402
import work_schedules  # noqa: E402
import work_submit  # noqa: E402
from dts import Dts  # noqa: E402
from floor import Floor  # noqa: E402
from peers import Peers  # noqa: E402
from pg import Server, SqlError  # noqa: E402
from report import Report  # noqa: E402

# In the order in which they run: what needs a quiet and fresh server comes first.
WORKLOADS = {
    "idle": (work_idle.idle, "wake-ups and transactions of an idle server"),
    "latency": (work_idle.latency, "submit to start of single tasks on an idle server"),
    "wal": (work_submit.wal, "WAL bytes of a trivial task from submit to done"),
    "drain1": (work_drain.drain, "drain of trivial tasks, a transaction each"),
    "drain1-distinct": (work_drain.drain_distinct, "the same, each with a text of its own"),
    "drain60": (work_drain.drain, "drain of trivial tasks, up to 60 in a transaction"),
    "depth": (work_flow.depth, "cost of a claim with few and with many waiting tasks"),
    "submit": (work_submit.submit, "durable single-row submit beside a bare INSERT"),
    "submit-many": (work_submit.submit_many, "100,000 tasks in one call beside INSERT ... SELECT"),
    "pinned": (work_flow.pinned, "drain while another session holds a snapshot"),
    "graph": (work_graph.graph, "chain, fan-out and join, random graph beside independent tasks, cascade of skips"),
    "schedules": (work_schedules.schedules, "many schedules: lateness, a change, ten thousand in one second, start-up, idle"),
    "flows": (work_workflow.flows, "small workflows, started in one call; one of each key at a time"),
    "values": (work_workflow.values, "a chain that passes values on, a map, retries of a diamond of 100 layers"),
    "million": (work_workflow.million, "a random graph of 1,000,000 tasks: submit, drain, memory"),
    "limit-queues": (work_limits.queues, "1,000 queues of limit 1, beside the same without limits"),
    "limit-rate": (work_limits.rate, "one queue with 1,000 a second and no burst"),
    "limit-tenants": (work_limits.tenants, "tenants of which one floods"),
    "limit-keys": (work_limits.keys, "tasks beside many behind one held key"),
    "agents": (work_agents.agents, "claim and complete by outside workers, beside a hand-written queue"),
    "http": (work_http.http, "requests of one courier beside a bare libcurl-multi loop; submit to sent when idle"),
    "http-many": (work_http.http_many, "thousands of requests in flight to a server that takes ten seconds"),
    "http-hosts": (work_http.http_hosts, "a hundred hosts, one of them slow"),
    "steady": (work_flow.steady, "submit and drain together, some producers slow to commit"),
}


class Bench:
    """What every workload gets."""

    def __init__(self, options):
        self.full = options.mode == "full"
        self.dts = not options.without_dts
        self.names = options.names
        self.report = Report()
        self.server = Server(options.bindir, options.work)
        self.floor = Floor(self.server)
        self.peers = Peers(self.server, options.peers)

    @property
    def repeats(self):
        return 5 if self.full else 3

    def pick(self, quick, full):
        return full if self.full else quick

    def close(self):
        for part in (self.peers, self.floor):
            part.close()


def say(text):
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def header(bench):
    model = next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo", encoding="utf-8") if line.startswith("model name")), platform.machine())
    memory = next(int(line.split()[1]) // 1024 for line in open("/proc/meminfo", encoding="utf-8") if line.startswith("MemTotal"))
    node = os.popen("node --version 2>/dev/null").read().strip() or "none"
    return {"server": "PostgreSQL " + bench.server.admin.value("SHOW server_version"), "cores": os.cpu_count(), "cpu": model, "memory_mb": memory,
            "kernel": platform.release(), "node": node, "mode": "full" if bench.full else "quick", "repeats": bench.repeats,
            "load_before": round(os.getloadavg()[0], 2), "date": time.strftime("%Y-%m-%d %H:%M:%S %z")}


def show(bench, facts, seconds):
    print("\n" + ", ".join(f"{k.replace('_', ' ')}: {v}" for k, v in facts.items()) + f", took {seconds:.0f} s")
    print("Medians over repeats with (min..max); contestants take turns. Rows with unit x compare two figures of one run: trust them, and CPU per task.\n"
          "All other rows are absolute: noisy, and good for this machine at this hour only. server CPU: all processes of the server, without clients.\n")
    print(bench.report.table())
    failed = bench.report.failed()
    print(f"\n{sum(r.get('verdict') == 'pass' for r in bench.report.rows)} targets met, {len(failed)} missed")
    return 1 if failed else 0


def run_workload(bench, name):
    say(f"{name}: {WORKLOADS[name][1]}")
    try:
        WORKLOADS[name][0](bench, name)
    except (SqlError, RuntimeError, OSError) as error:
        # One broken workload must not cost the figures of the others.
        say(f"{name} failed: {error}")
        bench.report.missing(name, "-", "failed: " + " ".join(str(error).split())[:140])
    finally:
        Dts.close_all()


def choose(only):
    names = [n.strip() for n in only.split(",") if n.strip()] or list(WORKLOADS)
    for name in names:
        if name not in WORKLOADS:
            sys.exit(f"bench: unknown workload {name}; --list names them")
    return [n for n in WORKLOADS if n in names]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--check")
    parser.add_argument("--mode", choices=("quick", "full"), default="quick")
    parser.add_argument("--only", default="")
    parser.add_argument("--without-dts", action="store_true")
    for name in ("bindir", "work", "peers", "json"):
        parser.add_argument(f"--{name}", default="")
    options = parser.parse_args()
    if options.list:
        print("\n".join(f"{name:16} {text}" for name, (_, text) in WORKLOADS.items()))
        return 0
    options.names = choose(options.check if options.check is not None else options.only)
    if options.check is not None:
        return 0
    began = time.monotonic()
    bench = Bench(options)
    facts = header(bench)
    for name in options.names:
        run_workload(bench, name)
    status = show(bench, facts, time.monotonic() - began)
    if options.json:
        bench.report.write_json(options.json, facts)
    bench.close()
    return status


if __name__ == "__main__":
    sys.exit(main())
