#include "store/lanes.hpp"

#include "settings.hpp"

namespace dts::store {

namespace {

constexpr int kLocal = 1024;
struct Local {
  Oid db;
  int32 lane;
  int32 slot;
};
Local local[kLocal];  // lane -> slot, a hint: every user checks under the lane's lock

bool is(const LaneSlot& l, Oid db, int32 lane) { return l.used && l.lane == lane && l.db == db; }

int64 first_of(const LaneSlot& l) { return static_cast<int64>(pg_atomic_read_u64(const_cast<pg_atomic_uint64*>(&l.first))); }

int64 backoff_of(const LaneSlot& l) { return static_cast<int64>(pg_atomic_read_u64(const_cast<pg_atomic_uint64*>(&l.backoff_until))); }

bool paused(const LaneSlot& l) { return l.queue_slot >= 0 && queues[l.queue_slot].paused; }

/// When the lane may be claimed next.
int64 due_at(const LaneSlot& l) { return Max(first_of(l), backoff_of(l)); }

void unlink_lane(int slot) {
  LaneSlot& l = lanes[slot];
  if (l.pool >= 0) {
    int32* p = &pools[l.pool].lane_head;
    while (*p != -1 && *p != slot) p = &lanes[*p].next;
    if (*p == slot) *p = l.next;
  }
  const LaneKey key{l.db, l.lane};
  hash_search(lane_table, &key, HASH_REMOVE, nullptr);
  l.used = false;
}

/// Takes the slot of the lane that is due last, if that is in the future and after `due`; -1 if there is none. Needs the directory lock.
int slot_of_later(int64 due) {
  int last = -1;
  int64 last_due = Max(due, GetCurrentTimestamp());
  for (int i = 0; i < shared->lane_count; i++) {
    const LaneSlot& l = lanes[i];
    const int64 its = paused(l) ? core::kMax : due_at(l);
    if (pg_atomic_read_u32(const_cast<pg_atomic_uint32*>(&l.claims)) > 0 || its <= last_due) continue;
    last = i;
    last_due = its;
  }
  if (last < 0) return -1;
  LaneSlot& l = lanes[last];
  LWLockAcquire(&l.lock, LW_EXCLUSIVE);
  const bool later = pg_atomic_read_u32(&l.claims) == 0 && (paused(l) || due_at(l) >= last_due);
  if (later) unlink_lane(last);
  LWLockRelease(&l.lock);
  return later ? last : -1;
}

/// A free slot, or the one of the lane longest unused that has nothing to offer; -1 if there is none. Needs the directory lock.
int free_slot() {
  int oldest = -1;
  for (int i = 0; i < shared->lane_count; i++) {
    LaneSlot& l = lanes[i];
    if (!l.used) return i;
    if (first_of(l) == core::kMax && pg_atomic_read_u32(&l.claims) == 0 && (oldest < 0 || l.last_use < lanes[oldest].last_use)) oldest = i;
  }
  if (shared->lane_count < settings::max_lanes) return shared->lane_count++;
  if (oldest < 0) return -1;
  LaneSlot& l = lanes[oldest];
  LWLockAcquire(&l.lock, LW_EXCLUSIVE);
  const bool empty = l.set.empty() && pg_atomic_read_u32(&l.claims) == 0;
  if (empty) unlink_lane(oldest);
  LWLockRelease(&l.lock);
  return empty ? oldest : -1;
}

/// Gives a lane a slot. Needs the directory lock.
int make_slot(Oid db, const LaneInfo& info, int64 due) {
  const int queue = queue_slot(db, info.queue);
  const int pool = queue < 0 ? -1 : pool_of(db, info.owner, true);
  int slot = pool < 0 ? -1 : free_slot();
  if (slot < 0 && pool >= 0 && due != core::kMax) slot = slot_of_later(due);
  if (slot < 0) return -1;
  const LaneKey key{db, info.lane};
  auto* const entry = static_cast<LaneEntry*>(hash_search(lane_table, &key, HASH_ENTER_NULL, nullptr));
  if (entry == nullptr) return -1;
  entry->slot = slot;
  LaneSlot& l = lanes[slot];
  LWLockAcquire(&l.lock, LW_EXCLUSIVE);
  l.lane = info.lane;
  l.priority = info.priority;
  l.db = db;
  l.owner = info.owner;
  l.queue_slot = queue;
  l.pool = pool;
  l.merges = 0;
  l.backoffs = 0;
  l.last_use = GetCurrentTimestamp();
  pg_atomic_write_u32(&l.claims, 0);
  pg_atomic_write_u64(&l.backoff_until, 0);
  l.set.clear();
  l.set.add(core::kLowest, core::kHighest, l.last_use);
  pg_atomic_write_u64(&l.first, static_cast<uint64>(l.set.first()));
  l.used = true;
  l.next = pools[pool].lane_head;
  pools[pool].lane_head = slot;
  LWLockRelease(&l.lock);
  return slot;
}

int remember(Oid db, int32 lane, int slot) {
  local[static_cast<uint32>(lane) % kLocal] = Local{db, lane, slot};
  return slot;
}

int find(Oid db, int32 lane) {
  const LaneKey key{db, lane};
  const auto* const entry = static_cast<LaneEntry*>(hash_search(lane_table, &key, HASH_FIND, nullptr));
  return entry == nullptr ? -1 : entry->slot;
}

}  // namespace

int pool_of(Oid db, Oid owner, bool make) {
  int spare = -1;
  for (int i = 0; i < shared->pool_count; i++) {
    if (pools[i].used && pools[i].db == db && pools[i].owner == owner) return i;
    if (!pools[i].used || (pools[i].lane_head == -1 && pools[i].executors == 0)) spare = i;
  }
  if (!make) return -1;
  if (spare < 0 && shared->pool_count < pool_limit()) spare = shared->pool_count++;
  if (spare < 0) return -1;
  PoolSlot& p = pools[spare];
  LWLockAcquire(&p.lock, LW_EXCLUSIVE);
  if (p.wanting != 0) pg_atomic_fetch_sub_u32(&shared->wanting, 1);
  p.db = db;
  p.owner = owner;
  p.lane_head = -1;
  memset(p.idle, 0, sizeof(p.idle));
  p.executors = 0;
  p.wanting = p.retry_at = p.asked_at = 0;
  p.failures = 0;
  p.failure[0] = '\0';
  p.used = true;
  LWLockRelease(&p.lock);
  return spare;
}

int lane_slot_of(Oid db, int32 lane) {
  const Local& hint = local[static_cast<uint32>(lane) % kLocal];
  if (hint.lane == lane && hint.db == db && is(lanes[hint.slot], db, lane)) return hint.slot;
  LWLockAcquire(&shared->directory, LW_SHARED);
  const int slot = find(db, lane);
  LWLockRelease(&shared->directory);
  return slot < 0 ? -1 : remember(db, lane, slot);
}

int lane_slot(Oid db, const LaneInfo& info) { return lane_slot_for(db, info, core::kMax); }

int lane_slot_for(Oid db, const LaneInfo& info, int64 due) {
  int slot = lane_slot_of(db, info.lane);
  if (slot >= 0) return slot;
  LWLockAcquire(&shared->directory, LW_EXCLUSIVE);
  slot = find(db, info.lane);
  if (slot < 0) slot = make_slot(db, info, due);
  LWLockRelease(&shared->directory);
  return slot < 0 ? -1 : remember(db, info.lane, slot);
}

void offer_ranges(int slot, Oid db, int32 lane, const core::Range* ranges, int n) {
  if (n == 0) return;
  if (slot < 0) {
    tell_scheduler(db, kUnlisted);
    return;
  }
  const TimestampTz now = GetCurrentTimestamp();
  LaneSlot& l = lanes[slot];
  LWLockAcquire(&l.lock, LW_EXCLUSIVE);
  const bool ours = is(l, db, lane);
  if (ours) {
    for (int i = 0; i < n; i++) l.merges += l.set.add(ranges[i].lo, ranges[i].hi, now) ? 1 : 0;
    l.last_use = now;
    pg_atomic_write_u64(&l.first, static_cast<uint64>(l.set.first()));
  }
  LWLockRelease(&l.lock);
  if (!ours) tell_scheduler(db, kUnlisted);
}

template <int N>
void offer(int slot, Oid db, int32 lane, const core::RangeSet<N>& set) {
  if (!set.empty()) offer_ranges(slot, db, lane, &set[0], set.size());
}
template void offer<6>(int, Oid, int32, const core::RangeSet<6>&);
template void offer<14>(int, Oid, int32, const core::RangeSet<14>&);

int take(int slot, Oid db, int32 lane, int64 now, int max, core::Range* out) {
  LaneSlot& l = lanes[slot];
  LWLockAcquire(&l.lock, LW_EXCLUSIVE);
  int n = 0;
  if (is(l, db, lane) && !paused(l) && backoff_of(l) <= now) n = l.set.take_due(now, max, out);
  if (n > 0) {
    pg_atomic_write_u64(&l.first, static_cast<uint64>(l.set.first()));
    pg_atomic_fetch_add_u32(&l.claims, 1);
  }
  LWLockRelease(&l.lock);
  return n;
}

void claim_done(int slot) { pg_atomic_fetch_sub_u32(&lanes[slot].claims, 1); }

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
  const int64 due = due_at(l);
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
    const int64 due = due_at(l);
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
    const int64 due = due_at(l);
    if (due > now && due < next) next = due;
  }
  LWLockRelease(&shared->directory);
  return next;
}

