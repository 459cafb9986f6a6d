"""Random workflows for the reference interpreter: definitions, worlds, and what happens to their runs from outside."""
import json

from semantics import Workflow

ALWAYS = 99
OUTCOMES = (['failed'], ['ended'], ['succeeded', 'skipped'], ['skipped'], ['cancelled', 'failed'], ['succeeded', 'expired'])


class Generator:
    """slack: attempts that somebody may take away by killing processes."""

    def __init__(self, random, slack=0):
        self.random, self.slack = random, slack

    def chance(self, p):
        return self.random.random() < p

    def pick(self, *choices):
        return self.random.choice(choices)

    def answer(self, place, more=''):
        """SQL that does the work at a place, and the attempts that it may take."""
        fails = ALWAYS if self.chance(0.15) else self.pick(1, 2) if self.chance(0.15) else 0
        self.world[place] = (fails, self.random.randrange(10))
        return f"SELECT a{more} AS v FROM answer('{self.name}', '{place}') a"

    def attempts(self):
        return {'max_attempts': self.pick(1, 2, 3) + self.slack if self.slack == 0 else 3 + self.slack,
                'retry': {'strategy': 'fixed', 'base': 0.01, 'jitter': 'none'}}

    def needs(self, i, nodes):
        result = []
        for p in self.random.sample(range(i), min(i, self.pick(1, 1, 1, 2, 2, 3))):
            switch = nodes[f'n{p}'].get('switch')
            if switch and self.chance(0.7):
                result.append(f'n{p}.{self.pick(*switch)}')
            elif self.chance(0.6):
                result.append(f'n{p}')
            else:
                outcomes = self.pick(*OUTCOMES)
                result.append(self.pick({'node': f'n{p}', 'on': outcomes}, f'n{p}:{",".join(outcomes)}', f'n{p}?'))
        return result

    def condition(self, readable):
        if readable and self.chance(0.6):
            node = self.pick(*readable)
            return self.pick(f'$.nodes.{node}.output.v > 4', f'$.nodes.{node}.state == "{self.pick("succeeded", "failed", "skipped")}"')
        return f'$.params.one == {self.pick(1, 1, 2)}'

    def mapped(self, name, readable, leaves):
        source = self.random.random()
        count = self.pick(0, 1, 2, 3, 4)
        more = {'max_parallel': self.pick(1, 2)} if self.chance(0.3) else {}
        more |= {'tolerate': self.pick(1, 2)} if self.chance(0.4) else {}
        more |= {'on_empty': self.pick('skip', 'fail', 'succeed')} if count == 0 else {}
        if source < 0.2:
            items = {f'k{k}': k for k in range(count)}
        elif source < 0.4:
            items = '${params.items}'
        elif source < 0.65:
            items = {'sql': self.answer(f'{name}/items').replace('a AS v', 'i') + f' LEFT JOIN generate_series(1, {count}) i ON true WHERE i IS NOT NULL'}
        else:
            items = list(range(count))
        for k in range(1, max(count, 3) + 1):  # as many as a parameter may hold
            self.answer(f'{name}/{k}')
        what = {'workflow': self.pick(*leaves)} if leaves and self.chance(0.25) else {'sql': f"SELECT answer('{self.name}', '{name}/' || (${{index}}::int + 1)) AS v"}
        return {'map': items if isinstance(items, (list, str)) and not more and self.chance(0.5) else {'items': items} | more} | what

    def node(self, i, nodes, leaves, gates):
        name, d = f'n{i}', {}
        if i > 0 and self.chance(0.85):
            d['needs'] = self.needs(i, nodes)
            if self.chance(0.3):
                d['join'] = self.pick('any', self.random.randint(1, len(d['needs'])))
            if self.chance(0.5):
                d['on_unsatisfied'] = self.pick('skip', 'fail', 'cancel')
        # What need not have ended before this one cannot be read.
        readable = [n for n in {str(x if isinstance(x, str) else x['node']).split(':')[0].rstrip('?') for x in d.get('needs', [])} if n in nodes] if 'join' not in d else []
        readable = sorted(n for n in readable if 'sql' in nodes[n] and 'map' not in nodes[n])
        if self.chance(0.2):
            d['when'] = self.condition(readable)
        if self.chance(0.2):
            d['continue_on'] = self.pick({'failure': True}, {'skipped': True}, {'failure': True, 'skipped': True})
        kind = self.random.random()
        if kind < 0.3:
            d['sql'] = self.answer(f'{name}/0')
        elif kind < 0.45:
            d['sql'] = self.answer(f'{name}/0', ' + ' + (f'${{nodes.{self.pick(*readable)}.output.v?}}::int' if readable else '${params.one}::int'))
        elif kind < 0.62:
            d |= self.mapped(name, readable, leaves)
        elif kind < 0.72:
            d['switch'] = {'a': self.condition(readable), 'b': self.pick(True, self.condition(readable))} | ({'else': True} if self.chance(0.5) else {})
        elif kind < 0.78 and leaves:
            d['workflow'] = self.pick(*leaves)
        elif kind < 0.83:
            d |= {'sql': self.answer(f'{name}/0'), 'repeat': {'until': self.pick('$.turn >= 2', '$.turn >= 3', '$.output.v >= 3'), 'limit': self.pick(2, 3)}}
        elif kind < 0.88 or not gates:
            d |= self.pick({'noop': {'v': 3}}, {'sleep': '0.01 s'}, {'noop': f'${{nodes.{readable[0]}.output?}}' if readable else None})
        elif kind < 0.91:
            d['signal'] = {'name': name, 'expires': '0.02 s'}
        elif kind < 0.96:
            d['signal'] = self.pick(name, {'name': name})
        else:
            d['approval'] = {'prompt': 'well?'}
        if 'sql' in d:
            d |= self.attempts()
        if 'compensate' not in d and self.chance(0.2) and ('sql' in d or 'workflow' in d):
            d['compensate'] = {'sql': self.answer(f'undo.{name}/0')} | self.attempts()
        return d

    def workflow(self, name, size, leaves, queue):
        self.name, self.world = name, {}
        nodes = {}
        for i in range(self.random.randint(1, size)):
            nodes[f'n{i}'] = self.node(i, nodes, leaves, gates=size > 4) | {'queue': queue}
        definition = {'nodes': nodes, 'params': {'one': {'type': 'integer', 'default': 1}, 'items': {'type': 'array', 'default': list(range(self.pick(0, 2, 3)))}}}
        on = {h: {'sql': self.answer(f'on.{h}/0')} | self.attempts() for h in ('success', 'failure', 'cancel', 'exit') if self.chance(0.3)}
        if on:
            definition['on'] = on
        # What others call may have to wait for its turn: that decides when, and never what. (Nothing in it waits for somebody from outside.)
        if size <= 4 and self.chance(0.5):
            definition['concurrency'] = self.pick(1, {'limit': 2}, {'limit': 1, 'key': '${params.one}'})
        plain = [n for n, d in nodes.items() if 'sql' in d]
        if plain:
            definition['output'] = {'last': f'${{nodes.{plain[-1]}.output?}}'}
        return Workflow(name, json.loads(json.dumps(definition)), self.world, queue)
