// Inside store/: slots of concurrency keys in shared memory, for those who take places and those who look for parked tasks.
#pragma once

#include "settings.hpp"
#include "store/keys.hpp"

namespace dts::store {

inline int bucket_count() { return Max(1, settings::max_keys / kKeysInBucket); }

inline KeyBucket& bucket_of(Oid db, int64 key) {
  return key_buckets[(static_cast<uint64>(key) ^ db) % static_cast<uint64>(bucket_count())];
}

/// The key's slot; `make`: or one that nobody needs. Needs the bucket's lock.
inline KeySlot* find_key(KeyBucket& b, Oid db, int64 key, bool make) {
  KeySlot* spare = nullptr;
  for (KeySlot& s : b.slot) {
    if (s.key == key && s.db == db) return &s;
    if (s.held == 0 && (spare == nullptr || s.key == 0)) spare = &s;
  }
  if (!make || spare == nullptr) return nullptr;
  *spare = KeySlot{};
  spare->key = key;
  spare->db = db;
  spare->most = 1;
  return spare;
}

// ---- key_look.cpp

/// The scheduler is to look at this key. Callbacks come here: no allocation, no error.
void note_key(int64 key);
/// A holder leaves: makes the next parked task of its key ready, but not `except`, which he leaves himself.
void unpark_next(TaskTable& tasks, int64 key, int64 except, const KeyPolicy& policy);

// ---- keys.cpp

/// A parked row became ready: at an abort somebody must look.
void key_unparked(int64 key, int64 task);

}  // namespace dts::store
