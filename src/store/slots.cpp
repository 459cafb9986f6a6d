#include "store/slots.hpp"

#include <csignal>

#include "settings.hpp"
#include "store/journal.hpp"
#include "store/permits.hpp"
#include "store/transfers.hpp"

namespace dts::store {

void slot_publish(int slot, const int64* tasks, int n) {
  ExecutorSlot& s = slots[slot];
  LWLockAcquire(&s.lock, LW_EXCLUSIVE);
  for (int i = 0; i < n; i++) {
    s.task[i] = tasks[i];
    s.state[i] = Held::Claimed;
  }
  s.n = n;
  LWLockRelease(&s.lock);
}

bool slot_start(int slot, int i, TimestampTz now, int32 limit_ms) {
  ExecutorSlot& s = slots[slot];
  LWLockAcquire(&s.lock, LW_EXCLUSIVE);
  const bool cancelled = board_has(s.db, s.task[i]);
  s.state[i] = cancelled ? Held::Closed : Held::Running;
  s.task_since = now;
  s.progress.at = 0;
  s.deadline = limit_ms > 0 ? steady_us() + limit_ms * int64{1000} : 0;
  if (!cancelled) pg_atomic_write_u64(&s.current, static_cast<uint64>(s.task[i]));
  LWLockRelease(&s.lock);
  if (!cancelled) journal_running(slot, s.db, s.task[i]);
  return !cancelled;
}

bool slot_close(int slot, int i) {
  ExecutorSlot& s = slots[slot];
  LWLockAcquire(&s.lock, LW_EXCLUSIVE);
  const bool cancelled = board_has(s.db, s.task[i]);
  s.state[i] = Held::Closed;
  s.deadline = 0;
  pg_atomic_write_u64(&s.current, 0);
  LWLockRelease(&s.lock);
  journal_running(slot, 0, 0);
  return cancelled;
}

void slot_clear(int slot) {
  ExecutorSlot& s = slots[slot];
  if (s.n == 0) return;
  LWLockAcquire(&s.lock, LW_EXCLUSIVE);
  s.n = 0;
  s.leased = false;
  s.deadline = 0;
  pg_atomic_write_u64(&s.current, 0);
  LWLockRelease(&s.lock);
  journal_running(slot, 0, 0);
}

void slot_idle(int slot, bool idle) {
  PoolSlot& p = pools[slots[slot].pool];
  const uint64 bit = uint64{1} << (slot % 64);
  LWLockAcquire(&p.lock, LW_EXCLUSIVE);
  if (idle)
    p.idle[slot / 64] |= bit;
  else
    p.idle[slot / 64] &= ~bit;
  LWLockRelease(&p.lock);
}

void pool_failed(int pool, const char* why) {
  PoolSlot& p = pools[pool];
  p.failures++;
  p.retry_at = steady_us() + USECS_PER_SEC * (int64{1} << Min(p.failures, 8));
  strlcpy(p.failure, why, sizeof(p.failure));
}

Seen slots_interrupt(Oid db, int64 task) {
  Seen seen = Seen::Nowhere;
  // All slots: between a commit and its callback the old slot still shows the task while another one already runs its retry.
  for (int k = 0; k < kMaxSlots; k++) {
    ExecutorSlot& s = slots[k];
    if (s.kind != ExecutorSlot::Kind::Live || s.db != db || s.n == 0) continue;
    LWLockAcquire(&s.lock, LW_EXCLUSIVE);
    for (int i = 0; i < s.n && s.pid != 0; i++) {
      if (s.task[i] != task) continue;
      if (s.state[i] == Held::Running) {
        pg_atomic_write_u64(&s.interrupt, static_cast<uint64>(task));
        kill(s.pid, SIGUSR2);
        seen = Seen::Running;
      } else if (s.state[i] == Held::Claimed && seen != Seen::Running) {
        seen = Seen::Held;
      } else if (seen == Seen::Nowhere) {
        seen = Seen::Closed;
      }
    }
    LWLockRelease(&s.lock);
  }
  if (seen == Seen::Nowhere && transfer_stop(db, task)) seen = Seen::Running;
  return seen;
}

bool slots_hold(Oid db, int64 task) {
  bool found = false;
  for (int k = 0; k < kMaxSlots && !found; k++) {
    ExecutorSlot& s = slots[k];
    if (s.kind != ExecutorSlot::Kind::Live || s.db != db || s.n == 0) continue;
    LWLockAcquire(&s.lock, LW_SHARED);
    for (int i = 0; i < s.n && s.pid != 0; i++) found |= s.task[i] == task;
    LWLockRelease(&s.lock);
  }
  return found || transfer_holds(db, task);
}

bool slots_mine(int64 task) {
  for (int k = 0; k < kMaxSlots; k++) {
    const ExecutorSlot& s = slots[k];
    if (s.kind != ExecutorSlot::Kind::Live || s.pid != MyProcPid) continue;
    for (int i = 0; i < s.n; i++)
      if (s.task[i] == task) return s.state[i] != Held::Closed;
  }
  return false;
}

int slot_reserve(int pool, uint64* generation) {
  LWLockAcquire(&shared->directory, LW_EXCLUSIVE);
  int got = -1;
  // Couriers are beside the budget: one for a database, and no executor has to make room for it.
  const bool executor = pools[pool].runner == 0;
  if (!executor || static_cast<int>(pg_atomic_read_u32(&shared->executors)) < settings::max_workers)
    for (int k = 0; k < shared->slot_limit && got < 0; k++)
      if (slots[k].kind == ExecutorSlot::Kind::Free) got = k;
  if (got >= 0) {
    ExecutorSlot& s = slots[got];
    s.db = pools[pool].db;
    s.owner = pools[pool].owner;
    s.pool = pool;
    s.pid = 0;
    s.proc = nullptr;
    s.retire = s.leased = false;
    s.permits.places = 0;
    s.n = 0;
    s.since = GetCurrentTimestamp();
    s.task_since = 0;
    s.deadline = 0;
    s.generation = *generation = pg_atomic_fetch_add_u64(&shared->next_generation, 1);
    pg_atomic_write_u64(&s.current, 0);
    pg_atomic_write_u64(&s.tasks_run, 0);
    if (executor) pg_atomic_fetch_add_u32(&shared->executors, 1);
    LWLockAcquire(&pools[pool].lock, LW_EXCLUSIVE);
    pools[pool].executors++;
    LWLockRelease(&pools[pool].lock);
    pg_write_barrier();
    s.kind = ExecutorSlot::Kind::Starting;
  }
  LWLockRelease(&shared->directory);
  return got;
}

bool slot_enter(Datum arg, int* slot) {
  *slot = DatumGetInt32(arg);
  uint64 generation = 0;
  memcpy(&generation, MyBgworkerEntry->bgw_extra, sizeof(generation));
  ExecutorSlot& s = slots[*slot];
  LWLockAcquire(&shared->directory, LW_EXCLUSIVE);
  const bool mine = s.kind == ExecutorSlot::Kind::Starting && s.generation == generation;
  if (mine) {
    s.proc = MyProc;
    s.pid = MyProcPid;
    s.since = GetCurrentTimestamp();
    s.kind = ExecutorSlot::Kind::Live;
    own_slot = *slot;
  }
  LWLockRelease(&shared->directory);
  return mine;
}

void slot_free(int slot) {
  LWLockAcquire(&shared->directory, LW_EXCLUSIVE);
  ExecutorSlot& s = slots[slot];
  if (s.kind != ExecutorSlot::Kind::Free) {
    s.kind = ExecutorSlot::Kind::Free;
    PoolSlot& p = pools[s.pool];
    if (p.runner == 0) pg_atomic_fetch_sub_u32(&shared->executors, 1);
    LWLockAcquire(&p.lock, LW_EXCLUSIVE);
    if (p.executors > 0) p.executors--;
    p.idle[slot / 64] &= ~(uint64{1} << (slot % 64));
    LWLockRelease(&p.lock);
  }
  LWLockRelease(&shared->directory);
}

}  // namespace dts::store
