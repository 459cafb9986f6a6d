// The end of a transaction: what it did to tasks is told to shared memory. Callbacks neither allocate nor fail.
#include "pg/point.hpp"
#include "store/agenda.hpp"
#include "store/batches.hpp"
#include "store/board.hpp"
#include "store/definitions.hpp"
#include "store/dependencies.hpp"
#include "store/journal.hpp"
#include "store/keys.hpp"
#include "store/leases.hpp"
#include "store/touched.hpp"

namespace dts::store {

Taken taken;
void (*after_transaction)(bool committed) = nullptr;

namespace {

void forget() {
  lane_positions = nullptr;
  touched_lanes.drop();
  ended_tasks.drop();
  queue_changes.drop();
  limit_changes.drop();
  at_commit = AtCommit{};
}

void count(const Ended& e) {
  if (e.queue_slot < 0) return;
  QueueSlot& q = queues[e.queue_slot];
  switch (e.outcome) {
    case core::State::Succeeded: pg_atomic_fetch_add_u64(&q.succeeded, 1); break;
    case core::State::Failed: pg_atomic_fetch_add_u64(&q.failed, 1); break;
    case core::State::Retry: pg_atomic_fetch_add_u64(&q.retried, 1); break;
    case core::State::Expired: pg_atomic_fetch_add_u64(&q.expired, 1); break;
    case core::State::Cancelled: pg_atomic_fetch_add_u64(&q.cancelled, 1); break;
    default: break;
  }
  if (core::is_end(e.outcome)) rate_count(q, GetCurrentTimestamp());
  if (!e.ran) return;
  pg_atomic_fetch_add_u64(&q.started, 1);
  pg_atomic_fetch_add_u64(&q.run_us, Max(e.run_us, 0));
  pg_atomic_fetch_add_u64(&q.wait_us, Max(e.wait_us, 0));
  pg_atomic_fetch_add_u64(&q.run_histogram[core::bucket(e.run_us)], 1);
  pg_atomic_fetch_add_u64(&q.wait_histogram[core::bucket(e.wait_us)], 1);
}

/// The scheduler stores `sleep_until` before it reads `next_expiry`; here it is the other way round: one of the two sees the other.
void set_alarm(DatabaseSlot& d, TimestampTz at) {
  uint64 set = pg_atomic_read_u64(&d.next_expiry);
  while (static_cast<uint64>(at) < set && !pg_atomic_compare_exchange_u64(&d.next_expiry, &set, static_cast<uint64>(at))) {
  }
  pg_memory_barrier();
  if (static_cast<uint64>(at) < pg_atomic_read_u64(&d.sleep_until)) tell_scheduler(MyDatabaseId, 0);
}

void on_commit() {
  if (touched_lanes.n > 0 || ended_tasks.n > 0) DTS_POINT("touch.visible");
  for (int i = 0; i < touched_lanes.n; i++) {
    const TouchedLane& t = touched_lanes.items[i];
    offer(t.slot, MyDatabaseId, t.lane, t.commit);
    unfinished_add(t.slot, t.inserted, t.bytes);
    if (t.inserted > 0 && t.slot >= 0 && lanes[t.slot].queue_slot >= 0)
      pg_atomic_fetch_add_u64(&queues[lanes[t.slot].queue_slot].submitted, t.inserted);
  }
  DatabaseSlot* const database = database_slot(MyDatabaseId, false);
  for (int i = 0; i < touched_lanes.n; i++) {
    if (touched_lanes.items[i].commit.empty()) continue;
    if (database != nullptr && pg_atomic_read_u32(&database->activity) == 0) pg_atomic_write_u32(&database->activity, 1);
    notify(touched_lanes.items[i].slot);
  }
  for (int i = 0; i < queue_changes.n; i++) apply_queue(MyDatabaseId, queue_changes.items[i]);
  for (int i = 0; i < limit_changes.n; i++) (void)apply_limit(MyDatabaseId, limit_changes.items[i]);
  if (limit_changes.n > 0) look_at_all_keys(MyDatabaseId);  // a key may have more places now
  for (int i = 0; i < ended_tasks.n; i++) {
    const Ended& e = ended_tasks.items[i];
    count(e);
    if (core::is_end(e.outcome)) unfinished_add(e.lane_slot, -1, -e.bytes);
    if (e.charged) charge_remove(MyDatabaseId, e.task);
    if (core::is_end(e.outcome)) board_remove(MyDatabaseId, e.task);
    if (core::is_end(e.outcome)) wake_waiters(MyDatabaseId, e.task, e.outcome);
  }
  if (queue_changes.n > 0 || limit_changes.n > 0 || at_commit.definitions) {
    if (database != nullptr) pg_atomic_fetch_add_u32(&database->generation, 1);
    notify_database(MyDatabaseId);
  }
  if (at_commit.events != 0) tell_scheduler(MyDatabaseId, at_commit.events);
  if (at_commit.first_expiry != core::kMax && database != nullptr) set_alarm(*database, at_commit.first_expiry);
  if (at_commit.launcher) {
    if (database != nullptr) {
      pg_atomic_fetch_add_u32(&database->installs, 1);
      pg_memory_barrier();
      database->absent = false;
      database->failures = 0;
      database->start_after = 0;
    }
    tell_launcher();
  }
}

/// Gives back what an abort leaves behind: the touched rows are free again, and the taken ranges were not looked at to the end.
void on_abort() {
  for (int i = 0; i < touched_lanes.n; i++)
    offer(touched_lanes.items[i].slot, MyDatabaseId, touched_lanes.items[i].lane, touched_lanes.items[i].undo);
  if (taken.slot >= 0) {
    offer_ranges(taken.slot, MyDatabaseId, taken.lane, taken.range, taken.n);
    claim_done(taken.slot);
    const int slot = taken.slot;
    taken.slot = -1;
    taken.n = 0;
    notify(slot);
  }
  for (int i = 0; i < touched_lanes.n; i++)
    if (!touched_lanes.items[i].undo.empty()) notify(touched_lanes.items[i].slot);
}

void transaction_callback(XactEvent event, void*) {
  switch (event) {
    case XACT_EVENT_PRE_COMMIT:
      if (ended_tasks.n > 0) release_dependents();
      tallies_write();  // last: dependents that end count, too
      if (ended_tasks.n > 0) DTS_POINT("touch.released");
      break;
    case XACT_EVENT_PRE_PREPARE:
      if (touched())
        ereport(ERROR,
                (errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("cannot PREPARE a transaction that has submitted or steered dts tasks"),
                 errhint("Submit and steer in a transaction that ends with COMMIT or ROLLBACK.")));
      break;
    case XACT_EVENT_COMMIT:
    case XACT_EVENT_PARALLEL_COMMIT:
      if (shared != nullptr) keys_end(true);
      if (shared != nullptr) leases_end(true);
      agenda_end(true);
      if (shared != nullptr) on_commit();
      forget();
      tallies_forget();
      definitions_end(true);
      if (after_transaction != nullptr) after_transaction(true);
      break;
    case XACT_EVENT_ABORT:
    case XACT_EVENT_PARALLEL_ABORT:
      if (shared != nullptr) keys_end(false);
      if (shared != nullptr) leases_end(false);
      agenda_end(false);
      if (shared != nullptr) on_abort();
      forget();
      tallies_forget();
      definitions_end(false);
      if (after_transaction != nullptr) after_transaction(false);
      break;
    default: break;
  }
}

void subtransaction_callback(SubXactEvent event, SubTransactionId subid, SubTransactionId, void*) {
  if (event != SUBXACT_EVENT_ABORT_SUB) return;
  for (int i = 0; i < touched_lanes.n && shared != nullptr; i++) {
    const TouchedLane& t = touched_lanes.items[i];
    if (t.undo_subid < subid || t.undo.empty()) continue;
    offer(t.slot, MyDatabaseId, t.lane, t.undo);
    notify(t.slot);
  }
  while (ended_tasks.n > 0 && static_cast<SubTransactionId>(ended_tasks.items[ended_tasks.n - 1].subid) >= subid) ended_tasks.n--;
  while (queue_changes.n > 0 && static_cast<SubTransactionId>(queue_changes.items[queue_changes.n - 1].subid) >= subid) queue_changes.n--;
  while (limit_changes.n > 0 && static_cast<SubTransactionId>(limit_changes.items[limit_changes.n - 1].subid) >= subid) limit_changes.n--;
  tallies_subabort(subid);
  if (shared != nullptr) {
    keys_subabort(subid);
    leases_subabort(subid);
  }
  definitions_subabort();
}

}  // namespace

void register_callbacks() {
  RegisterXactCallback(transaction_callback, nullptr);
  RegisterSubXactCallback(subtransaction_callback, nullptr);
}

}  // namespace dts::store
