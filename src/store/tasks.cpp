#include "store/tasks.hpp"

#include "pg/as_owner.hpp"
#include "store/batches.hpp"
#include "store/keys.hpp"
#include "store/definitions.hpp"
#include "store/index_entries.hpp"
#include "store/task_columns.hpp"

namespace dts::store {

int64 next_task_id() { return nextval_internal(catalog().task_sequence, false); }

HeapTuple TaskTable::form(const Task& t) const {
  Datum values[kColumns];
  bool nulls[kColumns] = {};
  values[kId] = Int64GetDatum(t.id);
  values[kRunAt] = TimestampTzGetDatum(t.run_at);
  values[kSubmittedAt] = TimestampTzGetDatum(t.submitted_at);
  values[kLane] = Int32GetDatum(t.lane);
  values[kTimeout] = Int32GetDatum(t.timeout_ms);
  values[kHandler] = Int32GetDatum(t.handler);
  values[kFlags] = Int32GetDatum(t.flags);
  values[kState] = Int16GetDatum(static_cast<int16>(t.state));
  values[kKind] = Int16GetDatum(static_cast<int16>(t.kind));
  values[kAttempt] = Int16GetDatum(t.attempt);
  values[kMaxAttempts] = Int16GetDatum(t.max_attempts);
  values[kCrashes] = Int16GetDatum(t.crashes);
  values[kExpiresAt] = TimestampTzGetDatum(t.expires_at);
  nulls[kExpiresAt] = !t.has_expires;
  values[kLeaseUntil] = TimestampTzGetDatum(t.lease_until);
  nulls[kLeaseUntil] = !t.has_lease;
  values[kToken] = UUIDPGetDatum(&t.token);
  nulls[kToken] = !t.has_token;
  values[kNeed] = Int32GetDatum(t.need);
  values[kEdges] = Int32GetDatum(t.edges);
  nulls[kNeed] = nulls[kEdges] = t.need == core::kNeedAll;
  values[kCkey] = Int64GetDatum(t.ckey);
  nulls[kCkey] = t.ckey == 0;
  values[kBatch] = Int64GetDatum(t.batch);
  nulls[kBatch] = t.batch == 0;
  values[kSql] = PointerGetDatum(t.sql);
  nulls[kSql] = t.sql == nullptr;
  values[kArgs] = PointerGetDatum(t.args);
  nulls[kArgs] = t.args == nullptr;
  values[kExtra] = PointerGetDatum(t.extra);
  nulls[kExtra] = t.extra == nullptr;
  return heap_form_tuple(RelationGetDescr(heap_), values, nulls);
}

void TaskTable::insert_index_entries(HeapTuple tuple, const Task& t) {
  if (t.has_expires && (t.state == core::State::Blocked || t.state == core::State::Waiting)) touch_expiry(t.expires_at);
  if (!plain_) {
    insert_entries_generic(heap_, tuple);
    return;
  }
  const Datum id = Int64GetDatum(t.id);
  insert_entry(need(pkey_, task_indexes.pkey), heap_, tuple, &id, true);
  if (t.state == core::State::Ready) {
    const Datum key[] = {Int32GetDatum(t.lane), TimestampTzGetDatum(t.run_at), id};
    insert_entry(need(claim_, task_indexes.claim), heap_, tuple, key, false);
  }
  if (t.state == core::State::Leased) {  // has_lease always: see the lease path of the executor
    const Datum until = TimestampTzGetDatum(t.lease_until);
    insert_entry(need(lease_, task_indexes.lease), heap_, tuple, &until, false);
  }
  if (t.state == core::State::Blocked || t.state == core::State::Waiting)
    insert_entry(need(blocked_, task_indexes.blocked), heap_, tuple, &id, false);
  if (t.ckey != 0) {
    const Datum key[] = {Int64GetDatum(t.ckey), id};
    insert_entry(need(ckey_, task_indexes.ckey), heap_, tuple, key, false);
  }
  if (t.batch != 0) {
    const Datum key[] = {Int64GetDatum(t.batch), id};
    insert_entry(need(batch_, task_indexes.batch), heap_, tuple, key, false);
  }
  if (t.has_expires) {
    const Datum at = TimestampTzGetDatum(t.expires_at);
    insert_entry(need(expires_, task_indexes.expires), heap_, tuple, &at, false);
  }
}

void TaskTable::insert_untold(Task& task) {
  HeapTuple const tuple = form(task);
  heap_insert(heap_, tuple, GetCurrentCommandId(true), 0, nullptr);
  insert_index_entries(tuple, task);
  task.tid = tuple->t_self;
  heap_freetuple(tuple);
  if (task.batch != 0) tally(task.batch, kSubmittedToBatch, 1);
}

void TaskTable::insert(Task& task, const LaneInfo& lane) {
  insert_untold(task);
  if (task.state == core::State::Ready)
    touch_inserted(lane, task.key());
  else
    touch_submitted(lane, 1);
  touch_bytes(lane, task.bytes());
  if (task.state == core::State::Parked) key_parked(task.ckey, task.id);
}

void read_task(TupleTableSlot* slot, Task* t) {
  slot_getallattrs(slot);
  const Datum* const v = slot->tts_values;
  const bool* const n = slot->tts_isnull;
  t->id = DatumGetInt64(v[kId]);
  t->run_at = DatumGetTimestampTz(v[kRunAt]);
  t->submitted_at = DatumGetTimestampTz(v[kSubmittedAt]);
  t->lane = DatumGetInt32(v[kLane]);
  t->timeout_ms = DatumGetInt32(v[kTimeout]);
  t->handler = DatumGetInt32(v[kHandler]);
  t->flags = DatumGetInt32(v[kFlags]);
  t->state = static_cast<core::State>(DatumGetInt16(v[kState]));
  t->kind = static_cast<core::Kind>(DatumGetInt16(v[kKind]));
  t->attempt = DatumGetInt16(v[kAttempt]);
  t->max_attempts = DatumGetInt16(v[kMaxAttempts]);
  t->crashes = DatumGetInt16(v[kCrashes]);
  t->has_expires = !n[kExpiresAt];
  t->expires_at = t->has_expires ? DatumGetTimestampTz(v[kExpiresAt]) : 0;
  t->has_lease = !n[kLeaseUntil];
  t->lease_until = t->has_lease ? DatumGetTimestampTz(v[kLeaseUntil]) : 0;
  t->has_token = !n[kToken];
  if (t->has_token) t->token = *DatumGetUUIDP(v[kToken]);
  t->need = n[kNeed] ? core::kNeedAll : DatumGetInt32(v[kNeed]);
  t->edges = n[kEdges] ? 0 : DatumGetInt32(v[kEdges]);
  t->batch = n[kBatch] ? 0 : DatumGetInt64(v[kBatch]);
  t->ckey = n[kCkey] ? 0 : DatumGetInt64(v[kCkey]);
  t->sql = n[kSql] ? nullptr : DatumGetTextPCopy(v[kSql]);
  t->args = n[kArgs] ? nullptr : DatumGetJsonbPCopy(v[kArgs]);
  t->extra = n[kExtra] ? nullptr : DatumGetJsonbPCopy(v[kExtra]);
  t->tid = slot->tts_tid;
}

template <class F>
bool TaskTable::fetch(int64 id, Snapshot snapshot, F&& f) {
  ScanKeyData key;
  ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(id));
  need(pkey_, task_indexes.pkey, mode_);
  TupleTableSlot* const slot = table_slot_create(heap_, nullptr);
  IndexScanDesc const scan = DTS_INDEX_BEGINSCAN(heap_, pkey_, snapshot, 1);
  index_rescan(scan, &key, 1, nullptr, 0);
  const bool found = index_getnext_slot(scan, ForwardScanDirection, slot);
  if (found) f(slot);
  index_endscan(scan);
  ExecDropSingleTupleTableSlot(slot);
  return found;
}

