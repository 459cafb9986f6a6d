// What the submit functions share: options, their checks, and idempotency keys.
#pragma once

#include "store/definitions.hpp"
#include "store/tasks.hpp"

namespace dts {

template <class T>
struct Maybe {
  bool given = false;
  T value{};
};

/// Options as the caller gave them; absent ones take the handler's default, else the queue's.
struct Options {
  const char* queue = nullptr;
  Maybe<int32> priority, max_attempts;
  Maybe<TimestampTz> run_at, expires;
  Interval* delay = nullptr;
  Interval* timeout = nullptr;
  Interval* key_ttl = nullptr;
  Jsonb* retry = nullptr;
  Jsonb* labels = nullptr;
  const char* key = nullptr;
  const char* on_conflict = nullptr;
  Maybe<bool> transactional, capture;
  const char* tenant = nullptr;
  const char* owner = nullptr;
  Jsonb* depends_on = nullptr;
  const char* concurrency_key = nullptr;
  const char* batch = nullptr;
  const char* labels_required = "";  // of the agent that may run it, sorted, separated by commas
};

/// Reads the options of a SQL function, which are its arguments from number `first` on; `many`: those of a set-returning form (no key);
/// not `sql`: without those that only SQL has.
Options read_options(FunctionCallInfo fcinfo, int first, bool many, bool sql = true);
/// Reads one option by name from JSON; false if there is none of this name.
bool read_option(const JsonbValue& v, const char* key, const char* object, Options* options);
/// A JSON string; refuses anything else.
const char* text_option(const JsonbValue& v, const char* key, const char* object);
Jsonb* json_of(const JsonbValue& v);

/// When a task is due by run_at or delay; refuses both, and what is not a sensible time.
TimestampTz due_time(const Options& options, TimestampTz now);

/// A task that only lacks its id and payload, and where it goes.
struct Prepared {
  store::Task task;
  store::LaneInfo lane;
};

/// Checks everything that can be known now; raises 22xxx, 42xxx.
Prepared prepare_sql(const char* sql, const Options& options);
Prepared prepare_handler(const char* handler, const Options& options);
/// A task for a courier or an agent; what it asks for is not looked at.
Prepared prepare_outside(core::Kind kind, const Options& options);
/// From a JSON object: options by name, sql with args or handler with payload. `place` names it in messages: 'element 3 of argument
/// "tasks"'.
/// `analyse`: arguments are tried against the SQL, which may run code of the owner's types.
Prepared prepare_json(const JsonbValue& object, const char* place, Options* options, bool analyse = true);

/// The first task ever makes this database one that runs tasks here. Not the installation: pg_restore installs before it loads, and
/// nothing may happen in between.
void settle_site();

/// Submits a prepared task with its key and dependencies, if it has any; returns its id, or that of the task which has the key.
int64 submit_prepared(Prepared& p, const Options& options);

/// Whether an object names a workflow instead of a task; its run is started, and the task that ends it is given (submit_workflow.cpp).
bool names_workflow(const JsonbValue& object);
/// `schedule`: what its tasks know of the schedule that starts it, at `run_at`.
int64 submit_workflow(const JsonbValue& object, const char* place, Jsonb* schedule = nullptr, TimestampTz run_at = 0);
/// Refuses what could not be started by the current role, and parameters that do not fit the workflow as it is now.
void check_workflow(const JsonbValue& object, const char* place);

/// Refuses SQL that cannot be parsed or cannot be a task. has_args: the text may have placeholders up to `placeholders`.
void check_sql(const char* sql, bool transactional, int placeholders, bool has_args);
/// Refuses arguments that are no array, too many, too few or too large; `analyse`: or that do not convert.
void check_args(const Prepared& p, Jsonb* args, bool analyse = true);
void check_payload_size(Jsonb* payload, const char* argument);

/// Submits under an idempotency key; returns the id of the new or of the existing task.
int64 submit_with_key(store::TaskTable& table, Prepared& p, const Options& options);

}  // namespace dts
