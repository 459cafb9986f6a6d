// Acting as the owner of the extension around constant statements, and running those.
#pragma once

#include "pg/postgres.hpp"

namespace dts::pg {

/// Plans that go by keys, whatever the statistics say: those are of tables that were empty a minute ago. Made once, for any arguments.
inline void plan_by_key(GucAction until) {
  for (const char* way : {"enable_seqscan", "enable_hashjoin", "enable_mergejoin"})
    (void)set_config_option(way, "off", PGC_USERSET, PGC_S_SESSION, until, true, 0, false);
  (void)set_config_option("plan_cache_mode", "force_generic_plan", PGC_USERSET, PGC_S_SESSION, until, true, 0, false);
}

enum class Plans { AsEver, ByKey };

/// Switches upwards to `owner` with a pinned search_path. end() switches back; after an error the abort of the (sub)transaction does.
class AsOwner {
 public:
  explicit AsOwner(Oid owner, Plans plans = Plans::AsEver) {
    GetUserIdAndSecContext(&user_, &context_);
    SetUserIdAndSecContext(owner, context_ | SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
    snapshot_ = !ActiveSnapshotSet();
    if (snapshot_) PushActiveSnapshot(GetTransactionSnapshot());  // SPI wants an outer one
    level_ = NewGUCNestLevel();
    (void)set_config_option("search_path", "pg_catalog, pg_temp", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
    if (plans == Plans::ByKey) plan_by_key(GUC_ACTION_SAVE);
  }
  void end() const {
    AtEOXact_GUC(false, level_);
    if (snapshot_) PopActiveSnapshot();
    SetUserIdAndSecContext(user_, context_);
  }

 private:
  Oid user_;
  int context_;
  int level_;
  bool snapshot_;
};

/// A constant statement, prepared once in each process.
struct Statement {
  const char* text;
  int nargs;
  Oid types[16];
  SPIPlanPtr plan = nullptr;

  /// Runs it with a new snapshot (`latest`: one that sees all commits even under REPEATABLE READ). Returns the number of rows.
  uint64 run(const Datum* values, const char* nulls = nullptr, bool latest = false, long limit = 0) {
    if (plan == nullptr) {
      plan = SPI_prepare(text, nargs, types);
      if (plan == nullptr) elog(ERROR, "could not prepare \"%s\": %s", text, SPI_result_code_string(SPI_result));
      SPI_keepplan(plan);
    }
    int rc = 0;
    if (latest) {
      rc = SPI_execute_snapshot(plan, const_cast<Datum*>(values), nulls, GetLatestSnapshot(), InvalidSnapshot, false, true, limit);
    } else {
      rc = SPI_execute_plan(plan, const_cast<Datum*>(values), nulls, false, limit);
    }
    if (rc < 0) elog(ERROR, "could not execute \"%s\": %s", text, SPI_result_code_string(rc));
    return SPI_processed;
  }
};

/// Column of the row of the last result; columns count from 1.
inline Datum column(uint64 row, int col, bool* isnull) {
  return SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, col, isnull);
}

/// The same copied out of the SPI memory, for by-reference values; null gives 0.
inline Datum column_copy(MemoryContext to, uint64 row, int col, bool* isnull) {
  const Datum d = column(row, col, isnull);
  const Form_pg_attribute a = TupleDescAttr(SPI_tuptable->tupdesc, col - 1);
  if (*isnull || a->attbyval) return d;
  const MemoryContext old = MemoryContextSwitchTo(to);
  const Datum copy = a->attlen == -1 ? PointerGetDatum(PG_DETOAST_DATUM_COPY(d)) : datumCopy(d, a->attbyval, a->attlen);
  MemoryContextSwitchTo(old);
  return copy;
}

}  // namespace dts::pg
