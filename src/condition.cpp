// Conditions of others: those of subscriptions are looked at in the session of whoever emits, and must not hold it up.
#include "pg/guard.hpp"

namespace dts {

namespace {

constexpr int kPatienceMs = 250;

TimeoutId patience = MAX_TIMEOUTS;  // registered when it is needed first
volatile sig_atomic_t out_of_time = 0;

/// Interrupts it as a cancel would; what it means is told apart afterwards.
void on_timeout() {
  out_of_time = 1;
  QueryCancelPending = true;
  InterruptPending = true;
}

bool holds(Datum path, Datum doc) {
  LOCAL_FCINFO(call, 4);
  InitFunctionCallInfoData(*call, nullptr, 4, InvalidOid, nullptr, nullptr);
  const Datum nothing = DirectFunctionCall1(jsonb_in, CStringGetDatum("{}"));
  const Datum values[] = {doc, path, nothing, BoolGetDatum(true)};
  for (int i = 0; i < 4; i++) {
    call->args[i].value = values[i];
    call->args[i].isnull = false;
  }
  const Datum result = jsonb_path_match(call);
  return !call->isnull && DatumGetBool(result);
}

}  // namespace

}  // namespace dts

using namespace dts;

/// dts._holds_soon(condition, doc): whether it holds; 54000 if that takes too long.
DTS_FUNCTION(dts_holds_soon) {
  MemoryContext const memory = CurrentMemoryContext;
  const Datum path = DirectFunctionCall1(jsonpath_in, CStringGetDatum(text_to_cstring(PG_GETARG_TEXT_PP(0))));
  const Datum doc = PG_GETARG_DATUM(1);
  bool result = false;
  if (patience == MAX_TIMEOUTS) patience = RegisterTimeout(USER_TIMEOUT, on_timeout);
  out_of_time = 0;
  ErrorData* const error = pg::attempt(memory, [&] {
    enable_timeout_after(patience, kPatienceMs);
    result = holds(path, doc);
  });
  disable_timeout(patience, false);
  if (error == nullptr) {
    if (out_of_time != 0) QueryCancelPending = false;  // it was ready at the same moment
    PG_RETURN_BOOL(result);
  }
  // Nothing is recovered from here: the error goes on to the caller's subtransaction.
  if (out_of_time != 0 && error->sqlerrcode == ERRCODE_QUERY_CANCELED)
    ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("its condition took longer than %d ms", kPatienceMs),
                    errhint("Look at single members, as in $.event.payload.state, rather than at all that is below.")));
  ReThrowError(error);
  pg_unreachable();
}
