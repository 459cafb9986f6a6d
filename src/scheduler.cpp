#include "scheduler.hpp"

#include "clock_watch.hpp"
#include "pg/guard.hpp"
#include "pg/point.hpp"
#include "scheduler_timers.hpp"
#include "settings.hpp"

namespace dts {

volatile sig_atomic_t scheduler_working = 0;

namespace {

using store::DatabaseSlot;

DatabaseSlot* database = nullptr;

/// Lock timeouts arrive as SIGINT too, so it must not be ignored; between two pieces of work it means nothing.
void on_int(int) {
  const int saved = errno;
  if (scheduler_working != 0) {
    QueryCancelPending = true;
    InterruptPending = true;
  }
  SetLatch(MyLatch);
  errno = saved;
}

void on_leave(int, Datum) {
  if (database == nullptr || database->pid != MyProcPid) return;
  want_nothing();
  database->pid = 0;
  database->proc = nullptr;
  store::tell_launcher();
}

/// The clock: store when we wake, then look once more, since a task may have become due, or come in, between look and store.
TimestampTz set_clock(TimestampTz now) {
  const int64 due = store::next_due(MyDatabaseId, now);
  pg_atomic_write_u64(&database->sleep_until, static_cast<uint64>(due));
  pg_memory_barrier();
  store::notify_database(MyDatabaseId);
  return due;
}

long sooner(long a, long b) { return a < 0 ? b : b < 0 ? a : Min(a, b); }

long until(TimestampTz at, TimestampTz now) {
  return at == 0 || at == core::kMax ? -1 : at <= now ? 0 : static_cast<long>(Min((at - now + 999) / 1000, int64{3600000}));
}

void main_loop(MemoryContext memory) {
  Timers timers;
  timers.sweep = timers.late = even_now();
  for (;;) {
    ResetLatch(MyLatch);
    CHECK_FOR_INTERRUPTS();
    if (ConfigReloadPending) {
      ConfigReloadPending = false;
      ProcessConfigFile(PGC_SIGHUP);
      // The site may have changed; whatever is idle has to see the new settings too.
      pg_atomic_fetch_or_u32(&database->events, store::kDefinitions);
    }
    if (database->evicted) return;
    MemoryContextReset(memory);
    MemoryContextSwitchTo(memory);
    pg_atomic_fetch_add_u64(&database->wakeups, 1);
    follow_clock(database, timers);
    const TimestampTz now = even_now();
    timers.sweep = Min(timers.sweep, now + settings::sweep_interval_s * kSecond);  // which may be shorter since a reload
    handle_events(database, timers, now);
    handle_timers(database, timers, now);
    const int64 due = database->gate ? set_clock(even_now()) : core::kMax;
    long wait = sooner(size_pools(), end_overdue());
    const TimestampTz then = even_now();
    wait = sooner(wait, until(due, then));
    if (database->gate)
      for (const TimestampTz t : {timers.history, Max(timers.sweep, timers.sweep_rest), timers.second_look, timers.requests, timers.lanes,
                                  timers.agenda, timers.keys, timers.schedules, timers.late, timers.leases, timers.agents, timers.changes,
                                  timers.signals, timers.gates, next_alarm(database)})
        wait = sooner(wait, until(t, then));
    pgstat_report_stat(true);
    DTS_POINT("scheduler.turned");
    if (pg_atomic_read_u32(&database->events) != 0) continue;
    // A clock that is set makes every timer wrong.
    if (wait_watching_clock(wait)) timers.schedules = even_now();
  }
}

}  // namespace

}  // namespace dts

extern "C" void dts_scheduler_main(Datum arg) {
  using namespace dts;
  const Oid db = DatumGetObjectId(arg);
  pqsignal(SIGHUP, SignalHandlerForConfigReload);
  pqsignal(SIGTERM, die);
  pqsignal(SIGINT, on_int);
  BackgroundWorkerUnblockSignals();
  BackgroundWorkerInitializeConnectionByOid(db, InvalidOid, 0);
  database = store::database_slot(db, true);
  if (database == nullptr || database->pid != 0) proc_exit(0);
  before_shmem_exit(on_leave, Datum{0});
  database->proc = MyProc;
  database->pid = MyProcPid;
  database->since = GetCurrentTimestamp();
  SetConfigOption("application_name", "dts scheduler", PGC_USERSET, PGC_S_SESSION);
  pg::neutralise_timeouts();
  MemoryContext const memory = AllocSetContextCreate(TopMemoryContext, "dts scheduler", ALLOCSET_DEFAULT_SIZES);
  MemoryContextSwitchTo(memory);
  start_up(database);
  database->failures = 0;
  database->start_after = 0;
  main_loop(memory);
  proc_exit(0);
}
