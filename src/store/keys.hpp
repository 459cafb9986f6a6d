// Concurrency keys: at most so many tasks of one key and queue run at once. A task that meets a held key is parked: it leaves the claim
// index, and whoever ends a holder makes the next one ready in the same transaction (docs/architecture.md, "Concurrency keys").
#pragma once

#include "store/tasks.hpp"

namespace dts::store {

/// How many tasks of a key may run at once, and whether strictly in the order of their ids.
struct KeyPolicy {
  int32 most = 1;
  bool fifo = false;
};
KeyPolicy key_policy(const LaneInfo& lane);

/// What stands for a key of a queue; never 0.
int64 key_of(int32 queue, const char* name);
/// The same for a task from its options, 0 if it has none.
int64 key_of(int32 queue, const Jsonb* extra);

/// Whether all places of a key are taken: a submit then parks at once. A hint.
bool key_busy(int64 key, const KeyPolicy& policy);

enum class Admitted { Yes, Parked, Later };
/// By an executor that has locked a ready row: takes a place of its key for this transaction, or parks the row.
Admitted admit(TaskTable& tasks, const Task& task, const LaneInfo& lane);
/// The claimed task becomes leased: its place outlives this transaction.
void key_leased(int64 key, int64 task);
/// A rollback to a savepoint: what was done to keys since then is undone at the end.
void keys_subabort(SubTransactionId subid);
/// A locked task ends, or (`again`) waits for its next attempt: its place goes with the commit, and the next task of the key becomes ready.
void key_left(TaskTable& tasks, const Task& task, const LaneInfo& lane, bool again);
/// A parked row was inserted, or locked: at the end of this transaction somebody must look whether its key is free.
void key_parked(int64 key, int64 task);

/// By the scheduler. Keys that somebody must look at, at most `max`; `all`: every key that has parked tasks must be.
int keys_to_look_at(int64* out, int max, bool* all);
/// Makes parked tasks of a key ready as far as it has places.
void look_at_key(TaskTable& tasks, int64 key);
/// Takes a place for a task whose lease outlived the shared memory.
void key_taken(int64 key, int64 task);
/// Every key is to be looked at.
void look_at_all_keys(Oid db);

/// By the sweep: the key is looked at from its first task on, whatever is remembered of it.
void look_afresh(int64 key);
/// The last task that took a place of a key, 0 if none is taken.
int64 key_holder(int64 key, int* held);

/// Inside the callbacks of a transaction's end, before rows are offered.
void keys_end(bool committed);
/// A database is gone.
void keys_forget(Oid db);

}  // namespace dts::store
