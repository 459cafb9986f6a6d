"""What a workflow means: a reference interpreter of definitions, written to be read.

It knows nothing of tasks, rows or processes. A `Workflow` is a definition (the JSON that dts gets) and a world: how often the work at each place
fails before it succeeds, and the number that it then gives. A `Run` decides nodes in the order of the graph as far as it can; what is left waits for
signals and decisions. docs/workflows.md is what it follows.
"""
import re

ENDS = {'succeeded', 'failed', 'expired', 'cancelled', 'skipped'}
UNMET = {'skip': 'skipped', 'fail': 'failed', 'cancel': 'cancelled'}
NOTHING = object()  # a value that is not there; as the output of a node: it failed
WAITS = object()  # as the output of a node: it has none yet


class End:
    """As the output of a node: it ended otherwise."""

    def __init__(self, name):
        self.name = name


class Workflow:
    def __init__(self, name, definition, world, queue='default'):
        self.name, self.definition, self.world, self.queue = name, definition, world, queue

    @property
    def nodes(self):
        return self.definition['nodes']


def parse_need(need):
    """'a', 'a:failed,skipped', 'a:ended', 'a?', 's.case', {'node': 'a', 'on': [...]} -> node, case of a switch, outcomes (None: the usual ones)."""
    if isinstance(need, dict):
        outcomes = need.get('on')
        node, case = need['node'], None
    else:
        node, case, optional, named = re.fullmatch(r'([^:.?]+)(?:\.([^:?]+))?(\?)?(?::(.*))?', need).groups()
        outcomes = ['succeeded', 'skipped'] if optional else named.split(',') if named else None
    return node, case, None if outcomes is None else ENDS if 'ended' in outcomes else set(outcomes)


def work(workflow, place, attempts):
    """What the work at a place gives: its number, or NOTHING if it fails as often as it is tried."""
    fails, value = workflow.world[place]
    return value if fails < attempts else NOTHING