Standing standing_of(TupleTableSlot* slot) {
  bool null = false;
  Standing s{};
  s.found = true;
  s.state = static_cast<core::State>(DatumGetInt16(slot_getattr(slot, kState + 1, &null)));
  s.lane = DatumGetInt32(slot_getattr(slot, kLane + 1, &null));
  const Datum n = slot_getattr(slot, kNeed + 1, &null);
  s.need = null ? core::kNeedAll : DatumGetInt32(n);
  s.edges = null ? 0 : DatumGetInt32(slot_getattr(slot, kEdges + 1, &null));
  s.own = TransactionIdIsCurrentTransactionId(DatumGetTransactionId(slot_getsysattr(slot, MinTransactionIdAttributeNumber, &null)));
  return s;
}

bool TaskTable::read(int64 id, Task* out) {
  const Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
  const bool found = fetch(id, snapshot, [out](TupleTableSlot* slot) { read_task(slot, out); });
  UnregisterSnapshot(snapshot);
  return found;
}

Standing TaskTable::standing(int64 id) {
  Standing s{};
  const Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
  (void)fetch(id, snapshot, [&s](TupleTableSlot* slot) { s = standing_of(slot); });
  UnregisterSnapshot(snapshot);
  return s;
}

namespace {
/// Whether this very executor has claimed the task: its row lock is ours, so a task that steers itself, or a companion of its batch,
/// would get it and pull the row away from under the claim.
bool claimed_here(int64 id) {
  if (own_slot < 0) return false;
  const ExecutorSlot& s = slots[own_slot];
  for (int i = 0; i < s.n; i++)
    if (s.task[i] == id && s.state[i] != Held::Closed) return true;
  return false;
}
}  // namespace

