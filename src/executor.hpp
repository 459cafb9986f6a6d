// The executor: one process of a pool bound to (database, owner). Claims that role's SQL tasks and runs them.
#pragma once

#include "node_step.hpp"
#include "run_sql.hpp"
#include "store/journal.hpp"
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
  bool started;  // a request to cancel did not come before it
  Step step;
};

// ---- executor_attempt.cpp

/// Whether an error is worth running the task again at once: deadlock, serialization failure.
bool is_restartable(const ErrorData* e);
/// Runs task i of the claim in a subtransaction. After a deadlock or serialization failure, if it is alone, it is run again at once, a
/// few times, uncounted: its effects are rolled back.
Attempt run_with_restarts(const store::Task& t, int i, const char* sql, bool payload, int32 limit_ms, bool alone, SqlResult* result);
/// Records how a task's only or last attempt ended. Returns the state it got.
core::State record(store::TaskTable& tasks, const store::Task& t, const store::LaneInfo& lane, const Attempt& a, const SqlResult& result,
                   TimestampTz started_at);
/// A charge says that an earlier attempt took its process down: that attempt is recorded now, by whoever claims the task next.
void record_charge(store::TaskTable& tasks, const store::Task& t, const store::LaneInfo& lane, store::Charge charge);

// ---- executor_batch.cpp

/// Transactions of the executor: READ COMMITTED and read-write whatever the role's settings; not waiting for the disk unless `durable`.
void begin_transaction();
void commit_transaction(bool durable);
/// The transaction of a batch failed. Tasks that shared it run alone next, uncharged; one that was alone is charged here.
void recover(const ErrorData* error);

/// The rights of a task are those that its owner has when it runs; a role that is gone, or may not log in any more, has none.
bool owner_may_run(Oid owner);

/// The text of a task: its own, or its handler's; nullptr if that is gone.
const char* text_of(const store::Task& task, bool* payload);

/// Arms and disarms the per-attempt timeout; begins and ends the time in which signals may strike.
void arm(int32 timeout_ms);
void disarm();

/// Signal handlers (executor_signals.cpp).
void install_signals();

}  // namespace dts
