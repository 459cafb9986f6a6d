"""Requests: one courier beside a bare libcurl-multi loop against the same nginx, many in flight, one slow host among others."""
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time

from dts import Dts
from pg import SqlError
from report import quantile
from work_flow import no_dts

HERE = os.path.dirname(os.path.abspath(__file__))
IN_FLIGHT = 64


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_port(port):
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port), 0.2).close()
            return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError(f"no server came up at port {port}")


class Nginx:
    def __init__(self):
        self.port, self.folder = free_port(), tempfile.mkdtemp(prefix="dts-bench-nginx.")
        conf = os.path.join(self.folder, "nginx.conf")
        with open(conf, "w", encoding="utf-8") as f:
            f.write(f"daemon off; worker_processes 1; pid {self.folder}/pid; error_log stderr crit;\nevents {{ worker_connections 4096; }}\n"
                    f"http {{ access_log off; keepalive_requests 1000000000; server {{ listen 127.0.0.1:{self.port}; location / {{ return 200 ok; }} }} }}\n")
        self.process = subprocess.Popen(["nginx", "-p", self.folder, "-c", conf], stderr=subprocess.DEVNULL)
        wait_port(self.port)

    def close(self):
        self.process.terminate()
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


class Slow:
    def __init__(self, seconds, address=""):
        self.port = free_port()
        self.process = subprocess.Popen([sys.executable, os.path.join(HERE, "slow_server.py"), str(self.port), str(seconds)] + ([address] if address else []))
        wait_port(self.port)

    def close(self):
        self.process.terminate()
        self.process.wait()


def floor_program(folder):
    program = os.path.join(folder, "http_floor")
    subprocess.run(["cc", "-O2", os.path.join(HERE, "..", "floor", "http_floor.c"), "-o", program, "-lcurl"], check=True)
    return program


def fill(dts, n, url, options=""):
    dts.app.run(f"SELECT count(dts.submit_http({url}, queue => 'q', timeout => '60 s'{options})) FROM generate_series(1, {n}) i")


def drain(dts, n, url):
    """As Dts.drain: (requests/s, CPU us/request)."""
    fill(dts, n, url)
    dts.admin.run("VACUUM dts.task")
    base, cpu = dts.done("q"), dts.cpu()
    began = dts.admin.value("SELECT clock_timestamp()")
    dts.resume("q")
    dts.wait_done("q", base + n)
    cpu = dts.cpu() - cpu
    dts.pause("q")
    rows = dts.admin.run(f"SELECT count(*), extract(epoch FROM max(ended_at) - '{began}') FROM dts.run WHERE ended_at >= '{began}' AND outcome = 10")
    if int(rows[0][0]) != n:
        raise SqlError(f"{n} requests submitted, {rows[0][0]} in history")
    return n / float(rows[0][1]), cpu / n * 1e6


def open_dts(bench, port):
    dts = Dts(bench.server, "bench_http")
    dts.admin.run(f"SELECT dts.allow_host('*', schemes => '{{http}}', ports => '{{{port}}}', networks => '{{127.0.0.0/8}}')")
    dts.queue("q", 1)
    return dts


def http(bench, name):
    """Throughput beside the bare loop, contestants taking turns; then the time from submit to sent on an idle server."""
    if no_dts(bench, name):
        return
    if shutil.which("nginx") is None or shutil.which("cc") is None:
        bench.report.missing(name, "requests", "nginx and a C compiler are needed")
        return
    nginx, n = Nginx(), bench.pick(20000, 60000)
    dts = open_dts(bench, nginx.port)
    folder = tempfile.mkdtemp(prefix="dts-bench-http.")
    try:
        program, url = floor_program(folder), f"http://127.0.0.1:{nginx.port}/x"
        drain(dts, 2000, f"'{url}'")
        bare, ours, cpu = [], [], []
        for _ in range(bench.repeats):
            bare.append(float(subprocess.run([program, url, str(IN_FLIGHT), str(n)], check=True, capture_output=True, text=True).stdout))
            rate, one = drain(dts, n, f"'{url}'")
            ours.append(rate)
            cpu.append(one)
        bench.report.figure(name, f"bare libcurl-multi loop, {IN_FLIGHT} in flight", bare, "requests/s")
        bench.report.figure(name, "one courier, all bookkeeping durable", ours, "requests/s", cpu)
        bench.report.ratio(name, "one courier / bare loop", ours, bare, at_least=1 / 3)
        latency(bench, name, dts, url)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        nginx.close()
        dts.close()


