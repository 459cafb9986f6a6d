// The scheduler: one for each database that has dts. The clock, the pools, what is left behind, history.
#pragma once

#include <csignal>

#include "store/runs.hpp"
#include "store/slots.hpp"

extern "C" PGDLLEXPORT void dts_scheduler_main(Datum arg);

namespace dts {

// ---- scheduler_start.cpp

/// Everything that must be done before tasks may be claimed. Leaves the gate open, or closed with the reason.
void start_up(store::DatabaseSlot* database);

// ---- scheduler_timers.cpp (the timers themselves: scheduler_timers.hpp)

/// Ends what waited too long, and sets the alarm anew. Cleared first: who sets it meanwhile sets it for later looks. What expires between
/// the two looks is for the second one.
void expire(store::DatabaseSlot* database);

// ---- scheduler_pools.cpp: how many executors each owner has

/// Starts and retires executors. Returns when to look again, in ms; -1: when told.
long size_pools();
/// The pools of this database wait for nothing any more: the scheduler leaves, and the database may be gone for good.
void want_nothing();
/// Ends executors whose task ignores its timeout. Returns when the next one is due, in ms; -1: none.
long end_overdue();
/// What this database's pools and executors have noted of a wall clock that was set moves along with it.
void slots_follow_clock(int64 step);
/// Asks all executors of this database to leave.
void retire_all();

/// A piece of work is under way: SIGINT (a lock timeout, or somebody's pg_cancel_backend) may end it.
extern volatile sig_atomic_t scheduler_working;

// ---- scheduler_work.cpp: each in its own transactions; errors are logged and cost that piece of work only

/// Loads queues into shared memory.
void load_queues();
void load_limits();
/// How many tasks are unfinished where there is a cap.
void count_waiting();
void compact_batches();
/// Leases that outlived the shared memory take their concurrency keys again.
void count_keys();
/// Makes parked tasks ready whose key is free; false if something failed, and is to be tried again.
bool look_at_keys();
/// Checks that this database may run here; fills why if not.
bool check_site(char* why, size_t size);
/// Gives a slot to each lane that has rows. Returns when to do so again because the table was too small for all, 0 if it was not.
TimestampTz list_lanes();
/// Applies requests that were noted for held tasks. False if some are still held.
bool apply_requests();
/// Takes back leased tasks whose process is gone.
void lapse_leases();
/// Takes leases back that agents did not renew; gives when to look next, 0 for when told. `everything`: also those that an earlier look has
/// passed by.
TimestampTz lapse_agents(bool everything);
/// Tasks that are leased to nobody.
void tidy_agents();
/// After the shared memory was made: leases go on, and hold their places.
void count_agents_leases();
/// Ends tasks that expired before they started, and tasks whose owner is gone.
/// Ends what has expired; `from`: only what expired since then. And tasks of roles that are gone.
void end_expired(TimestampTz from = 0);
/// The first expiry after that time among tasks that are blocked or wait.
TimestampTz next_expiry(TimestampTz after);
/// Looks at blocked tasks that others could not decide. Returns when to do so again; 0: when told.
TimestampTz resolve_agenda();
/// Removes what dependencies leave behind, and notices when there are none.
void tidy_dependencies();
/// Wakes waiting tasks that got what they wait for.
void wake_waiting();
/// Lets runs begin whose turn somebody's open transaction held up. False if some gate must be looked at again.
bool open_gates();
/// Whether there is any unfinished task.
bool any_task();
/// Partitions and retention. Returns seconds until it is wanted again: soon if somebody reads an old partition, or there was too much for
/// once.
long maintain_history();
// ---- scheduler_late.cpp

/// Tells of attempts that run for long. Returns when to look again; 0: when definitions have changed.
TimestampTz tell_late();
/// Submits what is due of gathered changes of tables. Returns when to look again, 0: when something comes.
TimestampTz look_at_changes();

// ---- scheduler_sweep.cpp

/// Two looks, a second apart, for rows that nobody offered. Returns true if a second look is due.
bool sweep_look();
void sweep_offer();
/// The same for keys whose next task nobody made ready (scheduler_keys.cpp).
bool sweep_keys();
void sweep_keys_again();

}  // namespace dts
