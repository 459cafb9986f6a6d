#include <bit>
#include <csignal>

#include "clock_watch.hpp"
#include "scheduler.hpp"
#include "settings.hpp"
#include "store/permits.hpp"
#include "workers.hpp"

namespace dts {

namespace {

using store::ExecutorSlot;
using store::PoolSlot;

constexpr long kGrowDelayMs = 5;      // a burst of one short task needs no second executor
constexpr int64 kTurnUs = 1000000;    // with more owners than workers, each executor serves at least this long
constexpr int64 kStartUs = 60000000;  // a start that takes longer has failed
constexpr int64 kGraceUs = 5000000;   // between a timeout and the end of the process

BackgroundWorkerHandle* handles[store::kMaxSlots];
uint64 handle_generation[store::kMaxSlots];
int64 due_since[65536 / 4 + 64];  // by pool: since when (steady_us) work is due and nobody idle

bool is_idle(const PoolSlot& p) {
  for (const uint64 w : p.idle)
    if (w != 0) return true;
  return false;
}

/// Whether a pool claims a share of the workers: idle executors do not, they are there to be taken.
bool claims_share(const PoolSlot& p) {
  int idle = 0;
  for (const uint64 w : p.idle) idle += std::popcount(w);
  return p.used && p.runner == 0 && (p.executors > idle || p.wanting != 0);
}

int weight_of(const PoolSlot& p) {
  const int limit = store::limit_slot(p.db, store::Scope::Owner, p.owner);
  return limit < 0 ? 1 : Max(1, store::limits[limit].weight);
}

/// How many executors a pool may have while others want some: by the weights of those that claim a share.
int share_of(const PoolSlot& pool) {
  int sum = 0;
  for (int i = 0; i < store::shared->pool_count; i++)
    if (&store::pools[i] == &pool || claims_share(store::pools[i])) sum += weight_of(store::pools[i]);
  return Max(1, settings::max_workers * weight_of(pool) / Max(1, sum));
}

/// Frees slots whose process could not be started at all. Who started it may be gone, and be the only one to know: then by age. A process
/// that comes later than that finds another generation, and leaves.
void reap_failed_starts() {
  for (int k = 0; k < store::kMaxSlots; k++) {
    ExecutorSlot& s = store::slots[k];
    if (s.kind == ExecutorSlot::Kind::Starting && GetCurrentTimestamp() - s.since > kStartUs) store::slot_free(k);
    if (handles[k] == nullptr) continue;
    pid_t pid = 0;
    const BgwHandleStatus status = GetBackgroundWorkerPid(handles[k], &pid);
    if (status != BGWH_STOPPED) continue;
    pfree(handles[k]);
    handles[k] = nullptr;
    if (s.kind != ExecutorSlot::Kind::Starting || s.generation != handle_generation[k]) continue;
    store::pool_failed(s.pool, "its process could not be started; see the server log");
    store::slot_free(k);
  }
}

void set_wanting(PoolSlot& p, bool wants) {
  if (wants == (p.wanting != 0)) return;
  p.wanting = wants ? store::steady_us() : 0;
  if (wants)
    pg_atomic_fetch_add_u32(&store::shared->wanting, 1);
  else
    pg_atomic_fetch_sub_u32(&store::shared->wanting, 1);
}

bool somebody_waits_longer(const PoolSlot& p) {
  if (pg_atomic_read_u32(&store::shared->wanting) == 0) return false;
  for (int i = 0; i < store::shared->pool_count; i++) {
    const PoolSlot& o = store::pools[i];
    if (o.used && &o != &p && o.wanting != 0 && (p.wanting == 0 || o.wanting < p.wanting) && o.executors < p.executors + 1) return true;
  }
  return false;
}

/// Chooses an executor that should make room: an idle one of another pool, else one of a pool above its fair share, else one that has
/// had its turn in a pool at least as large. One at a time for each pool that wants.
void make_room(const PoolSlot& wanting) {
  int retiring = 0;
  for (int k = 0; k < store::kMaxSlots; k++) retiring += store::slots[k].kind == ExecutorSlot::Kind::Live && store::slots[k].retire ? 1 : 0;
  if (retiring >= static_cast<int>(pg_atomic_read_u32(&store::shared->wanting))) return;
  const TimestampTz now = GetCurrentTimestamp();
  int victim = -1, best = 0;
  for (int k = 0; k < store::kMaxSlots; k++) {
    const ExecutorSlot& s = store::slots[k];
    if (s.kind != ExecutorSlot::Kind::Live || s.retire || &store::pools[s.pool] == &wanting || store::pools[s.pool].runner != 0) continue;
    const PoolSlot& p = store::pools[s.pool];
    const bool idle = (p.idle[k / 64] >> (k % 64) & 1) != 0;
    const int rank = idle                                                                                             ? 3
                     : p.executors > share_of(p)                                                                      ? 2
                     : wanting.executors * weight_of(p) < p.executors * weight_of(wanting) && now - s.since > kTurnUs ? 1
                                                                                                                      : 0;
    if (rank > best) {
      best = rank;
      victim = k;
    }
  }
  if (victim < 0) return;
  store::slots[victim].retire = true;
  store::wake(store::slots[victim].proc);
}

/// Starts one executor for a pool; false if it has to wait.
bool grow(int pool) {
  PoolSlot& p = store::pools[pool];
  if (p.runner == 0 && somebody_waits_longer(p)) return false;
  uint64 generation = 0;
  const int slot = store::slot_reserve(pool, &generation);
  if (slot < 0) return false;
  MemoryContext const old = MemoryContextSwitchTo(TopMemoryContext);
  BackgroundWorkerHandle* handle = nullptr;
  const bool started = start_executor(slot, p.runner == 1, generation, &handle);
  MemoryContextSwitchTo(old);
  if (!started) {
    store::slot_free(slot);
    p.retry_at = store::steady_us() + USECS_PER_SEC;
    strlcpy(p.failure, "no background worker slot is free: raise max_worker_processes", sizeof(p.failure));
    return false;
  }
  if (handles[slot] != nullptr) pfree(handles[slot]);
  handles[slot] = handle;
  handle_generation[slot] = generation;
  pg_atomic_fetch_add_u64(&store::database_slot(MyDatabaseId, true)->started, 1);
  return true;
}

long sooner(long a, long b) { return a < 0 ? b : b < 0 ? a : Min(a, b); }

long ms_until(int64 at, int64 now) { return at <= now ? 0 : static_cast<long>((at - now) / 1000 + 1); }

/// One pool: returns when to look at it again in ms, -1 for when told.
long size_pool(int pool) {
  PoolSlot& p = store::pools[pool];
  const int64 now = store::steady_us();
  int64& since = due_since[pool % lengthof(due_since)];
  if (store::choose_lane(pool, even_now()) < 0 || is_idle(p)) {
    set_wanting(p, false);
    since = 0;
    return -1;
  }
  if (since == 0) since = now;
  if (p.retry_at > now) {
    set_wanting(p, false);
    return ms_until(p.retry_at, now);
  }
  // One courier serves all; it looks again by itself.
  if (p.runner == 1 && p.executors > 0) return -1;
  if (p.executors > 0 && now - since < kGrowDelayMs * 1000) return kGrowDelayMs;
  if (settings::max_workers == 0 && p.runner == 0) return -1;
  // One start at a time in each pool: until it has arrived, more would only come too late.
  for (int k = 0; k < store::kMaxSlots; k++)
    if (store::slots[k].kind == ExecutorSlot::Kind::Starting && store::slots[k].pool == pool) return p.executors > 1 ? kGrowDelayMs : -1;
  if (grow(pool)) {
    set_wanting(p, false);
    since = now;
    return kGrowDelayMs;
  }
  if (p.retry_at > now) return ms_until(p.retry_at, now);
  if (p.runner != 0) return 1000;  // all slots are in use
  if (p.executors >= share_of(p)) {
    set_wanting(p, false);
    return 1000;  // nobody tells when an executor of another pool becomes idle
  }
  set_wanting(p, true);
  make_room(p);
  return 100;
}

/// After dts.max_workers was lowered: executors above it leave, idle ones first, others after their task.
void shed() {
  int excess = static_cast<int>(pg_atomic_read_u32(&store::shared->executors)) - settings::max_workers;
  if (excess <= 0) return;
  for (int k = 0; k < store::kMaxSlots; k++) excess -= store::slots[k].kind == ExecutorSlot::Kind::Live && store::slots[k].retire ? 1 : 0;
  for (const bool want_idle : {true, false}) {
    for (int k = 0; k < store::kMaxSlots && excess > 0; k++) {
      ExecutorSlot& s = store::slots[k];
      if (s.kind != ExecutorSlot::Kind::Live || s.retire || store::pools[s.pool].runner != 0) continue;
      const bool idle = (store::pools[s.pool].idle[k / 64] >> (k % 64) & 1) != 0;
      if (idle != want_idle) continue;
      s.retire = true;
      store::wake(s.proc);
      excess--;
    }
  }
}

}  // namespace

long size_pools() {
  reap_failed_starts();
  shed();
  long next = -1;
  const bool running = settings::enabled && store::database_slot(MyDatabaseId, true)->gate;
  for (int i = 0; i < store::shared->pool_count; i++) {
    if (!store::pools[i].used || store::pools[i].db != MyDatabaseId || store::pools[i].runner > 1) continue;
    if (running)
      next = sooner(next, size_pool(i));
    else
      set_wanting(store::pools[i], false);
  }
  return next;
}

void want_nothing() {
  for (int i = 0; i < store::shared->pool_count; i++)
    if (store::pools[i].used && store::pools[i].db == MyDatabaseId) set_wanting(store::pools[i], false);
}

void slots_follow_clock(int64 step) {
  for (int k = 0; k < store::kMaxSlots; k++) {
    ExecutorSlot& s = store::slots[k];
    if (s.kind == ExecutorSlot::Kind::Free || s.db != MyDatabaseId) continue;
    LWLockAcquire(&s.lock, LW_EXCLUSIVE);
    for (TimestampTz* const t : {&s.since, &s.task_since})
      if (*t != 0) *t += step;
    LWLockRelease(&s.lock);
  }
}

long end_overdue() {
  long next = -1;
  const int64 now = store::steady_us();
  for (int k = 0; k < store::kMaxSlots; k++) {
    ExecutorSlot& s = store::slots[k];
    if (s.kind != ExecutorSlot::Kind::Live || s.db != MyDatabaseId || s.deadline == 0) continue;
    LWLockAcquire(&s.lock, LW_EXCLUSIVE);
    const int64 end = s.deadline == 0 ? 0 : s.deadline + kGraceUs;
    const bool over = end != 0 && end <= now && s.pid != 0;
    if (over) {
      kill(s.pid, SIGTERM);
      s.deadline = now;  // and again after another grace period
    }
    LWLockRelease(&s.lock);
    if (end != 0) next = sooner(next, over ? kGraceUs / 1000 : ms_until(end, now));
  }
  return next;
}

void retire_all() {
  for (int k = 0; k < store::kMaxSlots; k++) {
    ExecutorSlot& s = store::slots[k];
    if (s.kind == ExecutorSlot::Kind::Free || s.db != MyDatabaseId) continue;
    s.retire = true;
    store::wake(s.proc);
  }
}

}  // namespace dts