def latency(bench, name, dts, url):
    """The lease is made right before the first byte: history's started_at is when the request left."""
    dts.resume("q")
    first = None
    for _ in range(bench.pick(50, 300)):
        task = int(dts.app.value(f"SELECT dts.submit_http('{url}', queue => 'q')"))
        first = first or task
        time.sleep(0.02)
    time.sleep(1)
    rows = dts.admin.run(f"SELECT extract(epoch FROM started_at - submitted_at) * 1000 FROM dts.run WHERE task >= {first}")
    bench.report.check(name, "submit to claimed for sending, p50", [quantile([float(r[0]) for r in rows], 0.5)], "ms", at_most=1)


def http_many(bench, name):
    """Many in flight to a server that takes its time."""
    if no_dts(bench, name):
        return
    n, seconds = bench.pick(2000, 10000), 10
    server = Slow(seconds)
    dts = open_dts(bench, server.port)
    try:
        fill(dts, n, f"'http://127.0.0.1:{server.port}/'")
        began = time.monotonic()
        base = dts.done("q")
        dts.resume("q")
        time.sleep(seconds / 2)
        courier = int(dts.admin.value("SELECT pid FROM dts.workers WHERE kind = 'courier' AND database = current_database()"))
        pinned = int(dts.admin.value("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'dts courier' AND backend_xmin IS NOT NULL"))
        memory = rss_mb(courier)
        dts.wait_done("q", base + n)
        bench.report.check(name, f"{n} in flight, each {seconds} s: all done", [time.monotonic() - began], "s", at_most=seconds * 1.5)
        bench.report.check(name, "memory of the courier", [memory], "MB", at_most=300)
        bench.report.check(name, "snapshots held meanwhile", [pinned], "", at_most=0)
    finally:
        server.close()
        dts.close()


def rss_mb(pid):
    with open(f"/proc/{pid}/status", encoding="utf-8") as f:
        return next(int(line.split()[1]) / 1024 for line in f if line.startswith("VmRSS"))


def http_hosts(bench, name):
    """A hundred hosts, all quick, and then one of them slow: what the other 99 lose."""
    if no_dts(bench, name):
        return
    n = bench.pick(4000, 20000)
    server = Slow(5, "127.0.0.100")
    dts = open_dts(bench, server.port)
    try:
        quick, beside = [], []
        for _ in range(bench.repeats):
            quick.append(drain(dts, n, f"'http://127.0.0.' || 1 + i % 99 || ':{server.port}/'")[0])
            slow = n // 99
            fill(dts, slow, f"'http://127.0.0.100:{server.port}/'")
            base = dts.done("q")
            fill(dts, n, f"'http://127.0.0.' || 1 + i % 99 || ':{server.port}/'")
            began = dts.admin.value("SELECT clock_timestamp()")
            dts.resume("q")
            dts.wait_done("q", base + n + slow)
            dts.pause("q")
            took = dts.admin.value(f"SELECT extract(epoch FROM max(ended_at) - '{began}') FROM dts.run WHERE ended_at >= '{began}' AND ended_at - started_at < '4 s'")
            beside.append(n / float(took))
        bench.report.figure(name, "99 hosts alone", quick, "requests/s")
        bench.report.ratio(name, "99 hosts beside a slow one / alone", beside, quick, at_least=0.95)
    finally:
        server.close()
        dts.close()
