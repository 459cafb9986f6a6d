// The end of an attempt: what becomes of its task, dead letters, keys. Written in the transaction that holds the task's row.
#pragma once

#include "store/definitions.hpp"
#include "store/errors.hpp"
#include "store/history.hpp"
#include "store/tasks.hpp"

namespace dts::store {

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

/// How long to wait after a failed attempt, by the task's policy.
int64 backoff_ms(const Task& task, int attempt);
/// When the next attempt of a task is due after attempt `attempt` failed with this SQLSTATE; 0: not worth another one. `permanent`: only
/// if the policy names it.
TimestampTz next_attempt_at(const Task& task, int attempt, const char* sqlstate, bool permanent = false);

}  // namespace dts::store
