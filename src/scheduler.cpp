#include "scheduler.hpp"

#include "pg/as_owner.hpp"
#include "pg/guard.hpp"
#include "clock_watch.hpp"
#include "pg/point.hpp"
#include "schedules.hpp"
#include "settings.hpp"
#include "store/agenda.hpp"
#include "store/agents.hpp"

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

/// dts.task of the installation that was looked at last. Another one, made in the transaction that dropped the first, has lanes and queues
/// of the same ids that mean something else.
Oid task_table = InvalidOid;

/// Whether this database has dts, in the version of the library.
bool extension_fits(char* why, size_t size) {
  StartTransactionCommand();
  PushActiveSnapshot(GetTransactionSnapshot());
  bool there = store::installed();
  if (there) {
    static pg::Statement version{"SELECT extversion FROM pg_catalog.pg_extension WHERE extname = 'dts'", 0, {}};
    SPI_connect();
    bool null = false;
    // The catalog decides: what we remember of the schema may be older than the DROP EXTENSION that woke us.
    const bool row = version.run(nullptr) == 1;
    const char* const found = row ? TextDatumGetCString(pg::column(0, 1, &null)) : "";
    there = row;
    if (row && strcmp(found, DTS_VERSION) != 0 && strncmp(found, DTS_VERSION, strlen(DTS_VERSION)) != 0)
      snprintf(why, size, "the extension's version is %s but the library's is %s: use ALTER EXTENSION dts UPDATE, or restart the server",
               found, DTS_VERSION);
    SPI_finish();
    if (there) task_table = store::catalog().task;
  }
  PopActiveSnapshot();
  CommitTransactionCommand();
  return there;
}

constexpr int64 kSecond = 1000000;

/// Ends what waited too long, and sets the alarm anew. Cleared first: who sets it meanwhile sets it for later looks. What expires between
/// the two looks is for the second one.
void expire() {
  const TimestampTz now = GetCurrentTimestamp();
  const auto from = static_cast<TimestampTz>(pg_atomic_exchange_u64(&database->next_expiry, static_cast<uint64>(core::kMax)));
  if (from <= now) end_expired(from);
  const auto next = static_cast<uint64>(next_expiry(from <= now ? now : now - 60 * kSecond));
  uint64 set = pg_atomic_read_u64(&database->next_expiry);
  while (next < set && !pg_atomic_compare_exchange_u64(&database->next_expiry, &set, next)) {
  }
}

TimestampTz alarm() { return static_cast<TimestampTz>(pg_atomic_read_u64(&database->next_expiry)); }

void close_gate(const char* why) {
  if (strcmp(database->fence, why) != 0) ereport(LOG, (errmsg("dts runs nothing in this database: %s", why)));
  database->gate = false;
  strlcpy(database->fence, why, sizeof(database->fence));
}

/// The extension is not here: leave, and be started again only by CREATE EXTENSION. One that committed since our look has found us
/// still alive, or will not find `absent` set before it clears it: then it stays clear, and the launcher starts the next scheduler.
[[noreturn]] void leave_absent(uint32 installs_before) {
  database->absent = true;
  pg_memory_barrier();
  if (pg_atomic_read_u32(&database->installs) != installs_before) database->absent = false;
  database->gate = false;
  retire_all();
  store::forget_database(MyDatabaseId);
  proc_exit(0);
}

/// Everything that must be done before tasks may be claimed. Leaves the gate open, or closed with the reason.
void start_up() {
  char why[256] = "";
  const uint32 installs = pg_atomic_read_u32(&database->installs);
  pg_memory_barrier();
  const bool fits = extension_fits(why, sizeof(why));
  DTS_POINT("scheduler.probed");
  if (!fits) leave_absent(installs);
  if (database->task_table != task_table) {
    database->gate = database->keys_counted = false;
    store::forget_database(MyDatabaseId);
    database->task_table = task_table;
  }
  if (why[0] != '\0' || !check_site(why, sizeof(why))) {
    close_gate(why);
    return;
  }
  load_queues();
  load_limits();
  count_waiting();
  (void)maintain_history();
  (void)apply_requests();
  count_keys();
  expire();
  lapse_leases();
  pg_atomic_fetch_or_u32(&database->events, store::kAgentLease);
  if (list_lanes() != 0) pg_atomic_fetch_or_u32(&database->events, store::kUnlisted);
  store::agenda_everything(MyDatabaseId);
  tidy_dependencies();
  schedules_changed(true);
  pg_atomic_fetch_or_u32(&database->events, store::kSchedules | store::kChanges);
  const bool was_open = database->gate;
  database->fence[0] = '\0';
  database->gate = true;
  if (!was_open) ereport(LOG, (errmsg("dts runs tasks in this database")));
  store::notify_database(MyDatabaseId);
}