void rescan_database(Oid db) {
  LWLockAcquire(&shared->directory, LW_SHARED);
  for (int i = 0; i < shared->lane_count; i++) {
    LaneSlot& l = lanes[i];
    if (!l.used || l.db != db) continue;
    LWLockAcquire(&l.lock, LW_EXCLUSIVE);
    l.set.add(core::kLowest, core::kHighest, GetCurrentTimestamp());
    pg_atomic_write_u64(&l.first, static_cast<uint64>(l.set.first()));
    LWLockRelease(&l.lock);
  }
  LWLockRelease(&shared->directory);
  notify_database(db);
}

void forget_database(Oid db) {
  LWLockAcquire(&shared->directory, LW_EXCLUSIVE);
  for (int i = 0; i < shared->lane_count; i++) {
    LaneSlot& l = lanes[i];
    if (!l.used || l.db != db) continue;
    LWLockAcquire(&l.lock, LW_EXCLUSIVE);
    l.set.clear();
    pg_atomic_write_u64(&l.first, static_cast<uint64>(core::kMax));
    unlink_lane(i);
    LWLockRelease(&l.lock);
  }
  for (int i = 0; i < settings::max_queues; i++)
    if (queues[i].db == db) queues[i].used = false;
  LWLockRelease(&shared->directory);
}

void back_off(int slot) {
  LaneSlot& l = lanes[slot];
  LWLockAcquire(&l.lock, LW_EXCLUSIVE);
  const int64 wait_ms = 100LL << Min(l.backoffs, 9);
  if (l.backoffs < 100) l.backoffs++;
  pg_atomic_write_u64(&l.backoff_until, static_cast<uint64>(GetCurrentTimestamp() + wait_ms * 1000));
  LWLockRelease(&l.lock);
}

void back_on(int slot) {
  if (lanes[slot].backoffs == 0) return;
  LaneSlot& l = lanes[slot];
  LWLockAcquire(&l.lock, LW_EXCLUSIVE);
  l.backoffs = 0;
  pg_atomic_write_u64(&l.backoff_until, 0);
  LWLockRelease(&l.lock);
}

}  // namespace dts::store
