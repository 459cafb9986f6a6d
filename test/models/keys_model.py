#!/usr/bin/env python3
"""Concurrency keys (docs/architecture.md): every interleaving of a small world.

One key with one place. Tasks are claimed by executors, submitted by sessions, and one is cancelled by a session that may roll back. A transaction is a row of
steps; each step is atomic as it is in the code (one lock held, or one statement with one snapshot). Checked in every state: at most one holder.
Checked in every state from which only executors may still start something: no task is parked while the key is free and nobody is going to look.

    keys_model.py            the protocol, then each planted mistake, which must be caught
"""
import sys

READY, PARKED, GONE = 'ready', 'parked', 'gone'
LOOKING = ('look', 'look_end', 'scheduler_look', 'scheduler_look_end')

# State: tasks: tuple of (committed state, locker or None, state written by the locker or None); held: holder or None; look; agenda; actors: tuple of
# (program counter, memory); hint: no task before it is parked; stale: actors whose look began before a task was parked. All plain tuples, so that states
# can be hashed.


class World:
    """Steps return the next states; `hint`: looks begin at the hint and move it, else they see all rows; `bug` names the planted mistake."""

    def __init__(self, tasks, executors, session, hint, bug=None):
        self.n, self.executors, self.session, self.hint, self.bug = tasks, executors, session, hint, bug

    def start(self):
        tasks = tuple((READY if i == 0 else None, None, None) for i in range(self.n))  # task 0 is there, the others are submitted
        actors = [('idle', None)] * self.executors + [('submit', i) for i in range(1, self.n)] + [('scheduler', None)]
        if self.session:
            actors.append(('cancel', None))
        return (tasks, None, False, False, tuple(actors), 0, frozenset())

    def steps(self, s):
        for a in range(len(s[4])):
            yield from self.actor(s, a)

    # -- helpers on tuples
    @staticmethod
    def task(s, i, **k):
        t = list(s[0])
        c, l, w = t[i]
        t[i] = (k.get('state', c), k.get('locker', l), k.get('wrote', w))
        return (tuple(t),) + s[1:]

    @staticmethod
    def put(s, a, pc, mem=None):
        actors = list(s[4])
        actors[a] = (pc, mem)
        return s[:4] + (tuple(actors),) + s[5:]

    def visible_parked(self, s):
        return [i for i, (c, l, w) in enumerate(s[0]) if c == PARKED]

    def commit(self, s, a):
        for i, (c, l, w) in enumerate(s[0]):
            if l == a:
                s = self.task(s, i, state=w if w is not None else c, locker=None, wrote=None)
        return s

    def abort(self, s, a):
        for i, (c, l, w) in enumerate(s[0]):
            if l == a:
                s = self.task(s, i, locker=None, wrote=None)
        return s

    @staticmethod
    def flags(s, held, look, agenda):
        return (s[0], held, look, agenda) + s[4:]

    def told(self, s, i):
        """Parked row i is visible: the hint goes back to it. Is the key full? Set look; else the agenda."""
        if self.bug == 'not_told':
            return s
        if self.hint:
            hint = s[5] if self.bug == 'hint_stays' else min(s[5], i)
            s = s[:5] + (hint, frozenset(a for a, (pc, _) in enumerate(s[4]) if pc in LOOKING))
        if s[1] is not None:
            return s if self.bug == 'no_look_flag' else self.flags(s, s[1], True, s[3])
        return s if self.bug == 'look_flag_only' else self.flags(s, s[1], s[2], True)

    def give(self, s, a):
        if s[1] != a:
            return s
        return self.flags(s, None, False, s[3] or (s[2] and self.bug != 'look_forgotten'))

    # -- a look: begin, scan, end; the row that is found is made ready when the transaction commits
    @staticmethod
    def look_begin(s, a):
        return s[:6] + (s[6] - {a},), s[5]

    def scan(self, s, a, begun):
        """Rows from the hint on, up to the first that can be made ready: the state, which row, and the new hint, None if a row was passed over."""
        hint = begun
        skipped = False
        for i in range(begun, self.n):
            if s[0][i][0] not in (READY, PARKED):
                continue
            hint = i + 1
            if s[0][i][0] == PARKED and s[0][i][1] is None:
                return self.task(s, i, locker=a, wrote=READY), i, None if skipped else hint
            skipped |= s[0][i][0] == PARKED
        return s, None, None if skipped else hint

    def look_end(self, s, a, begun, hint):
        fresh = s[5] == begun if self.bug == 'hint_compared_by_value' else a not in s[6]
        return s[:5] + (hint if hint is not None and fresh else s[5], s[6] - {a})

    # -- actors
    def actor(self, s, a):
        pc, mem = s[4][a]
        if pc == 'idle':
            for i, (c, l, w) in enumerate(s[0]):
                if c == READY and l is None:
                    yield self.put(self.task(s, i, locker=a), a, 'admit', i)
        elif pc == 'admit':
            if s[1] is None or self.bug == 'no_guard':
                yield self.put(self.flags(s, a if s[1] is None else s[1], s[2], s[3]), a, 'run', mem)
            else:
                yield self.put(self.task(s, mem, wrote=PARKED), a, 'park_commit', mem)
        elif pc == 'park_commit':
            yield self.put(self.commit(s, a), a, 'park_callback', mem)
        elif pc == 'park_callback':
            yield self.put(self.told(s, mem), a, 'idle')
        elif pc == 'run':  # ends well, or the transaction fails
            clear = s if self.bug == 'clear_after_look' else self.flags(s, s[1], False, s[3])
            clear, hint = self.look_begin(clear, a)
            yield self.put(self.task(clear, mem, wrote=GONE), a, 'look', hint)
            yield self.put(self.abort(s, a), a, 'abort_callback')
        elif pc == 'look':
            t, freed, hint = self.scan(s, a, mem)
            if self.bug == 'clear_after_look':
                yield self.put(t, a, 'clear', freed)
            else:
                yield self.put(t, a, 'look_end', (freed, mem, hint)) if self.hint else self.put(t, a, 'end', freed)
        elif pc == 'clear':
            yield self.put(self.flags(s, s[1], False, s[3]), a, 'end', mem)
        elif pc == 'look_end':
            yield self.put(self.look_end(s, a, mem[1], mem[2]), a, 'end', mem[0])
        elif pc == 'end':
            yield self.put(self.commit(s, a), a, 'end_callback')
            yield self.put(self.abort(s, a), a, 'abort_callback', mem)
            if self.bug == 'give_before_commit':
                yield self.put(self.give(s, a), a, 'late_commit')
        elif pc == 'late_commit':
            yield self.put(self.commit(s, a), a, 'idle')
        elif pc == 'end_callback':
            yield self.put(self.give(s, a), a, 'idle')
        elif pc == 'abort_callback':
            t = self.give(s, a) if self.bug != 'kept_on_abort' else s
            yield self.put(t if mem is None else self.told(t, mem), a, 'idle')
        elif pc == 'submit':  # the hint: busy keys are parked at once
            state = PARKED if s[1] is not None else READY
            yield self.put(self.task(s, mem, locker=a, wrote=state), a, 'submitted', mem)
        elif pc == 'submitted':
            parked = s[0][mem][2] == PARKED
            t = self.commit(s, a)
            yield self.put(t, a, 'submit_callback' if parked else 'done', mem)
        elif pc == 'submit_callback':
            yield self.put(self.told(s, mem), a, 'done')
        elif pc == 'cancel':  # a session locks some task, and ends it or not
            for i, (c, l, w) in enumerate(s[0]):
                if c in (READY, PARKED) and l is None:
                    yield self.put(self.task(s, i, locker=a, wrote=GONE), a, 'cancel_end', i)
        elif pc == 'cancel_end':
            yield self.put(self.commit(s, a), a, 'cancel_callback', mem)
            yield self.put(self.abort(s, a), a, 'cancel_callback', mem)
        elif pc == 'cancel_callback':
            yield self.put(s if self.bug == 'session_not_told' else self.told(s, mem), a, 'done')
        elif pc == 'scheduler' and s[3]:
            t = self.flags(s, s[1], s[2], False)
            if s[1] is not None:
                yield self.put(self.flags(t, s[1], True, False), a, 'scheduler')
            else:
                t, hint = self.look_begin(t, a)
                yield self.put(t, a, 'scheduler_look', hint)
        elif pc == 'scheduler_look':
            t, freed, hint = self.scan(s, a, mem)
            yield self.put(t, a, 'scheduler_look_end', (freed, mem, hint)) if self.hint else self.put(t, a, 'scheduler_commit', freed)
        elif pc == 'scheduler_look_end':
            yield self.put(self.look_end(s, a, mem[1], mem[2]), a, 'scheduler_commit', mem[0])
        elif pc == 'scheduler_commit':
            yield self.put(self.commit(s, a), a, 'scheduler')
            yield self.put(self.abort(s, a), a, 'scheduler_abort', mem)
        elif pc == 'scheduler_abort':
            yield self.put(s if self.bug == 'abort_not_told' or mem is None else self.told(s, mem), a, 'scheduler')

    def wrong(self, s, successors):
        running = [a for a, (pc, _) in enumerate(s[4]) if pc in ('run', 'look', 'clear', 'look_end', 'end', 'late_commit')]
        if len(running) > 1:
            return 'two hold the key'
        if s[1] is not None and s[4][s[1]][0] == 'idle':
            return 'the key is held by nobody'
        # Nobody can move but a session that has not begun: then nothing may be parked.
        if all(pc in ('idle', 'scheduler', 'cancel', 'done') for pc, _ in s[4]) and not s[3] and s[1] is None:
            ready = any(c == READY and l is None for c, l, w in s[0])
            if not ready and self.visible_parked(s):
                return 'a task is parked for ever'
        return None


