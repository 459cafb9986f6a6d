// A claim and what becomes of it: one transaction for one task, or for a batch of short ones.
#include "executor.hpp"

#include "pg/guard.hpp"
#include "pg/point.hpp"
#include "run_sql.hpp"
#include "settings.hpp"
#include "store/journal.hpp"
#include "store/keys.hpp"
#include "store/permits.hpp"

namespace dts {

using core::State;
using store::LaneInfo;
using store::Outcome;
using store::Task;
using store::TaskTable;

namespace {

/// What the current transaction has claimed; the second transaction after a failed one reads it.
struct Batch {
  LaneInfo lane;
  int lane_slot;
  int n;         // claimed
  int run;       // started
  int64 last;    // the one run last
  bool company;  // more than one was run
  bool charged;  // an earlier attempt's end was recorded
  TimestampTz began;
};
Batch batch;

/// What a claim is charged before it has run.
constexpr int64 kTurnUs = 100;

/// Mean run time by queue, to size batches: tasks that are not short should not share a commit.
constexpr int kMeans = 128;
double mean_us[kMeans];

int synchronous_commit_setting = SYNCHRONOUS_COMMIT_ON;

}  // namespace

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

namespace {

int64 budget_us() { return static_cast<int64>(settings::batch_budget_ms) * 1000; }

int32 timeout_of(const Task& t) {
  if (t.timeout_ms > 0) return t.timeout_ms;
  return StatementTimeout;  // a role's own statement_timeout holds when the task says nothing
}

enum class Next { Go, Stop };

Next run_task(TaskTable& tasks, const Task& t, int i, bool company) {
  const LaneInfo& lane = batch.lane;
  const TimestampTz now = GetCurrentTimestamp();
  if (const store::Charge charge = store::charge_of(MyDatabaseId, t.id); charge != store::Charge::None) {
    batch.charged = true;
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
  if (company) session_forget();
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
  if (t.ckey != 0) store::key_leased(t.ckey, t.id);
  return leased;
}

struct Leased {
  bool any;
  Task task;
};

Leased run_claimed(TaskTable& tasks, Task* t, int n) {
  int64 ids[store::kHeldMax];
  for (int i = 0; i < n; i++) ids[i] = t[i].id;
  DTS_POINT("executor.claimed");
  store::slot_publish(self.slot, ids, n);
  DTS_POINT("executor.published");
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
  return h == nullptr || h->sql == nullptr ? nullptr : pstrdup(h->sql);
}

bool owner_may_run(Oid owner) {
  HeapTuple const tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(owner));
  if (!HeapTupleIsValid(tuple)) return false;
  const bool may = reinterpret_cast<Form_pg_authid>(GETSTRUCT(tuple))->rolcanlogin;
  ReleaseSysCache(tuple);
  return may;
}

namespace {

void forget_temporary_tables() {
  begin_transaction();
  PushActiveSnapshot(GetTransactionSnapshot());
  ResetTempTableNamespace();
  PopActiveSnapshot();
  CommitTransactionCommand();
}

}  // namespace

Turn run_batch(int lane_slot) {
  const store::LaneSlot& l = store::lanes[lane_slot];
  if (!l.used || l.db != MyDatabaseId || l.pool != self.pool || l.queue_slot < 0) return Turn::Nothing;
  batch = Batch{};
  batch.lane = store::lane_info(l);
  batch.lane_slot = lane_slot;
  const bool durable = store::queues[l.queue_slot].durable;
  store::ExecutorSlot& slot = store::slots[self.slot];
  // Permits come before rows: what a limit does not let start is not even looked at. The loop gives the place back.
  const int limit = store::permits_take(lane_slot, batch_limit(store::queues[l.queue_slot], l.queue_slot), &slot.lock, &slot.permits);
  if (limit == 0) return Turn::Nothing;
  // One claim is charged at once, so that those who choose meanwhile go on to the next tenant; what it really took comes at its end.
  store::turn_begin(lane_slot);
  store::turn_charge(lane_slot, kTurnUs);
  batch.began = GetCurrentTimestamp();
  begin_transaction();
  // DROP EXTENSION, or DROP ROLE, came before us.
  if (!store::installed() || !owner_may_run(self.owner)) {
    CommitTransactionCommand();
    proc_exit(0);
  }
  if (!store::installation_known()) {
    CommitTransactionCommand();
    store::back_off(lane_slot);
    return Turn::Nothing;
  }
  MemoryContextSwitchTo(self.memory);
  auto* const tasks = static_cast<Task*>(palloc(sizeof(Task) * limit));
  for (int i = 0; i < limit; i++) tasks[i] = Task();
  TaskTable table = TaskTable::open_to_claim();
  batch.n = table.claim(lane_slot, batch.lane, limit, tasks);
  if (batch.n < limit) store::permits_unused(&slot.lock, &slot.permits, limit - batch.n);
  store::notify_claimed(lane_slot);
  Leased leased{};
  if (batch.n > 0) leased = run_claimed(table, tasks, batch.n);
  table.close();
  if (batch.n > 0) DTS_POINT("executor.before_commit");
  const bool temporary = (MyXactFlags & XACT_FLAGS_ACCESSEDTEMPNAMESPACE) != 0;
  // A charge is on disk before its task may run again: the next crash would take back an asynchronous commit, and nothing would be counted.
  commit_transaction(durable || leased.any || batch.charged);
  if (batch.n > 0) DTS_POINT("executor.committed");
  if (batch.n > 0) store::back_on(lane_slot);
  session_reset();
  if (temporary) forget_temporary_tables();
  if (leased.any) run_leased(leased.task, batch.lane);
  store::turn_charge(lane_slot, Max(GetCurrentTimestamp() - batch.began - kTurnUs, 0));
  pgstat_report_activity(STATE_IDLE, nullptr);
  return batch.n > 0 ? Turn::Worked : Turn::Nothing;
}

void recover(const ErrorData* error) {
  synchronous_commit = synchronous_commit_setting;
  AbortOutOfAnyTransaction();
  session_reset();
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

}  // namespace dts
