// History: one row for each attempt, in a partition for each day.
#pragma once

#include "store/definitions.hpp"
#include "store/tasks.hpp"

namespace dts::store {

/// How an attempt ended. Texts belong to the caller's memory context.
struct Outcome {
  TimestampTz started_at = 0;  // 0: it never started
  TimestampTz ended_at = 0;
  TimestampTz retry_at = 0;    // with State::Retry
  TimestampTz not_before = 0;  // of the next attempt
  TimestampTz again_at = 0;    // the next attempt, whatever the policy says
  int64 row_count = 0;
  const char* result = nullptr;  // JSON text
  Jsonb* error = nullptr;
  const char* notices = nullptr;
  const char* agent = nullptr;  // who ran it outside the server
  int result_length = 0;
  int worker_pid = 0;
  core::State state = core::State::Succeeded;
  bool truncated = false;
  bool dead_letter = true;  // a failed task is kept as one
  bool permanent = false;   // another attempt would fail the same way, unless the task's policy names this error
  bool final = false;       // no other attempt, whatever the policy says
  bool charged = false;     // the task had a charge in the journal that this records
  bool crashed = false;     // ... because it took the server down: counted apart from attempts
};

/// Adds a row of history, to the partition of the day it ended, if the queue keeps it. `history`: the level of dts.queue.history.
void add_run(const Task& task, const LaneInfo& lane, char history, const Outcome& outcome);

}  // namespace dts::store
