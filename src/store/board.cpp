#include "store/board.hpp"

namespace dts::store {

bool board_has(Oid db, int64 task) {
  if (pg_atomic_read_u32(&shared->board_count) == 0) return false;
  const BoardKey key{db, 0, task};
  LWLockAcquire(&shared->board_lock, LW_SHARED);
  const bool found = hash_search(board, &key, HASH_FIND, nullptr) != nullptr;
  LWLockRelease(&shared->board_lock);
  return found;
}

bool board_add(Oid db, int64 task) {
  const BoardKey key{db, 0, task};
  bool found = false;
  LWLockAcquire(&shared->board_lock, LW_EXCLUSIVE);
  const bool stored = hash_search(board, &key, HASH_ENTER_NULL, &found) != nullptr;
  if (stored && !found) pg_atomic_fetch_add_u32(&shared->board_count, 1);
  LWLockRelease(&shared->board_lock);
  return stored;
}

void board_remove(Oid db, int64 task) {
  if (pg_atomic_read_u32(&shared->board_count) == 0) return;
  const BoardKey key{db, 0, task};
  bool found = false;
  LWLockAcquire(&shared->board_lock, LW_EXCLUSIVE);
  hash_search(board, &key, HASH_REMOVE, &found);
  if (found) pg_atomic_fetch_sub_u32(&shared->board_count, 1);
  LWLockRelease(&shared->board_lock);
}

int waiter_add(Oid db, int64 task) {
  int place = -1;
  LWLockAcquire(&shared->waiter_lock, LW_EXCLUSIVE);
  for (int i = 0; i < kWaiters && place < 0; i++) {
    if (shared->waiters[i].used) continue;
    shared->waiters[i] = Waiter{true, db, task, MyProc, 0};
    place = i;
    pg_atomic_fetch_add_u32(&shared->waiter_count, 1);
  }
  LWLockRelease(&shared->waiter_lock);
  return place;
}

void waiter_remove(int place) {
  if (place < 0) return;
  LWLockAcquire(&shared->waiter_lock, LW_EXCLUSIVE);
  shared->waiters[place].used = false;
  pg_atomic_fetch_sub_u32(&shared->waiter_count, 1);
  LWLockRelease(&shared->waiter_lock);
}

core::State waiter_outcome(int place) {
  if (place < 0) return core::State::Ready;
  LWLockAcquire(&shared->waiter_lock, LW_SHARED);
  const int outcome = shared->waiters[place].outcome;
  LWLockRelease(&shared->waiter_lock);
  return static_cast<core::State>(outcome);
}

void wake_waiters(Oid db, int64 task, core::State outcome) {
  if (pg_atomic_read_u32(&shared->waiter_count) == 0) return;
  LWLockAcquire(&shared->waiter_lock, LW_EXCLUSIVE);
  for (Waiter& w : shared->waiters) {
    if (!w.used || w.task != task || w.db != db) continue;
    w.outcome = static_cast<int>(outcome);
    wake(w.proc);
  }
  LWLockRelease(&shared->waiter_lock);
}

}  // namespace dts::store
