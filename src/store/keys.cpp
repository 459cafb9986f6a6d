#include "store/keys.hpp"

#include "settings.hpp"
#include "store/key_slots.hpp"
#include "store/policy.hpp"

extern "C" {
#include "common/hashfn.h"
}

namespace dts::store {

namespace {

// ---- what this transaction did to keys; the callbacks only read it

enum class Did : uint8 {
  Took,      // a place, until this transaction ends
  Leased,    // a place, which stays if it commits
  Left,      // the place of a lease goes if it commits
  Unparked,  // a row is ready if it commits; else somebody must look
  Parked,    // somebody must look, however it ends
};
struct KeyTouch {
  int64 key, task;
  Did did;
  SubTransactionId subid;
};
KeyTouch* touches = nullptr;
int touch_count = 0, touch_room = 0;

void note(int64 key, int64 task, Did did) {
  touch_register();
  if (touch_count > 0 && did == Did::Parked) {
    KeyTouch& last = touches[touch_count - 1];
    if (last.did == did && last.key == key) {
      last.task = Min(last.task, task);
      return;
    }
  }
  if (touch_count == touch_room) {
    touch_room = touch_room == 0 ? 16 : touch_room * 2;
    touches = touches == nullptr ? static_cast<KeyTouch*>(MemoryContextAlloc(TopTransactionContext, sizeof(KeyTouch) * touch_room))
                                 : static_cast<KeyTouch*>(repalloc_huge(touches, sizeof(KeyTouch) * touch_room));
  }
  touches[touch_count++] = KeyTouch{key, task, did, GetCurrentSubTransactionId()};
}

bool took(int64 key) {
  for (int i = 0; i < touch_count; i++)
    if (touches[i].key == key && touches[i].did == Did::Took) return true;
  return false;
}

// ---- places

enum class Take { Taken, Full, NoRoom };

Take take(int64 key, int64 task, int32 most) {
  KeyBucket& b = bucket_of(MyDatabaseId, key);
  LWLockAcquire(&b.lock, LW_EXCLUSIVE);
  KeySlot* const s = find_key(b, MyDatabaseId, key, true);
  Take t = Take::NoRoom;
  if (s != nullptr) {
    s->most = most;
    t = s->held < most ? Take::Taken : Take::Full;
    if (t == Take::Taken) {
      s->held++;
      s->holder = task;
    }
  }
  LWLockRelease(&b.lock);
  return t;
}

void give(int64 key) {
  KeyBucket& b = bucket_of(MyDatabaseId, key);
  LWLockAcquire(&b.lock, LW_EXCLUSIVE);
  KeySlot* const s = find_key(b, MyDatabaseId, key, false);
  bool look = false;
  if (s != nullptr && s->held > 0) {
    s->held--;
    look = s->look;
    s->look = false;
  }
  LWLockRelease(&b.lock);
  if (look) note_key(key);
}

/// A parked row is there for all to see. Whoever holds the key may have looked before: he is told to have it looked at again.
void told(int64 key, int64 task) {
  KeyBucket& b = bucket_of(MyDatabaseId, key);
  LWLockAcquire(&b.lock, LW_EXCLUSIVE);
  KeySlot* const s = find_key(b, MyDatabaseId, key, false);
  const bool full = s != nullptr && s->held >= s->most;
  b.told++;
  if (s != nullptr) s->from = Min(s->from, task);
  if (full) s->look = true;
  LWLockRelease(&b.lock);
  if (!full) note_key(key);
}

void mark_parked() {
  DatabaseSlot* const d = database_slot(MyDatabaseId, false);
  if (d != nullptr && pg_atomic_read_u32(&d->parked) == 0) pg_atomic_write_u32(&d->parked, 1);
}

}  // namespace

KeyPolicy key_policy(const LaneInfo& lane) {
  if (shared == nullptr) return {};
  const int slot = lane_slot_of(MyDatabaseId, lane.lane);
  const int limit = slot >= 0 ? lanes[slot].limit[static_cast<int>(Scope::Queue)]
                              : limit_slot(MyDatabaseId, Scope::Queue, static_cast<uint64>(lane.queue));
  return limit < 0 ? KeyPolicy{} : KeyPolicy{limits[limit].key_most, limits[limit].key_fifo};
}

int64 key_of(int32 queue, const char* name) {
  if (name == nullptr) return 0;
  const uint64 h =
      hash_bytes_extended(reinterpret_cast<const unsigned char*>(name), static_cast<int>(strlen(name)), static_cast<uint64>(queue));
  return h == 0 ? 1 : static_cast<int64>(h);
}

int64 key_of(int32 queue, const Jsonb* extra) {
  JsonbValue v;
  if (!json_member(const_cast<Jsonb*>(extra), "concurrency_key", &v) || v.type != jbvString) return 0;
  return key_of(queue, pnstrdup(v.val.string.val, v.val.string.len));
}

bool key_busy(int64 key, const KeyPolicy& policy) {
  if (shared == nullptr) return false;
  KeyBucket& b = bucket_of(MyDatabaseId, key);
  LWLockAcquire(&b.lock, LW_SHARED);
  const KeySlot* const s = find_key(b, MyDatabaseId, key, false);
  const bool busy = s != nullptr && s->held >= policy.most;
  LWLockRelease(&b.lock);
  return busy;
}

Admitted admit(TaskTable& tasks, const Task& t, const LaneInfo& lane) {
  const KeyPolicy policy = key_policy(lane);
  // Tasks of one claim run one after the other, in an executor.
  if (!policy.fifo && lane.runner == core::Runner::Executor && took(t.ckey)) return Admitted::Yes;
  const Take place = take(t.ckey, t.id, policy.most);
  if (place == Take::NoRoom) return Admitted::Later;
  if (place == Take::Taken) {
    note(t.ckey, t.id, Did::Took);
    if (!policy.fifo) return Admitted::Yes;
    // The place was taken first and the look comes second: whoever held it before is gone from every snapshot taken now.
    int64 id = 0;
    core::State state{};
    if (tasks.of_key(t.ckey, 0, 1, &id, &state) == 0 || id == t.id) return Admitted::Yes;
    touches[touch_count - 1].did = Did::Parked;
    give(t.ckey);
  }
  Task parked = t;
  parked.state = core::State::Parked;
  tasks.update(t, parked, lane, lane);
  return Admitted::Parked;
}

void key_leased(int64 key, int64 task) {
  // An executor takes one place for all tasks of a claim: the note may be another one's.
  KeyTouch* mine = nullptr;
  for (int i = 0; i < touch_count; i++)
    if (touches[i].key == key && touches[i].did == Did::Took && (mine == nullptr || touches[i].task == task)) mine = &touches[i];
  if (mine != nullptr) mine->did = Did::Leased;
}

void keys_subabort(SubTransactionId subid) {
  for (int i = 0; i < touch_count; i++) {
    KeyTouch& t = touches[i];
    if (t.subid < subid) continue;
    // The rows are as they were. A place that was taken stays until the end, and somebody looks at the key once too often.
    if (t.did == Did::Leased) t.did = Did::Took;
    if (t.did == Did::Left) t.did = Did::Parked;
  }
}

void key_left(TaskTable& tasks, const Task& t, const LaneInfo& lane, bool again) {
  if (shared == nullptr) return;
  if (t.state == core::State::Leased) note(t.ckey, t.id, Did::Left);
  const DatabaseSlot* const d = database_slot(MyDatabaseId, false);
  if (d == nullptr || pg_atomic_read_u32(const_cast<pg_atomic_uint32*>(&d->parked)) == 0) return;
  const KeyPolicy policy = key_policy(lane);
  if (policy.fifo && again) return;  // it stays the head
  if (own_slot >= 0 && GetCurrentTransactionNestLevel() == 1)
    unpark_next(tasks, t.ckey, t.id, policy);
  else
    note(t.ckey, t.id, Did::Parked);  // a user's open transaction should hold no row but the one it ended
}

void key_parked(int64 key, int64 task) {
  if (shared == nullptr) return;
  mark_parked();
  note(key, task, Did::Parked);
}

void key_taken(int64 key, int64 task) { (void)take(key, task, INT_MAX); }

void look_afresh(int64 key) { told(key, 0); }

void key_unparked(int64 key, int64 task) { note(key, task, Did::Unparked); }

int64 key_holder(int64 key, int* held) {
  *held = 0;
  if (shared == nullptr) return 0;
  KeyBucket& b = bucket_of(MyDatabaseId, key);
  LWLockAcquire(&b.lock, LW_SHARED);
  const KeySlot* const s = find_key(b, MyDatabaseId, key, false);
  if (s != nullptr) *held = s->held;
  const int64 holder = s == nullptr || s->held == 0 ? 0 : s->holder;
  LWLockRelease(&b.lock);
  return holder;
}

void keys_end(bool committed) {
  if (touch_count == 0) return;
  for (int i = 0; i < touch_count; i++) {
    const KeyTouch& t = touches[i];
    if (t.did == Did::Took || (t.did == Did::Leased && !committed) || (t.did == Did::Left && committed)) give(t.key);
  }
  for (int i = 0; i < touch_count; i++) {
    const KeyTouch& t = touches[i];
    if (t.did == Did::Parked || (t.did == Did::Unparked && !committed)) told(t.key, t.task);
  }
  touches = nullptr;
  touch_count = touch_room = 0;
}

void keys_forget(Oid db) {
  for (int i = 0; i < bucket_count(); i++)
    for (KeySlot& s : key_buckets[i].slot)
      if (s.db == db) s = KeySlot{};
}

}  // namespace dts::store
