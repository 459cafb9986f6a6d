#!/usr/bin/env python3
"""Explicit-state model of notes for a task that somebody holds: who takes them, and when nobody need look.

    python3 requests_model.py            the protocol and its mutants (a few seconds)

A reschedule or a change of priority of a held task is *noted*: a row in dts.request, and in shared memory a count `notes`
that is 0 while no row can stand. The scheduler applies a note as soon as it can lock the task. An attempt that fails does it
itself, in the transaction that makes the task wait again (store::fail_task), since the next attempt may begin before the
scheduler's next look; it looks at the table only if `notes` is not 0.

Breadth-first search over all interleavings of callers, one task with its attempts, and the scheduler. A commit makes rows
visible in one step; its callback is a later one. Checked:
  KEPT  a note whose call had returned when an attempt failed is applied before the next attempt begins
  ONCE  no note is applied twice, and none to a task that somebody else holds
  LOST  when nothing moves any more, no note stands and none was dropped without effect
  LIVE  from every state such an end can be reached
"""
import sys
from collections import deque

# A note: 'new' not written, 'open' written, not committed, 'seen' committed, 'told' counted, 'sent' scheduler told and the call
# returned; `in_table` says whether the row stands, `applied` how often it took effect.
CALL = ('new', 'open', 'seen', 'told', 'sent')


class Model:
    def __init__(self, notes, attempts, aborts, mutant=None):
        self.notes, self.attempts, self.aborts, self.mutant = notes, attempts, aborts, mutant

    def initial(self):
        calls = (('new', False, 0),) * self.notes
        #        calls  count event  executor                     scheduler         aborts
        return (calls, 0, False, ('free', 0, frozenset(), frozenset()), ('idle', 0, None), self.aborts)

    def steps(self, state):
        """All (label, next state, violation)."""
        calls, count, event, executor, scheduler, aborts = state
        out = []

        def emit(label, bad=None, **k):
            out.append((label, (k.get('calls', calls), k.get('count', count), k.get('event', event), k.get('executor', executor),
                                k.get('scheduler', scheduler), k.get('aborts', aborts)), bad))

        def call(i, step=None, row=None, applied=None):
            c = calls[i]
            new = (step or c[0], c[1] if row is None else row, c[2] if applied is None else applied)
            return calls[:i] + (new,) + calls[i + 1:]

        self.callers(calls, count, executor, emit, call)
        self.execute(calls, count, executor, scheduler, aborts, emit)
        self.schedule(calls, count, event, executor, scheduler, emit)
        return out

    def callers(self, calls, count, executor, emit, call):
        for i, (step, _, _) in enumerate(calls):
            if step == 'new' and executor[0] in ('runs', 'failing', 'commit'):
                emit('caller %d writes its note' % i, calls=call(i, 'open'))
            elif step == 'open':
                emit('caller %d commits' % i, calls=call(i, 'seen', row=True))
            elif step == 'seen' and self.mutant == 'told_before_counted':
                emit('caller %d tells' % i, calls=call(i, 'told'), event=True)
            elif step == 'seen':
                emit('caller %d counts' % i, calls=call(i, 'told'), count=count + 1)
            elif step == 'told' and self.mutant == 'told_before_counted':
                emit('caller %d counts' % i, calls=call(i, 'sent'), count=count + 1)
            elif step == 'told':
                emit('caller %d tells' % i, calls=call(i, 'sent'), event=self.mutant != 'scheduler_not_told')

    def execute(self, calls, count, executor, scheduler, aborts, emit):
        at, attempt, due, taken = executor
        standing = frozenset(i for i, c in enumerate(calls) if c[1])

        def applied(which):
            return tuple((s, False, n + 1) if i in which else (s, row, n) for i, (s, row, n) in enumerate(calls))

        if at == 'free' and scheduler[0] != 'holds':
            bad = None
            if due & standing:
                bad = 'KEPT: attempt %d begins, note %s of before stands' % (attempt + 1, sorted(due & standing))
            emit('attempt %d begins' % (attempt + 1), bad, executor=('runs', attempt + 1, frozenset(), frozenset()))
        elif at == 'runs':
            # What had returned by now must hold for the next attempt.
            now = frozenset(i for i, c in enumerate(calls) if c[0] == 'sent' and c[1])
            if attempt < self.attempts:
                emit('attempt fails', executor=('failing', attempt, now, frozenset()))
            emit('attempt succeeds', executor=('ending', attempt, frozenset(), frozenset()))
        elif at == 'failing':
            look = count != 0 and self.mutant != 'executor_never_looks'
            take = standing if look else frozenset()
            if self.mutant == 'taken_at_once':  # in a transaction of its own
                off = tuple((c[0], False, c[2]) if i in take else c for i, c in enumerate(calls))
                emit('takes notes', calls=off, executor=('commit', attempt, due, take))
            else:
                emit('takes notes', executor=('commit', attempt, due, take))
        elif at == 'commit':
            if taken - standing and self.mutant != 'taken_at_once':
                emit('', 'ONCE: note %s was taken by two' % sorted(taken - standing))
            emit('commits', calls=applied(taken), executor=('free', attempt, due, frozenset()))
            if aborts:  # the transaction fails; another one records the failed attempt, and looks again
                emit('aborts', executor=('failing', attempt, due, frozenset()), aborts=aborts - 1)
        elif at == 'ending':  # the task is gone; so are its notes, when the scheduler looks
            emit('ends', executor=('ended', attempt, frozenset(), frozenset()))

    def schedule(self, calls, count, event, executor, scheduler, emit):
        at, before, todo = scheduler
        if at == 'idle' and event:
            emit('scheduler wakes', event=False, scheduler=('look', count, None),
                 count=0 if self.mutant == 'cleared_before_the_look' else count)
        elif at == 'look':
            rows = frozenset(i for i, c in enumerate(calls) if c[1])
            emit('reads requests', scheduler=('apply', before, (rows, True)))
        elif at == 'apply':
            rows, complete = todo
            if not rows:
                if not complete:
                    emit('will look again', scheduler=('again', before, None))
                elif self.mutant in ('cleared_blindly', 'cleared_before_the_look'):
                    emit('clears', count=0 if self.mutant == 'cleared_blindly' else count, scheduler=('idle', 0, None))
                elif self.mutant == 'never_cleared':
                    emit('leaves the count', scheduler=('idle', 0, None))
                else:
                    emit('clears if unchanged', count=0 if count == before else count, scheduler=('idle', 0, None))
                return
            i = min(rows)
            rest = rows - {i}
            free = executor[0] in ('free', 'ended')
            if not free and self.mutant != 'applies_to_a_held_task':
                emit('task is held', scheduler=('apply', before, (rest, False)))
            elif not free:
                emit('', 'ONCE: note %d applied to a held task' % i)
            else:
                emit('locks the task', scheduler=('holds', before, (rest, complete, i)))
        elif at == 'holds':
            rest, complete, i = todo
            new = list(calls)
            if new[i][1] or self.mutant == 'applied_as_read':  # else an attempt took it meanwhile
                bad = 'ONCE: note %d applied twice' % i if new[i][2] else None
                new[i] = (new[i][0], False, new[i][2] + 1)
            else:
                bad = None
            emit('applies note %d' % i, bad, calls=tuple(new), scheduler=('apply', before, (rest, complete)))
        elif at == 'again' and executor[0] in ('free', 'ended', 'runs'):
            emit('looks again', scheduler=('look', count, None))

    def at_rest(self, state):
        calls, count, event, executor, scheduler, _ = state
        return executor[0] == 'ended' and scheduler[0] == 'idle' and not event and all(c[0] in ('new', 'sent') for c in calls)

    def search(self):
        first = self.initial()
        seen, queue, back, rests = {first: None}, deque([first]), {}, []
        while queue:
            state = queue.popleft()
            for label, following, bad in self.steps(state):
                if bad:
                    return len(seen), bad, self.trace(seen, state) + [label]
                back.setdefault(following, []).append(state)
                if following not in seen:
                    seen[following] = (state, label)
                    queue.append(following)
            if self.at_rest(state):
                rests.append(state)
                if any(c[1] for c in state[0]):
                    return len(seen), 'LOST: a note stands for ever', self.trace(seen, state)
                if any(c[0] == 'sent' and c[2] != 1 for c in state[0]):
                    return len(seen), 'LOST: a note had no effect', self.trace(seen, state)
                if state[1] != 0:
                    return len(seen), 'LOOKS: every failed attempt reads the table, though it is empty', self.trace(seen, state)
        live, todo = set(rests), list(rests)
        while todo:
            for earlier in back.get(todo.pop(), ()):
                if earlier not in live:
                    live.add(earlier)
                    todo.append(earlier)
        for state in seen:
            if state not in live:
                return len(seen), 'LIVE: no way to rest', self.trace(seen, state)
        return len(seen), None, []

    @staticmethod
    def trace(seen, state):
        labels = []
        while seen[state]:
            state, label = seen[state]
            labels.append(label)
        return labels[::-1]


