// Cancel, reschedule, reprioritise, retry. The order of steps is fixed in docs/architecture.md, "Steering": no call waits for a row lock
// or for a task's length, and what dts.cancel answers is true.
#include "pg/as_owner.hpp"
#include "pg/guard.hpp"
#include "pg/point.hpp"
#include "pg/wal.hpp"
#include "settings.hpp"
#include "steer.hpp"
#include "store/runs.hpp"
#include "store/slots.hpp"
#include "submit.hpp"

namespace dts {

namespace {

using core::State;
using store::Lane;
using store::LaneInfo;
using store::Outcome;
using store::Task;
using store::TaskTable;

}  // namespace

int64 task_arg(FunctionCallInfo fcinfo) {
  if (PG_ARGISNULL(0))
    ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("argument \"task\" must not be null"),
                    errhint("Give the id that dts.submit returned.")));
  return PG_GETARG_INT64(0);
}

namespace {

/// Raises 42704 for a task of somebody else: whether it exists is not the caller's business.
LaneInfo check_mine(const Task& t, const Lane** lane = nullptr) {
  const Lane* const l = store::lane_by_id(t.lane);
  if (l == nullptr || !store::role_may(GetUserId(), l->info.owner)) no_task(t.id);
  if (lane != nullptr) *lane = l;
  return l->info;
}

/// Locks a task's row. One that this process itself holds, as its executor, counts as held by somebody: a task may steer itself and
/// those that share its batch.
TaskTable::Found lock(TaskTable& table, int64 id, Task* t, bool* mine) {
  *mine = store::shared != nullptr && store::slots_mine(id);
  if (!*mine) return table.lock(id, t);
  return table.read(id, t) ? TaskTable::Found::Busy : TaskTable::Found::Missing;
}

pg::Statement audit_entry{"INSERT INTO dts.audit_entry (who, action, object, before, after) VALUES ($1, $2, $3, NULL, $4::jsonb)",
                          4,
                          {OIDOID, TEXTOID, TEXTOID, TEXTOID}};

}  // namespace

void audit(const char* action, int64 task, const char* after) {
  const Datum values[] = {ObjectIdGetDatum(GetUserId()), CStringGetTextDatum(action),
                          CStringGetTextDatum(psprintf("task %lld", static_cast<long long>(task))),
                          after == nullptr ? Datum{0} : CStringGetTextDatum(after)};
  const char nulls[] = {' ', ' ', ' ', after == nullptr ? 'n' : ' ', '\0'};
  const pg::AsOwner as(store::catalog().owner);
  SPI_connect();
  audit_entry.run(values, nulls);
  SPI_finish();
  as.end();
}

namespace {

pg::Statement request{"INSERT INTO dts.request (task, kind, run_at, priority, by_role) VALUES ($1, $2, $3, $4, $5)",
                      5,
                      {INT8OID, TEXTOID, TIMESTAMPTZOID, INT4OID, OIDOID}};

/// Notes on file what was asked for a held task; the scheduler hears of it at commit.
void post_request(int64 task, const char* kind, const TimestampTz* run_at, const int* priority) {
  const Datum values[] = {Int64GetDatum(task), CStringGetTextDatum(kind), run_at == nullptr ? Datum{0} : TimestampTzGetDatum(*run_at),
                          priority == nullptr ? Datum{0} : Int32GetDatum(*priority), ObjectIdGetDatum(GetUserId())};
  const char nulls[] = {' ', ' ', run_at == nullptr ? 'n' : ' ', priority == nullptr ? 'n' : ' ', ' ', '\0'};
  const pg::AsOwner as(store::catalog().owner);
  SPI_connect();
  request.run(values, nulls);
  SPI_finish();
  as.end();
  store::touch_events(store::kRequests);
}

/// Ends a task that nobody holds.
void cancel_locked(TaskTable& table, const Task& t, const LaneInfo& lane) {
  Outcome o;
  o.state = State::Cancelled;
  o.ended_at = GetCurrentTimestamp();
  if (t.state == State::Leased) {
    o.error = store::error_json(ERRCODE_QUERY_CANCELED, "cancelled while it ran outside a transaction",
                                "It may have had its effect, in part or whole.");
    (void)store::slots_interrupt(MyDatabaseId, t.id);
  }
  store::end_task(table, t, lane, o);
}

const char* cancel(int64 id) {
  TaskTable table = TaskTable::open("dts.cancel()");
  Task t;
  bool mine = false;
  TaskTable::Found found = lock(table, id, &t, &mine);
  if (found == TaskTable::Found::Missing) {
    table.close();
    return ended_name(id);
  }
  const LaneInfo lane = check_mine(t);
  audit("cancel", id, nullptr);
  if (found == TaskTable::Found::Busy && store::shared != nullptr) {
    // The post comes before the scan: who starts it after the post sees the board, who started before is found by the scan.
    post_request(id, "cancel", nullptr, nullptr);
    if (!store::board_add(MyDatabaseId, id))
      ereport(ERROR, (errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED), errmsg("too many requests to cancel stand at once"),
                      errhint("Try again later.")));
    DTS_POINT("cancel.posted");
  }
  bool alive = false;
  const TimestampTz until = GetCurrentTimestamp() + settings::steer_wait_ms * 1000LL;
  for (long nap = 1; found == TaskTable::Found::Busy; nap = Min(nap * 2, 50L)) {
    const store::Seen seen = store::shared == nullptr ? store::Seen::Nowhere : store::slots_interrupt(MyDatabaseId, id);
    alive |= seen == store::Seen::Running || seen == store::Seen::Held;
    DTS_POINT("cancel.scanned");
    const long left = static_cast<long>((until - GetCurrentTimestamp()) / 1000);
    CHECK_FOR_INTERRUPTS();
    if (left <= 0 || mine) break;
    (void)WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, Min(nap, left), PG_WAIT_EXTENSION);
    ResetLatch(MyLatch);
    CHECK_FOR_INTERRUPTS();
    found = table.lock(id, &t);
  }
  // The last look was at who holds it; whether it has ended meanwhile only the row knows.
  if (found == TaskTable::Found::Busy && !mine) found = table.lock(id, &t);
  const char* answer = alive ? "cancelling" : "finishing";
  if (found == TaskTable::Found::Locked) {
    cancel_locked(table, t, lane);
    answer = "cancelled";
  } else if (found == TaskTable::Found::Missing) {
    State s{};
    answer = ended_state(id, &s) ? core::name(s) : alive ? "cancelled" : "finishing";
    if (!RecoveryInProgress()) pg::flush_wal();
  }
  table.close();
  return answer;
}

