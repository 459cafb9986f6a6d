// What the views read from shared memory of queues, limits, keys and the whole. Everything is copied under the lock and returned
// afterwards.
#include "pg/guard.hpp"
#include "rows.hpp"
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

Datum histogram(pg_atomic_uint64* buckets) {
  Datum values[core::kBuckets];
  for (int i = 0; i < core::kBuckets; i++) values[i] = Int64GetDatum(static_cast<int64>(pg_atomic_read_u64(&buckets[i])));
  return PointerGetDatum(construct_array(values, core::kBuckets, INT8OID, 8, true, TYPALIGN_DOUBLE));
}

Datum count(pg_atomic_uint64& a) { return Int64GetDatum(static_cast<int64>(pg_atomic_read_u64(&a))); }

}  // namespace

}  // namespace dts

using namespace dts;

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
    put_row(info, v, nulls);
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
    put_row(info, v, nulls);
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
    put_row(info, v, nulls);
  }
  return Datum{0};
}

DTS_FUNCTION(dts_fence) {
  const char* const why = store::why_closed(MyDatabaseId);
  if (why == nullptr) PG_RETURN_NULL();
  PG_RETURN_DATUM(CStringGetTextDatum(why));
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
