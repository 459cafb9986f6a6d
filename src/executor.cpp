#include "executor.hpp"

#include "pg/guard.hpp"
#include "run_sql.hpp"
#include "settings.hpp"
#include "store/journal.hpp"

namespace dts {

Executor self;

namespace {

using core::State;
using store::LaneInfo;
using store::Outcome;
using store::Task;
using store::TaskTable;

/// What the current transaction has claimed; the second transaction after a failed one reads it.
struct Batch {
  LaneInfo lane;
  int lane_slot;
  int n;         // claimed
  int run;       // started
  int64 last;    // the one run last
  bool company;  // more than one was run
  bool charged;  // an earlier attempt's end was recorded
};
Batch batch;

/// Mean run time by queue, to size batches: tasks that are not short should not share a commit.
constexpr int kMeans = 128;
double mean_us[kMeans];

int synchronous_commit_setting = SYNCHRONOUS_COMMIT_ON;

void begin_transaction() {
  SetCurrentStatementStartTimestamp();
  StartTransactionCommand();
  // Whatever the role's settings say: the claim needs both.
  XactReadOnly = false;
  XactIsoLevel = XACT_READ_COMMITTED;
  XactDeferrable = false;
}

void commit_transaction(bool durable) {
  synchronous_commit_setting = synchronous_commit;
  if (!durable) synchronous_commit = SYNCHRONOUS_COMMIT_OFF;
  CommitTransactionCommand();
  synchronous_commit = synchronous_commit_setting;
}

void context_line(void* arg) {
  const auto* const t = static_cast<const Task*>(arg);
  errcontext("dts task %lld, attempt %d", static_cast<long long>(t->id), t->attempt + 1);
}

bool is_restartable(const ErrorData* e) {
  return e->sqlerrcode == ERRCODE_T_R_SERIALIZATION_FAILURE || e->sqlerrcode == ERRCODE_T_R_DEADLOCK_DETECTED;
}

int64 budget_us() { return static_cast<int64>(settings::batch_budget_ms) * 1000; }

/// One attempt in a subtransaction. Order of the end: close (the request to cancel is read for the last time), then the interrupt
/// is forgotten, then the subtransaction ends; anything else lets a late signal strike the next task.
Attempt run_attempt(const Task& t, int i, const char* sql, bool payload, int32 limit_ms, SqlResult* result) {
  Attempt a{};
  const TimestampTz now = GetCurrentTimestamp();
  if (!store::slot_start(self.slot, i, now, limit_ms > 0 ? now + limit_ms * 1000LL : 0)) {
    (void)store::slot_close(self.slot, i);
    a.cancelled = true;
    return a;
  }
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
    run_transactional(sql, t.args, payload, (t.flags & core::kCapture) != 0, result);
    AfterTriggerFireDeferred();  // as the owner, so that a deferred constraint fails the task and not the commit
    error_context_stack = line.previous;
  });
  HOLD_INTERRUPTS();
  a.cancelled = store::slot_close(self.slot, i);
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

/// After a deadlock or serialization failure the task is run again at once, a few times, uncounted: its effects are rolled back.
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

int32 timeout_of(const Task& t) {
  if (t.timeout_ms > 0) return t.timeout_ms;
  return StatementTimeout;  // a role's own statement_timeout holds when the task says nothing
}

/// Records how a task's only or last attempt ended. Returns the state it got.
State record(TaskTable& tasks, const Task& t, const LaneInfo& lane, const Attempt& a, const SqlResult& result, TimestampTz started_at) {
  Outcome o;
  o.started_at = started_at;
  o.ended_at = GetCurrentTimestamp();
  o.worker_pid = MyProcPid;
  o.notices = notices_take();
  if (a.cancelled) {
    o.state = State::Cancelled;
    Task done = t;
    done.attempt = static_cast<int16>(t.attempt + 1);
    store::end_task(tasks, done, lane, o);
    return o.state;
  }
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

/// A charge says that an earlier attempt took its process down: that attempt is recorded now, by whoever claims the task next.
void record_charge(TaskTable& tasks, const Task& t, const LaneInfo& lane, store::Charge charge) {
  Outcome o;
  batch.charged = true;
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

enum class Next { Go, Stop };

Next run_task(TaskTable& tasks, const Task& t, int i, bool company) {
  const LaneInfo& lane = batch.lane;
  const TimestampTz now = GetCurrentTimestamp();
  if (const store::Charge charge = store::charge_of(MyDatabaseId, t.id); charge != store::Charge::None) {
    record_charge(tasks, t, lane, charge);
    return Next::Go;
  }
  if (t.has_expires && t.expires_at <= now) {
    Outcome o;
    o.state = State::Expired;
    o.ended_at = now;
    store::end_task(tasks, t, lane, o);
    return Next::Go;
  }
  bool payload = false;
  const char* const sql = text_of(t, &payload);
  batch.run++;
  batch.last = t.id;
  debug_query_string = sql;
  pgstat_report_activity(STATE_RUNNING, sql);
  // In company a task gets what is left of the budget, at least half of it; an overrun is rolled back and runs alone next.
  const int32 own = timeout_of(t);
  const int32 share = company ? Max(settings::batch_budget_ms, 2) * 2 : 0;
  const bool shared_limit = share > 0 && (own == 0 || share < own);
  SqlResult result;
  const Attempt a = run_with_restarts(t, i, sql, payload, shared_limit ? share : own, !company, &result);
  debug_query_string = nullptr;
  const int64 took = GetCurrentTimestamp() - now;
  double& mean = mean_us[store::lanes[batch.lane_slot].queue_slot % kMeans];
  mean = mean == 0 ? static_cast<double>(took) : mean * 0.9 + static_cast<double>(took) * 0.1;
  if (company && a.error != nullptr && !a.cancelled) {
    const bool overrun = shared_limit && a.error->sqlerrcode == ERRCODE_QUERY_CANCELED && took >= share * 1000LL;
    if (overrun || is_restartable(a.error) || a.error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE) {
      store::touch_kept(lane, t.key());
      batch.run--;
      self.solo = 1;
      return Next::Stop;
    }
  }
  const State s = record(tasks, t, lane, a, result, now);
  if (company) session_unlock();
  self.tasks_run++;
  pg_atomic_fetch_add_u64(&store::slots[self.slot].tasks_run, 1);
  return s == State::Cancelled || (company && session_used()) ? Next::Stop : Next::Go;
}

int batch_limit(const store::QueueSlot& q, int queue) {
  if (self.solo > 0) {
    self.solo--;
    return 1;
  }
  if (q.batch_size <= 1) return 1;
  const double mean = mean_us[queue % kMeans];
  if (mean <= 0) return q.batch_size;
  return Max(1, Min(q.batch_size, static_cast<int>(static_cast<double>(budget_us()) / mean) + 1));
}

/// Whether a task must not share its transaction.
bool wants_own(const Task& t) { return !t.transactional() || (t.flags & core::kSuspect) != 0; }

/// Makes a claimed task leased, with a token of its own.
Task lease(TaskTable& tasks, const Task& t, const LaneInfo& lane) {
  Task leased = t;
  leased.state = State::Leased;
  leased.attempt = static_cast<int16>(t.attempt + 1);
  leased.has_token = leased.has_lease = true;
  leased.lease_until = DT_NOEND;  // it lives as long as this process: the scheduler sees in the slots when that ends
  if (!pg_strong_random(&leased.token, sizeof(leased.token))) ereport(ERROR, (errmsg("could not make a random token")));
  tasks.update(t, leased, lane, lane);
  return leased;
}

struct Leased {
  bool any;
  Task task;
};

Leased run_claimed(TaskTable& tasks, Task* t, int n) {
  int64 ids[store::kHeldMax];
  for (int i = 0; i < n; i++) ids[i] = t[i].id;
  store::slot_publish(self.slot, ids, n);
  const TimestampTz begin = GetCurrentTimestamp();
  Leased leased{};
  int i = 0;
  for (; i < n; i++) {
    const bool own = wants_own(t[i]);
    const bool charged = own && store::charge_of(MyDatabaseId, t[i].id) != store::Charge::None;
    const bool expired = t[i].has_expires && t[i].expires_at <= begin;
    if (own && i > 0 && !charged) {
      self.solo = 1;
      break;
    }
    if (!t[i].transactional() && !charged && !expired && !store::board_has(MyDatabaseId, t[i].id)) {
      leased.any = true;
      leased.task = lease(tasks, t[i], batch.lane);
      i++;
      break;
    }
    const bool company = n > 1 && !own;
    batch.company |= company;
    const Next next = run_task(tasks, t[i], i, company);
    if (next == Next::Stop || own || GetCurrentTimestamp() - begin > budget_us()) {
      i++;
      break;
    }
    CHECK_FOR_INTERRUPTS();
  }
  for (; i < n; i++) store::touch_kept(batch.lane, t[i].key());
  return leased;
}

}  // namespace

const char* text_of(const Task& t, bool* payload) {
  *payload = t.handler != 0;
  if (t.handler == 0) return t.sql == nullptr ? "" : text_to_cstring(t.sql);
  const store::Handler* const h = store::handler_by_id(t.handler);
  return h == nullptr ? "SELECT 1/0 -- handler is gone" : pstrdup(h->sql);
}

Turn run_batch(int lane_slot) {
  const store::LaneSlot& l = store::lanes[lane_slot];
  if (!l.used || l.db != MyDatabaseId || l.pool != self.pool || l.queue_slot < 0) return Turn::Nothing;
  batch = Batch{};
  batch.lane = LaneInfo{l.lane, l.owner, store::queues[l.queue_slot].queue, l.priority};
  batch.lane_slot = lane_slot;
  const bool durable = store::queues[l.queue_slot].durable;
  const int limit = batch_limit(store::queues[l.queue_slot], l.queue_slot);
  begin_transaction();
  if (!store::installed()) {  // DROP EXTENSION came before us
    CommitTransactionCommand();
    proc_exit(0);
  }
  MemoryContextSwitchTo(self.memory);
  auto* const tasks = static_cast<Task*>(palloc(sizeof(Task) * limit));
  for (int i = 0; i < limit; i++) tasks[i] = Task();
  TaskTable table = TaskTable::open();
  batch.n = table.claim(lane_slot, batch.lane, limit, tasks);
  store::notify_pool(self.pool);  // passes a wake-up on: others may take what was put back
  Leased leased{};
  if (batch.n > 0) leased = run_claimed(table, tasks, batch.n);
  table.close();
  const bool temporary = (MyXactFlags & XACT_FLAGS_ACCESSEDTEMPNAMESPACE) != 0;
  // A charge is on disk before its task may run again: the next crash would take back an asynchronous commit, and nothing would be counted.
  commit_transaction(durable || leased.any || batch.charged);
  if (batch.n > 0) store::back_on(lane_slot);
  session_reset();
  if (temporary) {
    begin_transaction();
    ResetTempTableNamespace();
    CommitTransactionCommand();
  }
  if (leased.any) run_leased(leased.task, batch.lane);
  pgstat_report_activity(STATE_IDLE, nullptr);
  return batch.n > 0 ? Turn::Worked : Turn::Nothing;
}

namespace {

/// The transaction of a batch failed. Tasks that shared it run alone next, uncharged; one that was alone is charged here.
void recover(const ErrorData* error) {
  synchronous_commit = synchronous_commit_setting;
  AbortOutOfAnyTransaction();
  disable_all_timeouts(false);
  QueryCancelPending = false;
  ereport(LOG, (errmsg("dts: a task's transaction failed: %s", error->message),
                errdetail("SQLSTATE %s, last task %lld.", unpack_sql_state(error->sqlerrcode), static_cast<long long>(batch.last))));
  if (batch.run == 0) {
    store::back_off(batch.lane_slot);
    return;
  }
  if (batch.n > 1 && batch.run > 1) {
    self.solo = batch.n;
    return;
  }
  ErrorData* const again = pg::attempt(self.memory, [&] {
    begin_transaction();
    MemoryContextSwitchTo(self.memory);
    TaskTable table = TaskTable::open();
    Task t;
    if (table.lock(batch.last, &t) == TaskTable::Found::Locked) {
      Outcome o;
      o.ended_at = GetCurrentTimestamp();
      o.worker_pid = MyProcPid;
      o.error = store::error_json(error);
      if (store::board_has(MyDatabaseId, t.id)) {
        o.state = State::Cancelled;
        store::end_task(table, t, batch.lane, o);
      } else {
        store::fail_task(table, t, batch.lane, o, true);
      }
    }
    table.close();
    commit_transaction(true);
  });
  if (again != nullptr) {
    AbortOutOfAnyTransaction();
    ereport(LOG, (errmsg("dts: could not record a failed task: %s", again->message)));
    store::back_off(batch.lane_slot);
  }
}

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
  if (self.memory == nullptr) {  // it could not even connect: the pool waits, longer each time
    store::PoolSlot& p = store::pools[pool];
    p.failures++;
    p.retry_at = GetCurrentTimestamp() + 1000000LL * (1LL << Min(p.failures, 8));
    strlcpy(p.failure, "its owner could not connect; see the server log", sizeof(p.failure));
  }
  store::slot_clear(self.slot);
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
  self.slot = DatumGetInt32(arg);
  uint64 generation = 0;
  memcpy(&generation, MyBgworkerEntry->bgw_extra, sizeof(generation));
  store::ExecutorSlot& s = store::slots[self.slot];
  LWLockAcquire(&store::shared->directory, LW_EXCLUSIVE);
  const bool mine = s.kind == store::ExecutorSlot::Kind::Starting && s.generation == generation;
  if (mine) {
    s.proc = MyProc;
    s.pid = MyProcPid;
    s.since = GetCurrentTimestamp();
    s.kind = store::ExecutorSlot::Kind::Live;
    self.pool = s.pool;
    store::own_slot = self.slot;
    self.owner = s.owner;
  }
  LWLockRelease(&store::shared->directory);
  return mine;
}

void main_loop() {
  TimestampTz idle_since = GetCurrentTimestamp();
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
    const int lane = settings::enabled && d->gate && (settings::allow_superuser_tasks || !self.superuser) ? store::choose_lane(self.pool, GetCurrentTimestamp()) : -1;
    if (lane >= 0) {
      store::slot_idle(self.slot, false);
      MemoryContextReset(self.memory);
      MemoryContextSwitchTo(self.memory);
      MemoryContextReset(MessageContext);
      if (ErrorData* const error = pg::attempt(self.memory, [&] { (void)run_batch(lane); })) recover(error);
      idle_since = 0;
      continue;
    }
    if (idle_since == 0) {
      idle_since = GetCurrentTimestamp();
      pgstat_report_stat(true);
      pgstat_report_activity(STATE_IDLE, nullptr);
    }
    const long left = static_cast<long>(idle_since / 1000 + settings::worker_idle_timeout_ms - GetCurrentTimestamp() / 1000);
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
