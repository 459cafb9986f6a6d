// What the views read from shared memory. Everything is copied under the lock and returned afterwards.
#include "pg/guard.hpp"
#include "settings.hpp"
#include "store/definitions.hpp"
#include "store/keys.hpp"
#include "store/slots.hpp"
#include "store/transfers.hpp"

extern "C" {
#include "catalog/pg_control.h"
}

namespace dts {

namespace {

ReturnSetInfo* begin_rows(FunctionCallInfo fcinfo) {
  InitMaterializedSRF(fcinfo, 0);
  return reinterpret_cast<ReturnSetInfo*>(fcinfo->resultinfo);
}

void put(ReturnSetInfo* info, Datum* values, bool* nulls) { tuplestore_putvalues(info->setResult, info->setDesc, values, nulls); }

Datum instant(TimestampTz t, bool* null) {
  *null = t == 0;
  return TimestampTzGetDatum(t);
}

void put_process(ReturnSetInfo* info, int slot, const char* kind, Oid db, Oid owner, int pid, TimestampTz since,
                 const store::ExecutorSlot* s) {
  Datum v[12];
  bool n[12] = {};
  v[0] = Int32GetDatum(slot);
  v[1] = CStringGetTextDatum(kind);
  v[2] = ObjectIdGetDatum(db);
  v[3] = ObjectIdGetDatum(owner);
  v[4] = Int32GetDatum(pid);
  v[5] = instant(since, &n[5]);
  int64 current = 0;
  bool idle = false;
  if (s != nullptr) {
    current = static_cast<int64>(pg_atomic_read_u64(const_cast<pg_atomic_uint64*>(&s->current)));
    idle = (store::pools[s->pool].idle[slot / 64] >> (slot % 64) & 1) != 0;
  }
  v[6] = Int64GetDatum(current);
  n[6] = current == 0;
  v[7] = Int32GetDatum(s == nullptr ? 0 : s->n);
  v[8] = instant(s == nullptr || current == 0 ? 0 : s->task_since, &n[8]);
  v[9] = Int64GetDatum(s == nullptr ? 0 : static_cast<int64>(pg_atomic_read_u64(const_cast<pg_atomic_uint64*>(&s->tasks_run))));
  v[10] = BoolGetDatum(idle);
  n[11] = true;
  v[11] = Datum{0};
  put(info, v, n);
}

/// Readers of the views may also call these functions: what the views hide is hidden here.
bool visible(Oid owner) { return store::role_may(GetUserId(), owner) || store::is_monitor(GetUserId()); }

/// What couriers of this database have under way.
void put_transfers(ReturnSetInfo* info) {
  for (int i = 0; i < store::transfer_head->top; i++) {
    const store::TransferSlot& t = store::transfers[i];
    if (!t.used || t.db != MyDatabaseId || t.task == 0 || !visible(t.owner)) continue;
    Datum v[5] = {Int32GetDatum(store::slots[t.courier].pid), Int64GetDatum(t.task), CStringGetTextDatum(t.sent ? "running" : "held"),
                  TimestampTzGetDatum(t.since), Int32GetDatum(0)};
    bool nulls[5] = {false, false, false, t.since == 0, false};
    put(info, v, nulls);
  }
}

Datum histogram(pg_atomic_uint64* buckets) {
  Datum values[core::kBuckets];
  for (int i = 0; i < core::kBuckets; i++) values[i] = Int64GetDatum(static_cast<int64>(pg_atomic_read_u64(&buckets[i])));
  return PointerGetDatum(construct_array(values, core::kBuckets, INT8OID, 8, true, TYPALIGN_DOUBLE));
}

Datum count(pg_atomic_uint64& a) { return Int64GetDatum(static_cast<int64>(pg_atomic_read_u64(&a))); }

}  // namespace

}  // namespace dts

using namespace dts;

