// One look of the scheduler at one schedule: what it reads, decides and writes, inside the transaction of its slice.
#pragma once

#include "schedule_ledger.hpp"
#include "scheduler_transaction.hpp"
#include "settings.hpp"

namespace dts {

/// What one look at a schedule changes.
struct Turn {
  Schedule s;
  Ledger* ledger = nullptr;
  TimestampTz mark = 0, next = core::kNever;
  int64 runs = 0, succeeded = 0, failed = 0, last_task = 0;
  Datum waiting[core::kMostKept];
  int n_waiting = 0, n_waited = 0;  // now, and before the look
  const char* trouble = nullptr;
  bool wakes = false;  // it looks again when a run ends
};

/// The statement that gives a slice of schedules has these columns; `to` is where what outlives the statement is copied.
void read_schedule(uint64 row, MemoryContext to, Schedule* s);

/// Runs that ended since the last look are counted and forgotten.
void count_ended(Turn* turns, int n);

/// Decides what is due and submits it; what was decided goes to the ledger.
void look(Turn& t, core::Decision& d, TimestampTz now);

/// Moves the marks.
void save(Turn* turns, int n);

}  // namespace dts
