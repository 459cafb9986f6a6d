// Permits: what limits allow, taken in shared memory before rows are claimed (docs/architecture.md, "Limits"). For whoever runs
// tasks, executor or not.
#pragma once

#include "store/lanes.hpp"

namespace dts::store {

/// Settings of a limit, from dts.limit_entry.
struct LimitSettings {
  int32 entry;
  int32 subid;
  Scope scope;
  uint64 object;
  bool paused;
  int32 concurrency;  // -1: none
  int32 weight;
  int32 key_most;
  int64 most_waiting;  // -1: any number
  int64 most_bytes;    // the same
  int32 reserved;
  bool key_fifo;
  bool gone;  // what it was for is dropped
  core::Rate rate;
};
/// Puts settings into shared memory, counting what runs already. Returns false if there is no room. Needs no lock.
bool apply_limit(Oid db, const LimitSettings& settings);
/// The queue or handler that it was for is dropped. Who runs under it gives its place back as ever.
void forget_limit(Oid db, Scope scope, uint64 object);

/// Nanoseconds that no step of the clock disturbs.
int64 steady();
/// The same in microseconds.
inline int64 steady_us() { return steady() / 1000; }

/// What a limit for a tenant is known by.
uint64 tenant_hash(const char* tenant);

/// When the limits of a lane let something start: kMin if now, kMax if a place must be given back first, or a time after `now`.
int64 permit_at(const LaneSlot& lane, int64 now);
/// When a lane may be claimed next.
inline int64 due_at(const LaneSlot& lane, int64 now) {
  const int64 wanted = wanted_at(lane);
  return wanted > now ? wanted : Max(wanted, permit_at(lane, now));
}

/// Takes one place in each limit of the lane, and tokens for at most n tasks; returns for how many, 0 if a limit is reached.
/// `out` stands in shared memory and is guarded by `lock`, which is not held by the caller.
int permits_take(int lane_slot, int n, LWLock* lock, Permits* out);
/// Gives back tokens for tasks that were not started.
void permits_unused(LWLock* lock, const Permits* permits, int n);
/// Gives the place back and tells all who may wait for it, whoever owns them. May run in callbacks.
void permits_give(LWLock* lock, Permits* permits);

/// Places of leases, which outlive transactions and processes: kept for each lane, whose slot stays as long. Takes one in each limit for
/// up to n tasks; returns for how many. `lane` is what the slot must still be of.
int places_take(int lane_slot, int32 lane, int n);
/// Gives n back and tells all who may wait for them. May run in callbacks.
void places_give(int lane_slot, int32 lane, int n);
/// Counts n that were taken before the shared memory was made, whatever the limits say.
void places_found(int lane_slot, int32 lane, int n);

/// How many places processes of a database hold in what a limit is for, whether or not there is one. After a pause: once it is 0
/// nothing runs, and nothing starts, since who has taken a place looks at the pause again.
int places_taken(Oid db, Scope scope, uint64 object);

/// n tasks more, or fewer, of a lane are unfinished, with so many bytes. May run in callbacks.
void unfinished_add(int lane_slot, int n, int64 bytes);
/// Refuses n more tasks of a lane with so many bytes (TQ001) if a cap is reached. What this transaction has submitted so far counts, and
/// what the caller has not told yet (store/touch.hpp) is part of n.
void check_room(const LaneInfo& lane, int n, int64 bytes);

/// Reserved workers (store/reserve.cpp). Whether what a lane runs takes a worker.
bool takes_worker(const LaneSlot& lane);
/// Whether the workers that are free are reserved for others than this lane.
bool withheld(LaneSlot& lane);
/// A place was given back: those that were refused look again.
void tell_withheld();
/// Makes the list of reservations anew. Needs the directory lock.
void list_reservations();

/// Lanes come and go; a database is gone. Need the directory lock.
void limits_attach(int lane_slot);
void limits_detach(int lane_slot);
void limits_forget(Oid db);

/// Tells all lanes that share a limit that a place is free.
void notify_limit(int limit);

/// What views show: whether no place is free; when the next task may start if the rate is used up, else 0.
bool limit_full(const LimitSlot& limit);
TimestampTz next_start(const LimitSlot& limit);

/// Slot of a limit, -1 if there is none.
int limit_slot(Oid db, Scope scope, uint64 object);

}  // namespace dts::store