DTS_FUNCTION(dts_slots) {
  ReturnSetInfo* const info = begin_rows(fcinfo);
  if (store::shared == nullptr) return Datum{0};
  if (store::shared->launcher_pid != 0) put_process(info, -1, "launcher", InvalidOid, InvalidOid, store::shared->launcher_pid, 0, nullptr);
  for (int i = 0; i < settings::max_databases; i++) {
    const store::DatabaseSlot& d = store::databases[i];
    if (d.used && d.pid != 0) put_process(info, -1, "scheduler", d.db, InvalidOid, d.pid, d.since, nullptr);
  }
  for (int k = 0; k < store::kMaxSlots; k++) {
    const store::ExecutorSlot& s = store::slots[k];
    if (s.kind == store::ExecutorSlot::Kind::Live && s.pid != 0 && (s.owner == InvalidOid || visible(s.owner)))
      put_process(info, k, store::pools[s.pool].runner == 0 ? "executor" : "courier", s.db, s.owner, s.pid, s.since, &s);
  }
  return Datum{0};
}

DTS_FUNCTION(dts_held) {
  ReturnSetInfo* const info = begin_rows(fcinfo);
  if (store::shared == nullptr) return Datum{0};
  for (int k = 0; k < store::kMaxSlots; k++) {
    store::ExecutorSlot& s = store::slots[k];
    if (s.kind != store::ExecutorSlot::Kind::Live || s.db != MyDatabaseId || s.n == 0 || !visible(s.owner)) continue;
    int64 task[store::kHeldMax];
    store::Held state[store::kHeldMax];
    LWLockAcquire(&s.lock, LW_SHARED);
    const int n = s.pid == 0 ? 0 : s.n;
    memcpy(task, s.task, sizeof(int64) * n);
    memcpy(state, s.state, sizeof(store::Held) * n);
    const int pid = s.pid;
    const TimestampTz since = s.task_since;
    LWLockRelease(&s.lock);
    for (int i = 0; i < n; i++) {
      Datum v[5];
      bool nulls[5] = {};
      v[0] = Int32GetDatum(pid);
      v[1] = Int64GetDatum(task[i]);
      v[2] = CStringGetTextDatum(state[i] == store::Held::Running ? "running" : state[i] == store::Held::Closed ? "closed" : "held");
      v[3] = instant(state[i] == store::Held::Claimed ? 0 : since, &nulls[3]);
      v[4] = Int32GetDatum(i);
      put(info, v, nulls);
    }
  }
  put_transfers(info);
  return Datum{0};
}

DTS_FUNCTION(dts_progress) {
  const int slot = store::own_slot;
  if (slot < 0 || pg_atomic_read_u64(&store::slots[slot].current) == 0) PG_RETURN_VOID();
  store::Progress p{};
  p.at = GetCurrentTimestamp();
  if (PG_ARGISNULL(0) || PG_GETARG_INT64(0) < 0 || (!PG_ARGISNULL(1) && PG_GETARG_INT64(1) < 0))
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                    errmsg("argument \"%s\" must be 0 or more", PG_ARGISNULL(0) || PG_GETARG_INT64(0) < 0 ? "done" : "total"),
                    errhint("Example: dts.progress(20, 100, 'loading').")));
  p.done = PG_GETARG_INT64(0);
  p.total = PG_ARGISNULL(1) ? -1 : PG_GETARG_INT64(1);
  if (!PG_ARGISNULL(2)) {
    const char* const message = text_to_cstring(PG_GETARG_TEXT_PP(2));
    const int n = pg_mbcliplen(message, static_cast<int>(strlen(message)), sizeof(p.message) - 1);
    memcpy(p.message, message, n);
  }
  LWLockAcquire(&store::slots[slot].lock, LW_EXCLUSIVE);
  store::slots[slot].progress = p;
  LWLockRelease(&store::slots[slot].lock);
  PG_RETURN_VOID();
}

