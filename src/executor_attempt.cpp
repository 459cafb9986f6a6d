// One attempt of a task, and how its end is recorded.
#include "executor.hpp"

#include "pg/guard.hpp"
#include "pg/point.hpp"
#include "settings.hpp"

namespace dts {

using core::State;
using store::LaneInfo;
using store::Outcome;
using store::Task;
using store::TaskTable;

namespace {

void context_line(void* arg) {
  const auto* const t = static_cast<const Task*>(arg);
  errcontext("dts task %lld, attempt %d", static_cast<long long>(t->id), t->attempt + 1);
}

}  // namespace

bool is_restartable(const ErrorData* e) {
  return e->sqlerrcode == ERRCODE_T_R_SERIALIZATION_FAILURE || e->sqlerrcode == ERRCODE_T_R_DEADLOCK_DETECTED;
}

namespace {

/// One attempt in a subtransaction. Order of the end: close (the request to cancel is read for the last time), then the interrupt
/// is forgotten, then the subtransaction ends; anything else lets a late signal strike the next task.
Attempt run_attempt(const Task& t, int i, const char* sql, bool payload, int32 limit_ms, SqlResult* result) {
  Attempt a{};
  const TimestampTz now = GetCurrentTimestamp();
  if (!store::slot_start(self.slot, i, now, limit_ms)) {
    (void)store::slot_close(self.slot, i);
    a.cancelled = true;
    return a;
  }
  a.started = true;
  DTS_POINT("executor.started");
  const ResourceOwner owner = CurrentResourceOwner;
  notices_begin();
  const int level = NewGUCNestLevel();
  BeginInternalSubTransaction(nullptr);
  MemoryContextSwitchTo(self.memory);
  a.error = pg::attempt(self.memory, [&] {
    ErrorContextCallback line{};
    line.callback = context_line;
    line.arg = const_cast<Task*>(&t);
    line.previous = error_context_stack;
    error_context_stack = &line;
    if (limit_ms > 0) enable_timeout_after(STATEMENT_TIMEOUT, limit_ms);
    if ((t.flags & core::kNode) != 0) a.step = next_step(t);
    // What a node gives is there for others, of which a part would be wrong.
    const bool node = (t.flags & core::kNode) != 0;
    if (a.step.action == Step::Action::Run)
      run_transactional(sql, node ? a.step.args : t.args, payload, (t.flags & core::kCapture) != 0, result, node ? kNodeResult : 0);
    AfterTriggerFireDeferred();  // as the owner, so that a deferred constraint fails the task and not the commit
    error_context_stack = line.previous;
  });
  HOLD_INTERRUPTS();
  DTS_POINT("executor.returned");
  a.cancelled = store::slot_close(self.slot, i);
  DTS_POINT("executor.closed");
  disable_timeout(STATEMENT_TIMEOUT, false);
  QueryCancelPending = false;
  RESUME_INTERRUPTS();
  if (a.error != nullptr || a.cancelled)
    RollbackAndReleaseCurrentSubTransaction();
  else
    ReleaseCurrentSubTransaction();
  MemoryContextSwitchTo(self.memory);
  CurrentResourceOwner = owner;
  AtEOXact_GUC(false, level);
  return a;
}

}  // namespace

Attempt run_with_restarts(const Task& t, int i, const char* sql, bool payload, int32 limit_ms, bool alone, SqlResult* result) {
  constexpr int kRestarts = 5;
  for (int k = 0;; k++) {
    *result = SqlResult{};
    const Attempt a = run_attempt(t, i, sql, payload, limit_ms, result);
    if (a.error == nullptr || a.cancelled || !alone || k == kRestarts || !is_restartable(a.error)) return a;
    (void)WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, 1L << k, PG_WAIT_EXTENSION);
    ResetLatch(MyLatch);
    CHECK_FOR_INTERRUPTS();
  }
}

State record(TaskTable& tasks, const Task& t, const LaneInfo& lane, const Attempt& a, const SqlResult& result, TimestampTz started_at) {
  Outcome o;
  o.started_at = a.started ? started_at : 0;
  o.ended_at = GetCurrentTimestamp();
  o.worker_pid = MyProcPid;
  o.notices = notices_take();
  if (a.cancelled) {
    o.state = State::Cancelled;
    Task done = t;
    done.attempt = static_cast<int16>(t.attempt + (a.started ? 1 : 0));
    store::end_task(tasks, done, lane, o);
    return o.state;
  }
  if (a.error == nullptr && a.step.action != Step::Action::Run) return record_step(tasks, t, lane, a.step, o);
  if (a.error == nullptr) {
    o.state = State::Succeeded;
    o.row_count = result.row_count;
    o.truncated = result.truncated;
    o.result = result.json.data;
    o.result_length = result.json.data == nullptr ? 0 : result.json.len;
    Task done = t;
    done.attempt = static_cast<int16>(t.attempt + 1);
    store::end_task(tasks, done, lane, o);
    return o.state;
  }
  o.error = store::error_json(a.error);
  const State s = store::fail_task(tasks, t, lane, o, true);
  if (s == State::Failed)
    ereport(LOG, (errmsg("dts task %lld failed for good: %s", static_cast<long long>(t.id), a.error->message),
                  errdetail("SQLSTATE %s, attempt %d of %d.", unpack_sql_state(a.error->sqlerrcode), t.attempt + 1, t.max_attempts)));
  return s;
}

void record_charge(TaskTable& tasks, const Task& t, const LaneInfo& lane, store::Charge charge) {
  Outcome o;
  o.ended_at = GetCurrentTimestamp();
  o.charged = true;
  o.crashed = charge == store::Charge::Crash;
  o.error = o.crashed ? store::error_json(ERRCODE_CRASH_SHUTDOWN, "the server process that ran this task crashed",
                                          "Such a task runs alone from then on.")
                      : store::error_json(ERRCODE_ADMIN_SHUTDOWN, "the server process that ran this task was terminated", nullptr);
  if (store::board_has(MyDatabaseId, t.id)) {
    o.state = State::Cancelled;
    store::end_task(tasks, t, lane, o);
    return;
  }
  const State s = store::fail_task(tasks, t, lane, o, !o.crashed);
  if (o.crashed) pg_atomic_fetch_add_u64(&store::database_slot(MyDatabaseId, true)->suspects, 1);
  ereport(LOG, (errmsg("dts task %lld %s while it ran; it %s", static_cast<long long>(t.id),
                       o.crashed ? "crashed the server" : "lost its process",
                       s == State::Failed ? "is a dead letter now" : "will be tried again")));
}

}  // namespace dts
