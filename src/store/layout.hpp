// Layout of shared memory: who may change what is said at each struct. All of it can be lost (a crash makes it anew) without losing a
// task: rows in tables are the truth, this is the speed layer. docs/architecture.md draws it.
#pragma once

#include "core/histogram.hpp"
#include "core/range_set.hpp"
#include "core/rate.hpp"
#include "pg/postgres.hpp"

namespace dts::store {

inline constexpr int kHeldMax = 60;   // tasks in one transaction: beyond 64 subtransactions every reader pays
inline constexpr int kSlotWords = 4;  // 64 executors a word
inline constexpr int kMaxSlots = 64 * kSlotWords;
inline constexpr int kWaiters = 256;
inline constexpr int kAgentLabels = 8;   // that a task may ask of an agent
inline constexpr int kOfferLabels = 32;  // that an agent may offer
inline constexpr int kOfferQueues = 32;  // that an agent may take from at once
inline constexpr int kAgentWaiters = 512;
inline constexpr int kRateSeconds = 64;
inline constexpr int kRateBits = 24;

/// One queue. Settings are written under `Shared::directory`, read without lock (each is one word); counters are atomic.
struct QueueSlot {
  bool used;
  bool paused;
  bool durable;
  char history;  // 'a'll, 'f'ailures, 'n'one
  int32 batch_size;
  Oid db;
  int32 queue;
  char name[NAMEDATALEN];
  pg_atomic_uint64 submitted, succeeded, failed, retried, expired, cancelled, started, run_us, wait_us;
  pg_atomic_uint64 run_histogram[core::kBuckets], wait_histogram[core::kBuckets];
  pg_atomic_uint64 ended[kRateSeconds];  // by second: the second above kRateBits, tasks that ended in it below
  LWLock error_lock;
  TimestampTz last_error_at;
  char last_error[256];
  int64 first_due;  // while a slot is looked for (store/queues.cpp)
};

/// What a limit is for: a lane has at most one limit of each scope.
enum class Scope : uint8 { Queue, Handler, Owner, Tenant, Priority };
inline constexpr int kScopes = 5;
/// Limits with reserved workers.
inline constexpr int kReservations = 64;

/// One limit (store/permits.hpp). Identity, settings and list change under `Shared::directory`; settings are read without lock.
struct LimitSlot {
  bool used;
  bool paused;
  Scope scope;
  Oid db;
  int32 entry;         // of dts.limit_entry
  uint64 object;       // id of the queue, handler or role; hash of the tenant's name
  int32 concurrency;   // -1: none
  int64 most_waiting;  // unfinished tasks, -1: any number
  int64 most_bytes;    // of their payload, -1: any number
  int32 reserved;      // workers kept free for it
  int32 key_most;      // of a queue: places of each concurrency key
  bool key_fifo;
  int32 weight;  // share of an owner or tenant
  core::Rate rate;
  int32 lane_head, lane_count;   // its lanes
  pg_atomic_uint32 running;      // places taken; a slot is used again only when it is 0
  pg_atomic_uint32 refused;      // somebody found it full: who gives a place back tells
  pg_atomic_uint64 unfinished;   // tasks, if there is a cap: counted by the scheduler, then kept by commits; as int64
  pg_atomic_uint64 bytes;        // of payload, likewise
  pg_atomic_uint64 spent_until;  // of the bucket (core/rate.hpp)
};

/// A concurrency key of which something runs, or lately did (store/keys.hpp). Under its bucket's lock.
struct KeySlot {
  int64 key;  // 0: free
  Oid db;
  int32 held, most;
  bool look;     // a task was parked since the holders looked for the next one
  int64 from;    // no task with a lower id is parked
  int64 holder;  // the last one that took a place
};
inline constexpr int kKeysInBucket = 8;
struct KeyBucket {
  LWLock lock;
  uint64 told;  // how often a task was parked here: what a look saw before is old
  KeySlot slot[kKeysInBucket];
};
inline constexpr int kKeyNotes = 256;

/// What a process holds of limits. It stands in shared memory, so that a new limit counts what runs already.
struct Permits {
  int32 lane;  // slot
  int32 places;
  bool worker;           // it is an executor's: what couriers do takes no worker
  int32 limit[kScopes];  // slots, -1: none
};

/// The turn of a tenant among the tenants of a pool: the one that had least, by its weight, is next. Identity under the directory's lock.
struct TurnSlot {
  int32 lanes;  // that share it; 0: free
  int32 head;   // list of them, by turn_next
  int32 pool;
  uint64 tenant;
  pg_atomic_uint64 had;  // microseconds of workers' time by weight; only differences count
};

/// One lane. Identity changes under `Shared::directory` and the own lock; `set` and `first` under the own lock.
struct LaneSlot {
  LWLock lock;
  pg_atomic_uint64 first;          // lowest due time in the set, as int64; readable without the lock
  pg_atomic_uint64 backoff_until;  // nobody claims before: completing failed twice in a row here
  int32 next;                      // in the pool's list of lanes
  bool used;
  int16 priority;
  int16 runner;  // core::Runner
  uint64 labels[kAgentLabels];
  TimestampTz called_at;  // when an agent was last woken for it
  int32 lane;
  Oid db, owner;
  int32 queue_slot, pool;
  int32 handler;
  int32 turn, turn_next;
  uint64 tenant;
  int32 limit[kScopes];       // slots, -1: none; under the directory's lock
  int32 limit_next[kScopes];  // in that limit's list of lanes
  pg_atomic_uint32 claims;    // claims in flight
  pg_atomic_uint32 leased;    // tasks that agents have in hand, or are being claimed for them: each holds a place in the lane's limits
  int32 backoffs;
  TimestampTz since, last_use;
  uint64 merges;
  core::RangeSet<14> set;
};

/// The executors of one (database, owner), or what couriers or agents of a database do. `lane_head` changes under `Shared::directory`, the
/// rest under the own lock.
struct PoolSlot {
  LWLock lock;
  bool used;
  int16 runner;  // core::Runner
  Oid db, owner;
  int32 lane_head, lane_count;
  uint32 cursor;  // where a look that does not see all lanes begins
  uint64 idle[kSlotWords];
  pg_atomic_uint64 had;  // what the tenant had that was chosen last: who comes back starts there
  int32 executors;       // starting ones included
  // By the clock that never steps (steady_us):
  int64 wanting;   // since when it wants an executor and cannot have one; 0: it does not
  int64 retry_at;  // after a failed start
  int64 asked_at;  // when its scheduler was last told that it wants an executor
  int32 failures;
  char failure[128];
};

/// What a running task says of itself.
struct Progress {
  TimestampTz at;     // 0: nothing
  int64 done, total;  // total -1: not known
  char message[128];
};

enum class Held : uint8 { Claimed, Running, Closed };

/// One executor (docs/architecture.md, "Steering"). Written by its executor under `lock`; `interrupt` by callers under `lock`.
struct ExecutorSlot {
  LWLock lock;
  enum class Kind : uint8 { Free, Starting, Live } kind;
  bool retire;  // leave after the current task
  bool leased;  // runs a task outside of a transaction
  int pid;      // 0 as soon as the process begins to end
  PGPROC* proc;
  Oid db, owner;
  int32 pool;
  uint64 generation;  // distinguishes the starts
  TimestampTz since, task_since;
  int64 deadline;  // of the task, by the clock that never steps; 0: none
  pg_atomic_uint64 tasks_run;
  int32 n;
  int64 task[kHeldMax];
  Held state[kHeldMax];
  Progress progress;  // of the current task
  Permits permits;
  pg_atomic_uint64 current;    // task running now, 0 between tasks; read by the signal handler
  pg_atomic_uint64 interrupt;  // task that the last signal was meant for; never cleared
};

/// Things that a scheduler has to look at.
enum Event : uint32 {
  kUnlisted = 1,  // a lane with rows may have no slot
  kRequests = 2,  // rows in dts.request
  kGrow = 4,      // a pool wants an executor
  kRescan = 8,
  kDefinitions = 16,       // queues or handlers changed; site adopted
  kPartition = 32,         // no partition for history
  kLease = 64,             // an executor died holding a leased task
  kExited = 128,           // an executor left
  kWaiting = 512,          // a cap on unfinished tasks may be new
  kKeys = 256,             // parked tasks whose key may be free
  kAgentCalled = 1 << 23,  // an agent was woken: look whether it came
  kAgentLease = 1 << 24,   // an agent's lease is new, or changed
  kSignals = 1 << 17,      // waiting tasks may have got what they wait for
  kGates = 1 << 18,        // a run may have its turn that somebody held
  kAgenda = 1 << 16,       // blocked tasks to look at
  kSchedules = 1 << 20,    // schedules changed
  kScheduleRun = 1 << 21,  // a run ended for whose end its schedule waits
  kChanges = 1 << 22,      // rows of watched tables have changed
  kLate = 1 << 28,         // somebody may want to be told of late tasks
};

/// One database. The scheduler owns it; events and clock are atomic.
struct DatabaseSlot {
  bool used;
  bool gate;       // tasks may be claimed
  Oid task_table;  // of the installation that all this is about: after DROP and CREATE EXTENSION the same ids mean something else
  bool evicted;    // its database is about to be dropped or copied: leave, do not come back
  Oid db;
  int pid;  // of its scheduler
  PGPROC* proc;
  TimestampTz since;
  pg_atomic_uint32 events;
  pg_atomic_uint32 generation;   // of definitions; backends drop their caches when it moves
  pg_atomic_uint64 sleep_until;  // of the scheduler's clock
  pg_atomic_uint64
      next_expiry;         // not later than the first expiry among tasks that are blocked or wait; the others are looked at before they run
  pg_atomic_uint32 notes;  // 0: dts.request has no rows, and an attempt that failed need not look there before its task waits again
  pg_atomic_uint32 activity;  // tasks were submitted or steered since the last sweep
  pg_atomic_uint64 swept, sweeps, wakeups, started, suspects, lanes_merged;
  pg_atomic_uint64 lapse_at;  // when the scheduler looks at the leases of agents next, as int64
  pg_atomic_uint32 parked;    // 0: no task is parked behind a key
  bool keys_counted;          // leases that outlived the shared memory hold their keys again
  bool keys_all;              // every key is to be looked at
  int32 key_count;            // keys to be looked at; under `Shared::key_lock`
  int64 key_notes[kKeyNotes];
  TimestampTz start_after;  // backoff of the launcher
  int32 failures;
  bool absent;                // probed: it has no dts
  pg_atomic_uint32 installs;  // CREATE EXTENSION committed here so often
  char fence[256];            // why the gate is closed
};

struct Waiter {
  bool used;
  Oid db;
  int64 task;
  PGPROC* proc;
  int outcome;  // core::State of the end, 0 until then
};

/// A session in dts.wait_for_work, and what its agent takes. Under `Shared::agent_lock`.
struct AgentWaiter {
  bool used;
  bool asleep;  // has looked and found nothing: wake it; whoever does sets it back
  Oid db;
  PGPROC* proc;
  Oid role;
  TimestampTz since;
  char name[NAMEDATALEN];
  int32 queues, labels;
  int32 queue[kOfferQueues];
  uint64 label[kOfferLabels];
};

struct BoardKey {
  Oid db;
  uint32 pad;
  int64 task;
};

struct LaneKey {
  Oid db;
  int32 lane;
};

struct LaneEntry {
  LaneKey key;
  int32 slot;
};

/// Head of it all. `directory` guards which slot belongs to what; it is taken before a lane's, pool's or slot's lock, never after.
struct Shared {
  LWLock directory, board_lock, waiter_lock, charge_lock, key_lock, agent_lock, reserve_lock;
  int launcher_pid;
  PGPROC* launcher;
  pg_atomic_uint32 launcher_events;
  pg_atomic_uint32 board_count;
  pg_atomic_uint32 waiter_count;
  pg_atomic_uint32 agents_waiting;
  pg_atomic_uint32 executors;  // live and starting, in the whole cluster
  pg_atomic_uint32 wanting;    // pools that want an executor and cannot have one
  pg_atomic_uint64 next_generation;
  int32 slot_limit;
  int32 lane_count, pool_count, limit_count;  // slots ever used: the scans stop there
  pg_atomic_uint32 places;                    // taken by executors, in the whole cluster
  pg_atomic_uint32 withheld;                  // somebody found the free workers reserved: who gives a place back tells
  int32 reservation_count;                    // under the directory's lock, as the list
  int32 reservations[kReservations];
  Waiter waiters[kWaiters];
};

}  // namespace dts::store