struct Timers {
  TimestampTz history = 0;     // when to look after partitions next
  TimestampTz sweep = 0;       // when to sweep next
  TimestampTz sweep_rest = 0;  // not before: sweeps may take a hundredth of the time
  TimestampTz second_look = 0;
  TimestampTz requests = 0;
  TimestampTz keys = 0;
  TimestampTz lanes = 0;
  TimestampTz agenda = 0;
  TimestampTz leases = 0;  // of agents
  TimestampTz agents = 0;  // to look whether agents that were called came
  TimestampTz schedules = core::kNever;
  TimestampTz late = 0;
  TimestampTz signals = 0, gates = 0;
  TimestampTz signals_rest = 0, gates_rest = 0;  // a row that somebody holds open tells again at each look
  TimestampTz changes = 0;
  TimestampTz changes_rest = 0;  // a busy table tells with each statement
  TimestampTz lanes_rest = 0;    // not before, whatever we are told
  long request_wait = 1;
};

/// Anything that was told since the last turn.
void handle_events(Timers& timers, TimestampTz now) {
  const uint32 events = pg_atomic_exchange_u32(&database->events, 0);
  if ((events & store::kDefinitions) != 0) {
    start_up();
    timers.late = now;
    timers.history = Min(timers.history, now + 60 * kSecond);
  }
  if (!database->gate) return;
  if ((events & store::kLate) != 0) timers.late = now;
  if ((events & store::kSchedules) != 0) schedules_changed(false);
  if ((events & store::kScheduleRun) != 0) schedule_runs_ended();
  if ((events & (store::kSchedules | store::kScheduleRun)) != 0) {
    fire_backfills();
    timers.schedules = now;
  }
  if ((events & store::kPartition) != 0) timers.history = now;
  if ((events & store::kRescan) != 0) {
    list_lanes();
    store::rescan_database(MyDatabaseId);
    store::agenda_everything(MyDatabaseId);
  }
  if ((events & store::kRequests) != 0) {
    timers.requests = now;
    timers.request_wait = 1;
  }
  // Told again and again while the table is full: not before the pace that list_lanes set.
  if ((events & store::kUnlisted) != 0 && (timers.lanes == 0 || timers.lanes > now + kSecond)) timers.lanes = Max(now, timers.lanes_rest);
  if ((events & store::kSignals) != 0) timers.signals = Max(now, timers.signals_rest);
  if ((events & store::kGates) != 0) timers.gates = Max(now, timers.gates_rest);
  if ((events & store::kChanges) != 0) timers.changes = Max(now, timers.changes_rest);
  if ((events & store::kLease) != 0) lapse_leases();
  if ((events & store::kAgentLease) != 0) timers.leases = now;
  if ((events & store::kAgentCalled) != 0 && timers.agents == 0) timers.agents = now + kSecond;
  if ((events & store::kWaiting) != 0) count_waiting();
  if ((events & store::kKeys) != 0 && timers.keys == 0) timers.keys = now;
}

/// When to do again at the earliest what was begun at this time.
TimestampTz rest(TimestampTz begun) { return begun + Max(kSecond / 20, 20 * (GetCurrentTimestamp() - begun)); }

