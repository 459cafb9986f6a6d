#!/usr/bin/env python3
"""Random workflows in dts and in the reference interpreter (semantics.py): every node ends the same.

Each round defines and starts a batch of them, lets them come to rest, compares, sends signals and decisions, sets and cancels nodes and runs, compares,
retries ended runs after the world got better, compares. Some runs are cancelled while they are busy: there each end must follow from those before it.
Needs a server with dts in the database of PGDATABASE, as superuser.

    proof.py [--seed N] [--rounds N] [--batch N] [--size N] [--kill N] [--crash] [--verbose]

--kill: workers terminated while each batch is busy; --crash: besides, one is killed in each round, which restarts the server (needs the server's user).
"""
import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time

from generate import Generator
from semantics import Run, parse_need

SETUP = """
CREATE TABLE world (workflow text, place text, fails int, value int, PRIMARY KEY (workflow, place));
CREATE FUNCTION answer(workflow text, place text) RETURNS int LANGUAGE plpgsql AS $$ DECLARE w world; BEGIN
    SELECT * INTO STRICT w FROM world x WHERE x.workflow = answer.workflow AND x.place = answer.place;
    IF (SELECT t.attempt FROM dts.task t WHERE t.id = dts.current_task()) < w.fails THEN RAISE EXCEPTION 'not this time'; END IF;
    RETURN w.value; END $$;
SELECT dts.create_queue('batched', batch_size => 60, retry => '{"strategy": "fixed", "base": 0.01}'), dts.alter_queue('default', retry => '{"strategy": "fixed", "base": 0.01}');
"""
# At rest: nothing is ready or runs, nothing that is decided is still blocked, and nobody waits for what is there.
AT_REST = """SELECT NOT EXISTS (SELECT FROM dts.task WHERE state NOT IN (1, 3)) AND NOT EXISTS (SELECT FROM dts._stuck_blocked('0 s'))
    AND NOT EXISTS (SELECT FROM dts.task WHERE expires_at < clock_timestamp() + '5 s'::interval)
    AND NOT EXISTS (SELECT FROM dts.workflow_node x JOIN dts.task t ON t.id = x.task AND t.state = 3 JOIN dts.signal s ON s.run = x.run AND s.name = x.memory ->> 'signal' AND s.taken_by IS NULL)"""
FOUND = """SELECT COALESCE(jsonb_object_agg(id, jsonb_build_object('state', state, 'output', output, 'nodes', nodes)), '{}') FROM (
    SELECT r.id, r.state, r.output, jsonb_object_agg(n.node, jsonb_build_object('state', n.state, 'output', n.output, 'error', n.error)) AS nodes
    FROM dts.workflow_runs r JOIN dts.workflow_nodes n ON n.run = r.id AND n.item IS NULL WHERE r.id = ANY ('{%s}') GROUP BY r.id, r.state, r.output) x"""
# Compensation runs backwards: who ended last is undone first.
UNDO_ORDER = """SELECT count(*) FROM (SELECT o.ended_at, lag(o.ended_at) OVER (PARTITION BY u.run ORDER BY u.ended_at) AS before
    FROM dts.workflow_nodes u JOIN dts.workflow_nodes o ON o.run = u.run AND 'undo.' || o.node = u.node AND o.item IS NULL WHERE u.run = ANY ('{%s}')) x WHERE before < ended_at"""


def psql(sql, patient=True):
    """Runs SQL; if the server is down, or somebody's session was killed with it, again: each script is one transaction and starts by asking whether it is done."""
    until = time.monotonic() + 90
    while True:
        done = subprocess.run(['psql', '-XAtq', '-v', 'ON_ERROR_STOP=1'], input=sql, capture_output=True, text=True)
        if done.returncode == 0:
            return done.stdout.strip()
        lost = any(w in done.stderr for w in ('connection', 'starting up', 'recovery', 'shutting down', 'could not connect'))
        if not lost or not patient or time.monotonic() > until:
            sys.exit(f'{done.stderr}\nin: {sql[:600]}')
        time.sleep(0.2)


