// Who is told that there is work, and what an executor takes next (docs/architecture.md, "Claiming", "Wake-ups").
#include "settings.hpp"
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

/// Is something due, or due before the scheduler's clock rings? Returns whether the pool has due work.
bool due_or_clock(const LaneSlot& l, int64 now, DatabaseSlot* d) {
  if (!l.used || paused(l)) return false;
  const int64 due = due_at(l, now);
  if (due <= now) return true;
  if (d != nullptr && due < static_cast<int64>(pg_atomic_read_u64(&d->sleep_until))) wake(d->proc);
  return false;
}

}  // namespace

void notify(int slot) {
  if (slot < 0) return;
  pg_memory_barrier();
  const LaneSlot& l = lanes[slot];
  const int pool = l.pool;
  if (pool < 0 || !due_or_clock(l, GetCurrentTimestamp(), database_slot(l.db, false))) return;
  if (!wake_idle(pools[pool])) want_executor(pools[pool]);
}

void notify_pool(int pool) {
  if (pool < 0) return;
  pg_memory_barrier();
  const int64 now = GetCurrentTimestamp();
  bool due = false;
  LWLockAcquire(&shared->directory, LW_SHARED);
  DatabaseSlot* const d = database_slot(pools[pool].db, false);
  for (int i = pools[pool].lane_head; i != -1; i = lanes[i].next) due |= due_or_clock(lanes[i], now, d);
  LWLockRelease(&shared->directory);
  if (due && !wake_idle(pools[pool])) want_executor(pools[pool]);
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
    if (pool == own || pool == told || !due_or_clock(lanes[i], now, d)) continue;
    told = pool;
    if (!wake_idle(pools[pool])) want_executor(pools[pool]);
  }
  LWLockRelease(&shared->directory);
}

void notify_database(Oid db) {
  for (int i = 0; i < shared->pool_count; i++)
    if (pools[i].used && pools[i].db == db) notify_pool(i);
}

int choose_lane(int pool, int64 now) {
  int best = -1;
  int64 best_due = core::kMax;
  LWLockAcquire(&shared->directory, LW_SHARED);
  for (int i = pools[pool].lane_head; i != -1; i = lanes[i].next) {
    const LaneSlot& l = lanes[i];
    const int64 due = due_at(l, now);
    if (due > now || paused(l)) continue;
    if (best < 0 || l.priority > lanes[best].priority || (l.priority == lanes[best].priority && due < best_due)) {
      best = i;
      best_due = due;
    }
  }
  LWLockRelease(&shared->directory);
  return best;
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
