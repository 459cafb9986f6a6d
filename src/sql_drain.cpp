// Draining: a pause, and the wait until what runs has ended.
#include "pg/guard.hpp"
#include "store/permits.hpp"

namespace dts {

namespace {

/// Runs "SELECT function(queue, handler, owner, tenant)" with the caller's rights and gives its value, 0 for none.
int call(const char* sql, FunctionCallInfo fcinfo) {
  Oid types[4];
  Datum values[4];
  char nulls[5] = {};
  for (int i = 0; i < 4; i++) {
    types[i] = TEXTOID;
    values[i] = PG_ARGISNULL(i) ? Datum{0} : PG_GETARG_DATUM(i);
    nulls[i] = PG_ARGISNULL(i) ? 'n' : ' ';
  }
  if (SPI_execute_with_args(sql, 4, types, values, nulls, false, 1) != SPI_OK_SELECT || SPI_processed != 1)
    elog(ERROR, "could not execute \"%s\"", sql);
  bool null = false;
  const Datum d = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &null);
  return null || SPI_gettypeid(SPI_tuptable->tupdesc, 1) != INT4OID ? 0 : DatumGetInt32(d);
}

}  // namespace

}  // namespace dts

using namespace dts;

DTS_FUNCTION(dts_drain) {
  const bool atomic = fcinfo->context == nullptr || !IsA(fcinfo->context, CallContext) || castNode(CallContext, fcinfo->context)->atomic;
  if (atomic)
    ereport(ERROR, (errcode(ERRCODE_ACTIVE_SQL_TRANSACTION), errmsg("dts.drain cannot run inside a transaction block or a function"),
                    errhint("The pause holds only when it has committed.")));
  TimestampTz until = DT_NOEND;
  if (!PG_ARGISNULL(4)) {
    const Interval* const t = PG_GETARG_INTERVAL_P(4);
    if (t->time < 0 || t->day < 0 || t->month < 0)
      ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("argument \"timeout\" must not be negative"),
                      errhint("Give a positive interval, or leave it out to wait without limit.")));
    until =
        DatumGetTimestampTz(DirectFunctionCall2(timestamptz_pl_interval, TimestampTzGetDatum(GetCurrentTimestamp()), PG_GETARG_DATUM(4)));
  }
  SPI_connect_ext(SPI_OPT_NONATOMIC);
  (void)call("SELECT dts.pause($1, $2, $3, $4)", fcinfo);
  int running = 0;
  for (long nap = 5;; nap = Min(nap * 2, 200L)) {
    SPI_commit();  // no snapshot is held while it waits
    (void)WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, nap, PG_WAIT_EXTENSION);
    ResetLatch(MyLatch);
    CHECK_FOR_INTERRUPTS();
    EnsurePortalSnapshotExists();
    running = call("SELECT dts.in_progress($1, $2, $3, $4)", fcinfo);
    if (running == 0 || GetCurrentTimestamp() >= until) break;
  }
  SPI_finish();
  TupleDesc desc = nullptr;
  if (get_call_result_type(fcinfo, nullptr, &desc) != TYPEFUNC_COMPOSITE) elog(ERROR, "unexpected result type of dts.drain");
  const Datum value = Int32GetDatum(running);
  const bool null = false;
  return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), const_cast<Datum*>(&value), const_cast<bool*>(&null)));
}

DTS_FUNCTION(dts_places) {
  if (store::shared == nullptr) PG_RETURN_INT32(0);
  const auto scope = static_cast<store::Scope>(PG_GETARG_INT32(0));
  const uint64 object =
      scope == store::Scope::Tenant ? store::tenant_hash(text_to_cstring(PG_GETARG_TEXT_PP(2))) : static_cast<uint64>(PG_GETARG_INT64(1));
  PG_RETURN_INT32(store::places_taken(MyDatabaseId, scope, object));
}
