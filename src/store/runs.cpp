#include "store/runs.hpp"

#include "pg/as_owner.hpp"
#include "settings.hpp"
#include "store/batches.hpp"
#include "store/keys.hpp"
#include "store/leases.hpp"
#include "store/notifications.hpp"
#include "store/policy.hpp"

extern "C" {
#include "common/pg_prng.h"
}

namespace dts::store {

namespace {

bool of_agent(const Task& t, const LaneInfo& lane) { return t.state == core::State::Leased && lane.runner == core::Runner::Agent; }

const char* safe_name(core::State s) { return core::name(s); }

void remember_error(int queue_slot, const Outcome& o) {
  if (queue_slot < 0 || o.error == nullptr) return;
  JsonbValue v;
  if (!json_member(o.error, "message", &v) || v.type != jbvString) return;
  QueueSlot& q = queues[queue_slot];
  LWLockAcquire(&q.error_lock, LW_EXCLUSIVE);
  const int n = pg_mbcliplen(v.val.string.val, v.val.string.len, sizeof(q.last_error) - 1);
  memcpy(q.last_error, v.val.string.val, n);
  q.last_error[n] = '\0';
  q.last_error_at = o.ended_at;
  LWLockRelease(&q.error_lock);
}

void tell_end(const Task& t, int queue_slot, const Outcome& o) {
  Ended e{};
  e.task = t.id;
  e.outcome = o.state;
  e.queue_slot = queue_slot;
  e.lane_slot = shared == nullptr ? -1 : lane_slot_of(MyDatabaseId, t.lane);
  e.bytes = t.bytes();
  e.ran = o.started_at != 0;
  e.charged = o.charged;
  e.run_us = e.ran ? o.ended_at - o.started_at : 0;
  e.wait_us = e.ran ? o.started_at - Max(t.run_at, t.submitted_at) : 0;
  touch_ended(e);
}

/// Releases the idempotency key of a task that ends. Somebody who is just taking the key over holds its row: he sees for himself
/// that the task is gone, so nobody waits here.
pg::Statement key_end{
    "WITH k AS (SELECT owner, key, keep FROM dts.key WHERE task = $1 FOR UPDATE SKIP LOCKED), "
    "u AS (UPDATE dts.key x SET free_at = pg_catalog.clock_timestamp() + k.keep FROM k WHERE k.keep IS NOT NULL AND (x.owner, x.key) = "
    "(k.owner, k.key)) "
    "DELETE FROM dts.key x USING k WHERE k.keep IS NULL AND (x.owner, x.key) = (k.owner, k.key)",
    1,
    {INT8OID}};

pg::Statement dead_letter{
    "INSERT INTO dts.dead_letter (id, failed_at, submitted_at, lane, timeout_ms, handler, flags, kind, attempt, max_attempts, crashes, "
    "sql, args, extra, error, batch) "
    "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16) ON CONFLICT (id) DO NOTHING",
    16,
    {INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT4OID, INT4OID, INT4OID, INT4OID, INT2OID, INT2OID, INT2OID, INT2OID, TEXTOID, JSONBOID,
     JSONBOID, JSONBOID, INT8OID}};

void keep_dead_letter(const Task& t, const Outcome& o) {
  const Datum values[] = {Int64GetDatum(t.id),
                          TimestampTzGetDatum(o.ended_at),
                          TimestampTzGetDatum(t.submitted_at),
                          Int32GetDatum(t.lane),
                          Int32GetDatum(t.timeout_ms),
                          Int32GetDatum(t.handler),
                          Int32GetDatum(t.flags),
                          Int16GetDatum(static_cast<int16>(t.kind)),
                          Int16GetDatum(t.attempt),
                          Int16GetDatum(t.max_attempts),
                          Int16GetDatum(t.crashes),
                          PointerGetDatum(t.sql),
                          PointerGetDatum(t.args),
                          PointerGetDatum(t.extra),
                          PointerGetDatum(o.error),
                          Int64GetDatum(t.batch)};
  char nulls[17];
  memset(nulls, ' ', 16);
  nulls[16] = '\0';
  if (t.sql == nullptr) nulls[11] = 'n';
  if (t.args == nullptr) nulls[12] = 'n';
  if (t.extra == nullptr) nulls[13] = 'n';
  if (o.error == nullptr) nulls[14] = 'n';
  if (t.batch == 0) nulls[15] = 'n';
  const pg::AsOwner as(catalog().owner);
  SPI_connect();
  dead_letter.run(values, nulls);
  SPI_finish();
  as.end();
}

void release_key(const Task& t) {
  const Datum values[] = {Int64GetDatum(t.id)};
  const pg::AsOwner as(catalog().owner);
  SPI_connect();
  key_end.run(values, nullptr, true);
  SPI_finish();
  as.end();
}

/// The scheduler counts it; it is woken if the schedule waits for this end.
void note_scheduled_end(const Task& t, const Outcome& o) {
  static pg::Statement note{
      "UPDATE dts.schedule_run SET ended_at = $2, outcome = $3 WHERE task = $1 RETURNING wakes", 3, {INT8OID, TIMESTAMPTZOID, INT2OID}};
  const Datum values[] = {Int64GetDatum(t.id), TimestampTzGetDatum(o.ended_at), Int16GetDatum(static_cast<int16>(o.state))};
  const pg::AsOwner as(catalog().owner);
  SPI_connect();
  bool null = false;
  if (note.run(values, nullptr, true) > 0 && DatumGetBool(pg::column(0, 1, &null))) touch_events(kScheduleRun);
  SPI_finish();
  as.end();
}

}  // namespace

void end_task(TaskTable& tasks, const Task& t, const LaneInfo& lane, const Outcome& outcome) {
  Outcome o = outcome;
  if (of_agent(t, lane)) lease_left(t, lane, &o);
  if (!core::may_move(t.state, o.state)) elog(ERROR, "task cannot move from %s to %s", safe_name(t.state), safe_name(o.state));
  tasks.remove(t, lane);
  const int slot = shared == nullptr ? -1 : queue_slot(MyDatabaseId, lane.queue);
  char history = 'a';
  if (slot >= 0) {
    history = queues[slot].history;
  } else if (const Queue* const q = queue_by_id(lane.queue)) {
    history = q->history;
  }
  add_run(t, lane, history, o);
  if (o.state == core::State::Failed && o.dead_letter) {
    keep_dead_letter(t, o);
    remember_error(slot, o);
  }
  if ((t.flags & core::kHasKey) != 0) release_key(t);
  if (t.ckey != 0) key_left(tasks, t, lane, false);
  if (t.batch != 0) tally(t.batch, static_cast<int>(o.state), 1);
  if ((t.flags & core::kScheduled) != 0) note_scheduled_end(t, o);
  announce(t, lane, o);
  tell_end(t, slot, o);
}

Wish take_requests(int64 task, bool leased) {
  // One statement: what is asked for between reading and forgetting must not be forgotten.
  static pg::Statement take{
      "WITH r AS (DELETE FROM dts.request WHERE task = $1 "
      "AND (NOT $2 OR EXISTS (SELECT FROM dts.request c WHERE c.task = $1 AND c.kind = 'cancel')) RETURNING kind, run_at, priority, at) "
      "SELECT bool_or(kind = 'cancel'), (array_agg(run_at ORDER BY at DESC) FILTER (WHERE kind = 'reschedule'))[1], "
      "(array_agg(priority ORDER BY at DESC) FILTER (WHERE kind = 'priority'))[1] FROM r",
      2,
      {INT8OID, BOOLOID}};
  const Datum values[] = {Int64GetDatum(task), BoolGetDatum(leased)};
  Wish w{};
  const pg::AsOwner as(catalog().owner);
  SPI_connect();
  if (take.run(values) == 1) {
    bool null = false;
    w.cancel = DatumGetBool(pg::column(0, 1, &null)) && !null;
    w.run_at = DatumGetTimestampTz(pg::column(0, 2, &null));
    w.has_run_at = !null;
    w.priority = DatumGetInt32(pg::column(0, 3, &null));
    w.has_priority = !null;
  }
  SPI_finish();
  as.end();
  return w;
}

core::State fail_task(TaskTable& tasks, const Task& t, const LaneInfo& lane, Outcome& o, bool counts) {
  Task now = t;
  if (counts) now.attempt = static_cast<int16>(t.attempt + 1);
  JsonbValue v;
  char sqlstate[6] = "XX000";
  if (json_member(o.error, "sqlstate", &v) && v.type == jbvString && v.val.string.len == 5) memcpy(sqlstate, v.val.string.val, 5);
  if (o.crashed) {
    // The first crash may be a bystander's; from then on it runs alone, and only those crashes count.
    if ((t.flags & core::kSuspect) != 0) now.crashes = static_cast<int16>(t.crashes + 1);
    now.flags |= core::kSuspect;
  }
  const bool used_up = o.crashed ? now.crashes >= settings::max_crashes : counts && now.attempt >= t.max_attempts;
  TimestampTz next_at = used_up || o.final ? 0
                        : o.again_at != 0  ? o.again_at
                                           : next_attempt_at(t, Max(now.attempt, 1), sqlstate, o.permanent);
  if (next_at != 0) next_at = Max(next_at, o.not_before);
  if (next_at == 0) {
    o.state = core::State::Failed;
    end_task(tasks, now, lane, o);
    return o.state;
  }
  Task again = now;
  again.run_at = next_at;
  again.state = core::State::Ready;
  again.has_lease = again.has_token = false;
  // What was noted while the attempt ran holds for the next one, however soon that comes.
  const DatabaseSlot* const d = shared == nullptr ? nullptr : database_slot(MyDatabaseId, false);
  Wish wish{};
  if (d != nullptr && pg_atomic_read_u32(const_cast<pg_atomic_uint32*>(&d->notes)) != 0) wish = take_requests(t.id, false);
  if (wish.cancel) {
    o.state = core::State::Cancelled;
    end_task(tasks, now, lane, o);
    return o.state;
  }
  LaneInfo to = lane;
  if (wish.has_priority)
    if (const Lane* const l = lane_by_id(t.lane)) to = lane_with_priority(*l, wish.priority);
  again.lane = to.lane;
  if (wish.has_run_at) again.run_at = Max(wish.run_at, GetCurrentTimestamp());
  o.state = core::State::Retry;
  o.retry_at = again.run_at;
  tasks.update(t, again, lane, to);
  if (of_agent(t, lane)) lease_left(t, lane, &o);
  if (t.ckey != 0) key_left(tasks, t, lane, true);
  const int slot = shared == nullptr ? -1 : queue_slot(MyDatabaseId, lane.queue);
  add_run(now, lane, slot >= 0 ? queues[slot].history : 'a', o);
  remember_error(slot, o);
  announce(now, lane, o);
  tell_end(t, slot, o);
  return o.state;
}

TimestampTz next_attempt_at(const Task& t, int attempt, const char* sqlstate, bool permanent) {
  Jsonb* policy = nullptr;
  JsonbValue v;
  if (json_member(t.extra, "retry", &v) && v.type == jbvBinary) policy = JsonbValueToJsonb(&v);
  JsonbValue named;
  if (!retry_wanted(policy, sqlstate) || (permanent && !json_member(policy, "on", &named))) return 0;
  return GetCurrentTimestamp() + backoff_ms(t, attempt) * 1000;
}

int64 backoff_ms(const Task& t, int attempt) {
  Jsonb* policy = nullptr;
  JsonbValue v;
  if (json_member(t.extra, "retry", &v) && v.type == jbvBinary) policy = JsonbValueToJsonb(&v);
  return core::retry_delay_ms(read_retry(policy), attempt, pg_prng_double(&pg_global_prng_state));
}

}  // namespace dts::store
