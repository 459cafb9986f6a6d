// What the views read from shared memory of processes: what they are, which tasks they hold, how far these are. Everything is copied under
// the lock and returned afterwards.
#include "pg/guard.hpp"
#include "rows.hpp"
#include "settings.hpp"
#include "store/definitions.hpp"
#include "store/slots.hpp"
#include "store/transfers.hpp"

// Readers of the views may also call these functions: what the views hide is hidden here.

namespace dts {

namespace {

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
  put_row(info, v, n);
}

/// What couriers of this database have under way.
void put_transfers(ReturnSetInfo* info) {
  for (int i = 0; i < store::transfer_head->top; i++) {
    const store::TransferSlot& t = store::transfers[i];
    if (!t.used || t.db != MyDatabaseId || t.task == 0 || !store::caller_sees(t.owner)) continue;
    Datum v[5] = {Int32GetDatum(store::slots[t.courier].pid), Int64GetDatum(t.task), CStringGetTextDatum(t.sent ? "running" : "held"),
                  TimestampTzGetDatum(t.since), Int32GetDatum(0)};
    bool nulls[5] = {false, false, false, t.since == 0, false};
    put_row(info, v, nulls);
  }
}

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
    if (s.kind == store::ExecutorSlot::Kind::Live && s.pid != 0 && (s.owner == InvalidOid || store::caller_sees(s.owner)))
      put_process(info, k, store::pools[s.pool].runner == 0 ? "executor" : "courier", s.db, s.owner, s.pid, s.since, &s);
  }
  return Datum{0};
}

DTS_FUNCTION(dts_held) {
  ReturnSetInfo* const info = begin_rows(fcinfo);
  if (store::shared == nullptr) return Datum{0};
  for (int k = 0; k < store::kMaxSlots; k++) {
    store::ExecutorSlot& s = store::slots[k];
    if (s.kind != store::ExecutorSlot::Kind::Live || s.db != MyDatabaseId || s.n == 0 || !store::caller_sees(s.owner)) continue;
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
      put_row(info, v, nulls);
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
    put_row(info, v, nulls);
  }
  return Datum{0};
}

DTS_FUNCTION(dts_start_failure) {
  const int pool = store::shared == nullptr ? -1 : store::pool_of(MyDatabaseId, PG_GETARG_OID(0), core::Runner::Executor, false);
  if (pool < 0 || store::pools[pool].failure[0] == '\0' || store::pools[pool].executors > 0) PG_RETURN_NULL();
  PG_RETURN_DATUM(CStringGetTextDatum(store::pools[pool].failure));
}
