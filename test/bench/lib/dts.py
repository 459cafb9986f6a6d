"""dts as a contestant: a database of its own with the extension, an ordinary role that owns the tasks, and drains that are measured."""
import time

from pg import SqlError

POLL = 0.02
CHUNK = 100_000


class Dts:
    opened = []

    def __init__(self, server, database):
        Dts.opened.append(self)
        self.admin = self.app = None
        self.server = server
        self.database = database
        server.drop_database(database)
        server.create_database(database)
        # Nothing that the driver itself does shall wait for the disk within a measured time.
        self.admin = server.session(database, sync_commit="off")
        self.admin.run("CREATE EXTENSION dts")
        self.admin.run("DO $$ BEGIN CREATE ROLE bench_app LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
        self.admin.run("SELECT dts.grant_usage('bench_app'); ALTER ROLE bench_app SET dts.max_definitions = 2147483647")  # the workload schedules
        self.app = server.session(database, user="bench_app", sync_commit="off")
        self.queues = {}

    def close(self):
        for session in (self.app, self.admin):
            if session:
                session.close()
        self.server.drop_database(self.database)
        Dts.opened.remove(self)

    @classmethod
    def close_all(cls):
        """After a workload that failed: what it left running would disturb the next one."""
        for one in list(cls.opened):
            one.close()

    def queue(self, name, batch, paused=True):
        """A queue made on first use; its number is what the counters in shared memory go by."""
        if name not in self.queues:
            self.admin.run(f"SELECT dts.create_queue('{name}', paused => {str(paused).lower()}, batch_size => {batch})")
            self.queues[name] = int(self.admin.value(f"SELECT id FROM dts.queue WHERE name = '{name}'"))
        return name

    def pause(self, queue):
        self.admin.run(f"SELECT dts.pause('{queue}')")

    def resume(self, queue):
        self.admin.run(f"SELECT dts.resume('{queue}')")

    def fill(self, queue, n, distinct=False, options=""):
        for first in range(1, n + 1, CHUNK):
            count = min(CHUNK, n + 1 - first)
            texts = f"ARRAY(SELECT 'SELECT ' || i FROM generate_series({first}, {first + count - 1}) i)" if distinct \
                else f"array_fill('SELECT 1'::text, ARRAY[{count}])"
            self.app.run(f"SELECT count(*) FROM dts.submit_many({texts}, queue => '{queue}'{options})")

    def counters(self, queue):
        """(succeeded, ended otherwise) from shared memory: looking at the task table would walk its dead rows."""
        rows = self.admin.run(f"SELECT succeeded, failed + retried + expired + cancelled FROM dts._queue_stats() WHERE queue = {self.queues[queue]}")
        return (int(rows[0][0]), int(rows[0][1])) if rows else (0, 0)

    def done(self, queue):
        done, bad = self.counters(queue)
        if bad:
            raise SqlError(f"{bad} tasks did not succeed: {self.admin.value('SELECT max(last_error) FROM dts._queue_stats()')}")
        return done

    def wait_done(self, queue, target, timeout=300):
        """Waits until target tasks of the queue have succeeded since the server started. Stops early when nothing moves any more."""
        last, moved = -1, time.monotonic()
        while (done := self.done(queue)) < target:
            if done != last:
                last, moved = done, time.monotonic()
            elif time.monotonic() - moved > min(timeout, 60):
                raise SqlError(f"stuck: {done} of {target} tasks done and nothing moves")
            time.sleep(POLL)

    def cpu(self):
        """CPU seconds of all processes of the server but the sessions of this driver."""
        return self.server.cpu(self.admin.pid, self.app.pid, self.server.admin.pid)

    def drain(self, queue, n, distinct=False):
        """Fills a paused queue, resumes it, and returns (tasks/s, CPU us/task) until the last task has ended."""
        self.fill(queue, n, distinct)
        self.admin.run("VACUUM dts.task")
        base = self.done(queue)
        cpu = self.cpu()
        began = self.admin.value("SELECT clock_timestamp()")
        self.resume(queue)
        self.wait_done(queue, base + n)
        cpu = self.cpu() - cpu
        self.pause(queue)
        # The history knows the end more exactly than our looks at it.
        rows = self.admin.run(f"SELECT count(*), extract(epoch FROM max(ended_at) - '{began}') FROM dts.run WHERE ended_at >= '{began}' AND outcome = 10")
        left = self.admin.value("SELECT count(*) FROM dts.task")
        if int(rows[0][0]) != n or left != "0":
            raise SqlError(f"{n} tasks submitted, {rows[0][0]} in history, {left} left in dts.task")
        return n / float(rows[0][1]), cpu / n * 1e6

    def warm_up(self, queue, n=2000):
        return self.drain(queue, n)