DTS_FUNCTION(dts_progress_of_all) {
  ReturnSetInfo* const info = begin_rows(fcinfo);
  if (store::shared == nullptr) return Datum{0};
  for (int k = 0; k < store::kMaxSlots; k++) {
    store::ExecutorSlot& s = store::slots[k];
    if (s.kind != store::ExecutorSlot::Kind::Live || s.db != MyDatabaseId || !store::role_may(GetUserId(), s.owner)) continue;
    LWLockAcquire(&s.lock, LW_SHARED);
    const store::Progress p = s.progress;
    const int64 task = static_cast<int64>(pg_atomic_read_u64(&s.current));
    LWLockRelease(&s.lock);
    if (task == 0 || p.at == 0) continue;
    Datum v[5] = {Int64GetDatum(task), Int64GetDatum(p.done), Int64GetDatum(p.total), CStringGetTextDatum(p.message),
                  TimestampTzGetDatum(p.at)};
    bool nulls[5] = {false, false, p.total < 0, p.message[0] == '\0', false};
    put(info, v, nulls);
  }
  return Datum{0};
}

DTS_FUNCTION(dts_queue_stats) {
  ReturnSetInfo* const info = begin_rows(fcinfo);
  const bool admin = store::role_may(GetUserId(), BOOTSTRAP_SUPERUSERID);
  if (store::shared == nullptr) return Datum{0};
  for (int i = 0; i < settings::max_queues; i++) {
    store::QueueSlot& q = store::queues[i];
    if (!q.used || q.db != MyDatabaseId) continue;
    Datum v[15];
    bool nulls[15] = {};
    v[0] = Int32GetDatum(q.queue);
    v[1] = count(q.submitted);
    v[2] = count(q.succeeded);
    v[3] = count(q.failed);
    v[4] = count(q.retried);
    v[5] = count(q.expired);
    v[6] = count(q.cancelled);
    v[7] = count(q.started);
    v[8] = count(q.run_us);
    v[9] = count(q.wait_us);
    char last[sizeof(q.last_error)];
    LWLockAcquire(&q.error_lock, LW_SHARED);
    strlcpy(last, q.last_error, sizeof(last));
    const TimestampTz at = q.last_error_at;
    LWLockRelease(&q.error_lock);
    v[10] = CStringGetTextDatum(last);
    nulls[10] = last[0] == '\0' || !admin;
    v[11] = instant(at, &nulls[11]);
    v[12] = histogram(q.run_histogram);
    v[13] = histogram(q.wait_histogram);
    v[14] = Float8GetDatum(store::rate_per_second(q, GetCurrentTimestamp()));
    put(info, v, nulls);
  }
  return Datum{0};
}

DTS_FUNCTION(dts_limit_state) {
  ReturnSetInfo* const info = begin_rows(fcinfo);
  if (store::shared == nullptr) return Datum{0};
  for (int i = 0; i < store::shared->limit_count; i++) {
    store::LimitSlot& l = store::limits[i];
    if (!l.used || l.db != MyDatabaseId) continue;
    Datum v[6] = {Int32GetDatum(l.entry), Int32GetDatum(static_cast<int32>(pg_atomic_read_u32(&l.running))),
                  BoolGetDatum(store::limit_full(l)), Datum{0}};
    bool nulls[6] = {};
    v[3] = instant(store::next_start(l), &nulls[3]);
    v[4] = count(l.unfinished);
    v[5] = count(l.bytes);
    put(info, v, nulls);
  }
  return Datum{0};
}

DTS_FUNCTION(dts_withheld) {
  const int slot = store::shared == nullptr ? -1 : store::lane_slot_of(MyDatabaseId, PG_GETARG_INT32(0));
  PG_RETURN_BOOL(slot >= 0 && store::withheld(store::lanes[slot]));
}

DTS_FUNCTION(dts_payload_bytes) {
  int64 n = 0;
  for (int i = 0; i < 2; i++)
    if (!PG_ARGISNULL(i)) n += static_cast<int64>(toast_raw_datum_size(PG_GETARG_DATUM(i))) - VARHDRSZ;
  PG_RETURN_INT64(n);
}