def explore(world):
    """States reached, and what was wrong first."""
    todo, seen = [world.start()], set()
    while todo:
        s = todo.pop()
        if s in seen:
            continue
        seen.add(s)
        next_states = list(world.steps(s))
        bad = world.wrong(s, next_states)
        if bad:
            return len(seen), bad
        todo += [t for t in next_states if t not in seen]
    return len(seen), None


WORLDS = ((2, 2, True, False), (3, 2, False, False), (2, 2, False, True))
BUGS = ('no_guard', 'not_told', 'no_look_flag', 'look_flag_only', 'look_forgotten', 'clear_after_look', 'give_before_commit', 'kept_on_abort',
        'abort_not_told', 'session_not_told', 'hint_stays', 'hint_compared_by_value')


def main():
    failed = 0
    for k, w in enumerate(WORLDS):
        n, bad = explore(World(*w))
        failed += bad is not None
        print(f'{"not ok" if bad else "ok"} {k + 1} - the protocol, {w[0]} tasks, {w[1]} executors{", a session" if w[2] else ""}{", the hint" if w[3] else ""}: {n} states, {bad or "nothing wrong"}')
    for k, bug in enumerate(BUGS):
        caught = None
        for w in WORLDS:
            caught = caught or explore(World(*w, bug=bug))[1]
        failed += caught is None
        print(f'{"ok" if caught else "not ok"} {len(WORLDS) + k + 1} - mutant {bug} is {"caught: " + caught if caught else "NOT CAUGHT"}')
    print(f'1..{len(WORLDS) + len(BUGS)}')
    sys.exit(failed > 0)


main()
