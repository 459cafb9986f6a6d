// What the steering functions share.
#pragma once

#include "store/tasks.hpp"

namespace dts {

/// State of a task that the current role may see; 42704 if there is none.
core::State state_of(int64 id);
/// The same; false if nothing is known of it (any more).
bool find_state(int64 id, core::State* out);

/// State in which a task ended, from history; false if nothing is known, or it is not the caller's.
bool ended_state(int64 id, core::State* out);
/// Its name; 42704 if there is none. What we answer outlives a crash.
const char* ended_name(int64 id);

/// The task that ends a run of a workflow; `state`: Leased until the run has ended.
struct RunEnd {
  int64 task;
  core::State state;
};
/// False if there is no run with this id that the current role may see. Ids of runs are none of tasks.
bool find_run(int64 id, RunEnd* out);

/// Raises 42704: the task does not exist, or belongs to another role.
[[noreturn]] void no_task(int64 id);
/// The first argument; NULL is refused.
int64 task_arg(FunctionCallInfo fcinfo);
/// Writes an entry of the audit log for the current role; `after` is JSON or nullptr.
void audit(const char* action, int64 task, const char* after);

/// Gives a dead letter of the current role a new life; false if there is none (sql_redrive.cpp).
bool redrive(int64 id);

}  // namespace dts