SCENARIOS = {'one note, one retry': (1, 2, 0), 'one note, two retries, a failed commit': (1, 3, 1), 'two notes': (2, 2, 0),
             'two notes, two retries, a failed commit': (2, 3, 1)}
MUTANTS = ('cleared_blindly', 'cleared_before_the_look', 'told_before_counted', 'scheduler_not_told', 'executor_never_looks',
           'taken_at_once', 'applies_to_a_held_task', 'applied_as_read', 'never_cleared')


def main():
    points = []
    for name, (notes, attempts, aborts) in SCENARIOS.items():
        n, bad, trace = Model(notes, attempts, aborts).search()
        points.append((not bad, '%s: %d states%s' % (name, n, ', ' + bad if bad else ''), trace if bad else []))
    for mutant in MUTANTS:
        found = next((r for r in (Model(*s, mutant=mutant).search() for s in SCENARIOS.values()) if r[1]), None)
        points.append((found, 'mutant %s is caught%s' % (mutant, ': ' + found[1] if found else ''), []))
    for i, (good, text, trace) in enumerate(points, 1):
        print('%sok %d - %s' % ('' if good else 'not ', i, text))
        for label in trace:
            print('#   ' + label)
    print('1..%d' % len(points))
    return 0 if all(p[0] for p in points) else 1


if __name__ == '__main__':
    sys.exit(main())
