// Redriving dead letters.
#include "pg/as_owner.hpp"
#include "pg/guard.hpp"
#include "steer.hpp"
#include "store/batches.hpp"
#include "store/definitions.hpp"
#include "store/keys.hpp"

namespace dts {

namespace {

using store::Lane;
using store::LaneInfo;
using store::Task;
using store::TaskTable;

pg::Statement take_letter{
    "DELETE FROM dts.dead_letter WHERE id = $1 RETURNING lane, submitted_at, timeout_ms, handler, flags, kind, max_attempts, sql, args, "
    "extra, batch",
    1,
    {INT8OID}};
pg::Statement letter_owner{
    "SELECT l.owner::oid FROM dts.dead_letter d JOIN dts.lane l ON l.id = d.lane WHERE d.id = $1 FOR UPDATE OF d SKIP LOCKED",
    1,
    {INT8OID}};
pg::Statement scheduled_again{"SELECT dts._scheduled_again($1, $1, $2 -> 'schedule')", 2, {INT8OID, JSONBOID}};
pg::Statement key_again{"UPDATE dts.key SET free_at = NULL WHERE task = $1", 1, {INT8OID}};

/// Whether there is a dead letter of the caller's that nobody else is redriving.
bool mine_to_redrive(int64 id) {
  const Datum values[] = {Int64GetDatum(id)};
  Oid owner = InvalidOid;
  const pg::AsOwner as(store::catalog().owner);
  SPI_connect();
  bool null = false;
  if (letter_owner.run(values, nullptr, true) == 1) owner = DatumGetObjectId(pg::column(0, 1, &null));
  SPI_finish();
  as.end();
  if (OidIsValid(owner) && !store::role_may(GetUserId(), owner)) no_task(id);
  return OidIsValid(owner);
}

/// The row that take_letter gave; what it points to is copied into `memory`.
void read_letter(Task* t, int64 id, MemoryContext memory) {
  bool null = false;
  t->id = id;
  t->lane = DatumGetInt32(pg::column(0, 1, &null));
  t->submitted_at = DatumGetTimestampTz(pg::column(0, 2, &null));
  t->timeout_ms = DatumGetInt32(pg::column(0, 3, &null));
  t->handler = DatumGetInt32(pg::column(0, 4, &null));
  t->flags = (DatumGetInt32(pg::column(0, 5, &null)) & ~core::kSuspect) | core::kRedriven;
  t->kind = static_cast<core::Kind>(DatumGetInt16(pg::column(0, 6, &null)));
  t->max_attempts = DatumGetInt16(pg::column(0, 7, &null));
  Datum d = pg::column_copy(memory, 0, 8, &null);
  t->sql = null ? nullptr : DatumGetTextPP(d);
  d = pg::column_copy(memory, 0, 9, &null);
  t->args = null ? nullptr : DatumGetJsonbP(d);
  d = pg::column_copy(memory, 0, 10, &null);
  t->extra = null ? nullptr : DatumGetJsonbP(d);
  t->batch = DatumGetInt64(pg::column(0, 11, &null));
  if (null) t->batch = 0;
}

/// Takes a dead letter out, as the task that it becomes again; false if it is gone.
bool take_letter_of(int64 id, Task* t) {
  MemoryContext const memory = CurrentMemoryContext;
  const Datum values[] = {Int64GetDatum(id)};
  const pg::AsOwner as(store::catalog().owner);
  SPI_connect();
  const bool found = take_letter.run(values) == 1;
  if (found) {
    read_letter(t, id, memory);
    key_again.run(values);
    if ((t->flags & core::kScheduled) != 0 && t->extra != nullptr) {
      const Datum again[] = {Int64GetDatum(id), PointerGetDatum(t->extra)};
      scheduled_again.run(again);
    }
  }
  SPI_finish();
  as.end();
  return found;
}

}  // namespace

bool redrive(int64 id) {
  if (!mine_to_redrive(id)) return false;
  Task t;
  if (!take_letter_of(id, &t)) return false;
  t.run_at = GetCurrentTimestamp();
  const Lane* const lane = store::lane_by_id(t.lane);
  if (lane == nullptr) no_task(id);
  const LaneInfo info = lane->info;
  t.ckey = store::key_of(info.queue, t.extra);
  TaskTable table = TaskTable::open();
  table.insert(t, info);
  table.close();
  if (t.batch != 0) {  // it was submitted before, and has not ended after all
    store::tally(t.batch, store::kSubmittedToBatch, -1);
    store::tally(t.batch, static_cast<int>(core::State::Failed), -1);
  }
  audit("redrive", id, nullptr);
  return true;
}

}  // namespace dts

using namespace dts;

DTS_FUNCTION(dts_redrive) {
  const int64 id = task_arg(fcinfo);
  PG_RETURN_DATUM(CStringGetTextDatum(redrive(id) ? "redriven" : core::name(state_of(id))));
}

DTS_FUNCTION(dts_redrive_queue) {
  if (PG_ARGISNULL(0))
    ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("argument \"queue\" must not be null"),
                    errhint("Name a queue, or give a task's id instead.")));
  const int max = PG_ARGISNULL(1) ? 1000 : PG_GETARG_INT32(1);
  if (max < 1)
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("argument \"max_tasks\" must be positive"), errdetail("Got %d.", max),
                    errhint("Leave it out to redrive all.")));
  const char* const name = text_to_cstring(PG_GETARG_TEXT_PP(0));
  const store::Queue* const q = store::queue_by_name(name);
  if (q == nullptr)
    ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("queue \"%s\" does not exist", name), errhint("See dts.queues.")));
  static pg::Statement letters{
      "SELECT d.id, l.owner::oid FROM dts.lane l JOIN dts.dead_letter d ON d.lane = l.id WHERE l.queue = $1 ORDER BY d.failed_at, d.id",
      1,
      {INT4OID}};
  const Datum values[] = {Int32GetDatum(q->id)};
  MemoryContext const memory = CurrentMemoryContext;
  const pg::AsOwner as(store::catalog().owner);
  SPI_connect();
  const uint64 n = letters.run(values);
  auto* const ids = static_cast<int64*>(MemoryContextAllocHuge(memory, sizeof(int64) * (n + 1)));
  auto* const owners = static_cast<Oid*>(MemoryContextAllocHuge(memory, sizeof(Oid) * (n + 1)));
  for (uint64 i = 0; i < n; i++) {
    bool null = false;
    ids[i] = DatumGetInt64(pg::column(i, 1, &null));
    owners[i] = DatumGetObjectId(pg::column(i, 2, &null));
  }
  SPI_finish();
  as.end();
  int64 redriven = 0;
  for (uint64 i = 0; i < n && redriven < max; i++) {
    if (store::role_may(GetUserId(), owners[i]) && redrive(ids[i])) redriven++;
    CHECK_FOR_INTERRUPTS();
  }
  PG_RETURN_INT64(redriven);
}
