"""Other queues, run by small Node scripts that wait at a gate while the server's counters are read."""
import json
import os
import subprocess
import threading


class PeerError(Exception):
    pass


class Peers:
    DATABASE = "bench_peers"

    def __init__(self, server, directory):
        self.server = server
        self.directory = directory
        self.why = None if directory and os.path.isdir(directory) else "peer not available"
        self.created = False

    def _open(self):
        """The same durability as the default of dts: a lost commit only runs a job again."""
        if not self.created:
            self.server.drop_database(self.DATABASE)
            self.server.create_database(self.DATABASE)
            self.server.admin.run(f"ALTER DATABASE {self.DATABASE} SET synchronous_commit = off")
            self.created = True

    def close(self):
        if self.created:
            self.server.drop_database(self.DATABASE)
            self.created = False

    def run(self, script, command, mode, count, timeout=240):
        """Returns what the script reports and the server's CPU seconds between its gate and its report."""
        if self.why:
            raise PeerError(self.why)
        self._open()
        env = {**self.server.env, "BENCH_SOCKET": self.server.socket, "BENCH_DATABASE": self.DATABASE, "NO_LOG_SUCCESS": "1"}
        process = subprocess.Popen(["node", f"{script}.mjs", command, mode, str(count)], cwd=self.directory, env=env, text=True,
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        timer = threading.Timer(timeout, process.kill)
        timer.start()
        try:
            self._expect(process, lambda line: line == "ready")
            cpu = self.server.cpu(self.server.admin.pid)
            process.stdin.write("go\n")
            process.stdin.flush()
            line = self._expect(process, lambda line: line.startswith("{"))
            cpu = self.server.cpu(self.server.admin.pid) - cpu
            process.stdin.write("end\n")
            process.stdin.close()
            process.wait()
            return json.loads(line), cpu
        except BrokenPipeError as error:
            raise PeerError(f"peer not available: {script} ended early") from error
        finally:
            timer.cancel()
            if process.poll() is None:
                process.kill()
            process.wait()

    @staticmethod
    def _expect(process, wanted):
        for line in process.stdout:
            if wanted(line.strip()):
                return line.strip()
        lines = process.stderr.read().strip().splitlines()
        cause = next((line for line in lines if "rror: " in line), lines[-1] if lines else "it ended or took too long")
        raise PeerError(f"peer not available: {cause.strip()[:120]}")

    def drain(self, script, mode, count):
        """(jobs/s, server CPU us/job, client CPU us/job)"""
        figures, cpu = self.run(script, "drain", mode, count)
        return count / figures["seconds"], cpu / count * 1e6, figures["client_us"]

    def latency(self, script, mode, count):
        figures, _ = self.run(script, "latency", mode, count)
        return [wait / 1000 for wait in figures["waits"]]
