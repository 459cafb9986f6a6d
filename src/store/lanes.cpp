#include "store/lanes.hpp"

#include "settings.hpp"
#include "store/keys.hpp"

extern "C" {
#include "common/hashfn.h"
#include "common/pg_prng.h"
}

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

/// Says what there is to claim. Needs the lane's lock.
void publish(int slot) {
  LaneSlot& l = lanes[slot];
  const int64 first = l.set.first();
  pg_atomic_write_u64(&l.first, static_cast<uint64>(first));
  pg_atomic_uint64& word = busy_lanes[slot / 64];
  const uint64 bit = uint64{1} << (slot % 64);
  const bool busy = (pg_atomic_read_u64(&word) & bit) != 0;
  if (first != core::kMax && !busy) pg_atomic_fetch_or_u64(&word, bit);
  if (first == core::kMax && busy) pg_atomic_fetch_and_u64(&word, ~bit);
}

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

/// Gives a lane a slot. Needs the directory lock.
int make_slot(Oid db, const LaneInfo& info, int64 due) {
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
  publish(slot);
  l.used = true;
  l.next = pools[pool].lane_head;
  pools[pool].lane_head = slot;
  pools[pool].lane_count++;
  limits_attach(slot);
  turn_join(slot);
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

uint64 label_hash(const char* label, int length) {
  return hash_bytes_extended(reinterpret_cast<const unsigned char*>(label), length, 0) | 1;
}

Labels labels_of(const char* text) {
  Labels l{};
  for (int n = 0; *text != '\0' && n < kAgentLabels; n++) {
    const int length = static_cast<int>(strcspn(text, ","));
    l.hash[n] = label_hash(text, length);
    text += text[length] == ',' ? length + 1 : length;
  }
  return l;
}

LaneInfo lane_info(const LaneSlot& l) {
  LaneInfo info{l.lane,
                l.owner,
                l.queue_slot < 0 ? 0 : queues[l.queue_slot].queue,
                l.priority,
                l.handler,
                l.tenant,
                static_cast<core::Runner>(l.runner)};
  memcpy(info.labels.hash, l.labels, sizeof(l.labels));
  return info;
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
    publish(slot);
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
  if (is(l, db, lane) && !paused(l) && static_cast<int64>(pg_atomic_read_u64(&l.backoff_until)) <= now) n = l.set.take_due(now, max, out);
  if (n > 0) {
    publish(slot);
    pg_atomic_fetch_add_u32(&l.claims, 1);
  }
  LWLockRelease(&l.lock);
  return n;
}

void claim_done(int slot) { pg_atomic_fetch_sub_u32(&lanes[slot].claims, 1); }

void rescan_database(Oid db) {
  LWLockAcquire(&shared->directory, LW_SHARED);
  for (int i = 0; i < shared->lane_count; i++) {
    LaneSlot& l = lanes[i];
    if (!l.used || l.db != db) continue;
    LWLockAcquire(&l.lock, LW_EXCLUSIVE);
    l.set.add(core::kLowest, core::kHighest, GetCurrentTimestamp());
    publish(i);
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
    publish(i);
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

void lanes_follow_clock(Oid db, int64 step) {
  LWLockAcquire(&shared->directory, LW_SHARED);
  for (int i = 0; i < shared->lane_count; i++) {
    LaneSlot& l = lanes[i];
    if (!l.used || l.db != db) continue;
    LWLockAcquire(&l.lock, LW_EXCLUSIVE);
    const uint64 until = pg_atomic_read_u64(&l.backoff_until);
    if (until != 0) pg_atomic_write_u64(&l.backoff_until, until + static_cast<uint64>(step));
    LWLockRelease(&l.lock);
  }
  LWLockRelease(&shared->directory);
}

}  // namespace dts::store
