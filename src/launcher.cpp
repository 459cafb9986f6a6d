// The launcher: one for the cluster, sees shared catalogs only. Starts a scheduler in each database, which leaves again if the
// database has no dts; after that only CREATE EXTENSION (or a submit) there brings it back. One bad database never stops it.
#include "pg/guard.hpp"
#include "settings.hpp"
#include "store/lanes.hpp"
#include "workers.hpp"

extern "C" PGDLLEXPORT void dts_launcher_main(Datum arg);

namespace dts {

namespace {

using store::DatabaseSlot;

struct Known {
  Oid db;
  bool usable;
};

/// All databases, into `memory`.
int list_databases(MemoryContext memory, Known** out) {
  int n = 0, room = 64;
  *out = static_cast<Known*>(MemoryContextAlloc(memory, sizeof(Known) * room));
  StartTransactionCommand();
  PushActiveSnapshot(GetTransactionSnapshot());
  Relation const rel = table_open(DatabaseRelationId, AccessShareLock);
  TableScanDesc const scan = table_beginscan_catalog(rel, 0, nullptr);
  while (HeapTuple const tuple = heap_getnext(scan, ForwardScanDirection)) {
    const auto* const d = reinterpret_cast<Form_pg_database>(GETSTRUCT(tuple));
    if (n == room) *out = static_cast<Known*>(repalloc(*out, sizeof(Known) * (room *= 2)));
    (*out)[n++] = Known{d->oid, d->datallowconn && !d->datistemplate && d->datconnlimit != -2};
  }
  table_endscan(scan);
  table_close(rel, AccessShareLock);
  PopActiveSnapshot();
  CommitTransactionCommand();
  return n;
}

/// Frees the slots of databases that are gone.
void forget_dropped(const Known* known, int n) {
  for (int i = 0; i < settings::max_databases; i++) {
    DatabaseSlot& d = store::databases[i];
    bool exists = !d.used;
    for (int k = 0; k < n && !exists; k++) exists = known[k].db == d.db;
    if (exists || d.pid != 0) continue;
    store::forget_database(d.db);
    d.used = false;
  }
}

constexpr int64 kLongestUs = 300000000;  // between two starts of a scheduler

/// Starts what is missing; returns when to look again (0: only when told).
TimestampTz start_schedulers(const Known* known, int n) {
  TimestampTz again = 0;
  const TimestampTz now = GetCurrentTimestamp();
  for (int k = 0; k < n; k++) {
    if (!known[k].usable) continue;
    DatabaseSlot* const d = store::database_slot(known[k].db, true);
    if (d == nullptr) {
      ereport(LOG, (errmsg("dts cannot serve database %u: too many databases", known[k].db), errhint("Raise dts.max_databases.")));
      continue;
    }
    if (d->pid != 0 || d->absent || d->evicted) continue;
    // Later than any start is put off: the clock was set back since.
    if (d->start_after <= now || d->start_after > now + kLongestUs) {
      BackgroundWorkerHandle* handle = nullptr;
      // Counted as a failure until the scheduler says that it runs: a database that cannot be entered is tried less and less often.
      d->failures = Min(d->failures + 1, 20);
      d->start_after = now + Min(int64{1000000} << Min(d->failures - 1, 8), kLongestUs);
      if (start_scheduler(d->db, &handle)) continue;
      // No worker slot is free: no fault of the database, which must not wait long once there is one.
      d->failures--;
      d->start_after = now + 5000000;
    }
    if (again == 0 || d->start_after < again) again = d->start_after;
  }
  return again;
}

void on_leave(int, Datum) {
  store::shared->launcher = nullptr;
  store::shared->launcher_pid = 0;
}

}  // namespace

}  // namespace dts

extern "C" void dts_launcher_main(Datum) {
  using namespace dts;
  pqsignal(SIGHUP, SignalHandlerForConfigReload);
  pqsignal(SIGTERM, die);
  pqsignal(SIGINT, SIG_IGN);
  BackgroundWorkerUnblockSignals();
  BackgroundWorkerInitializeConnection(nullptr, nullptr, 0);
  before_shmem_exit(on_leave, Datum{0});
  store::shared->launcher = MyProc;
  store::shared->launcher_pid = MyProcPid;
  SetConfigOption("application_name", "dts launcher", PGC_USERSET, PGC_S_SESSION);
  MemoryContext const memory = AllocSetContextCreate(TopMemoryContext, "dts launcher", ALLOCSET_DEFAULT_SIZES);
  for (;;) {
    ResetLatch(MyLatch);
    CHECK_FOR_INTERRUPTS();
    if (ConfigReloadPending) {
      ConfigReloadPending = false;
      ProcessConfigFile(PGC_SIGHUP);
    }
    pg_atomic_write_u32(&store::shared->launcher_events, 0);
    MemoryContextReset(memory);
    MemoryContextSwitchTo(memory);
    Known* known = nullptr;
    const int n = list_databases(memory, &known);
    MemoryContextSwitchTo(memory);
    forget_dropped(known, n);
    const TimestampTz again = start_schedulers(known, n);
    pgstat_report_stat(true);
    const long wait = again == 0 ? 3600000L : Max(10L, TimestampDifferenceMilliseconds(GetCurrentTimestamp(), again));
    (void)WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, wait, PG_WAIT_EXTENSION);
  }
}
