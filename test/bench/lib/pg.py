"""The private server: sessions through psql, pgbench, and how the server is watched."""
import os
import re
import subprocess
import tempfile
import time

import procs

MARK = "@end@"


class SqlError(Exception):
    pass


class Session:
    """One psql that stays connected, so that a statement costs no connection."""

    def __init__(self, server, database, user="postgres", sync_commit=None):
        options = "-c client_min_messages=warning"
        if sync_commit:
            options += f" -c synchronous_commit={sync_commit}"
        self.process = subprocess.Popen(
            [server.program("psql"), "-X", "-q", "-A", "-t", "-F", "\t", "-U", user, "-d", database],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env={**server.env, "PGOPTIONS": options, "PGAPPNAME": "bench"})
        self.pid = int(self.value("SELECT pg_backend_pid()"))

    def run(self, sql):
        """Runs statements and returns their rows, each a list of texts."""
        self.send(sql)
        return self.receive()

    def send(self, sql):
        try:
            self.process.stdin.write(f"{sql.rstrip().rstrip(';')}\n;\n\\echo {MARK}\n")
            self.process.stdin.flush()
        except BrokenPipeError as error:
            raise SqlError("the connection is gone") from error

    def receive(self):
        lines = []
        for line in self.process.stdout:
            line = line.rstrip("\n")
            if line == MARK:
                break
            lines.append(line)
        else:
            raise SqlError("the connection is gone: " + "\n".join(lines))
        for line in lines:
            if re.match(r"(psql:[^ ]* )?(ERROR|FATAL|PANIC):", line):
                raise SqlError("\n".join(lines))
        return [line.split("\t") for line in lines if line]

    def value(self, sql):
        rows = self.run(sql)
        return rows[0][0] if rows else None

    def close(self):
        try:
            self.process.stdin.close()
            self.process.wait(10)
        except (BrokenPipeError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()


class Server:
    def __init__(self, bindir, work):
        self.bindir = bindir
        self.work = work
        self.socket = os.path.join(work, "socket")
        self.env = {**os.environ, "PGHOST": self.socket, "PGPORT": "5432", "PGCLIENTENCODING": "UTF8"}
        for name in ("PGSERVICE", "PGDATABASE", "PGUSER", "PGPASSWORD"):
            self.env.pop(name, None)
        with open(os.path.join(work, "data", "postmaster.pid"), encoding="ascii") as f:
            self.postmaster = int(f.readline())
        self.admin = Session(self, "postgres")

    def program(self, name):
        return os.path.join(self.bindir, name)

    def session(self, database, user="postgres", sync_commit=None):
        return Session(self, database, user, sync_commit)

    def cpu(self, *exclude):
        return procs.server_cpu(self.postmaster, exclude)

    def create_database(self, name):
        self.admin.run(f"CREATE DATABASE {name}")

    def drop_database(self, name):
        """A process that does not leave its database must not end the whole run."""
        try:
            self.admin.run(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        except SqlError as error:
            print(f"bench: database {name} could not be dropped: {error}", flush=True)

    def configure(self, **settings):
        for name, value in settings.items():
            self.admin.run(f"ALTER SYSTEM SET {name.replace('__', '.')} = '{value}'")
        self.admin.run("SELECT pg_reload_conf()")
        time.sleep(0.3)

    def reset(self, *names):
        for name in names:
            self.admin.run(f"ALTER SYSTEM RESET {name.replace('__', '.')}")
        self.admin.run("SELECT pg_reload_conf()")
        time.sleep(0.3)

    def pgbench(self, database, script, *options, user="postgres", sync_commit="on", wait=True):
        """Runs a pgbench script and returns its transactions a second, or the process if it is not waited for."""
        with tempfile.NamedTemporaryFile("w", suffix=".sql", dir=self.work, delete=False) as f:
            f.write(script)
        command = [self.program("pgbench"), "-n", "-f", f.name, "-U", user, *map(str, options), database]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                   env={**self.env, "PGOPTIONS": f"-c synchronous_commit={sync_commit}"})
        return self.pgbench_result(process) if wait else process

    @staticmethod
    def pgbench_result(process):
        text = process.communicate()[0]
        found = re.search(r"^tps = ([0-9.]+) \(without initial", text, re.M)
        if process.returncode != 0 or not found:
            raise SqlError(f"pgbench failed: {text.strip()[-500:]}")
        return float(found.group(1))
