// Ends that nobody else sees: leases whose holder is gone, tasks that expired or lost their owner.
#include <algorithm>

#include "scheduler_transaction.hpp"
#include "settings.hpp"
#include "store/journal.hpp"
#include "store/transfers.hpp"

namespace dts {

using core::State;
using store::Lane;
using store::Outcome;
using store::Task;
using store::TaskTable;

namespace {

constexpr int kSlice = 500;
constexpr int kLapsedAtOnce = 50;

/// Takes one lease back, if nobody holds it any more.
void lapse(TaskTable& table, int64 id) {
  Task t;
  if (table.lock(id, &t) != TaskTable::Found::Locked || t.state != State::Leased || store::slots_hold(MyDatabaseId, t.id)) return;
  const Lane* const lane = store::lane_by_id(t.lane);
  if (lane == nullptr) return;
  Outcome o;
  o.ended_at = GetCurrentTimestamp();
  const store::Charge charge = store::charge_of(MyDatabaseId, t.id);
  o.charged = charge != store::Charge::None;
  o.crashed = charge == store::Charge::Crash;
  o.error = store::error_json(ERRCODE_ADMIN_SHUTDOWN, "the server process that ran this task is gone",
                              "It may have had its effect, in part or whole.");
  t.attempt--;  // it was counted when it was leased
  if (store::board_has(MyDatabaseId, t.id)) {
    o.state = State::Cancelled;
    store::end_task(table, t, lane->info, o);
  } else {
    store::fail_task(table, t, lane->info, o, !o.crashed);
  }
}

}  // namespace

void lapse_leases() {
  // Those of agents (kind 3) have a clock of their own. A courier may hold thousands: what it holds is looked up once for all.
  static pg::Statement leased{"SELECT id FROM dts.task WHERE state = 2 AND kind < 3 ORDER BY id LIMIT $1", 1, {INT4OID}};
  const int room = settings::max_transfers + store::kMaxSlots + kSlice;
  auto* const task = static_cast<int64*>(palloc(sizeof(int64) * static_cast<Size>(room)));
  int64* held = nullptr;
  const int held_count = store::transfers_of(MyDatabaseId, &held);
  int n = 0, gone = 0;
  const Datum values[] = {Int32GetDatum(room)};
  in_transaction("looking at leases", [&] { n = ids(leased, values, room, task); });
  for (int i = 0; i < n; i++)
    if (!std::binary_search(held, held + held_count, task[i]) && !store::slots_hold(MyDatabaseId, task[i])) task[gone++] = task[i];
  for (int from = 0; from < gone; from += kLapsedAtOnce)
    in_transaction("taking leases back", [&] {
      TaskTable table = TaskTable::open();
      for (int i = from; i < Min(gone, from + kLapsedAtOnce); i++) lapse(table, task[i]);
      table.close();
    });
  pfree(task);
  pfree(held);
}

namespace {

void end_all(pg::Statement& which, Datum argument, State state, int sqlstate, const char* message) {
  auto* const task = static_cast<int64*>(palloc(sizeof(int64) * kSlice));
  int n = kSlice;
  const Datum values[] = {Int32GetDatum(kSlice), argument};
  while (n == kSlice) {
    n = 0;
    int ended = 0;
    if (!in_transaction("looking for tasks to end", [&] { n = ids(which, values, kSlice, task); })) break;
    if (n == 0) break;
    in_transaction("ending tasks", [&] {
      TaskTable table = TaskTable::open();
      for (int i = 0; i < n; i++) {
        Task t;
        if (table.lock(task[i], &t) != TaskTable::Found::Locked || t.state == State::Leased) continue;
        const Lane* const lane = store::lane_by_id(t.lane);
        if (lane == nullptr) continue;
        Outcome o;
        o.state = state;
        o.ended_at = GetCurrentTimestamp();
        if (message != nullptr) o.error = store::error_json(sqlstate, message, nullptr);
        store::end_task(table, t, lane->info, o);
        ended++;
      }
      table.close();
    });
    if (ended == 0) break;
  }
  pfree(task);
}

}  // namespace

void end_expired(TimestampTz from) {
  // With a lower bound, so that the alarm does not walk what has expired, or ended before it did, long ago.
  static pg::Statement expired{
      "SELECT id FROM dts.task WHERE expires_at <= pg_catalog.clock_timestamp() AND expires_at >= $2 AND state IN (0, 1, 3) LIMIT $1",
      2,
      {INT4OID, TIMESTAMPTZOID}};
  static pg::Statement orphaned{
      "SELECT t.id FROM dts.lane l JOIN dts.task t ON t.lane = l.id AND t.state = 0 "
      "WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_authid a WHERE a.oid = l.owner::oid) LIMIT $1",
      1,
      {INT4OID}};
  end_all(expired, TimestampTzGetDatum(from == 0 ? DT_NOBEGIN : from), State::Expired, 0, nullptr);
  if (from != 0) return;
  end_all(orphaned, Datum{0}, State::Failed, ERRCODE_UNDEFINED_OBJECT, "the role that owned this task was dropped");
}

TimestampTz next_expiry(TimestampTz after) {
  static pg::Statement first{
      "SELECT expires_at FROM dts.task WHERE expires_at > $1 AND state IN (1, 3) ORDER BY expires_at LIMIT 1", 1, {TIMESTAMPTZOID}};
  const Datum value = TimestampTzGetDatum(after);
  TimestampTz at = core::kMax;
  in_transaction("looking for the next expiry", [&] {
    each_row(first, &value, [&](uint64 i) {
      bool null = false;
      at = DatumGetTimestampTz(pg::column(i, 1, &null));
    });
  });
  return at;
}

}  // namespace dts
