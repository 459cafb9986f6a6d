#include "store/touch.hpp"

#include "store/agenda.hpp"
#include "store/touched.hpp"

namespace dts::store {

TransactionList<TouchedLane> touched_lanes;
TransactionList<Ended> ended_tasks;
TransactionList<QueueSettings> queue_changes;
TransactionList<LimitSettings> limit_changes;
HTAB* lane_positions = nullptr;
AtCommit at_commit;

namespace {

bool registered = false;

void ensure_registered() {
  if (registered) return;
  register_callbacks();
  registered = true;
}

/// Position of a lane in touched_lanes: a short walk, or, for transactions that touch many lanes, a hash.
constexpr int kWalk = 16;
struct LanePosition {
  int32 lane;
  int32 position;
};

int position_of(int32 lane) {
  if (touched_lanes.n <= kWalk) {
    for (int i = 0; i < touched_lanes.n; i++)
      if (touched_lanes.items[i].lane == lane) return i;
    return -1;
  }
  if (lane_positions == nullptr) {
    HASHCTL ctl{};
    ctl.keysize = sizeof(int32);
    ctl.entrysize = sizeof(LanePosition);
    ctl.hcxt = TopTransactionContext;
    lane_positions = hash_create("dts touched lanes", 256, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
    for (int i = 0; i < touched_lanes.n; i++)
      static_cast<LanePosition*>(hash_search(lane_positions, &touched_lanes.items[i].lane, HASH_ENTER, nullptr))->position = i;
  }
  const auto* const p = static_cast<LanePosition*>(hash_search(lane_positions, &lane, HASH_FIND, nullptr));
  return p == nullptr ? -1 : p->position;
}

TouchedLane& entry(const LaneInfo& lane, int known_slot = -1) {
  ensure_registered();
  if (const int i = position_of(lane.lane); i >= 0) return touched_lanes.items[i];
  const int slot = shared == nullptr ? -1 : known_slot >= 0 ? known_slot : lane_slot(MyDatabaseId, lane);
  TouchedLane& t = touched_lanes.push();
  t = TouchedLane{};
  t.slot = slot;
  t.lane = lane.lane;
  t.undo_subid = InvalidSubTransactionId;
  if (lane_positions != nullptr)
    static_cast<LanePosition*>(hash_search(lane_positions, &t.lane, HASH_ENTER, nullptr))->position = touched_lanes.n - 1;
  return t;
}

void undo(TouchedLane& t, core::Key key) {
  t.undo.add(key, key, GetCurrentTransactionStartTimestamp());
  t.undo_subid = GetCurrentSubTransactionId();
}

void redo(TouchedLane& t, core::Key lo, core::Key hi) { t.commit.add(lo, hi, GetCurrentTransactionStartTimestamp()); }

}  // namespace

Submitted submitted_under(int limit) {
  Submitted own{};
  const int s = static_cast<int>(limits[limit].scope);
  for (int i = 0; i < touched_lanes.n; i++) {
    const TouchedLane& t = touched_lanes.items[i];
    if (t.slot < 0 || lanes[t.slot].limit[s] != limit) continue;
    own.n += t.inserted;
    own.bytes += t.bytes;
  }
  return own;
}

bool touched() { return touched_lanes.n > 0 || ended_tasks.n > 0 || agenda_active(); }

void touch_register() { ensure_registered(); }

int ended_count() { return ended_tasks.n; }

const Ended& ended(int i) { return ended_tasks.items[i]; }

void touch_inserted(const LaneInfo& lane, core::Key key) { touch_inserted_many(lane, key, key, 1); }

void touch_inserted_many(const LaneInfo& lane, core::Key lo, core::Key hi, int n) {
  TouchedLane& t = entry(lane);
  redo(t, lo, hi);
  t.inserted += n;
}

void touch_submitted(const LaneInfo& lane, int n) { entry(lane).inserted += n; }

void touch_bytes(const LaneInfo& lane, int64 bytes) { entry(lane).bytes += bytes; }

void touch_deleted(const LaneInfo& lane, core::Key key) { undo(entry(lane), key); }

void touch_moved(const LaneInfo& from, core::Key old_key, const LaneInfo& to, core::Key new_key) {
  undo(entry(from), old_key);
  TouchedLane& t = entry(to);
  redo(t, new_key, new_key);
}

void touch_locked(const LaneInfo& lane, core::Key key) {
  TouchedLane& t = entry(lane);
  undo(t, key);
  redo(t, key, key);
}

void touch_claimed(int slot, const LaneInfo& lane, core::Key key) { undo(entry(lane, slot), key); }

void touch_kept(const LaneInfo& lane, core::Key key) { redo(entry(lane), key, key); }

void touch_ended(const Ended& ended) {
  ensure_registered();
  Ended& e = ended_tasks.push();
  e = ended;
  e.subid = static_cast<int32>(GetCurrentSubTransactionId());
}

void touch_queue(const QueueSettings& q) {
  ensure_registered();
  QueueSettings& c = queue_changes.push();
  c = q;
  c.subid = static_cast<int32>(GetCurrentSubTransactionId());
}

void touch_limit(const LimitSettings& l) {
  ensure_registered();
  LimitSettings& c = limit_changes.push();
  c = l;
  c.subid = static_cast<int32>(GetCurrentSubTransactionId());
}

void touch_events(uint32 mask, bool launcher) {
  ensure_registered();
  at_commit.events |= mask;
  at_commit.launcher |= launcher;
}

void touch_expiry(TimestampTz at) {
  ensure_registered();
  at_commit.first_expiry = Min(at_commit.first_expiry, at);
}

void touch_definitions() {
  ensure_registered();
  at_commit.definitions = true;
}

}  // namespace dts::store
