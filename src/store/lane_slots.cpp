#include "store/lane_slots.hpp"

#include "settings.hpp"
#include "store/keys.hpp"

extern "C" {
#include "common/pg_prng.h"
}

namespace dts::store {

namespace {

/// A claim is in flight, or its limits count leases.
bool in_use(const LaneSlot& l) {
  return pg_atomic_read_u32(const_cast<pg_atomic_uint32*>(&l.claims)) > 0 ||
         pg_atomic_read_u32(const_cast<pg_atomic_uint32*>(&l.leased)) > 0;
}

void unlink_lane(int slot) {
  LaneSlot& l = lanes[slot];
  if (l.pool >= 0) {
    int32* p = &pools[l.pool].lane_head;
    while (*p != -1 && *p != slot) p = &lanes[*p].next;
    if (*p == slot) {
      *p = l.next;
      pools[l.pool].lane_count--;
    }
  }
  const LaneKey key{l.db, l.lane};
  hash_search(lane_table, &key, HASH_REMOVE, nullptr);
  limits_detach(slot);
  turn_leave(slot);
  l.used = false;
}

/// Takes the slot of the lane that is due last, if that is in the future and after `due`; -1 if there is none. Needs the directory lock.
int slot_of_later(int64 due) {
  int last = -1;
  int64 last_due = Max(due, GetCurrentTimestamp());
  for (int i = 0; i < shared->lane_count; i++) {
    const int64 its = leaves_at(lanes[i]);
    if (its <= last_due) continue;
    last = i;
    last_due = its;
  }
  return last >= 0 && unlist(last, last_due - 1) ? last : -1;
}

/// Where all slots hold lanes that are due: takes one of a role that has more of them than this one, so that nobody keeps others out by the
/// number of his tenants. Whom it meets at random has probably many. What it takes is listed again when there is room. Needs the directory
/// lock.
int slot_of_greedy(Oid db, Oid owner) {
  for (int turn = 0; turn < 4; turn++) {
    const LaneSlot& some = lanes[pg_prng_uint64_range(&pg_global_prng_state, 0, static_cast<uint64>(shared->lane_count - 1))];
    const Oid their_db = some.db, they = some.owner;
    if (their_db == db && they == owner) continue;
    int theirs = 0, ours = 0, last = -1;
    for (int i = 0; i < shared->lane_count; i++) {
      const LaneSlot& l = lanes[i];
      ours += l.db == db && l.owner == owner ? 1 : 0;
      if (l.db != their_db || l.owner != they) continue;
      theirs++;
      if (!in_use(l) && (last < 0 || wanted_at(l) > wanted_at(lanes[last]))) last = i;
    }
    if (last < 0 || theirs <= ours + 1) continue;
    LaneSlot& l = lanes[last];
    LWLockAcquire(&l.lock, LW_EXCLUSIVE);
    const bool free = !in_use(l);
    if (free) unlink_lane(last);
    LWLockRelease(&l.lock);
    if (!free) continue;
    tell_scheduler(their_db, kUnlisted);
    return last;
  }
  return -1;
}

/// A free slot, or the one of the lane longest unused that has nothing to offer; -1 if there is none. Needs the directory lock.
int free_slot() {
  if (shared->lane_count < settings::max_lanes) return shared->lane_count++;
  int oldest = -1;
  for (int i = 0; i < shared->lane_count; i++) {
    LaneSlot& l = lanes[i];
    if (!l.used) return i;
    if (static_cast<int64>(pg_atomic_read_u64(&l.first)) == core::kMax && !in_use(l) && (oldest < 0 || l.last_use < lanes[oldest].last_use))
      oldest = i;
  }
  if (oldest < 0) return -1;
  LaneSlot& l = lanes[oldest];
  LWLockAcquire(&l.lock, LW_EXCLUSIVE);
  const bool empty = l.set.empty() && !in_use(l);
  if (empty) unlink_lane(oldest);
  LWLockRelease(&l.lock);
  return empty ? oldest : -1;
}

}  // namespace

int make_lane_slot(Oid db, const LaneInfo& info, int64 due) {
  const int queue = queue_slot(db, info.queue);
  const int pool = queue < 0 ? -1 : pool_of(db, info.owner, info.runner, true);
  int slot = pool < 0 ? -1 : free_slot();
  if (slot < 0 && pool >= 0 && due != core::kMax) slot = slot_of_later(due);
  if (slot < 0 && pool >= 0 && due <= GetCurrentTimestamp()) slot = slot_of_greedy(db, info.owner);
  if (slot < 0) return -1;
  const LaneKey key{db, info.lane};
  auto* const entry = static_cast<LaneEntry*>(hash_search(lane_table, &key, HASH_ENTER_NULL, nullptr));
  if (entry == nullptr) return -1;
  entry->slot = slot;
  LaneSlot& l = lanes[slot];
  LWLockAcquire(&l.lock, LW_EXCLUSIVE);
  l.lane = info.lane;
  l.priority = info.priority;
  l.handler = info.handler;
  l.runner = static_cast<int16>(info.runner);
  memcpy(l.labels, info.labels.hash, sizeof(l.labels));
  l.tenant = info.tenant;
  l.db = db;
  l.owner = info.owner;
  l.queue_slot = queue;
  l.pool = pool;
  l.merges = 0;
  l.backoffs = 0;
  l.since = l.last_use = GetCurrentTimestamp();
  pg_atomic_write_u32(&l.claims, 0);
  pg_atomic_write_u32(&l.leased, 0);
  pg_atomic_write_u64(&l.backoff_until, 0);
  l.set.clear();
  l.set.add(core::kLowest, core::kHighest, l.last_use);
  publish_lane(slot);
  l.used = true;
  l.next = pools[pool].lane_head;
  pools[pool].lane_head = slot;
  pools[pool].lane_count++;
  limits_attach(slot);
  turn_join(slot);
  LWLockRelease(&l.lock);
  return slot;
}

int64 leaves_at(const LaneSlot& l) { return in_use(l) ? core::kMin : paused(l) ? core::kMax : wanted_at(l); }

bool unlist(int slot, int64 due) {
  LaneSlot& l = lanes[slot];
  LWLockAcquire(&l.lock, LW_EXCLUSIVE);
  const bool later = leaves_at(l) > due;
  if (later) unlink_lane(slot);
  LWLockRelease(&l.lock);
  return later;
}

int pool_of(Oid db, Oid owner, core::Runner runner, bool make) {
  if (runner != core::Runner::Executor) owner = InvalidOid;
  int spare = -1;
  for (int i = 0; i < shared->pool_count; i++) {
    if (pools[i].used && pools[i].db == db && pools[i].owner == owner && pools[i].runner == static_cast<int16>(runner)) return i;
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
  p.runner = static_cast<int16>(runner);
  p.lane_head = -1;
  p.lane_count = 0;
  memset(p.idle, 0, sizeof(p.idle));
  pg_atomic_write_u64(&p.had, 0);
  p.executors = 0;
  p.wanting = p.retry_at = p.asked_at = 0;
  p.failures = 0;
  p.failure[0] = '\0';
  p.used = true;
  LWLockRelease(&p.lock);
  return spare;
}

void forget_database(Oid db) {
  LWLockAcquire(&shared->directory, LW_EXCLUSIVE);
  for (int i = 0; i < shared->lane_count; i++) {
    LaneSlot& l = lanes[i];
    if (!l.used || l.db != db) continue;
    LWLockAcquire(&l.lock, LW_EXCLUSIVE);
    l.set.clear();
    publish_lane(i);
    for (const int32 k : l.limit)
      if (k >= 0) pg_atomic_fetch_sub_u32(&limits[k].running, pg_atomic_read_u32(&l.leased));
    unlink_lane(i);
    LWLockRelease(&l.lock);
  }
  for (int i = 0; i < settings::max_queues; i++)
    if (queues[i].db == db) queues[i].used = false;
  limits_forget(db);
  keys_forget(db);
  LWLockRelease(&shared->directory);
}

}  // namespace dts::store
