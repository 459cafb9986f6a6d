#include "executor.hpp"

#include "pg/guard.hpp"
#include "pg/point.hpp"
#include "run_sql.hpp"
#include "settings.hpp"
#include "store/dependencies.hpp"
#include "store/journal.hpp"
#include "store/permits.hpp"

namespace dts {

Executor self;

namespace {

void on_leave_early(int, Datum) {
  store::ExecutorSlot& s = store::slots[self.slot];
  const auto current = static_cast<int64>(pg_atomic_read_u64(&s.current));
  LWLockAcquire(&s.lock, LW_EXCLUSIVE);
  s.pid = 0;
  LWLockRelease(&s.lock);
  // Ended by its own task or by somebody's pg_terminate_backend: the next one to claim the task records that. A shutdown is no fault of it.
  // A leased task's end is the scheduler's to record.
  if (current != 0 && !s.leased && PostmasterIsAlive() && self.terminated_by_other)
    store::charge_add(MyDatabaseId, current, store::Charge::Terminated);
  store::journal_running(self.slot, 0, 0);
}

void on_leave(int, Datum) {
  const int pool = self.pool;
  const bool leased = store::slots[self.slot].leased;
  if (self.memory == nullptr) store::pool_failed(pool, "its owner could not connect; see the server log");
  store::slot_clear(self.slot);
  store::permits_give(&store::slots[self.slot].lock, &store::slots[self.slot].permits);
  store::slot_free(self.slot);
  store::notify_pool(pool);  // it may die with somebody's wake-up in its latch
  store::tell_scheduler(store::slots[self.slot].db, store::kExited | (leased ? uint32{store::kLease} : uint32{0}));
  if (pg_atomic_read_u32(&store::shared->wanting) > 0)
    for (int i = 0; i < store::shared->pool_count; i++)
      if (store::pools[i].used && store::pools[i].wanting != 0) store::tell_scheduler(store::pools[i].db, store::kGrow);
}

void after_transaction(bool) {
  if (!store::slots[self.slot].leased) store::slot_clear(self.slot);
}

/// Takes over the slot that the scheduler reserved; false if it was given away meanwhile.
bool enter(Datum arg) {
  if (!store::slot_enter(arg, &self.slot)) return false;
  self.pool = store::slots[self.slot].pool;
  self.owner = store::slots[self.slot].owner;
  return true;
}

/// Blocked tasks that somebody could not decide are looked at before anything else is claimed. False if there was nothing to look at.
bool resolve_agenda() {
  TimestampTz later = 0;
  if (!store::agenda_due(MyDatabaseId, GetCurrentTimestamp(), &later)) return false;
  MemoryContextReset(self.memory);
  MemoryContextSwitchTo(self.memory);
  store::Round round = store::Round::Failed;
  ErrorData* const error = pg::attempt(self.memory, [&] {
    begin_transaction();
    MemoryContextSwitchTo(self.memory);
    if (store::installed()) round = store::resolve();
    commit_transaction(false);
  });
  if (error != nullptr) {
    AbortOutOfAnyTransaction();
    round = store::Round::Failed;
    ereport(LOG, (errmsg("dts: releasing dependents failed: %s", error->message)));
  }
  store::agenda_pace(round);
  return true;
}

void main_loop() {
  int64 idle_since = store::steady_us();
  const store::DatabaseSlot* const d = store::database_slot(MyDatabaseId, true);
  store::ExecutorSlot& s = store::slots[self.slot];
  for (;;) {
    CHECK_FOR_INTERRUPTS();
    if (ConfigReloadPending) {
      ConfigReloadPending = false;
      ProcessConfigFile(PGC_SIGHUP);
    }
    if (s.retire || d->evicted || self.tasks_run >= settings::worker_max_tasks) return;
    store::slot_idle(self.slot, true);
    const bool resolved = d->gate && resolve_agenda();
    const int lane = settings::enabled && d->gate && (settings::allow_superuser_tasks || !self.superuser)
                         ? store::choose_lane(self.pool, GetCurrentTimestamp())
                         : -1;
    if (lane >= 0) {
      store::slot_idle(self.slot, false);
      MemoryContextReset(self.memory);
      MemoryContextSwitchTo(self.memory);
      MemoryContextReset(MessageContext);
      if (ErrorData* const error = pg::attempt(self.memory, [&] { (void)run_batch(lane); })) recover(error);
      store::permits_give(&s.lock, &s.permits);
      idle_since = 0;
      continue;
    }
    DTS_POINT("executor.looked");
    if (resolved) continue;  // what it moved may have left a next wave
    if (idle_since == 0) {
      idle_since = store::steady_us();
      pgstat_report_stat(true);
      pgstat_report_activity(STATE_IDLE, nullptr);
    }
    const long left = static_cast<long>(idle_since / 1000 + settings::worker_idle_timeout_ms - store::steady_us() / 1000);
    if (left <= 0) return;
    (void)WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, left, PG_WAIT_EXTENSION);
    ResetLatch(MyLatch);
  }
}

}  // namespace

}  // namespace dts

extern "C" void dts_executor_main(Datum arg) {
  using namespace dts;
  if (!enter(arg)) proc_exit(0);
  install_signals();
  on_shmem_exit(on_leave, Datum{0});
  BackgroundWorkerUnblockSignals();
  BackgroundWorkerInitializeConnectionByOid(store::slots[self.slot].db, self.owner, 0);
  before_shmem_exit(on_leave_early, Datum{0});
  SetConfigOption("application_name", "dts executor", PGC_USERSET, PGC_S_SESSION);
  pg::neutralise_transaction_timeout();
  self.memory = AllocSetContextCreate(TopMemoryContext, "dts claim", ALLOCSET_DEFAULT_SIZES);
  if (MessageContext == nullptr) MessageContext = AllocSetContextCreate(TopMemoryContext, "MessageContext", ALLOCSET_DEFAULT_SIZES);
  StartTransactionCommand();
  self.superuser = superuser();
  CommitTransactionCommand();
  notices_install();
  session_install();
  store::after_transaction = after_transaction;
  store::PoolSlot& p = store::pools[self.pool];
  p.failures = 0;
  p.failure[0] = '\0';
  p.retry_at = 0;
  main_loop();
  proc_exit(0);
}
