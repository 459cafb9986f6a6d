#include "store/shared.hpp"

#include "settings.hpp"
#include "store/agenda.hpp"
#include "store/journal.hpp"
#include "store/transfers.hpp"

namespace dts::store {

Shared* shared = nullptr;
QueueSlot* queues = nullptr;
LaneSlot* lanes = nullptr;
pg_atomic_uint64* busy_lanes = nullptr;
PoolSlot* pools = nullptr;
LimitSlot* limits = nullptr;
TurnSlot* turns = nullptr;
KeyBucket* key_buckets = nullptr;
AgentWaiter* agent_waiters = nullptr;
ExecutorSlot* slots = nullptr;
DatabaseSlot* databases = nullptr;
HTAB* lane_table = nullptr;
HTAB* board = nullptr;
int own_slot = -1;

namespace {

constexpr const char* kTranche = "dts";

int bucket_limit() { return Max(1, settings::max_keys / kKeysInBucket); }
int board_limit() { return 64 * settings::max_workers + 1024; }

template <class T>
T* make(const char* name, int n, bool* found) {
  return static_cast<T*>(ShmemInitStruct(name, mul_size(sizeof(T), n), found));
}

template <class T>
T* make_zeroed(const char* name, int n) {
  bool found = false;
  T* const p = make<T>(name, n, &found);
  if (!found) memset(static_cast<void*>(p), 0, mul_size(sizeof(T), n));
  return p;
}

void init_queue(QueueSlot& q, int tranche) {
  for (pg_atomic_uint64* a :
       {&q.submitted, &q.succeeded, &q.failed, &q.retried, &q.expired, &q.cancelled, &q.started, &q.run_us, &q.wait_us})
    pg_atomic_init_u64(a, 0);
  for (pg_atomic_uint64& cell : q.ended) pg_atomic_init_u64(&cell, 0);
  for (int i = 0; i < core::kBuckets; i++) {
    pg_atomic_init_u64(&q.run_histogram[i], 0);
    pg_atomic_init_u64(&q.wait_histogram[i], 0);
  }
  LWLockInitialize(&q.error_lock, tranche);
}

void init_all() {
  const int tranche = LWLockNewTrancheId();
  for (LWLock* l : {&shared->directory, &shared->board_lock, &shared->waiter_lock, &shared->charge_lock, &shared->key_lock,
                    &shared->agent_lock, &shared->reserve_lock})
    LWLockInitialize(l, tranche);
  for (pg_atomic_uint32* a : {&shared->launcher_events, &shared->board_count, &shared->waiter_count, &shared->agents_waiting,
                              &shared->executors, &shared->wanting, &shared->places, &shared->withheld})
    pg_atomic_init_u32(a, 0);
  pg_atomic_init_u64(&shared->next_generation, 1);
  shared->slot_limit = kMaxSlots;
  for (int i = 0; i < settings::max_queues; i++) init_queue(queues[i], tranche);
  for (int i = 0; i < settings::max_lanes; i++) {
    LWLockInitialize(&lanes[i].lock, tranche);
    pg_atomic_init_u64(&turns[i].had, 0);
    pg_atomic_init_u64(&lanes[i].first, static_cast<uint64>(core::kMax));
    pg_atomic_init_u64(&lanes[i].backoff_until, 0);
    pg_atomic_init_u32(&lanes[i].claims, 0);
    pg_atomic_init_u32(&lanes[i].leased, 0);
  }
  for (int i = 0; i < pool_limit(); i++) {
    LWLockInitialize(&pools[i].lock, tranche);
    pg_atomic_init_u64(&pools[i].had, 0);
  }
  for (int i = 0; i < bucket_limit(); i++) LWLockInitialize(&key_buckets[i].lock, tranche);
  for (int i = 0; i < settings::max_limits; i++) {
    pg_atomic_init_u32(&limits[i].running, 0);
    pg_atomic_init_u32(&limits[i].refused, 0);
    pg_atomic_init_u64(&limits[i].spent_until, 0);
    pg_atomic_init_u64(&limits[i].unfinished, 0);
  }
  for (int i = 0; i < kMaxSlots; i++) {
    LWLockInitialize(&slots[i].lock, tranche);
    pg_atomic_init_u64(&slots[i].current, 0);
    pg_atomic_init_u64(&slots[i].interrupt, 0);
    pg_atomic_init_u64(&slots[i].tasks_run, 0);
  }
  for (int i = 0; i < settings::max_databases; i++) {
    DatabaseSlot& d = databases[i];
    pg_atomic_init_u32(&d.events, 0);
    pg_atomic_init_u32(&d.generation, 1);
    pg_atomic_init_u32(&d.notes, 1);
    pg_atomic_init_u32(&d.installs, 0);
    pg_atomic_init_u32(&d.activity, 1);
    pg_atomic_init_u32(&d.parked, 1);
    pg_atomic_init_u64(&d.lapse_at, static_cast<uint64>(core::kMax));
    for (pg_atomic_uint64* a : {&d.sleep_until, &d.next_expiry, &d.swept, &d.sweeps, &d.wakeups, &d.started, &d.suspects, &d.lanes_merged})
      pg_atomic_init_u64(a, 0);
  }
}

}  // namespace

namespace {
int busy_words() { return settings::max_lanes / 64 + 1; }
}  // namespace

int pool_limit() { return Max(64, settings::max_lanes / 4); }

Size shared_size() {
  Size size = 4096 + sizeof(Shared);
  size = add_size(size, mul_size(sizeof(QueueSlot), settings::max_queues));
  size = add_size(size, mul_size(sizeof(LaneSlot), settings::max_lanes));
  size = add_size(size, mul_size(sizeof(pg_atomic_uint64), busy_words()));
  size = add_size(size, mul_size(sizeof(PoolSlot), pool_limit()));
  size = add_size(size, mul_size(sizeof(LimitSlot), settings::max_limits));
  size = add_size(size, mul_size(sizeof(TurnSlot), settings::max_lanes));
  size = add_size(size, mul_size(sizeof(KeyBucket), bucket_limit()));
  size = add_size(size, mul_size(sizeof(ExecutorSlot), kMaxSlots));
  size = add_size(size, mul_size(sizeof(AgentWaiter), kAgentWaiters));
  size = add_size(size, mul_size(sizeof(DatabaseSlot), settings::max_databases));
  size = add_size(size, hash_estimate_size(settings::max_lanes, sizeof(LaneEntry)));
  size = add_size(size, agenda_size());
  size = add_size(size, transfers_size());
  size = add_size(size, hash_estimate_size(64 * kMaxSlots + 1024, sizeof(BoardKey)));
  return size;
}

void shared_startup() {
  LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
  bool found = false;
  shared = make<Shared>("dts", 1, &found);
  if (!found) memset(static_cast<void*>(shared), 0, sizeof(Shared));
  queues = make_zeroed<QueueSlot>("dts queues", settings::max_queues);
  lanes = make_zeroed<LaneSlot>("dts lanes", settings::max_lanes);
  busy_lanes = make_zeroed<pg_atomic_uint64>("dts busy lanes", busy_words());
  pools = make_zeroed<PoolSlot>("dts pools", pool_limit());
  limits = make_zeroed<LimitSlot>("dts limits", settings::max_limits);
  key_buckets = make_zeroed<KeyBucket>("dts keys", bucket_limit());
  agent_waiters = make_zeroed<AgentWaiter>("dts agents", kAgentWaiters);
  turns = make_zeroed<TurnSlot>("dts turns", settings::max_lanes);
  slots = make_zeroed<ExecutorSlot>("dts executors", kMaxSlots);
  databases = make_zeroed<DatabaseSlot>("dts databases", settings::max_databases);
  if (!found) init_all();
  HASHCTL lane_ctl{};
  lane_ctl.keysize = sizeof(LaneKey);
  lane_ctl.entrysize = sizeof(LaneEntry);
  lane_table = ShmemInitHash("dts lane table", settings::max_lanes, settings::max_lanes, &lane_ctl, HASH_ELEM | HASH_BLOBS);
  HASHCTL board_ctl{};
  board_ctl.keysize = sizeof(BoardKey);
  board_ctl.entrysize = sizeof(BoardKey);
  board = ShmemInitHash("dts board", board_limit(), board_limit(), &board_ctl, HASH_ELEM | HASH_BLOBS);
  agenda_startup(shared->directory.tranche);
  transfers_startup(shared->directory.tranche);
  LWLockRelease(AddinShmemInitLock);
  LWLockRegisterTranche(shared->directory.tranche, kTranche);
  if (!found) journal_startup();
}

DatabaseSlot* database_slot(Oid db, bool make) {
  DatabaseSlot* spare = nullptr;
  for (int i = 0; i < settings::max_databases; i++) {
    if (databases[i].used && databases[i].db == db) return &databases[i];
    if (!databases[i].used && spare == nullptr) spare = &databases[i];
  }
  if (!make || spare == nullptr) return nullptr;
  LWLockAcquire(&shared->directory, LW_EXCLUSIVE);
  DatabaseSlot* got = nullptr;
  for (int i = 0; i < settings::max_databases && got == nullptr; i++)
    if (databases[i].used && databases[i].db == db) got = &databases[i];
  for (int i = 0; i < settings::max_databases && got == nullptr; i++) {
    DatabaseSlot& d = databases[i];
    if (d.used) continue;
    got = &d;
    d.db = db;
    d.gate = d.evicted = d.absent = d.keys_counted = d.keys_all = false;
    d.key_count = 0;
    pg_atomic_write_u32(&d.parked, 1);
    d.pid = 0;
    d.proc = nullptr;
    d.failures = 0;
    d.start_after = 0;
    strlcpy(d.fence, "its scheduler has not started yet", sizeof(d.fence));
    pg_atomic_write_u32(&d.events, 0);
    pg_atomic_write_u64(&d.sleep_until, static_cast<uint64>(core::kMax));
    pg_atomic_write_u64(&d.next_expiry, static_cast<uint64>(core::kMax));
    pg_write_barrier();
    d.used = true;
  }
  LWLockRelease(&shared->directory);
  return got;
}

void rate_count(QueueSlot& q, TimestampTz now) {
  const uint64 second = static_cast<uint64>(now / USECS_PER_SEC);
  pg_atomic_uint64& cell = q.ended[second % kRateSeconds];
  uint64 old = pg_atomic_read_u64(&cell);
  uint64 wanted = 0;
  do {
    wanted = old >> kRateBits == second ? old + 1 : (second << kRateBits) + 1;
  } while (!pg_atomic_compare_exchange_u64(&cell, &old, wanted));
}

double rate_per_second(QueueSlot& q, TimestampTz now) {
  const uint64 second = static_cast<uint64>(now / USECS_PER_SEC);
  uint64 sum = 0;
  for (pg_atomic_uint64& cell : q.ended) {
    const uint64 v = pg_atomic_read_u64(&cell);
    if (second - (v >> kRateBits) <= 60) sum += v & ((uint64{1} << kRateBits) - 1);
  }
  return static_cast<double>(sum) / 60;
}

void wake(PGPROC* proc) {
  if (proc != nullptr) SetLatch(pg::latch_of(proc));
}

void tell_scheduler(Oid db, uint32 events) {
  DatabaseSlot* const d = database_slot(db, false);
  if (d == nullptr) {
    tell_launcher();
    return;
  }
  if ((events & kRequests) != 0) pg_atomic_fetch_add_u32(&d->notes, 1);
  if (events != 0) pg_atomic_fetch_or_u32(&d->events, events);
  pg_memory_barrier();
  if (d->pid != 0)
    wake(d->proc);
  else if (!d->absent)
    tell_launcher();
}

void tell_launcher() {
  pg_atomic_fetch_or_u32(&shared->launcher_events, 1);
  wake(shared->launcher);
}

const char* why_closed(Oid db) {
  if (shared == nullptr) return "dts is not loaded: add dts to shared_preload_libraries and restart the server";
  if (!settings::enabled) return "dts.enabled is off";
  const DatabaseSlot* const d = database_slot(db, false);
  if (d == nullptr || (!d->gate && d->fence[0] == '\0')) return "its scheduler has not started yet";
  return d->gate ? nullptr : d->fence;
}

}  // namespace dts::store
