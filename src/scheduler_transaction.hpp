// How the scheduler does a piece of work: in a transaction of its own, so that an error costs that piece only.
#pragma once

#include "pg/as_owner.hpp"
#include "pg/guard.hpp"
#include "scheduler.hpp"

namespace dts {

/// Runs a piece of work in a transaction of its own; an error is logged and rolls that piece back.
template <class F>
bool in_transaction(const char* what, F&& f) {
  MemoryContext const memory = CurrentMemoryContext;
  ErrorData* const error = pg::attempt(memory, [&] {
    SetCurrentStatementStartTimestamp();
    StartTransactionCommand();
    XactReadOnly = false;
    XactIsoLevel = XACT_READ_COMMITTED;
    PushActiveSnapshot(GetTransactionSnapshot());
    pgstat_report_activity(STATE_RUNNING, what);
    scheduler_working = 1;
    f();
    scheduler_working = 0;
    PopActiveSnapshot();
    CommitTransactionCommand();
  });
  scheduler_working = 0;
  QueryCancelPending = false;
  if (error != nullptr) {
    AbortOutOfAnyTransaction();
    ereport(LOG,
            (errmsg("dts scheduler: %s failed: %s", what, error->message), error->detail != nullptr ? errdetail("%s", error->detail) : 0));
  }
  MemoryContextSwitchTo(memory);
  pgstat_report_activity(STATE_IDLE, nullptr);
  return error == nullptr;
}

/// Runs a constant statement as the owner and calls f(row) for each row.
template <class F>
void each_row(pg::Statement& statement, const Datum* values, F&& f) {
  const pg::AsOwner as(store::catalog().owner);
  SPI_connect();
  const uint64 n = statement.run(values);
  for (uint64 i = 0; i < n; i++) f(i);
  SPI_finish();
  as.end();
}

/// Ids that a statement gives, copied into the current context.
inline int ids(pg::Statement& statement, const Datum* values, int max, int64* out) {
  int n = 0;
  each_row(statement, values, [&](uint64 i) {
    bool null = false;
    if (n < max) out[n++] = DatumGetInt64(pg::column(i, 1, &null));
  });
  return n;
}

}  // namespace dts
