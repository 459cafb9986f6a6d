// Tasks that cannot run inside a transaction block: VACUUM, CREATE INDEX CONCURRENTLY, procedures that commit. They are leased (which
// is committed and on disk before anything runs), run on their own, and ended in a second transaction that checks the token.
#include "executor.hpp"
#include "pg/guard.hpp"
#include "run_sql.hpp"

extern "C" {
#include "commands/discard.h"
}

namespace dts {

namespace {

using core::State;
using store::Outcome;
using store::Task;
using store::TaskTable;

void begin_plain() {
  SetCurrentStatementStartTimestamp();
  StartTransactionCommand();
  XactReadOnly = false;
  XactIsoLevel = XACT_READ_COMMITTED;
}

/// Ends or retries a leased task, if it still is the one we leased.
void finish(const Task& leased, const store::LaneInfo& lane, const Attempt& a, TimestampTz started_at) {
  begin_plain();
  MemoryContextSwitchTo(self.memory);
  TaskTable table = TaskTable::open();
  Task t;
  TaskTable::Found found = table.lock(leased.id, &t);
  for (int wait = 1; found == TaskTable::Found::Busy; wait = Min(wait * 2, 1000)) {
    // A session holds the row in an open transaction (a cancel not yet committed): its end is awaited without holding anything.
    table.close();
    CommitTransactionCommand();
    (void)WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, wait, PG_WAIT_EXTENSION);
    ResetLatch(MyLatch);
    CHECK_FOR_INTERRUPTS();
    begin_plain();
    MemoryContextSwitchTo(self.memory);
    table = TaskTable::open();
    found = table.lock(leased.id, &t);
  }
  if (found == TaskTable::Found::Locked && t.state == State::Leased && memcmp(&t.token, &leased.token, sizeof(t.token)) == 0) {
    Outcome o;
    o.started_at = started_at;
    o.ended_at = GetCurrentTimestamp();
    o.worker_pid = MyProcPid;
    o.notices = notices_take();
    if (a.cancelled || store::board_has(MyDatabaseId, t.id)) {
      o.state = State::Cancelled;
      store::end_task(table, t, lane, o);
    } else if (a.error == nullptr) {
      o.state = State::Succeeded;
      store::end_task(table, t, lane, o);
    } else {
      o.error = store::error_json(a.error);
      t.attempt--;  // it was counted when it was leased
      store::fail_task(table, t, lane, o, true);
    }
  }
  table.close();
  CommitTransactionCommand();
}

}  // namespace

void run_leased(Task task, const store::LaneInfo& lane) {
  Attempt a{};
  const TimestampTz now = GetCurrentTimestamp();
  bool payload = false;
  begin_plain();
  MemoryContextSwitchTo(self.memory);
  const char* const sql = text_of(task, &payload);
  CommitTransactionCommand();
  MemoryContextSwitchTo(self.memory);
  const int64 id = task.id;
  store::slots[self.slot].leased = true;
  store::slot_publish(self.slot, &id, 1);
  debug_query_string = sql;
  pgstat_report_activity(STATE_RUNNING, sql);
  const int32 limit = task.timeout_ms > 0 ? task.timeout_ms : StatementTimeout;
  if (store::slot_start(self.slot, 0, now, limit)) {
    notices_begin();
    a.error = pg::attempt(self.memory, [&] {
      if (limit > 0) enable_timeout_after(STATEMENT_TIMEOUT, limit);
      run_top_level(sql);
    });
    HOLD_INTERRUPTS();
    a.cancelled = store::slot_close(self.slot, 0) && a.error != nullptr;
    disable_timeout(STATEMENT_TIMEOUT, false);
    QueryCancelPending = false;
    RESUME_INTERRUPTS();
    if (a.error != nullptr) AbortOutOfAnyTransaction();
    MemoryContextSwitchTo(self.memory);
  } else {
    (void)store::slot_close(self.slot, 0);
    a.cancelled = true;
  }
  debug_query_string = nullptr;
  // It ran at the session's top level, so all that it left there goes. A session that cannot be cleaned is not used again.
  begin_plain();
  DiscardStmt everything{};
  everything.type = T_DiscardStmt;
  everything.target = DISCARD_ALL;
  PushActiveSnapshot(GetTransactionSnapshot());  // temporary tables go
  DiscardCommand(&everything, true);
  PopActiveSnapshot();
  session_forget();
  SetConfigOption("application_name", "dts executor", PGC_USERSET, PGC_S_SESSION);
  CommitTransactionCommand();
  MemoryContextSwitchTo(self.memory);
  finish(task, lane, a, now);
  store::slots[self.slot].leased = false;
  store::slot_clear(self.slot);
  self.tasks_run++;
  pg_atomic_fetch_add_u64(&store::slots[self.slot].tasks_run, 1);
}

}  // namespace dts
