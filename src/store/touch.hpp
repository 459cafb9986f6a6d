// What this transaction did to tasks, and what is told to shared memory when it ends. The only way in dts to touch a claimable row
// goes through one of the five helpers below (docs/architecture.md, "Claiming": the table of commit and undo sets).
#pragma once

#include "core/task_state.hpp"
#include "store/permits.hpp"

namespace dts::store {

/// The row was inserted, or made claimable.
void touch_inserted(const LaneInfo& lane, core::Key key);
/// n rows of one due time, ids lo..hi, were inserted.
void touch_inserted_many(const LaneInfo& lane, core::Key lo, core::Key hi, int n);
/// n rows were inserted that cannot be claimed yet.
void touch_submitted(const LaneInfo& lane, int n);
/// ... with so many bytes of payload.
void touch_bytes(const LaneInfo& lane, int64 bytes);
/// The row was deleted, or is no longer claimable.
void touch_deleted(const LaneInfo& lane, core::Key key);
/// The row's key or lane changed.
void touch_moved(const LaneInfo& from, core::Key old_key, const LaneInfo& to, core::Key new_key);
/// The row was locked and stays as it is.
void touch_locked(const LaneInfo& lane, core::Key key);
/// An executor claimed the row; if nothing else is said before the end, only an abort offers it again.
void touch_claimed(int slot, const LaneInfo& lane, core::Key key);
/// ... and at the end of the transaction it is still claimed and was not run.
void touch_kept(const LaneInfo& lane, core::Key key);

/// A task ended, or an attempt did: counters, board, waiters and charges hear of it at commit.
struct Ended {
  int64 task;
  core::State outcome;
  int32 queue_slot;
  int32 lane_slot;
  int32 subid;
  int64 bytes;
  bool ran;
  bool charged;
  int64 run_us, wait_us;
};
void touch_ended(const Ended& ended);
/// What ended so far in this transaction, in order; attempts that will be repeated are among them.
int ended_count();
const Ended& ended(int i);

/// Makes sure that the callbacks run at the end of this transaction, and of all that follow in this process.
void touch_register();

/// A queue's settings changed; they go to shared memory at commit.
struct QueueSettings {
  int32 queue;
  int32 subid;
  bool dropped, paused, durable;
  char history;
  int32 batch_size;
  char name[NAMEDATALEN];
};
void touch_queue(const QueueSettings& q);
/// A limit's settings changed; the same.
void touch_limit(const LimitSettings& l);
/// Reads the row of one limit, or, with 0, those of all, as the owner of the extension (store/limit_rows.cpp).
void each_limit(int32 entry, void (*use)(const LimitSettings&));
/// The same at once, by the scheduler at its start. Returns the slot, -1 if the table is full.
int apply_queue(Oid db, const QueueSettings& q, int64 due = core::kMax);

/// At commit the scheduler of this database hears of these events; `launcher`: so does the launcher.
void touch_events(uint32 events, bool launcher = false);
/// At commit the scheduler's alarm is set to this time, if it is sooner than what it was set to.
void touch_expiry(TimestampTz at);
/// At commit every process of this database drops what it remembers of queues and handlers.
void touch_definitions();

/// Ranges that an executor took from a lane and has not put back: an abort offers them.
struct Taken {
  int slot = -1;
  int32 lane = 0;
  int n = 0;
  core::Range range[14];
};
extern Taken taken;

/// Called inside the callback of each transaction end, after the lanes were told (the executor clears its slot there).
extern void (*after_transaction)(bool committed);

/// What this transaction has submitted to the lanes of a limit.
struct Submitted {
  int64 n, bytes;
};
Submitted submitted_under(int limit);

/// Whether this transaction has touched any task.
bool touched();

}  // namespace dts::store
