// Nodes of workflows that are more than a text with known arguments: before such a task runs, dts._step says what it does now.
#pragma once

#include "store/runs.hpp"

namespace dts {

/// Bytes of its result that a node keeps at least.
constexpr int64 kNodeResult = 16 * 1024 * 1024;

/// What a node does when it is its turn.
struct Step {
  enum class Action : uint8 {
    Run,    // its text, with these arguments
    Skip,   // its condition does not hold
    Fail,   // for good
    Done,   // succeeded, with this result
    Block,  // until the tasks that it has just submitted have ended
    Wait,   // until somebody wakes it: a signal, an approval, the end of a pause; expires at `at`, if given
    Later,  // at `at`
    // The end of a run, which ends as the run does. It is no dead letter: what has another life is the run, by dts.retry_run.
    EndFailed,
    EndCancelled,
  } action = Action::Run;
  Jsonb* args = nullptr;
  const char* result = nullptr;
  const char* message = nullptr;
  int64* tasks = nullptr;
  int n = 0;
  TimestampTz at = 0;
  bool has_at = false;
};

/// Asks for the step of a task, as the owner of the extension, inside the subtransaction of its attempt.
Step next_step(const store::Task& task);

/// Records a step that did not run the task's text. Returns the state it got.
core::State record_step(store::TaskTable& tasks, const store::Task& task, const store::LaneInfo& lane, const Step& step, store::Outcome& o);

}  // namespace dts
