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

void want_executor(PoolSlot& p) {
  // A pool without executor is always told; one with executors only when a worker may still be started.
  // The scheduler itself looks at all pools in the same turn, and need not be told again within the time that it takes to grow.
  const DatabaseSlot* const d = database_slot(p.db, false);
  if (d != nullptr && d->proc == MyProc) return;
  const TimestampTz now = GetCurrentTimestamp();
  if (p.executors > 0 && now - p.asked_at < 5000) return;
  p.asked_at = now;
  if (p.executors == 0 || static_cast<int>(pg_atomic_read_u32(&shared->executors)) < settings::max_workers) tell_scheduler(p.db, kGrow);
}

/// Somebody is to look for work in a pool: in this lane, if agents serve it.
void call(PoolSlot& p, LaneSlot& l) {
  if (p.runner == static_cast<int16>(core::Runner::Agent)) {
    // Whether the one that was woken comes is not known: the scheduler looks in a second, and calls nobody else before.
    const DatabaseSlot* const d = database_slot(l.db, false);
    if (wake_agent(l, d != nullptr && d->proc == MyProc)) tell_scheduler(l.db, kAgentCalled);
  } else if (!wake_idle(p)) {
    want_executor(p);
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

void notify_pool(int pool) {
  if (pool < 0) return;
  pg_memory_barrier();
  const int64 now = GetCurrentTimestamp();
  LaneSlot* due = nullptr;
  LWLockAcquire(&shared->directory, LW_SHARED);
  DatabaseSlot* const d = database_slot(pools[pool].db, false);
  const bool agents = pools[pool].runner == static_cast<int16>(core::Runner::Agent);
  for (int i = pools[pool].lane_head; i != -1; i = lanes[i].next) {
    if (!due_or_clock(lanes[i], now, d)) continue;
    due = &lanes[i];
    if (agents) call(pools[pool], *due);  // each lane has agents of its own
  }
  LWLockRelease(&shared->directory);
  if (due != nullptr && !agents) call(pools[pool], *due);
}

void notify_limit(int limit) {
  // An executor looks for itself right afterwards, and passes on what is left.
  const int own = own_slot < 0 ? -1 : slots[own_slot].pool;
  const int64 now = GetCurrentTimestamp();
  const int s = static_cast<int>(limits[limit].scope);
  int told = -1;
  LWLockAcquire(&shared->directory, LW_SHARED);
  DatabaseSlot* const d = database_slot(limits[limit].db, false);
  for (int i = limits[limit].lane_head; i != -1; i = lanes[i].limit_next[s]) {
    const int pool = lanes[i].pool;
    if (pool == own || (pool == told && pools[pool].runner == 0) || !due_or_clock(lanes[i], now, d)) continue;
    told = pool;
    call(pools[pool], lanes[i]);
  }
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

int choose_lane(int pool, int64 now, LaneFilter allowed, const void* what) {
  Choice best{-1, -1, 0, 0, 0};
  const uint64 least = pg_atomic_read_u64(&pools[pool].had);
  LWLockAcquire(&shared->directory, LW_SHARED);
  for (int i = pools[pool].lane_head; i != -1; i = lanes[i].next) {
    const LaneSlot& l = lanes[i];
    if (wanted_at(l) > now || (allowed != nullptr && !allowed(l, what))) continue;
    const int64 due = due_at(l, now);
    if (due > now || paused(l)) continue;
    const Choice c{i, l.turn, Max(pg_atomic_read_u64(&turns[l.turn].had), least), aged(l, due, now), due};
    if (best.slot < 0 || before(c, best)) best = c;
  }
  LWLockRelease(&shared->directory);
  return best.slot;
}

void turn_join(int slot) {
  LaneSlot& l = lanes[slot];
  int turn = -1;
  for (int i = pools[l.pool].lane_head; i != -1 && turn < 0; i = lanes[i].next)
    if (i != slot && lanes[i].tenant == l.tenant && lanes[i].owner == l.owner) turn = lanes[i].turn;
  for (int i = slot; turn < 0; i = (i + 1) % settings::max_lanes)  // there is one for each lane
    if (turns[i].lanes == 0) turn = i;
  TurnSlot& t = turns[turn];
  if (t.lanes++ == 0) {
    t.pool = l.pool;
    t.tenant = l.tenant;
    pg_atomic_write_u64(&t.had, pg_atomic_read_u64(&pools[l.pool].had));
  }
  l.turn = turn;
}

void turn_leave(int slot) { turns[lanes[slot].turn].lanes--; }

void turn_begin(int slot) {
  const LaneSlot& l = lanes[slot];
  TurnSlot& t = turns[l.turn];
  PoolSlot& p = pools[l.pool];
  // Who comes back after a pause starts where the others are: turns are not saved up.
  uint64 had = pg_atomic_read_u64(&t.had);
  const uint64 least = pg_atomic_read_u64(&p.had);
  while (had < least && !pg_atomic_compare_exchange_u64(&t.had, &had, least)) {
  }
  if (had > least) pg_atomic_write_u64(&p.had, had);
}

namespace {
int weight_of(const LaneSlot& l, Scope scope) {
  const int limit = l.limit[static_cast<int>(scope)];
  return limit < 0 ? 1 : Max(1, limits[limit].weight);
}
}  // namespace

void turn_charge(int slot, int64 us) {
  const LaneSlot& l = lanes[slot];
  int weight = weight_of(l, Scope::Tenant);
  if (pools[l.pool].runner != static_cast<int16>(core::Runner::Executor)) weight *= weight_of(l, Scope::Owner);
  pg_atomic_fetch_add_u64(&turns[l.turn].had, us / weight);
}

int64 next_due(Oid db, int64 now) {
  int64 next = core::kMax;
  LWLockAcquire(&shared->directory, LW_SHARED);
  for (int i = 0; i < shared->lane_count; i++) {
    const LaneSlot& l = lanes[i];
    if (!l.used || l.db != db || paused(l)) continue;
    const int64 due = due_at(l, now);
    if (due > now && due < next) next = due;
  }
  LWLockRelease(&shared->directory);
  return next;
}

}  // namespace dts::store