/// Changes a waiting task; a held one gets a note.
const char* steer(int64 id, const char* action, const TimestampTz* run_at, const int* priority) {
  TaskTable table = TaskTable::open("dts.reschedule()");
  Task t;
  bool mine = false;
  const TaskTable::Found found = lock(table, id, &t, &mine);
  if (found == TaskTable::Found::Missing) {
    table.close();
    return ended_name(id);
  }
  const Lane* lane = nullptr;
  const LaneInfo from = check_mine(t, &lane);
  audit(action, id,
        run_at != nullptr ? psprintf("{\"run_at\": \"%s\"}", timestamptz_to_str(*run_at)) : psprintf("{\"priority\": %d}", *priority));
  const char* answer = "noted";
  if (found == TaskTable::Found::Locked && t.state != State::Leased) {
    Task now = t;
    const LaneInfo to = priority == nullptr ? from : store::lane_with_priority(*lane, *priority);
    now.lane = to.lane;
    if (run_at != nullptr) now.run_at = *run_at;
    if (run_at != nullptr) now.flags &= ~core::kPutOff;
    // Given another time, a parked task goes through the claim again.
    if (run_at != nullptr && now.state == State::Parked) now.state = State::Ready;
    table.update(t, now, from, to);
    answer = "changed";
  } else {
    post_request(id, run_at != nullptr ? "reschedule" : "priority", run_at, priority);
  }
  table.close();
  return answer;
}

Datum answer(const char* s) { return CStringGetTextDatum(s); }

}  // namespace

}  // namespace dts

using namespace dts;

DTS_FUNCTION(dts_cancel) { return answer(cancel(task_arg(fcinfo))); }

DTS_FUNCTION(dts_reschedule) {
  const int64 id = task_arg(fcinfo);
  Options o;
  if (!PG_ARGISNULL(1)) o.run_at = {true, PG_GETARG_TIMESTAMPTZ(1)};
  if (!PG_ARGISNULL(2)) o.delay = PG_GETARG_INTERVAL_P(2);
  TimestampTz at = due_time(o, GetCurrentTimestamp());
  // A due time in the past is now: an old key would be looked for among the dead entries of the index.
  at = Max(at, GetCurrentTimestamp());
  return answer(steer(id, "reschedule", &at, nullptr));
}

DTS_FUNCTION(dts_set_priority) {
  const int64 id = task_arg(fcinfo);
  if (PG_ARGISNULL(1))
    ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("argument \"priority\" must not be null"),
                    errhint("Give a number between 0 and 9, higher first.")));
  const int priority = PG_GETARG_INT32(1);
  if (priority < 0 || priority > 9)
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("argument \"priority\" must be between 0 and 9"),
                    errdetail("Got %d.", priority), errhint("Higher goes first; 5 is the default.")));
  return answer(steer(id, "set_priority", nullptr, &priority));
}

DTS_FUNCTION(dts_retry) {
  const int64 id = task_arg(fcinfo);
  if (redrive(id)) return answer("redriven");
  TaskTable table = TaskTable::open();
  Task t;
  bool mine = false;
  const TaskTable::Found found = lock(table, id, &t, &mine);
  const char* result = "running";
  if (found == TaskTable::Found::Missing) {
    result = ended_name(id);
  } else {
    const LaneInfo lane = check_mine(t);
    if (found == TaskTable::Found::Locked && t.state == State::Ready) {
      Task now = t;
      now.run_at = Min(t.run_at, GetCurrentTimestamp()) == t.run_at ? t.run_at : GetCurrentTimestamp();
      if (now.run_at == t.run_at)
        table.keep(t, lane);
      else
        table.update(t, now, lane, lane);
      audit("retry", id, nullptr);
      result = "changed";
    } else if (found == TaskTable::Found::Locked) {
      result = t.state == State::Parked ? "changed" : core::name(t.state);
    } else if (!mine && (store::shared == nullptr || !store::slots_hold(MyDatabaseId, id))) {
      // Another session has it in hand, and does not run it.
      const TimestampTz at = GetCurrentTimestamp();
      audit("retry", id, nullptr);
      post_request(id, "reschedule", &at, nullptr);
      result = "noted";
    }
  }
  table.close();
  return answer(result);
}
