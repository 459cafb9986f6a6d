// Executors' slots: what each holds and runs. The critical sections of steering (docs/architecture.md, "Steering") are here.
#pragma once

#include "store/board.hpp"

namespace dts::store {

// ---- by the executor, for its own slot

/// Publishes claimed tasks as held.
void slot_publish(int slot, const int64* tasks, int n);
/// Starts task i, which may take that long (0: as long as it wants), unless a request to cancel it stands (then it is closed and false is
/// returned).
bool slot_start(int slot, int i, TimestampTz now, int32 limit_ms);
/// Closes task i: its end is decided. Returns whether it must end as cancelled, whatever it did.
bool slot_close(int slot, int i);
/// Nothing is held any more.
void slot_clear(int slot);
/// Idle bit.
void slot_idle(int slot, bool idle);

/// A process of this pool could not begin: the next one is started later each time.
void pool_failed(int pool, const char* why);

// ---- by others

/// What an executor has to do with a task.
enum class Seen { Nowhere, Held, Running, Closed };
/// Looks through all slots of this database and interrupts the task where it runs.
Seen slots_interrupt(Oid db, int64 task);
/// Whether some live slot of this database holds the task.
bool slots_hold(Oid db, int64 task);
/// Whether this very process is the executor that holds the task: its own row locks do not stop it, so it has to ask.
bool slots_mine(int64 task);

/// Reserves a free slot for a new executor of a pool; -1 if the budget is used up. Needs no lock.
int slot_reserve(int pool, uint64* generation);
/// The process that was started for a slot takes it over: its argument is the slot, its entry says which start. False if the slot was given
/// away meanwhile.
bool slot_enter(Datum arg, int* slot);
/// Frees a slot (reserved or live) and counts its pool down.
void slot_free(int slot);

}  // namespace dts::store
