// Leases of agents that were not renewed: the attempt failed, and the task is tried again or dead (docs/architecture.md, "Agents").
#include "scheduler_transaction.hpp"
#include "store/agents.hpp"
#include "store/board.hpp"
#include "store/leases.hpp"

namespace dts {

namespace {

using core::State;
using store::Lane;
using store::Outcome;
using store::Task;
using store::TaskTable;

constexpr int kSlice = 200;

struct Lapsed {
  pg_uuid_t token;
  int64 task;
};

/// Whether a lease is over, its row being locked; `timed_out`: it could not be renewed any more.
enum class Over { Yes, No, Busy };
Over is_over(const Lapsed& l, bool* timed_out) {
  static pg::Statement lock{
      "SELECT until <= pg_catalog.clock_timestamp(), deadline IS NOT NULL AND deadline <= pg_catalog.clock_timestamp() FROM dts.lease "
      "WHERE token = $1 FOR UPDATE SKIP LOCKED",
      1,
      {UUIDOID}};
  const Datum values[] = {UUIDPGetDatum(&l.token)};
  Over over = Over::Busy;
  each_row(lock, values, [&](uint64 i) {
    bool null = false;
    over = DatumGetBool(pg::column(i, 1, &null)) ? Over::Yes : Over::No;
    *timed_out = DatumGetBool(pg::column(i, 2, &null));
  });
  return over;
}

void forget_lease(const Lapsed& l) {
  static pg::Statement forget{
      "DELETE FROM dts.lease x USING (SELECT token FROM dts.lease WHERE token = $1 AND until <= "
      "pg_catalog.clock_timestamp() FOR UPDATE SKIP LOCKED) l WHERE x.token = l.token",
      1,
      {UUIDOID}};
  const Datum values[] = {UUIDPGetDatum(&l.token)};
  each_row(forget, values, [](uint64) {});
}

void take_back(TaskTable& table, Task& t, const store::LaneInfo& lane, bool timed_out) {
  Outcome o;
  o.ended_at = GetCurrentTimestamp();
  constexpr const char* kHint = "It may have had its effect, in part or whole.";
  o.error = timed_out ? store::error_json(ERRCODE_QUERY_CANCELED, "the agent did not end it within its timeout", kHint)
                      : store::error_json(MAKE_SQLSTATE('T', 'Q', '0', '1', '2'), "the agent did not renew its lease in time", kHint);
  t.attempt--;  // it was counted when it was leased
  if (store::board_has(MyDatabaseId, t.id)) {
    o.state = State::Cancelled;
    store::end_task(table, t, lane, o);
  } else {
    store::fail_task(table, t, lane, o, true);
  }
}

/// One lease whose time has come. False if somebody holds it just now.
bool lapse(const Lapsed& l) {
  bool done = true;
  in_transaction("taking an agent's lease back", [&] {
    TaskTable table = TaskTable::open();
    Task t;
    const TaskTable::Found found = table.lock(l.task, &t);
    const bool its =
        found == TaskTable::Found::Locked && t.state == State::Leased && t.has_token && memcmp(&t.token, &l.token, UUID_LEN) == 0;
    const Lane* const lane = its ? store::lane_by_id(t.lane) : nullptr;
    bool timed_out = false;
    if (found == TaskTable::Found::Busy) {
      done = false;
    } else if (lane == nullptr) {
      forget_lease(l);
    } else {
      const store::LaneInfo info = lane->info;
      const Over over = is_over(l, &timed_out);
      if (over == Over::Yes) take_back(table, t, info, timed_out);
      done = over != Over::Busy;
    }
    table.close();
  });
  return done;
}

/// Live entries begin here: what lies before was looked at, and is not walked again.
TimestampTz not_before = PG_INT64_MIN;

TimestampTz next_until() {
  static pg::Statement first{"SELECT until FROM dts.lease WHERE until >= $1 ORDER BY until LIMIT 1", 1, {TIMESTAMPTZOID}};
  const Datum values[] = {TimestampTzGetDatum(not_before)};
  TimestampTz next = core::kMax;
  in_transaction("looking for the next lease to end", [&] {
    each_row(first, values, [&](uint64 i) {
      bool null = false;
      next = DatumGetTimestampTz(pg::column(i, 1, &null));
    });
  });
  return next;
}

int read_over(TimestampTz now, Lapsed* out) {
  static pg::Statement over{"SELECT token, task FROM dts.lease WHERE until >= $1 AND until <= $2 ORDER BY until LIMIT $3",
                            3,
                            {TIMESTAMPTZOID, TIMESTAMPTZOID, INT4OID}};
  const Datum values[] = {TimestampTzGetDatum(not_before), TimestampTzGetDatum(now), Int32GetDatum(kSlice)};
  int n = 0;
  in_transaction("looking for leases that are over", [&] {
    each_row(over, values, [&](uint64 i) {
      bool null = false;
      out[n].token = *DatumGetUUIDP(pg::column(i, 1, &null));
      out[n++].task = DatumGetInt64(pg::column(i, 2, &null));
    });
  });
  return n;
}

}  // namespace

TimestampTz lapse_agents(bool everything) {
  store::DatabaseSlot* const d = store::database_slot(MyDatabaseId, true);
  if (everything) not_before = PG_INT64_MIN;
  auto* const l = static_cast<Lapsed*>(palloc(sizeof(Lapsed) * kSlice));
  const TimestampTz now = GetCurrentTimestamp();
  bool complete = true;
  int n = kSlice;
  for (int turn = 0; n == kSlice && complete && turn < 50; turn++) {
    n = read_over(now, l);
    for (int i = 0; i < n; i++) complete &= lapse(l[i]);
  }
  pfree(l);
  if (complete && n < kSlice) not_before = now - 60 * USECS_PER_SEC;
  // Say when we look, then look once more: a lease may have come in between (who makes one looks at what we said after its commit).
  for (;;) {
    const TimestampTz next = next_until();
    pg_atomic_write_u64(&d->lapse_at, static_cast<uint64>(next));
    pg_memory_barrier();
    const TimestampTz again = next_until();
    if (again >= next) return next == core::kMax ? 0 : complete ? next : Max(next, GetCurrentTimestamp() + USECS_PER_SEC / 2);
  }
}

void tidy_agents() {
  // Leased, and nobody knows by whom: a dump without leases, rows that were removed by hand.
  static pg::Statement lost{
      "SELECT t.id FROM dts.task t WHERE t.state = 2 AND t.kind IN (3, 4) AND NOT EXISTS (SELECT FROM dts.lease l WHERE l.token = t.token) "
      "LIMIT $1",
      1,
      {INT4OID}};
  int64 task[kSlice];
  int n = 0;
  const Datum values[] = {Int32GetDatum(kSlice)};
  in_transaction("looking for agents' tasks without a lease", [&] { n = ids(lost, values, kSlice, task); });
  for (int i = 0; i < n; i++)
    in_transaction("taking an agent's task back", [&] {
      TaskTable table = TaskTable::open();
      Task t;
      store::Lease lease;
      const bool its =
          table.lock(task[i], &t) == TaskTable::Found::Locked && t.state == State::Leased && !store::read_lease(t.token, &lease);
      const Lane* const lane = its ? store::lane_by_id(t.lane) : nullptr;
      if (lane != nullptr && lane->info.runner == core::Runner::Agent) take_back(table, t, lane->info, false);
      table.close();
    });
}

void count_agents_leases() {
  // Only after the shared memory was made anew: each lease gets its whole period once more, and its places back.
  in_transaction("counting leases of agents", [] {
    static pg::Statement renew{"UPDATE dts.lease SET until = pg_catalog.clock_timestamp() + period WHERE ended IS NULL", 0, {}};
    static pg::Statement count{"SELECT lane, count(*)::int FROM dts.task WHERE state = 2 AND kind IN (3, 4) GROUP BY lane", 0, {}};
    each_row(renew, nullptr, [](uint64) {});
    each_row(count, nullptr, [](uint64 i) {
      bool null = false;
      const int n = DatumGetInt32(pg::column(i, 2, &null));
      const Lane* const lane = store::lane_by_id(DatumGetInt32(pg::column(i, 1, &null)));
      if (lane != nullptr) store::leases_found(lane->info, n);
    });
  });
}

}  // namespace dts