TaskTable::Found TaskTable::lock(int64 id, Task* out) {
  const Found found = lock_row(id, out);
  if (found == Found::Locked && out->state == core::State::Parked) key_parked(out->ckey, id);
  return found;
}

bool TaskTable::lock_parked(int64 id, Task* out) { return lock_row(id, out) == Found::Locked && out->state == core::State::Parked; }

int TaskTable::of_key(int64 ckey, int64 from, int max, int64* id, core::State* state) {
  ScanKeyData keys[2];
  ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(ckey));
  ScanKeyInit(&keys[1], 2, BTGreaterEqualStrategyNumber, F_INT8GE, Int64GetDatum(from));
  need(ckey_, task_indexes.ckey, mode_);
  const Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
  TupleTableSlot* const slot = table_slot_create(heap_, nullptr);
  IndexScanDesc const scan = DTS_INDEX_BEGINSCAN(heap_, ckey_, snapshot, 2);
  index_rescan(scan, keys, 2, nullptr, 0);
  int n = 0;
  bool null = false;
  while (n < max && index_getnext_slot(scan, ForwardScanDirection, slot)) {
    id[n] = DatumGetInt64(slot_getattr(slot, kId + 1, &null));
    state[n++] = static_cast<core::State>(DatumGetInt16(slot_getattr(slot, kState + 1, &null)));
  }
  index_endscan(scan);
  ExecDropSingleTupleTableSlot(slot);
  UnregisterSnapshot(snapshot);
  return n;
}

TaskTable::Found TaskTable::lock_row(int64 id, Task* out) {
  if (touched()) CommandCounterIncrement();  // a task submitted in the same statement is there too
  // A row that changed between snapshot and lock is looked up again: the loop ends because each turn has a younger snapshot.
  for (;;) {
    if (!read(id, out)) return Found::Missing;
    if (claimed_here(id)) return Found::Busy;
    HeapTupleData tuple;
    tuple.t_self = out->tid;
    Buffer buffer = InvalidBuffer;
    TM_FailureData failure;
    const TM_Result r =
        heap_lock_tuple(heap_, &tuple, GetCurrentCommandId(true), LockTupleExclusive, LockWaitSkip, false, &buffer, &failure);
    if (BufferIsValid(buffer)) ReleaseBuffer(buffer);
    if (r == TM_Ok) return Found::Locked;
    if (r == TM_WouldBlock) return Found::Busy;
    if (r == TM_SelfModified || r == TM_Invisible) return Found::Missing;
    CHECK_FOR_INTERRUPTS();
  }
}

TaskTable::Found TaskTable::lock_seen(int64 id, TupleTableSlot* seen, Task* out) {
  if (claimed_here(id)) return Found::Busy;
  HeapTupleData tuple;
  tuple.t_self = seen->tts_tid;
  Buffer buffer = InvalidBuffer;
  TM_FailureData failure;
  const TM_Result r = heap_lock_tuple(heap_, &tuple, GetCurrentCommandId(true), LockTupleExclusive, LockWaitSkip, false, &buffer, &failure);
  if (BufferIsValid(buffer)) ReleaseBuffer(buffer);
  if (r == TM_WouldBlock) return Found::Busy;
  if (r != TM_Ok) return lock(id, out);
  read_task(seen, out);
  return Found::Locked;
}

void TaskTable::update(const Task& old, Task& now, const LaneInfo& from, const LaneInfo& to) {
  HeapTuple const tuple = form(now);
  ItemPointerData tid = old.tid;
  if (pg::heap_update_locked(heap_, &tid, tuple)) insert_index_entries(tuple, now);
  now.tid = tuple->t_self;
  heap_freetuple(tuple);
  const bool was = old.state == core::State::Ready;
  const bool is = now.state == core::State::Ready;
  if (was && is)
    touch_moved(from, old.key(), to, now.key());
  else if (was)
    touch_deleted(from, old.key());
  else if (is)
    touch_inserted_many(to, now.key(), now.key(), 0);
  if (now.state == core::State::Parked && old.state != core::State::Parked) key_parked(now.ckey, now.id);
  if (old.ckey != 0 && old.ckey != now.ckey) key_parked(old.ckey, old.id);  // it may have been the head of that key
}

void TaskTable::remove(const Task& task, const LaneInfo& lane) {
  ItemPointerData tid = task.tid;
  simple_heap_delete(heap_, &tid);
  if (task.state == core::State::Ready) touch_deleted(lane, task.key());
}

void TaskTable::keep(const Task& task, const LaneInfo& lane) {
  if (task.state == core::State::Ready) touch_locked(lane, task.key());
}

}  // namespace dts::store
