// CALL dts.wait: waits without a snapshot and without polling.
#include "pg/as_owner.hpp"
#include "pg/guard.hpp"
#include "pg/wal.hpp"
#include "steer.hpp"
#include "store/board.hpp"

namespace dts {

namespace {

/// Place among the waiters; given back also when the backend dies.
int place = -1;

void leave(int, Datum) {
  store::waiter_remove(place);
  place = -1;
}

/// Releases every snapshot, sleeps, and begins the next transaction.
void sleep_without_snapshot(long ms) {
  SPI_commit();
  (void)WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, ms, PG_WAIT_EXTENSION);
  ResetLatch(MyLatch);
  CHECK_FOR_INTERRUPTS();
  EnsurePortalSnapshotExists();
}

core::State wait_for(int64 id, TimestampTz until) {
  core::State state = state_of(id);
  RunEnd run;
  if (place >= 0 && state == core::State::Leased && find_run(id, &run)) {  // its end is what we are told of
    leave(0, Datum{0});
    place = store::waiter_add(MyDatabaseId, run.task);
    state = state_of(id);
  }
  // A task whose queue keeps no history is known only to the process that ends it. Between its commit and its word to us there is
  // nothing to see: a few short waits bridge that.
  int unseen = 0;
  while (!core::is_end(state)) {
    const int64 left = until == 0 ? 60000 : (until - GetCurrentTimestamp() + 999) / 1000;
    if (left <= 0) return state;
    // Without shared memory, or with all places taken, look now and then.
    const int64 nap = unseen > 0 ? 10 : place < 0 ? 100 : 60000;
    sleep_without_snapshot(static_cast<long>(Min(left, nap)));
    const core::State told = store::waiter_outcome(place);
    if (core::is_end(told)) return told;
    if (find_state(id, &state))
      unseen = 0;
    else if (place < 0 || ++unseen > 100)
      no_task(id);
  }
  return state;
}

}  // namespace

}  // namespace dts

using namespace dts;

DTS_FUNCTION(dts_wait) {
  if (PG_ARGISNULL(0))
    ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("argument \"task\" must not be null"),
                    errhint("Give the id that dts.submit returned.")));
  const int64 id = PG_GETARG_INT64(0);
  TimestampTz until = 0;
  if (!PG_ARGISNULL(1)) {
    const Interval* const t = PG_GETARG_INTERVAL_P(1);
    if (t->time < 0 || t->day < 0 || t->month < 0)
      ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("argument \"timeout\" must not be negative"),
                      errhint("Give a positive interval, or leave it out to wait without limit.")));
    until =
        DatumGetTimestampTz(DirectFunctionCall2(timestamptz_pl_interval, TimestampTzGetDatum(GetCurrentTimestamp()), PG_GETARG_DATUM(1)));
  }
  const bool atomic = fcinfo->context == nullptr || !IsA(fcinfo->context, CallContext) || castNode(CallContext, fcinfo->context)->atomic;
  if (atomic)
    ereport(ERROR, (errcode(ERRCODE_ACTIVE_SQL_TRANSACTION), errmsg("dts.wait cannot run inside a transaction block or a function"),
                    errhint("A task starts only after the transaction that submitted it has committed.")));
  SPI_connect_ext(SPI_OPT_NONATOMIC);
  static bool registered = false;
  if (!registered) before_shmem_exit(leave, Datum{0});
  registered = true;
  if (store::shared != nullptr) place = store::waiter_add(MyDatabaseId, id);
  core::State state{};
  PG_TRY();
  { state = wait_for(id, until); }
  PG_FINALLY();
  { leave(0, Datum{0}); }
  PG_END_TRY();
  SPI_finish();
  // A task's commit may be asynchronous: what is reported as done is on disk first.
  if (core::is_end(state)) pg::flush_wal();
  TupleDesc desc = nullptr;
  if (get_call_result_type(fcinfo, nullptr, &desc) != TYPEFUNC_COMPOSITE) elog(ERROR, "unexpected result type of dts.wait");
  const Datum value = CStringGetTextDatum(core::name(state));
  const bool null = false;
  return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), const_cast<Datum*>(&value), const_cast<bool*>(&null)));
}
