#include "courier.hpp"

#include <csignal>
#include <sys/resource.h>

#include "pg/guard.hpp"
#include "pg/wait.hpp"
#include "settings.hpp"

namespace dts {

CourierState courier;

namespace {

constexpr int64 kDrainUs = 2000000;     // asked to leave, it waits so long for what is under way
constexpr long kSpareDescriptors = 64;  // of the server

void on_leave(int, Datum) {
  const int pool = courier.pool;
  if (courier.memory == nullptr) store::pool_failed(pool, "a courier could not be started; see the server log");
  store::transfers_leave(courier.slot);
  store::slot_free(courier.slot);
  store::notify_pool(pool);
  store::tell_scheduler(store::slots[courier.slot].db, store::kExited | store::kLease);
}

void on_leave_early(int, Datum) {
  store::ExecutorSlot& s = store::slots[courier.slot];
  LWLockAcquire(&s.lock, LW_EXCLUSIVE);
  s.pid = 0;
  LWLockRelease(&s.lock);
}

/// Descriptors for as many transfers as may be under way, as far as the system lets us.
int raise_descriptors() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return 256;
  const auto wanted = static_cast<rlim_t>(settings::max_transfers) + max_files_per_process + kSpareDescriptors;
  limit.rlim_cur = Max(limit.rlim_cur, limit.rlim_max == RLIM_INFINITY ? wanted : Min(wanted, limit.rlim_max));
  (void)setrlimit(RLIMIT_NOFILE, &limit);
  (void)getrlimit(RLIMIT_NOFILE, &limit);
  const int64 room = static_cast<int64>(limit.rlim_cur) - max_files_per_process - kSpareDescriptors;
  return static_cast<int>(Min(Max(room, 64), static_cast<int64>(settings::max_transfers)));
}

void configure() {
  http::Settings s;
  s.host_connections = settings::http_host_connections;
  s.lookups = settings::http_lookups;
  s.ca_file = settings::http_ca_file;
  courier.client->configure(s);
}

void open_client() {
  const char* why = nullptr;
  // The only process that loads libcurl, and after the fork.
  auto* const open = reinterpret_cast<http::Open>(load_external_function("$libdir/dts_http", "dts_http_open", true, nullptr));
  courier.client = open(&why);
  if (courier.client == nullptr) ereport(ERROR, (errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION), errmsg("dts cannot send requests: %s", why)));
  configure();
}

/// Ends what somebody wants ended.
void stop_requested() {
  static uint64 seen = 0;
  const uint64 asked = pg_atomic_read_u64(&store::slots[courier.slot].interrupt);
  if (asked == seen) return;
  seen = asked;
  for (int i = 0; i < store::transfer_head->top; i++) {
    const store::TransferSlot& t = store::transfers[i];
    if (t.used && t.stop && t.courier == courier.slot) courier.client->stop(i, http::Failure::Cancelled);
  }
}

/// A lane that says it has work and gives none, so many times in a row: then it is asked less often.
constexpr int kFruitless = 10;
constexpr long kFruitlessMs = 10;

long wait_ms(TimestampTz idle_since, TimestampTz later, TimestampTz leave_at) {
  const TimestampTz now = GetCurrentTimestamp();
  long wait = courier.client->wait_ms();
  const auto sooner = [&](TimestampTz at) {
    const long left = at <= now ? 0 : static_cast<long>((at - now) / 1000 + 1);
    if (wait < 0 || left < wait) wait = left;
  };
  if (idle_since != 0) sooner(idle_since + settings::worker_idle_timeout_ms * 1000LL);
  if (later != 0) sooner(later);
  if (leave_at != 0) sooner(leave_at);
  return wait;
}