void handle_timers(Timers& timers, TimestampTz now) {
  if (!database->gate) return;
  if (timers.schedules <= now) timers.schedules = fire_schedules();
  timers.agenda = resolve_agenda();
  if (timers.late != 0 && timers.late <= now) timers.late = tell_late();
  if (alarm() <= now) expire();
  if (timers.signals != 0 && timers.signals <= now) {
    timers.signals = 0;
    wake_waiting();
    timers.signals_rest = rest(now);
  }
  if (timers.gates != 0 && timers.gates <= now) {
    timers.gates = open_gates() ? 0 : now + kSecond / 20;
    timers.gates_rest = rest(now);
  }
  if (timers.changes != 0 && timers.changes <= now) {
    timers.changes = look_at_changes();
    timers.changes_rest = now + Max(kSecond / 5, 20 * (GetCurrentTimestamp() - now));
  }
  if (timers.history <= now) {
    timers.history = now + maintain_history() * kSecond;
  }
  if (timers.requests != 0 && timers.requests <= now) {
    // Back to 0 only if nobody noted anything since before the look (test/models/requests_model.py).
    uint32 before = pg_atomic_read_u32(&database->notes);
    timers.requests = apply_requests() ? 0 : now + timers.request_wait * 1000;
    if (timers.requests == 0) pg_atomic_compare_exchange_u32(&database->notes, &before, 0);
    timers.request_wait = Min(timers.request_wait * 2, 1000L);
  }
  if (timers.leases != 0 && timers.leases <= now) timers.leases = lapse_agents(false);
  if (timers.agents != 0 && timers.agents <= now) timers.agents = store::wake_agents_again(MyDatabaseId, now) ? now + kSecond : 0;
  if (timers.keys != 0 && timers.keys <= now) timers.keys = look_at_keys() ? 0 : now + kSecond;
  if (timers.lanes != 0 && timers.lanes <= now) {
    const TimestampTz begin = GetCurrentTimestamp();
    timers.lanes = list_lanes();
    const TimestampTz end = GetCurrentTimestamp();
    timers.lanes_rest = end + 4 * (end - begin);
  }
  if (timers.second_look != 0 && timers.second_look <= now) {
    sweep_offer();
    sweep_keys_again();
    timers.second_look = 0;
  }
  if (Max(timers.sweep, timers.sweep_rest) <= now) {
    timers.sweep = now + settings::sweep_interval_s * kSecond;
    instr_time begun, took;  // not by the wall clock: it may leap
    INSTR_TIME_SET_CURRENT(begun);
    // Not even a query while nothing happens and nothing is unfinished.
    const bool active = pg_atomic_exchange_u32(&database->activity, 0) != 0;
    if (active) tidy_dependencies();
    if (active) compact_batches();
    if (active && any_task()) {
      pg_atomic_write_u32(&database->activity, 1);
      end_expired();
      count_waiting();
      lapse_leases();
      tidy_agents();
      timers.leases = lapse_agents(true);
      wake_waiting();
      timers.gates = now;
      if (timers.requests == 0) timers.requests = now;
      const bool rows = sweep_look();
      if (sweep_keys() || rows) timers.second_look = GetCurrentTimestamp() + kSecond;
      INSTR_TIME_SET_CURRENT(took);
      INSTR_TIME_SUBTRACT(took, begun);
      timers.sweep_rest = now + 100 * static_cast<int64>(INSTR_TIME_GET_MICROSEC(took));
    }
  }
}

/// Timers are intervals on a clock that never steps: what was set to a wall clock moves along with it.
void follow_clock(Timers& timers) {
  const int64 step = clock_step();
  if (step > -kSecond && step < kSecond) return;
  for (TimestampTz* const t : {&timers.history, &timers.sweep, &timers.sweep_rest, &timers.second_look, &timers.requests, &timers.keys,
                               &timers.lanes, &timers.agenda, &timers.lanes_rest, &timers.signals, &timers.signals_rest, &timers.gates,
                               &timers.gates_rest, &timers.agents, &timers.changes, &timers.changes_rest})
    if (*t != 0 && *t != core::kMax) *t += step;
  pools_follow_clock(step);
  store::lanes_follow_clock(MyDatabaseId, step);
  const TimestampTz now = GetCurrentTimestamp();
  timers.schedules = now;
  if (timers.late != 0) timers.late = now;
  if (step < 0 && database->gate) {
    clock_set_back(now - step, now);
    timers.leases = lapse_agents(true);
  }
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
  timers.sweep = timers.late = GetCurrentTimestamp();
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
    follow_clock(timers);
    const TimestampTz now = GetCurrentTimestamp();
    timers.sweep = Min(timers.sweep, now + settings::sweep_interval_s * kSecond);  // which may be shorter since a reload
    handle_events(timers, now);
    handle_timers(timers, now);
    const int64 due = database->gate ? set_clock(GetCurrentTimestamp()) : core::kMax;
    long wait = sooner(size_pools(), end_overdue());
    const TimestampTz then = GetCurrentTimestamp();
    wait = sooner(wait, until(due, then));
    if (database->gate)
      for (const TimestampTz t : {timers.history, Max(timers.sweep, timers.sweep_rest), timers.second_look, timers.requests, timers.lanes,
                                  timers.agenda, timers.keys, timers.schedules, timers.late, timers.leases, timers.agents, timers.changes,
                                  timers.signals, timers.gates, alarm()})
        wait = sooner(wait, until(t, then));
    pgstat_report_stat(true);
    DTS_POINT("scheduler.turned");
    if (pg_atomic_read_u32(&database->events) != 0) continue;
    // A clock that is set makes every timer wrong.
    if (wait_watching_clock(wait)) timers.schedules = GetCurrentTimestamp();
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
  start_up();
  database->failures = 0;
  database->start_after = 0;
  main_loop(memory);
  proc_exit(0);
}
