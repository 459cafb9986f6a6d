// Parked tasks whose key may be free: which keys somebody must look at, and what a look makes ready.
#include "pg/point.hpp"
#include "store/definitions.hpp"
#include "store/key_slots.hpp"

namespace dts::store {

namespace {

struct Look {
  int32 held = 0;
  int64 from = 0;
  uint64 told = 0;
};
/// What comes after this is noticed: `look` is set again. With `unless_full`, a full key is left to those who hold it.
Look look_begin(int64 key, int32 unless_full) {
  KeyBucket& b = bucket_of(MyDatabaseId, key);
  LWLockAcquire(&b.lock, LW_EXCLUSIVE);
  KeySlot* const s = find_key(b, MyDatabaseId, key, false);
  const Look l = s == nullptr ? Look{} : Look{s->held, s->from, b.told};
  if (s != nullptr) s->look = unless_full > 0 && s->held >= unless_full;
  LWLockRelease(&b.lock);
  return l;
}

/// No task before `from` was parked when the look scanned. One that was parked meanwhile may have a lower id and leave no trace in the
/// hint, when that was lower still: so the hint moves only if nothing was parked since the look began.
void look_end(int64 key, const Look& look, int64 from) {
  KeyBucket& b = bucket_of(MyDatabaseId, key);
  LWLockAcquire(&b.lock, LW_EXCLUSIVE);
  KeySlot* const s = find_key(b, MyDatabaseId, key, false);
  if (s != nullptr && b.told == look.told) s->from = from;
  LWLockRelease(&b.lock);
}

/// Makes one parked row ready; it must be locked.
void unpark(TaskTable& tasks, const Task& parked) {
  const Lane* const lane = lane_by_id(parked.lane);
  if (lane == nullptr) return;
  const LaneInfo info = lane->info;
  Task ready = parked;
  ready.state = core::State::Ready;
  ready.run_at = GetCurrentTimestamp();  // only what is due is parked
  tasks.update(parked, ready, info, info);
  key_unparked(parked.ckey, parked.id);
}

/// Makes up to n parked tasks of a key ready, lowest ids first; with fifo only the lowest of all its tasks, if it is parked.
void unpark_some(TaskTable& tasks, int64 key, int64 except, const KeyPolicy& policy, int n, const Look& look) {
  constexpr int kTries = 16;
  int64 id[kTries];
  core::State state[kTries];
  int64 from = policy.fifo ? 0 : look.from;
  bool skipped = policy.fifo;
  for (int got = kTries; got == kTries && n > 0;) {
    got = tasks.of_key(key, from, kTries, id, state);
    for (int i = 0; i < got && n > 0; i++) {
      from = id[i] + 1;
      if (id[i] == except) continue;
      if (policy.fifo && state[i] != core::State::Parked) return;  // the head is ready, or runs
      if (state[i] != core::State::Parked) continue;
      Task t;
      if (tasks.lock_parked(id[i], &t)) {
        unpark(tasks, t);
        n--;
      } else {
        skipped = true;  // whoever has locked it has it looked at when he is done
      }
      if (policy.fifo) return;
    }
  }
  DTS_POINT("keys.scanned");
  if (!skipped) look_end(key, look, from);
}

}  // namespace

void unpark_next(TaskTable& tasks, int64 key, int64 except, const KeyPolicy& policy) {
  unpark_some(tasks, key, except, policy, 1, look_begin(key, 0));
}

void note_key(int64 key) {
  DatabaseSlot* const d = database_slot(MyDatabaseId, false);
  if (d == nullptr) return;
  LWLockAcquire(&shared->key_lock, LW_EXCLUSIVE);
  bool known = d->keys_all;
  for (int i = 0; i < d->key_count && !known; i++) known = d->key_notes[i] == key;
  if (!known && d->key_count < kKeyNotes)
    d->key_notes[d->key_count++] = key;
  else if (!known)
    d->keys_all = true;
  LWLockRelease(&shared->key_lock);
  tell_scheduler(MyDatabaseId, kKeys);
}

int keys_to_look_at(int64* out, int max, bool* all) {
  DatabaseSlot* const d = database_slot(MyDatabaseId, false);
  LWLockAcquire(&shared->key_lock, LW_EXCLUSIVE);
  *all = d->keys_all;
  d->keys_all = false;
  const int n = Min(max, d->key_count);
  memcpy(out, d->key_notes, sizeof(int64) * n);
  memmove(d->key_notes, d->key_notes + n, sizeof(int64) * (d->key_count - n));
  d->key_count -= n;
  LWLockRelease(&shared->key_lock);
  return n;
}

void look_at_key(TaskTable& tasks, int64 key) {
  Task any;
  int64 id = 0;
  core::State state{};
  // Its queue says how many places it has; any of its tasks knows the queue. One that ends between the two is not there to ask.
  do {
    if (tasks.of_key(key, 0, 1, &id, &state) == 0) return;
  } while (!tasks.read(id, &any));
  const Lane* const lane = lane_by_id(any.lane);
  if (lane == nullptr) return;
  const KeyPolicy policy = key_policy(lane->info);
  const Look look = look_begin(key, policy.most);
  if (look.held < policy.most) unpark_some(tasks, key, 0, policy, policy.most - look.held, look);
}

void look_at_all_keys(Oid db) {
  DatabaseSlot* const d = database_slot(db, false);
  if (d == nullptr) return;
  LWLockAcquire(&shared->key_lock, LW_EXCLUSIVE);
  d->keys_all = true;
  LWLockRelease(&shared->key_lock);
  tell_scheduler(db, kKeys);
}

}  // namespace dts::store