class Run:
    def __init__(self, library, name, params):
        self.library, self.workflow = library, library[name]
        declared = self.workflow.definition.get('params', {})
        self.params = {p: params.get(p, d.get('default')) for p, d in declared.items()}
        self.state, self.attempt, self.output = 'running', 1, None
        self.ends, self.outputs, self.kept, self.after = {}, {}, {}, {}
        self.signals = {}  # early ones, by the node that waits for them: how it ends then, its output
        self.go()

    # ---- references and conditions

    def look_up(self, path):
        parts = path.split('.')
        if parts[0] == 'params':
            value, rest = self.params, parts[1:]
        elif parts[0] == 'run':
            value, rest = {'attempt': self.attempt}, parts[1:]
        else:
            node = parts[1]
            if node not in self.ends:
                return NOTHING
            value, rest = {'state': self.ends[node]}, parts[2:]
            if node in self.outputs:
                value['output'] = self.outputs[node]
        for p in rest:
            if not isinstance(value, dict) or p not in value:
                return NOTHING
            value = value[p]
        return value

    def resolve(self, template):
        """A template of one reference, ${path} or ${path?}, or a literal. NOTHING: it has no value."""
        if isinstance(template, dict):
            return {k: self.resolve(v) for k, v in template.items()}
        if not isinstance(template, str) or not template.startswith('${'):
            return template
        path = template[2:-1]
        value = self.look_up(path.rstrip('?'))
        return None if value is NOTHING and path.endswith('?') else value

    def holds(self, condition, **more):
        """A condition: true, or "$.path == literal" (also > and >=), joined by &&. What cannot be compared does not hold."""
        if isinstance(condition, bool):
            return condition
        for part in condition.split(' && '):
            path, operator, literal = re.fullmatch(r'\$\.(\S+) (==|>=|>) (\S+)', part).groups()
            value = more[path] if path in more else self.look_up(path)
            wanted = literal.strip('"') if literal.startswith('"') else int(literal)
            if value is NOTHING or type(value) is not type(wanted):
                return False
            if not {'==': value == wanted, '>': value > wanted, '>=': value >= wanted}[operator]:
                return False
        return True

    # ---- the graph

    def satisfied(self, node):
        """ready, dead, or None while it is open."""
        needs = self.workflow.nodes[node].get('needs', [])
        accepted = still_open = 0
        for parent, case, outcomes in map(parse_need, needs):
            end = self.ends.get(parent)
            if end is None:
                still_open += 1
            elif case is not None:
                accepted += end == 'succeeded' and self.outputs.get(parent) == case
            else:
                lets_pass = self.workflow.nodes[parent].get('continue_on', {})
                usual = {'succeeded'} | ({'failed', 'expired'} if lets_pass.get('failure') else set()) | ({'skipped'} if lets_pass.get('skipped') else set())
                accepted += end in (usual if outcomes is None else outcomes)
        join = self.workflow.nodes[node].get('join', 'all')
        wanted = len(needs) if join == 'all' else min(1, len(needs)) if join == 'any' else join
        return 'ready' if accepted >= wanted else 'dead' if accepted + still_open < wanted else None

    def go(self):
        for node, definition in self.workflow.nodes.items():  # parents come first
            if node in self.ends:
                continue
            verdict = self.satisfied(node)
            if verdict == 'dead':
                self.ends[node] = UNMET[definition.get('on_unsatisfied', 'skip')]
            elif verdict == 'ready':
                self.perform(node, definition)
        if len(self.ends) == len(self.workflow.nodes):
            self.finish()

    def perform(self, node, definition):
        if 'when' in definition and not self.holds(definition['when']):
            self.ends[node] = 'skipped'
            return
        output = self.mapped(node, definition) if 'map' in definition else self.single(node, definition)
        if output is WAITS:
            return
        if isinstance(output, End):
            self.ends[node] = output.name
        elif output is NOTHING:
            self.ends[node] = 'failed'
        else:
            self.ends[node], self.outputs[node] = 'succeeded', output

    def single(self, node, d):
        if 'signal' in d or 'approval' in d:
            kept = self.signals.get(node)
            if kept and 'approval' in d:  # one who says no is enough
                del self.signals[node]
                return NOTHING if any(end == 'failed' for end, _ in kept) else kept[0][1]
            if kept:
                return kept.pop(0)[1]
            return End('expired') if isinstance(d.get('signal'), dict) and 'expires' in d['signal'] else WAITS
        if 'noop' in d:
            return self.resolve(d['noop'])
        if 'sleep' in d:
            return None
        if 'switch' in d:
            cases = sorted(d['switch'], key=lambda c: (c == 'else', c))
            return next((c for c in cases if self.holds(d['switch'][c])), None)
        if 'repeat' in d:
            for turn in range(1, d['repeat'].get('limit', 100) + 1):
                output = self.item(node, d, 0)
                if output is NOTHING or self.holds(d['repeat']['until'], turn=turn, **{'output.v': output['v'] if isinstance(output, dict) else NOTHING}):
                    return output
            return NOTHING
        return self.item(node, d, 0)

    def item(self, node, d, index):
        """A task or a run that does the work, for one item: its output."""
        if 'workflow' in d:
            key = (node, index)
            if key in self.kept:
                self.kept[key].retry()
            else:
                self.kept[key] = Run(self.library, d['workflow'], d.get('params', {}))
            child = self.kept[key]
            return child.output if child.state == 'succeeded' else NOTHING
        value = work(self.workflow, f'{node}/{index}', d.get('max_attempts', 3))
        if value is NOTHING:
            return NOTHING
        # The statement adds what its references give; null makes null.
        for reference in re.findall(r'\$\{((?:nodes|params)[^}]*)\}', d['sql']):
            more = self.resolve('${' + reference + '}')
            if more is NOTHING:
                return NOTHING
            value = None if value is None or more is None else value + more
        return {'v': value}

    def mapped(self, node, d):
        m = d['map'] if isinstance(d['map'], dict) else {'items': d['map']}
        items = m['items']
        if isinstance(items, dict) and set(items) == {'sql'}:
            if work(self.workflow, f'{node}/items', d.get('max_attempts', 3)) is NOTHING:
                return NOTHING
            count = int(re.search(r'generate_series\(1, (\d+)\)', items['sql'])[1])
        else:
            count = self.resolve(items)
            if count is NOTHING:
                return NOTHING
            count = len(count or [])
        if count == 0:
            return {'skip': End('skipped'), 'fail': NOTHING, 'succeed': []}[m.get('on_empty', 'succeed')]
        outputs = []
        for i in range(1, count + 1):
            key = (node, i)
            output = self.kept[key] if key in self.kept and not isinstance(self.kept[key], Run) else self.item(node, d, i)
            if output is not NOTHING and 'workflow' not in d:
                self.kept[key] = output
            outputs.append(output)
        if sum(o is NOTHING for o in outputs) > m.get('tolerate', 0):
            return NOTHING
        return [None if o is NOTHING else o for o in outputs]

    # ---- what comes from outside, while nothing else moves

    def signal(self, node, end, output):
        self.signals.setdefault(node, []).append((end, output))

    def set(self, node, end, output=None):
        self.ends[node] = end
        if end == 'succeeded':
            self.outputs[node] = output

    def cancel(self):
        if self.state != 'running':
            return
        self.state = 'cancelling'
        for node in self.workflow.nodes:
            self.ends.setdefault(node, 'cancelled')
        self.finish()

    # ---- the end

    def finish(self):
        bad = [n for n, e in self.ends.items() if e in ('failed', 'expired', 'cancelled') and not self.workflow.nodes[n].get('continue_on', {}).get('failure')]
        self.state = 'cancelled' if self.state == 'cancelling' else 'failed' if bad else 'succeeded'
        self.output = self.resolve(self.workflow.definition.get('output')) if self.state == 'succeeded' else None
        self.after = {}
        if self.state != 'succeeded':
            for node, end in self.ends.items():
                if end == 'succeeded' and 'compensate' in self.workflow.nodes[node]:
                    self.after[f'undo.{node}'] = 'succeeded' if work(self.workflow, f"undo.{node}/0", self.workflow.nodes[node]["compensate"].get("max_attempts", 3)) is not NOTHING else 'failed'
        on = self.workflow.definition.get('on', {})
        for handler in ({'succeeded': 'success', 'failed': 'failure', 'cancelled': 'cancel'}[self.state], 'exit'):
            if handler in on:
                self.after[f'on.{handler}'] = 'succeeded' if work(self.workflow, f"on.{handler}/0", on[handler].get("max_attempts", 3)) is not NOTHING else 'failed'

    def retry(self, nodes=None, params=None):
        """The nodes named, else those that did not succeed for a reason of their own or were undone; and all that comes after them."""
        if nodes is None:
            first = {n for n, e in self.ends.items() if e not in ('succeeded', 'skipped') or f'undo.{n}' in self.after}
        else:
            first = set(nodes) | {n for n in self.ends if f'undo.{n}' in self.after}
        again = set(first)
        for node, d in self.workflow.nodes.items():
            if any(parse_need(need)[0] in again for need in d.get('needs', [])):
                again.add(node)
        if not again:
            return
        # What failed of itself goes on where it was; the rest begins anew: what it works on may have changed.
        failed = {n for n in first if self.ends[n] != 'succeeded' and n not in (nodes or ())}
        self.kept = {key: k for key, k in self.kept.items() if key[0] not in again or (key[0] in failed and 'repeat' not in self.workflow.nodes[key[0]])}
        for node in again:
            self.ends.pop(node, None)
            self.outputs.pop(node, None)
        self.params.update(params or {})
        self.state, self.after = 'running', {}
        self.attempt += 1
        self.go()

    def follows(self, node, ends, outputs):
        """The end of a node that follows from the ends of all others, as they were found in a run that was cancelled at any moment."""
        self.ends, self.outputs = {n: e for n, e in ends.items() if n != node}, {n: o for n, o in outputs.items() if n != node}
        verdict = self.satisfied(node)
        if verdict == 'dead':
            return UNMET[self.workflow.nodes[node].get('on_unsatisfied', 'skip')]
        self.perform(node, self.workflow.nodes[node])
        return self.ends.get(node)
