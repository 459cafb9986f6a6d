// The executor: one process of a pool bound to (database, owner). Claims that role's SQL tasks and runs them.
#pragma once

#include "store/runs.hpp"
#include "store/slots.hpp"

extern "C" PGDLLEXPORT void dts_executor_main(Datum arg);

namespace dts {

/// State of this executor; one process has one.
struct Executor {
  int slot = -1;
  int pool = -1;
  Oid owner = InvalidOid;
  MemoryContext memory = nullptr;  // of one claim; reset at each turn
  int64 tasks_run = 0;
  int solo = 0;  // that many claims take one task each: a commit failed in company
  bool terminated_by_other = false;
  bool superuser = false;
};
extern Executor self;

/// How a turn of the loop ended.
enum class Turn { Worked, Nothing };

/// Claims from a lane and runs what it got, in one transaction.
Turn run_batch(int lane_slot);

/// Runs a task outside of a transaction of its own, under a lease (executor_lease.cpp).
void run_leased(store::Task task, const store::LaneInfo& lane);

/// Result of one attempt, filled by run_attempt.
struct Attempt {
  ErrorData* error;
  bool cancelled;
};

/// The text of a task: its own, or its handler's.
const char* text_of(const store::Task& task, bool* payload);

/// Arms and disarms the per-attempt timeout; begins and ends the time in which signals may strike.
void arm(int32 timeout_ms);
void disarm();

/// Signal handlers (executor_signals.cpp).
void install_signals();

}  // namespace dts
