// Who is told that there is work, and what an executor takes next (docs/architecture.md, "Claiming", "Wake-ups").
#include "settings.hpp"
#include "store/agents.hpp"
#include "store/permits.hpp"

namespace dts::store {

namespace {

/// Wakes one idle executor of a pool; false if none is idle.
bool wake_idle(PoolSlot& p) {
  PGPROC* target = nullptr;
  LWLockAcquire(&p.lock, LW_EXCLUSIVE);
  for (int w = 0; w < kSlotWords && target == nullptr; w++) {
    if (p.idle[w] == 0) continue;
    const int bit = __builtin_ctzll(p.idle[w]);
    p.idle[w] &= ~(uint64{1} << bit);
    target = slots[w * 64 + bit].proc;
  }
  LWLockRelease(&p.lock);
  wake(target);
  return target != nullptr;
}

/// Whether some executor of another pool has nothing to do, and would make room.
bool idle_elsewhere(const PoolSlot& mine) {
  for (int i = 0; i < shared->pool_count; i++) {
    const PoolSlot& p = pools[i];
    if (!p.used || &p == &mine || p.runner != static_cast<int16>(core::Runner::Executor)) continue;
    for (const uint64 w : p.idle)
      if (w != 0) return true;
  }
  return false;
}

constexpr int64 kAskAgainUs = 5000;        // the scheduler itself looks at all pools in the same turn, and lets one grow no faster
constexpr int64 kAskForShareUs = 1000000;  // all workers are at work: it may still be that this pool has less than its share

void want_executor(PoolSlot& p) {
  // A pool without executor is always told, and one that could have one more soon.
  const DatabaseSlot* const d = database_slot(p.db, false);
  if (d != nullptr && d->proc == MyProc) return;
  const int64 now = steady_us();
  const int64 since = now - p.asked_at;
  if (p.executors > 0 && since < kAskAgainUs) return;
  const bool room =
      p.executors == 0 || static_cast<int>(pg_atomic_read_u32(&shared->executors)) < settings::max_workers || idle_elsewhere(p);
  if (!room && since < kAskForShareUs) return;
  p.asked_at = now;
  tell_scheduler(p.db, kGrow);
}

/// Calls f for lanes with something to claim, until it returns true; beginning with word `from` of the bits. Returns the word where it
/// stopped. Needs the directory lock.
template <class F>
int each_busy(int from, F&& f) {
  const int words = (shared->lane_count + 63) / 64;
  for (int k = 0; k < words; k++) {
    const int w = (from + k) % words;
    uint64 bits = pg_atomic_read_u64(&busy_lanes[w]);
    if (bits == 0) continue;
    pg_read_barrier();  // the bit was set after what it stands for
    for (; bits != 0; bits &= bits - 1) {
      const int i = w * 64 + __builtin_ctzll(bits);
      if (lanes[i].used && f(i)) return w;
    }
  }
  return 0;
}

/// A short list is walked, a long one only where there is something to claim.
constexpr int kShortList = 64;

template <class F>
void each_of_pool(int pool, F&& f) {
  PoolSlot& p = pools[pool];
  if (p.lane_count > kShortList) {
    p.cursor = each_busy(static_cast<int>(p.cursor), [&](int i) { return lanes[i].pool == pool && f(i); });
    return;
  }
  for (int i = p.lane_head; i != -1; i = lanes[i].next)
    if (f(i)) return;
}

template <class F>
void each_of_limit(int limit, F&& f) {
  const int s = static_cast<int>(limits[limit].scope);
  if (limits[limit].lane_count <= kShortList) {
    for (int i = limits[limit].lane_head; i != -1; i = lanes[i].limit_next[s]) f(i);
  } else {
    each_busy(0, [&](int i) {
      if (lanes[i].limit[s] == limit) f(i);
      return false;
    });
  }
}

/// Somebody is to look for work in a pool: in this lane, if agents serve it.
void call(PoolSlot& p, LaneSlot& l) {
  if (p.runner == static_cast<int16>(core::Runner::Agent)) {
    // Whether the one that was woken comes is not known: the scheduler looks in a second, and calls nobody else before.
    const DatabaseSlot* const d = database_slot(l.db, false);
    if (wake_agent(l, d != nullptr && d->proc == MyProc)) tell_scheduler(l.db, kAgentCalled);
  } else if (!wake_idle(p) && (p.runner != static_cast<int16>(core::Runner::Courier) || p.executors == 0)) {
    want_executor(p);  // a courier that is not idle looks again before it sleeps
  }
}

/// Is something due, or due before the scheduler's clock rings? Returns whether the pool has due work.
bool due_or_clock(const LaneSlot& l, int64 now, DatabaseSlot* d) {
  // Lanes with nothing to do cost one look at memory: there may be thousands of them.
  const int64 wanted = wanted_at(l);
  if (wanted == core::kMax || !l.used ||
      (wanted > now && (d == nullptr || wanted >= static_cast<int64>(pg_atomic_read_u64(&d->sleep_until)))))
    return false;
  if (paused(l)) return false;
  const int64 due = due_at(l, now);
  if (due <= now) return true;
  if (d != nullptr && due < static_cast<int64>(pg_atomic_read_u64(&d->sleep_until))) wake(d->proc);
  return false;
}

}  // namespace

void notify(int slot) {
  if (slot < 0) return;
  pg_memory_barrier();
  LaneSlot& l = lanes[slot];
  const int pool = l.pool;
  if (pool < 0 || !due_or_clock(l, GetCurrentTimestamp(), database_slot(l.db, false))) return;
  call(pools[pool], l);
}

namespace {

void notify_some(int pool, bool all) {
  pg_memory_barrier();
  const int64 now = GetCurrentTimestamp();
  LaneSlot* due = nullptr;
  LWLockAcquire(&shared->directory, LW_SHARED);
  DatabaseSlot* const d = database_slot(pools[pool].db, false);
  const bool agents = pools[pool].runner == static_cast<int16>(core::Runner::Agent);
  each_of_pool(pool, [&](int i) {
    if (!due_or_clock(lanes[i], now, d)) return false;
    due = &lanes[i];
    if (agents) call(pools[pool], *due);  // each lane has agents of its own
    return !all && !agents;
  });
  LWLockRelease(&shared->directory);
  if (due != nullptr && !agents) call(pools[pool], *due);
}

}  // namespace

void notify_pool(int pool) {
  if (pool >= 0) notify_some(pool, true);
}

void notify_claimed(int slot) {
  const LaneSlot& l = lanes[slot];
  bool rated = false;  // the claim may have made others due later, for which the clock must ring
  for (const int32 i : l.limit) rated |= i >= 0 && limits[i].rate.step != 0;
  if (!rated) notify(slot);
  if (l.pool >= 0) notify_some(l.pool, rated);
}

void notify_limit(int limit) {
  // An executor looks for itself right afterwards, and passes on what is left.
  const int own = own_slot < 0 ? -1 : slots[own_slot].pool;
  const int64 now = GetCurrentTimestamp();
  int told = -1;
  LWLockAcquire(&shared->directory, LW_SHARED);
  DatabaseSlot* const d = database_slot(limits[limit].db, false);
  each_of_limit(limit, [&](int i) {
    const int pool = lanes[i].pool;
    if (pool == own || (pool == told && pools[pool].runner == 0) || !due_or_clock(lanes[i], now, d)) return;
    told = pool;
    call(pools[pool], lanes[i]);
  });
  LWLockRelease(&shared->directory);
}

void notify_database(Oid db) {
  for (int i = 0; i < shared->pool_count; i++)
    if (pools[i].used && pools[i].db == db) notify_pool(i);
}

namespace {

/// What choosing looks at, for one lane.
struct Choice {
  int slot;
  int turn;
  uint64 had;
  int priority;
  int64 due;
};

/// Priority with what waiting adds to it. A lane that was not looked at yet (everything may be in it) has waited since it got its slot.
int aged(const LaneSlot& l, int64 due, int64 now) {
  const int64 step = static_cast<int64>(settings::priority_ageing_s) * USECS_PER_SEC;
  if (due <= 0) due = l.since;
  if (step == 0 || due >= now) return l.priority;
  return static_cast<int>(Min(l.priority + (now - due) / step, int64{9}));
}

bool before(const Choice& a, const Choice& b) {
  if (a.turn != b.turn && a.had != b.had) return a.had < b.had;
  if (a.priority != b.priority) return a.priority > b.priority;
  return a.due < b.due;
}

}  // namespace

namespace {

/// Looks at one lane; whether it can be claimed now. What it will be due at goes to `later`.
bool choice_of(int i, int64 now, uint64 least, Choice* out, int64* later) {
  const LaneSlot& l = lanes[i];
  const int64 wanted = wanted_at(l);
  if (wanted == core::kMax || paused(l)) return false;
  const int64 due = wanted > now ? wanted : due_at(l, now);
  if (due > now) {
    *later = Min(*later, due);
    return false;
  }
  *out = Choice{i, l.turn, Max(pg_atomic_read_u64(&turns[l.turn].had), least), aged(l, due, now), due};
  return true;
}

/// With more lanes due than this, so many are compared, others next time: with thousands of tenants a round is long anyway.
constexpr int kSample = 128;

}  // namespace

int choose_lane(int pool, int64 now, LaneFilter allowed, const void* what) {
  Choice best{-1, -1, 0, 0, 0};
  const uint64 least = pg_atomic_read_u64(&pools[pool].had);
  int64 later = core::kMax;
  int seen = 0;
  LWLockAcquire(&shared->directory, LW_SHARED);
  each_of_pool(pool, [&](int i) {
    if (allowed != nullptr && !allowed(lanes[i], what)) return false;
    Choice c;
    if (!choice_of(i, now, least, &c, &later)) return false;
    if (best.slot < 0 || before(c, best)) best = c;
    return ++seen > kSample;
  });
  // Which tenant is next is a matter of fairness; which lane of it is not: its highest priority comes first.
  if (seen > kSample) {
    for (int i = turns[best.turn].head; i != -1; i = lanes[i].turn_next) {
      Choice c;
      if (allowed != nullptr && !allowed(lanes[i], what)) continue;
      if (choice_of(i, now, least, &c, &later) && before(c, best)) best = c;
    }
  }
  DatabaseSlot* const d = best.slot < 0 ? database_slot(pools[pool].db, false) : nullptr;
  LWLockRelease(&shared->directory);
  // Whoever finds nothing sees to it that the clock rings for what comes.
  if (d != nullptr && d->proc != MyProc && later < static_cast<int64>(pg_atomic_read_u64(&d->sleep_until))) wake(d->proc);
  return best.slot;
}

int64 next_due(Oid db, int64 now) {
  int64 next = core::kMax;
  LWLockAcquire(&shared->directory, LW_SHARED);
  each_busy(0, [&](int i) {
    const LaneSlot& l = lanes[i];
    if (l.db != db || paused(l)) return false;
    const int64 due = due_at(l, now);
    if (due > now && due < next) next = due;
    return false;
  });
  LWLockRelease(&shared->directory);
  return next;
}

}  // namespace dts::store
