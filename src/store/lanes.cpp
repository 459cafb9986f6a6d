#include "store/lanes.hpp"

#include "store/lane_slots.hpp"

extern "C" {
#include "common/hashfn.h"
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

void publish_lane(int slot) {
  LaneSlot& l = lanes[slot];
  const int64 first = l.set.first();
  pg_atomic_write_u64(&l.first, static_cast<uint64>(first));
  pg_atomic_uint64& word = busy_lanes[slot / 64];
  const uint64 bit = uint64{1} << (slot % 64);
  const bool busy = (pg_atomic_read_u64(&word) & bit) != 0;
  if (first != core::kMax && !busy) pg_atomic_fetch_or_u64(&word, bit);
  if (first == core::kMax && busy) pg_atomic_fetch_and_u64(&word, ~bit);
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
  if (slot < 0) slot = make_lane_slot(db, info, due);
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
    publish_lane(slot);
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
    publish_lane(slot);
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
    publish_lane(i);
    LWLockRelease(&l.lock);
  }
  LWLockRelease(&shared->directory);
  notify_database(db);
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