DTS_FUNCTION(dts_key_state) {
  TupleDesc desc = nullptr;
  if (get_call_result_type(fcinfo, nullptr, &desc) != TYPEFUNC_COMPOSITE) elog(ERROR, "unexpected result type of dts._key_state");
  int held = 0;
  const int64 holder = store::key_holder(PG_GETARG_INT64(0), &held);
  Datum v[2] = {Int64GetDatum(holder), Int32GetDatum(held)};
  bool nulls[2] = {holder == 0, false};
  return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), v, nulls));
}

DTS_FUNCTION(dts_database_stats) {
  ReturnSetInfo* const info = begin_rows(fcinfo);
  store::DatabaseSlot* const d = store::shared == nullptr ? nullptr : store::database_slot(MyDatabaseId, false);
  if (d == nullptr) return Datum{0};
  uint64 merges = 0;
  int lanes_used = 0, executors = 0;
  for (int i = 0; i < store::shared->lane_count; i++) {
    if (!store::lanes[i].used || store::lanes[i].db != MyDatabaseId) continue;
    lanes_used++;
    merges += store::lanes[i].merges;
  }
  for (int k = 0; k < store::kMaxSlots; k++)
    executors += store::slots[k].kind == store::ExecutorSlot::Kind::Live && store::slots[k].db == MyDatabaseId;
  const struct {
    const char* name;
    double value;
  } rows[] = {
      {"running", d->gate ? 1.0 : 0.0},
      {"executors", static_cast<double>(executors)},
      {"executors_cluster", static_cast<double>(pg_atomic_read_u32(&store::shared->executors))},
      {"executors_started_total", static_cast<double>(pg_atomic_read_u64(&d->started))},
      {"pools_wanting", static_cast<double>(pg_atomic_read_u32(&store::shared->wanting))},
      {"lanes", static_cast<double>(lanes_used)},
      {"lane_merges_total", static_cast<double>(merges)},
      {"scheduler_wakeups_total", static_cast<double>(pg_atomic_read_u64(&d->wakeups))},
      {"sweeps_total", static_cast<double>(pg_atomic_read_u64(&d->sweeps))},
      {"swept_tasks_total", static_cast<double>(pg_atomic_read_u64(&d->swept))},
      {"crash_suspects_total", static_cast<double>(pg_atomic_read_u64(&d->suspects))},
      {"cancel_requests", static_cast<double>(pg_atomic_read_u32(&store::shared->board_count))},
  };
  for (const auto& r : rows) {
    Datum v[2] = {CStringGetTextDatum(r.name), Float8GetDatum(r.value)};
    bool nulls[2] = {};
    put(info, v, nulls);
  }
  return Datum{0};
}

DTS_FUNCTION(dts_fence) {
  const char* const why = store::why_closed(MyDatabaseId);
  if (why == nullptr) PG_RETURN_NULL();
  PG_RETURN_DATUM(CStringGetTextDatum(why));
}

DTS_FUNCTION(dts_start_failure) {
  const int pool = store::shared == nullptr ? -1 : store::pool_of(MyDatabaseId, PG_GETARG_OID(0), core::Runner::Executor, false);
  if (pool < 0 || store::pools[pool].failure[0] == '\0' || store::pools[pool].executors > 0) PG_RETURN_NULL();
  PG_RETURN_DATUM(CStringGetTextDatum(store::pools[pool].failure));
}

DTS_FUNCTION(dts_place) {
  TupleDesc desc = nullptr;
  if (get_call_result_type(fcinfo, nullptr, &desc) != TYPEFUNC_COMPOSITE) elog(ERROR, "unexpected result type of dts._place");
  Datum v[3] = {Int64GetDatum(static_cast<int64>(GetSystemIdentifier())), ObjectIdGetDatum(MyDatabaseId),
                CStringGetTextDatum(settings::site)};
  bool nulls[3] = {};
  return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), v, nulls));
}

DTS_FUNCTION(dts_version) { PG_RETURN_DATUM(CStringGetTextDatum(DTS_VERSION)); }
