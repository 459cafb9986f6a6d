// Lanes in shared memory: where claimable rows may be, and who is told when there are some (docs/architecture.md, "Claiming").
// offer, put_back and notify may run in commit callbacks: they neither allocate nor raise.
#pragma once

#include "core/task_state.hpp"
#include "store/shared.hpp"

namespace dts::store {

/// Labels that the tasks of a lane ask of an agent, as hashes; 0: none.
struct Labels {
  uint64 hash[kAgentLabels];
  [[nodiscard]] bool none() const { return hash[0] == 0; }
};
/// From their stored form: sorted, separated by commas.
Labels labels_of(const char* text);
uint64 label_hash(const char* label, int length);

/// What is needed to give a lane a slot.
struct LaneInfo {
  int32 lane;
  Oid owner;
  int32 queue;
  int16 priority;
  int32 handler = 0;
  uint64 tenant = 0;  // hash of its name, 0: none
  core::Runner runner = core::Runner::Executor;
  Labels labels{};
};

/// The same of a lane that has a slot.
LaneInfo lane_info(const LaneSlot& slot);

/// Slot of a lane, or -1 (unknown or table full; then the scheduler has been told). A new slot starts with everything in its set.
int lane_slot(Oid db, const LaneInfo& info);
/// The same for a lane whose first row is due at `due`: a lane that is due later, or paused, makes room for it. For the scheduler,
/// which lists that one again in good time.
int lane_slot_for(Oid db, const LaneInfo& info, int64 due);

/// When a lane would be missed if it had no slot: kMin now, kMax never.
int64 leaves_at(const LaneSlot& l);
/// Takes a lane's slot away, if it would be missed only after `due`. Needs the directory lock.
bool unlist(int slot, int64 due);

/// Slot of a lane that has one, or -1.
int lane_slot_of(Oid db, int32 lane);

/// Adds ranges to a lane's set. A slot that meanwhile serves another lane makes the database's lanes be listed again.
template <int N>
void offer(int slot, Oid db, int32 lane, const core::RangeSet<N>& set);
void offer_ranges(int slot, Oid db, int32 lane, const core::Range* ranges, int n);

/// Removes up to max due ranges; counts a claim in flight if there were any. Pair with claim_done.
int take(int slot, Oid db, int32 lane, int64 now, int max, core::Range* out);
void claim_done(int slot);

/// Wakes one idle executor of the lane's owner if the lane is due, or the scheduler if the pool may grow or its clock is late.
void notify(int slot);
/// The same for all lanes of a pool, and for all of a database.
void notify_pool(int pool);
/// By an executor after a claim: passes a wake-up on, since others may take what was put back, and what else is due.
void notify_claimed(int slot);
void notify_database(Oid db);

/// The lane that somebody of this pool should take from next, or -1. Tenants take turns; inside a tenant the highest priority comes
/// first, raised by waiting (dts.priority_ageing), then what has been due longest. For an executor that is marked idle, or the scheduler.
/// Only lanes that `allowed` lets, if it is given.
using LaneFilter = bool (*)(const LaneSlot& lane, const void* what);
int choose_lane(int pool, int64 now, LaneFilter allowed = nullptr, const void* what = nullptr);

/// A lane with a new slot joins the turn of its tenant, or leaves it. Need the directory lock.
void turn_join(int slot);
void turn_leave(int slot);
/// A lane was claimed from: its tenant has had this much of a worker's time more.
void turn_begin(int slot);
void turn_charge(int slot, int64 us);

/// When a lane has something to claim, leaving its limits aside.
inline int64 wanted_at(const LaneSlot& l) {
  return static_cast<int64>(Max(static_cast<int64>(pg_atomic_read_u64(const_cast<pg_atomic_uint64*>(&l.first))),
                                static_cast<int64>(pg_atomic_read_u64(const_cast<pg_atomic_uint64*>(&l.backoff_until)))));
}
inline bool paused(const LaneSlot& l) {
  for (const int32 i : l.limit)
    if (i >= 0 && limits[i].paused) return true;
  return l.queue_slot >= 0 && queues[l.queue_slot].paused;
}

/// Lowest due time in the future over the lanes of a database, kMax if there is none.
int64 next_due(Oid db, int64 now);

/// Marks the whole of each lane of a database as to be looked at.
void rescan_database(Oid db);
/// Frees every slot of a database that is gone.
void forget_database(Oid db);

/// Keeps a lane from being claimed for a while, longer each time; a success ends it.
void back_off(int slot);
void back_on(int slot);
/// After the wall clock was set: who was put off waits as long as he would have.
void lanes_follow_clock(Oid db, int64 step);

/// Pool of (database, owner, runner), made if needed; -1 if the table is full. Couriers and agents serve all owners: their pools have none.
/// Needs the directory lock.
int pool_of(Oid db, Oid owner, core::Runner runner, bool make);

}  // namespace dts::store
