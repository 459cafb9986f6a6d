// CALL dts.wait_for_work: an idle agent waits without a snapshot and without polling; one statement, so that a pooler in transaction mode
// can stand between.
#include "agent.hpp"
#include "pg/guard.hpp"
#include "rows.hpp"
#include "store/definitions.hpp"

namespace dts {

namespace {

constexpr int64 kLongest = 600LL * USECS_PER_SEC;

/// Place among those that wait; given back also when the backend dies.
int place = -1;

void leave(int, Datum) {
  store::agent_wait_end(place);
  place = -1;
}

bool work_for(const Agent& agent) {
  if (store::why_closed(MyDatabaseId) != nullptr) return false;
  const int pool = agent_pool();
  return pool >= 0 && store::choose_lane(pool, GetCurrentTimestamp(), store::suits, &agent.offer) >= 0;
}

bool wait_for(const Agent& agent, TimestampTz until) {
  for (;;) {
    // Say that it sleeps, then look: who makes work does it the other way round.
    store::agent_asleep(place);
    pg_memory_barrier();
    if (work_for(agent)) return true;
    const int64 left = (until - GetCurrentTimestamp() + 999) / 1000;
    if (left <= 0) return false;
    SPI_commit();  // no snapshot, no lock
    (void)WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, place < 0 ? Min(left, int64{1000}) : left, PG_WAIT_EXTENSION);
    ResetLatch(MyLatch);
    CHECK_FOR_INTERRUPTS();
    EnsurePortalSnapshotExists();
  }
}

TimestampTz end_of(FunctionCallInfo fcinfo, int i) {
  const TimestampTz now = GetCurrentTimestamp();
  if (PG_ARGISNULL(i)) return now + USECS_PER_MINUTE;
  const Interval* const t = PG_GETARG_INTERVAL_P(i);
  const double us = static_cast<double>(t->time) + (t->day + t->month * 30.0) * static_cast<double>(USECS_PER_DAY);
  if (us < 0 || us > static_cast<double>(kLongest))
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("argument \"timeout\" must be between 0 and 10 minutes"),
                    errhint("Call it again when it returns without work.")));
  return now + static_cast<int64>(us);
}

}  // namespace

}  // namespace dts

using namespace dts;

DTS_FUNCTION(dts_wait_for_work) {
  Agent agent = read_agent(fcinfo, "dts.wait_for_work()");
  const TimestampTz until = end_of(fcinfo, 3);
  const bool atomic = fcinfo->context == nullptr || !IsA(fcinfo->context, CallContext) || castNode(CallContext, fcinfo->context)->atomic;
  if (atomic)
    ereport(ERROR,
            (errcode(ERRCODE_ACTIVE_SQL_TRANSACTION), errmsg("dts.wait_for_work cannot run inside a transaction block or a function"),
             errhint("Call it as a statement of its own, and dts.claim after it.")));
  show_presence(agent);
  SPI_connect_ext(SPI_OPT_NONATOMIC);
  static bool registered = false;
  if (!registered) before_shmem_exit(leave, Datum{0});
  registered = true;
  place = store::agent_wait_begin(GetUserId(), agent.name, agent.offer);
  bool ready = false;
  PG_TRY();
  { ready = wait_for(agent, until); }
  PG_FINALLY();
  {
    leave(0, Datum{0});
    // A wake-up that came while it left is somebody else's.
    if (!ready) store::notify_pool(agent_pool());
  }
  PG_END_TRY();
  SPI_finish();
  TupleDesc desc = nullptr;
  if (get_call_result_type(fcinfo, nullptr, &desc) != TYPEFUNC_COMPOSITE) elog(ERROR, "unexpected result type of dts.wait_for_work");
  const Datum value = BoolGetDatum(ready);
  const bool null = false;
  return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), const_cast<Datum*>(&value), const_cast<bool*>(&null)));
}

DTS_FUNCTION(dts_waiting_agents) {
  ReturnSetInfo* const info = begin_rows(fcinfo);
  if (store::shared == nullptr) return Datum{0};
  for (int i = 0; i < store::kAgentWaiters; i++) {
    LWLockAcquire(&store::shared->agent_lock, LW_SHARED);
    const store::AgentWaiter w = store::agent_waiters[i];
    LWLockRelease(&store::shared->agent_lock);
    if (!w.used || w.db != MyDatabaseId || !store::caller_sees(w.role)) continue;
    Datum v[3] = {ObjectIdGetDatum(w.role), CStringGetTextDatum(w.name), TimestampTzGetDatum(w.since)};
    bool n[3] = {};
    put_row(info, v, n);
  }
  return Datum{0};
}
