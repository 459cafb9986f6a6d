// Shared memory of dts: where it is, its start, and what everybody asks of it.
#pragma once

#include "store/layout.hpp"

namespace dts::store {

/// Pointers into shared memory, the same in each process; `shared` is null unless dts is preloaded.
extern Shared* shared;
extern QueueSlot* queues;
extern LaneSlot* lanes;
/// A bit for each lane whose set is not empty, changed under that lane's lock: thousands of lanes without work cost no look.
extern pg_atomic_uint64* busy_lanes;
extern PoolSlot* pools;
extern LimitSlot* limits;
extern TurnSlot* turns;
extern KeyBucket* key_buckets;
extern AgentWaiter* agent_waiters;
extern ExecutorSlot* slots;
extern DatabaseSlot* databases;
extern HTAB* lane_table;
extern HTAB* board;

/// Slot of this process if it is an executor, else -1.
extern int own_slot;

int pool_limit();

/// Bytes to ask for; called in the request hook.
Size shared_size();
/// Makes or attaches; called in the startup hook.
void shared_startup();

/// The slot of a database, or nullptr; a slot is made if `make` (at most dts.max_databases).
DatabaseSlot* database_slot(Oid db, bool make);
/// Counts a task that ended now; gives the mean rate over the last minute.
void rate_count(QueueSlot& q, TimestampTz now);
double rate_per_second(QueueSlot& q, TimestampTz now);

/// Slot of a queue, or -1.
int queue_slot(Oid db, int32 queue);

/// Tells a scheduler, or the launcher. Neither fails nor allocates: callbacks may call them.
void tell_scheduler(Oid db, uint32 events);
void tell_launcher();
void wake(PGPROC* proc);

/// Why the gate of a new database is closed; the first task opens it.
inline constexpr const char* kNothingYet = "no task was submitted here yet";

/// Whether tasks may be claimed in a database, and, if not, why.
const char* why_closed(Oid db);

}  // namespace dts::store