def quote(value):
    return 'NULL' if value is None else "'" + (value if isinstance(value, str) else json.dumps(value)).replace("'", "''") + "'"


class Case:
    """A workflow, its run in the interpreter, and its run in dts."""

    def __init__(self, workflow, library, storm):
        self.workflow, self.library, self.storm = workflow, library, storm
        self.expected, self.run = Run(library, workflow.name, {}), None
        self.gates = [n for n, d in workflow.nodes.items() if d.get('signal') == n or d.get('signal') == {'name': n} or 'approval' in d]

    def pending(self):
        return [n for n in self.workflow.nodes if n not in self.expected.ends]


class Proof:
    def __init__(self, options):
        self.options, self.random = options, random.Random(options.seed)
        self.wrong = self.nodes = self.runs = self.count = 0

    # ---- the world of dts

    def disturb(self):
        for _ in range(self.options.kill):
            psql("SELECT pg_terminate_backend(pid) FROM dts.workers WHERE kind IN ('executor', 'scheduler') AND pid > 0 ORDER BY random() LIMIT 1")
            time.sleep(self.random.random() * 0.1)

    def crash(self):
        pid = psql("SELECT pid FROM dts.workers WHERE kind = 'executor' AND pid > 0 LIMIT 1")
        if pid:
            os.kill(int(pid), signal.SIGKILL)

    def come_to_rest(self):
        until, calm = time.monotonic() + 120, 0
        while calm < 2:
            calm = calm + 1 if psql(AT_REST) == 't' else 0
            if time.monotonic() > until:
                sys.exit('it does not come to rest: ' + psql("SELECT string_agg(id || ' ' || dts.explain(id), '; ') FROM (SELECT id FROM dts.task WHERE state NOT IN (1, 3) LIMIT 5) x")
                         + psql("SELECT string_agg(x::text, '; ') FROM dts._stuck_blocked('0 s') x"))
            time.sleep(0.02)

    # ---- comparing

    def compare(self, cases, when):
        psql('ANALYZE dts.workflow_node, dts.workflow_run, dts.task, dts.run')
        found = json.loads(psql(FOUND % ','.join(str(c.run) for c in cases)))
        for c in cases:
            got = found[str(c.run)]
            (self.compare_storm if c.storm else self.compare_run)(c, got, when)
        backwards = psql(UNDO_ORDER % ','.join(str(c.run) for c in cases))
        if backwards != '0':
            self.complain(f'{when}: {backwards} compensations are out of order')

    def compare_run(self, c, got, when):
        e = c.expected
        if got['state'] != e.state:
            self.complain(f'{when}: run {c.run} of {c.workflow.name} should be {e.state}, is {got["state"]}', c, got)
        elif got['output'] != e.output:
            self.complain(f'{when}: run {c.run} of {c.workflow.name} should give {e.output}, gives {got["output"]}', c, got)
        for node in list(c.workflow.nodes) + sorted(set(e.after) | {n for n in got['nodes'] if n.startswith(('on.', 'undo.'))}):
            wanted = e.ends.get(node, 'pending') if node in c.workflow.nodes else e.after.get(node, 'nothing')
            g = got['nodes'].get(node, {'state': 'nothing', 'output': None})
            state = 'pending' if g['state'] in ('blocked', 'waiting') else g['state']
            if state != wanted:
                self.complain(f'{when}: {node} of run {c.run} of {c.workflow.name} should be {wanted}, is {g["state"]}: {g.get("error")}', c, got)
            elif wanted == 'succeeded' and node in c.workflow.nodes and self.output(c.workflow.nodes[node], g['output']) != e.outputs.get(node):
                self.complain(f'{when}: {node} of run {c.run} of {c.workflow.name} should give {e.outputs.get(node)}, gives {g["output"]}', c, got)
            self.nodes += node in c.workflow.nodes

    @staticmethod
    def output(definition, shown):
        """The view shows all rows of a statement; references see the first."""
        return shown[0] if 'sql' in definition and not definition.keys() & {'map', 'repeat'} and isinstance(shown, list) else shown

    def compare_storm(self, c, got, when):
        if got['state'] not in ('cancelled', c.expected.state):
            self.complain(f'{when}: run {c.run} of {c.workflow.name} was cancelled, and is {got["state"]}', c, got)
        ends = {n: g['state'] for n, g in got['nodes'].items() if n in c.workflow.nodes}
        outputs = {n: self.output(c.workflow.nodes[n], got['nodes'][n]['output']) for n, e in ends.items() if e == 'succeeded'}
        for node, end in ends.items():
            self.nodes += 1
            if end in ('cancelled', 'skipped'):
                continue
            follows = Run(c.library, c.workflow.name, {}).follows(node, ends, outputs)
            if end != follows and not (end == 'failed' and c.workflow.nodes[node].keys() & {'workflow', 'map', 'repeat'}):  # its items were cancelled before itself
                self.complain(f'{when}: {node} of run {c.run} of {c.workflow.name}, which was cancelled, is {end}, from its parents follows {follows}', c, got)

    def complain(self, what, case=None, got=None):
        self.wrong += 1
        if self.wrong <= 10:
            print('#', what)
            if case is not None:
                node = what.split(': ')[1].split(' ')[0]
                print('#  ', json.dumps(case.workflow.nodes.get(node, case.workflow.definition.get('on'))))
                print('#  ', {p: w for p, w in case.workflow.world.items() if w[0]})
                print('#  ', {n: g['state'] for n, g in got['nodes'].items()})

    # ---- a round

    def define(self):
        generator = Generator(self.random, slack=5 if self.options.kill or self.options.crash else 0)
        library, sql = {}, []
        names = [f'w{self.options.seed}_{self.count + i}' for i in range(self.options.batch)]
        self.count += self.options.batch
        for i, name in enumerate(names):
            leaf = i < self.options.batch // 8
            w = generator.workflow(name, 4 if leaf else self.options.size, [] if leaf else names[:self.options.batch // 8], self.random.choice(['default', 'batched']))
            library[name] = w
            sql.append(f"SELECT dts.create_workflow('{name}', {quote(w.definition)}::jsonb);")
            values = ', '.join(f"('{name}', '{place}', {fails}, {value})" for place, (fails, value) in w.world.items())
            if values:
                sql.append(f'INSERT INTO world VALUES {values};')
        psql('BEGIN;' + '\n'.join(sql) + 'COMMIT;')
        return [Case(w, library, self.random.random() < 0.1) for w in library.values()]

    def decide(self, case, node):
        """A signal or a decision for a gate, in both worlds."""
        payload, yes = {'v': self.random.randrange(10)}, self.random.random() < 0.7
        if 'approval' not in case.workflow.nodes[node]:
            case.expected.signal(node, 'succeeded', payload)
            return f"SELECT dts.signal({case.run}, '{node}', {quote(payload)});"
        case.expected.signal(node, 'succeeded' if yes else 'failed', {'approved': True, 'by': 'postgres'})
        return f"SELECT dts.{'approve' if yes else 'reject'}({case.run}, '{node}');"

    def start(self, cases):
        sql, storms = ['BEGIN;'], []
        for c in cases:
            sql.append(f"SELECT dts.start('{c.workflow.name}', key => 'proof') AS run \\gset\nSELECT :run;")
            c.run = ':run'
            if c.storm:
                storms.append(f"SELECT pg_sleep({self.random.random() * 0.02}); SELECT dts.cancel_run(id, '{self.random.choice(['now', 'graceful'])}') FROM dts.workflow_runs WHERE workflow = '{c.workflow.name}' AND key = 'proof';")
                continue
            sql += [self.decide(c, node) for node in c.gates if self.random.random() < 0.4]
            c.expected.go()
        ids = psql('\n'.join(sql + ['COMMIT;'])).split()
        for c, run in zip(cases, ids):
            c.run = int(run)
        psql(''.join(storms))

    def from_outside(self, cases):
        """Nodes that wait are set, cancelled, or get what they wait for."""
        sql = []
        for c in cases:
            if c.storm or not c.pending():
                continue
            mine, waiting = [], c.pending()
            for node in waiting:
                way = self.random.random()
                if way < 0.12:
                    end = self.random.choice(['succeeded', 'skipped', 'failed'])
                    output = {'v': 7} if end == 'succeeded' else None
                    c.expected.set(node, end, output)
                    mine.append(f"SELECT dts.set_node({c.run}, '{node}', '{end}', {quote(output)});")
                elif way < 0.2:
                    c.expected.set(node, 'cancelled')
                    mine.append(f"SELECT dts.cancel(task) FROM dts.workflow_nodes WHERE run = {c.run} AND node = '{node}' AND item IS NULL;")
            for node in waiting:
                if node in c.gates and node not in c.expected.ends and self.random.random() < 0.7:
                    mine.append(self.decide(c, node))
            c.expected.go()
            sql += ['BEGIN;'] + mine + ['COMMIT;']
        psql(''.join(sql))

    def cancel(self, cases):
        sql = []
        for c in cases:
            if not c.storm and c.pending():
                sql.append(f"SELECT dts.cancel_run({c.run}, '{self.random.choice(['now', 'graceful'])}');")
                c.expected.cancel()
        psql(''.join(sql))

    def retry(self, cases):
        sql = []
        for c in cases:
            if c.storm or c.expected.state == 'running' or self.random.random() < 0.4:
                continue
            for place, (fails, value) in list(c.workflow.world.items()):
                if fails and self.random.random() < 0.7:
                    c.workflow.world[place] = (0, value)
                    sql.append(f"UPDATE world SET fails = 0 WHERE workflow = '{c.workflow.name}' AND place = '{place}';")
            nodes = self.random.sample(list(c.workflow.nodes), 1) if self.random.random() < 0.4 else None
            params = {'one': 2} if self.random.random() < 0.3 else None
            before = c.expected.attempt
            c.expected.retry(nodes, params)
            array = 'NULL' if nodes is None else f"ARRAY['{nodes[0]}']"
            sql.append(f'SELECT dts.retry_run({c.run}, {array}, {quote(params)});')
            if c.expected.attempt > before:
                sql += [self.decide(c, n) for n in c.gates if n not in c.expected.ends]
                c.expected.go()
        psql('BEGIN;' + ''.join(sql) + 'COMMIT;')

    def round(self):
        cases = self.define()
        leaves = [c.workflow for c in cases[:self.options.batch // 8]]
        cases = cases[self.options.batch // 8:]  # what others call does not change under them
        self.runs += len(cases)
        begin = time.monotonic()
        for what, step in (('started', self.start), ('with what they waited for', self.from_outside), ('cancelled', self.cancel), ('retried', self.retry)):
            step(cases)
            self.disturb()
            if self.options.crash and what == 'started':
                self.crash()
            self.come_to_rest()
            self.compare(cases, what)
            if self.options.verbose:
                print(f'# {what}: {time.monotonic() - begin:.1f} s', flush=True)
        psql(''.join(f'SELECT dts.cancel_run({c.run});' for c in cases if c.expected.state == 'running'))
        self.come_to_rest()
        del leaves


def main():
    parser = argparse.ArgumentParser(description='random workflows against the reference interpreter')
    for name, default in (('seed', int(time.time())), ('rounds', 1), ('batch', 100), ('size', 12), ('kill', 0)):
        parser.add_argument(f'--{name}', type=int, default=default)
    for name in ('crash', 'verbose'):
        parser.add_argument(f'--{name}', action='store_true')
    options = parser.parse_args()
    print(f'# seed {options.seed}', flush=True)
    if psql("SELECT to_regclass('world')") == '':
        psql(SETUP)
    proof = Proof(options)
    for _ in range(options.rounds):
        proof.round()
    print(f'# {proof.runs} runs, {proof.nodes} ends of nodes compared, {proof.wrong} differ')
    return proof.wrong > 0


if __name__ == '__main__':
    sys.exit(main())
