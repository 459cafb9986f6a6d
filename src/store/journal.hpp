// The in-flight journal: which task each executor runs, in a small memory-mapped file that survives the death of the process.
// A task that takes the server down cannot record that itself; the next start finds it here and charges it (docs/architecture.md).
#pragma once

#include "store/shared.hpp"

namespace dts::store {

enum class Charge : int32 {
  None = 0,
  Crash = 1,       // its executor died and took the server down
  Terminated = 2,  // its executor ended by FATAL
};

/// Maps the file and turns what the last life left behind into charges. In the postmaster, at each (re)start.
void journal_startup();

/// This executor runs `task` now, or (0) none. Plain stores.
void journal_running(int slot, Oid db, int64 task);

/// The postmaster ends this executor because somebody else crashed: its task is innocent. Async-signal-safe.
void journal_innocent(int slot);

/// Notes a charge; neither fails nor allocates.
void charge_add(Oid db, int64 task, Charge why);
/// The charge against a task, if any. One atomic load when there are none.
Charge charge_of(Oid db, int64 task);
/// Forgets a charge, after it was recorded in a committed transaction.
void charge_remove(Oid db, int64 task);
/// Charges against tasks of a database, for the scheduler's clean-up; returns how many were stored.
int charges(Oid db, int64* tasks, int max);

}  // namespace dts::store