void main_loop() {
  const store::DatabaseSlot* const d = store::database_slot(MyDatabaseId, true);
  store::ExecutorSlot& s = store::slots[courier.slot];
  WaitEventSet* const set = pg::make_wait_set(courier.client->descriptor());
  TimestampTz idle_since = GetCurrentTimestamp(), leave_at = 0;
  int fruitless = 0;
  for (;;) {
    CHECK_FOR_INTERRUPTS();
    if (ConfigReloadPending) {
      ConfigReloadPending = false;
      ProcessConfigFile(PGC_SIGHUP);
      configure();
    }
    const bool leaving = s.retire || d->evicted;
    if (leaving && leave_at == 0) leave_at = GetCurrentTimestamp() + kDrainUs;
    if (leaving && (courier.client->active() == 0 || GetCurrentTimestamp() >= leave_at)) return;
    store::slot_idle(courier.slot, true);
    const bool open = !leaving && settings::enabled && d->gate;
    bool worked = open && courier_claim();
    courier.client->turn();
    stop_requested();
    TimestampTz later = 0;
    worked |= courier_record(&later);
    if (worked) {
      idle_since = 0;
      fruitless = 0;
      continue;
    }
    // A claim that found nothing has cleared the idle bit, and who offered work meanwhile told nobody: set it, then look once more.
    store::slot_idle(courier.slot, true);
    const bool again = open && courier_has_work();
    fruitless = again ? fruitless + 1 : 0;
    if (again && fruitless < kFruitless) continue;
    const bool busy = courier.client->active() > 0 || later != 0;
    if (busy) idle_since = 0;
    if (!busy && idle_since == 0) {
      idle_since = GetCurrentTimestamp();
      pgstat_report_stat(true);
      pgstat_report_activity(STATE_IDLE, nullptr);
    }
    if (idle_since != 0 && GetCurrentTimestamp() >= idle_since + settings::worker_idle_timeout_ms * 1000LL) return;
    const long wait = wait_ms(idle_since, later, leave_at);
    pg::wait_on(set, again && (wait < 0 || wait > kFruitlessMs) ? kFruitlessMs : wait);
  }
}

}  // namespace

void courier_begin() {
  SetCurrentStatementStartTimestamp();
  StartTransactionCommand();
  XactReadOnly = false;
  XactIsoLevel = XACT_READ_COMMITTED;
  XactDeferrable = false;
}

void courier_commit(bool durable) {
  const int before = synchronous_commit;
  if (!durable)
    synchronous_commit = SYNCHRONOUS_COMMIT_OFF;
  else if (synchronous_commit < SYNCHRONOUS_COMMIT_LOCAL_FLUSH)
    synchronous_commit = SYNCHRONOUS_COMMIT_LOCAL_FLUSH;
  CommitTransactionCommand();
  synchronous_commit = before;
}

Jsonb* request_of(const store::Task& task, Jsonb** payload) {
  *payload = nullptr;
  if (task.handler == 0) return task.args;
  *payload = task.args;
  const store::Handler* const h = store::handler_by_id(task.handler);
  return h == nullptr ? nullptr : h->spec;
}

}  // namespace dts

extern "C" void dts_courier_main(Datum arg) {
  using namespace dts;
  if (!store::slot_enter(arg, &courier.slot)) proc_exit(0);
  courier.pool = store::slots[courier.slot].pool;
  pqsignal(SIGHUP, SignalHandlerForConfigReload);
  pqsignal(SIGTERM, die);
  pqsignal(SIGINT, SIG_IGN);
  pqsignal(SIGUSR2, SIG_IGN);
  on_shmem_exit(on_leave, Datum{0});
  BackgroundWorkerUnblockSignals();
  BackgroundWorkerInitializeConnectionByOid(store::slots[courier.slot].db, InvalidOid, 0);
  before_shmem_exit(on_leave_early, Datum{0});
  SetConfigOption("application_name", "dts courier", PGC_USERSET, PGC_S_SESSION);
  pg::neutralise_timeouts();
  if (MessageContext == nullptr) MessageContext = AllocSetContextCreate(TopMemoryContext, "MessageContext", ALLOCSET_DEFAULT_SIZES);
  open_client();
  courier.most = raise_descriptors();
  courier.held = static_cast<Held*>(MemoryContextAllocZero(TopMemoryContext, sizeof(Held) * static_cast<Size>(settings::max_transfers)));
  courier.memory = AllocSetContextCreate(TopMemoryContext, "dts courier", ALLOCSET_DEFAULT_SIZES);
  store::PoolSlot& p = store::pools[courier.pool];
  p.failures = 0;
  p.failure[0] = '\0';
  p.retry_at = 0;
  main_loop();
  proc_exit(0);
}
