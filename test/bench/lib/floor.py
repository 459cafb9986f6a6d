"""The compiled floor: a bare SPI loop over tables shaped exactly like those of dts."""
import os
import re
import time

from pg import SqlError

HERE = os.path.dirname(os.path.abspath(__file__))
TASKS_SQL = os.path.join(HERE, "..", "..", "..", "src", "sql", "20_tasks.sql")


def table_definitions(schema, tables=("task", "run")):
    """The definitions of the real tables with their indexes, in another schema."""
    with open(TASKS_SQL, encoding="utf-8") as f:
        script = re.sub(r"--[^\n]*", "", f.read())
    names = "|".join(tables)
    wanted = rf"(CREATE TABLE dts\.({names})\b|CREATE INDEX \w+ ON dts\.({names})\b|CREATE SEQUENCE dts\.task_id_seq\b)"
    found = [s.strip() for s in script.split(";") if re.match(wanted, s.strip())]
    if len([s for s in found if s.startswith("CREATE TABLE")]) != len(tables):
        raise RuntimeError(f"the tables {tables} are not where they are looked for, in src/sql/20_tasks.sql")
    return f"CREATE SCHEMA {schema};\n" + ";\n".join(s.replace("dts.", f"{schema}.") for s in found) + ";\n"


class Floor:
    DATABASE = "bench_floor"

    def __init__(self, server):
        self.server = server
        server.drop_database(self.DATABASE)
        server.create_database(self.DATABASE)
        self.admin = server.session(self.DATABASE, sync_commit="off")
        self.admin.run(table_definitions("floor"))
        with open(os.path.join(HERE, "..", "floor", "floor.sql"), encoding="utf-8") as f:
            self.admin.run(f.read())

    def close(self):
        self.admin.close()
        self.server.drop_database(self.DATABASE)

    def drain(self, batch, n, distinct=False, workers=2):
        """As Dts.drain: (tasks/s, CPU us/task). The workers wait at a gate, so that their start-up is not measured."""
        self.admin.run(f"SELECT floor.fill({n}, {'false' if distinct else 'true'})")
        self.admin.run("VACUUM floor.task")
        self.admin.run(f"SELECT floor.start({workers}, {batch}, false)")
        time.sleep(0.05)
        cpu = self.server.cpu(self.admin.pid, self.server.admin.pid)
        done, wall_us = self.admin.run("SELECT * FROM floor.go()")[0]
        cpu = self.server.cpu(self.admin.pid, self.server.admin.pid) - cpu
        left = self.admin.value("SELECT count(*) FROM floor.task")
        if int(done) != n or left != "0":
            raise SqlError(f"the floor ran {done} of {n} tasks, {left} are left")
        return n / (int(wall_us) / 1e6), cpu / n * 1e6

    def latency(self, n, gap, sync_commit):
        """Seconds from submission to start of single tasks, for a worker that sleeps on its latch."""
        listener = int(self.admin.value("SELECT floor.start(1, 1, true)"))
        producer = self.server.session(self.DATABASE, sync_commit=sync_commit)
        time.sleep(0.3)
        first = None
        for _ in range(n):
            task = int(producer.value(f"SELECT floor.ping({listener})"))
            first = first or task
            time.sleep(gap)
        time.sleep(0.3)
        producer.close()
        self.admin.run("SELECT floor.stop()")
        rows = self.admin.run(f"SELECT extract(epoch FROM started_at - submitted_at) FROM floor.run WHERE task >= {first}")
        if len(rows) != n:
            raise SqlError(f"the floor ran {len(rows)} of {n} single tasks")
        return [float(r[0]) for r in rows]
