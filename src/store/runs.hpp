// The end of an attempt: history, dead letters, keys. Written in the transaction that holds the task's row.
#pragma once

#include "store/definitions.hpp"
#include "store/tasks.hpp"

namespace dts::store {

/// How an attempt ended. Texts belong to the caller's memory context.
struct Outcome {
  core::State state = core::State::Succeeded;
  TimestampTz started_at = 0;  // 0: it never started
  TimestampTz ended_at = 0;
  TimestampTz retry_at = 0;  // with State::Retry
  int64 row_count = 0;
  int worker_pid = 0;
  bool truncated = false;
  const char* result = nullptr;  // JSON text
  int result_length = 0;
  Jsonb* error = nullptr;
  const char* notices = nullptr;
  bool dead_letter = true;      // a failed task is kept as one
  bool permanent = false;       // another attempt would fail the same way, unless the task's policy names this error
  TimestampTz not_before = 0;   // of the next attempt
  bool final = false;           // no other attempt, whatever the policy says
  TimestampTz again_at = 0;     // the next attempt, whatever the policy says
  const char* agent = nullptr;  // who ran it outside the server
  bool charged = false;         // the task had a charge in the journal that this records
  bool crashed = false;         // ... because it took the server down: counted apart from attempts
};

/// Adds a row of history if the queue keeps it.
void add_run(const Task& task, const LaneInfo& lane, char history, int queue_slot, const Outcome& outcome);

/// Ends a locked task: row deleted, run added, dead letter kept, key released, everybody told at commit.
void end_task(TaskTable& tasks, const Task& task, const LaneInfo& lane, const Outcome& outcome);

/// What was asked for a task while somebody held it. Takes the requests off file;
/// for a leased task only if one of them is a cancel: the others wait until its attempt has ended.
struct Wish {
  bool cancel, has_run_at, has_priority;
  TimestampTz run_at;
  int priority;
};
Wish take_requests(int64 task, bool leased);

/// Records a failed attempt of a locked task: a later run_at, or its end as a dead letter. `counts`: the attempt is used up.
/// Returns the state that the run got.
core::State fail_task(TaskTable& tasks, const Task& task, const LaneInfo& lane, Outcome& outcome, bool counts);

/// Makes the JSON of an error.
Jsonb* error_json(const ErrorData* error);
/// The same for an error that dts itself states.
Jsonb* error_json(int sqlstate, const char* message, const char* hint);

/// How long to wait after a failed attempt, by the task's policy.
int64 backoff_ms(const Task& task, int attempt);
/// When the next attempt of a task is due after attempt `attempt` failed with this SQLSTATE; 0: not worth another one. `permanent`: only
/// if the policy names it.
TimestampTz next_attempt_at(const Task& task, int attempt, const char* sqlstate, bool permanent = false);

}  // namespace dts::store
