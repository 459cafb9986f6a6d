#include <algorithm>

#include "scheduler_transaction.hpp"
#include "settings.hpp"
#include "store/journal.hpp"
#include "store/keys.hpp"
#include "store/transfers.hpp"

namespace dts {

namespace {

using core::State;
using store::Lane;
using store::Outcome;
using store::Task;
using store::TaskTable;

constexpr int kSlice = 500;
constexpr int kLapsedAtOnce = 50;

/// Settings of a queue from a row, whose columns begin at `first`: id, name, paused, durable, history, batch_size.
store::QueueSettings queue_row(uint64 i, int first) {
  bool null = false;
  store::QueueSettings q{};
  q.queue = DatumGetInt32(pg::column(i, first, &null));
  strlcpy(q.name, TextDatumGetCString(pg::column(i, first + 1, &null)), sizeof(q.name));
  q.paused = DatumGetBool(pg::column(i, first + 2, &null));
  q.durable = DatumGetBool(pg::column(i, first + 3, &null));
  q.history = TextDatumGetCString(pg::column(i, first + 4, &null))[0];
  q.batch_size = DatumGetInt32(pg::column(i, first + 5, &null));
  return q;
}

}  // namespace

void load_queues() {
  in_transaction("loading queues", [] {
    // One that was dropped gets its place when something waits in it.
    static pg::Statement all{
        "SELECT id, name, paused, durable, history, batch_size FROM dts.queue WHERE dropped_at IS NULL ORDER BY id", 0, {}};
    static int left_out = 0;
    int out = 0;
    each_row(all, nullptr, [&](uint64 i) {
      if (store::apply_queue(MyDatabaseId, queue_row(i, 1)) < 0) out++;
    });
    if (out > left_out)
      ereport(LOG, (errmsg("dts: there are more queues than places in shared memory: %d have to wait for one when they get work", out),
                    errhint("Raise dts.max_queues.")));
    left_out = out;
  });
}

void load_limits() {
  in_transaction("loading limits", [] {
    store::each_limit(0, [](const store::LimitSettings& l) {
      if (!store::apply_limit(MyDatabaseId, l))
        ereport(LOG, (errmsg("dts: no room in shared memory for a limit"), errhint("Raise dts.max_limits.")));
    });
  });
}

void count_waiting() {
  // What commits add meanwhile is kept: only the difference is put right.
  for (int i = 0; i < store::shared->limit_count; i++) {
    store::LimitSlot& l = store::limits[i];
    if (!l.used || l.db != MyDatabaseId || (l.most_waiting < 0 && l.most_bytes < 0)) continue;
    const uint64 before[] = {pg_atomic_read_u64(&l.unfinished), pg_atomic_read_u64(&l.bytes)};
    in_transaction("counting unfinished tasks", [&] {
      static pg::Statement count{
          "SELECT count(*), COALESCE(sum(CASE WHEN e.max_bytes IS NOT NULL THEN dts._payload_bytes(t.sql, t.args) END), 0)::int8 "
          "FROM dts.limit_entry e JOIN dts.lane l ON CASE e.scope WHEN 'queue' THEN l.queue = e.queue WHEN 'handler' THEN "
          "l.handler = e.handler WHEN 'owner' THEN l.owner = e.owner WHEN 'priority' THEN l.priority >= e.priority AND NOT EXISTS (SELECT "
          "FROM "
          "dts.limit_entry x WHERE x.scope = 'priority' AND x.priority > e.priority AND x.priority <= l.priority) ELSE l.tenant = e.tenant "
          "END "
          "JOIN dts.task t ON t.lane = l.id WHERE e.id = $1",
          1,
          {INT4OID}};
      const Datum values[] = {Int32GetDatum(l.entry)};
      each_row(count, values, [&](uint64 row) {
        bool null = false;
        pg_atomic_fetch_add_u64(&l.unfinished, DatumGetInt64(pg::column(row, 1, &null)) - static_cast<int64>(before[0]));
        pg_atomic_fetch_add_u64(&l.bytes, DatumGetInt64(pg::column(row, 2, &null)) - static_cast<int64>(before[1]));
      });
    });
  }
}

void compact_batches() {
  in_transaction("adding up batches", [] {
    static pg::Statement compact{"SELECT dts._compact_batches()", 0, {}};
    int64 n = 0;
    (void)ids(compact, nullptr, 1, &n);
  });
}

bool check_site(char* why, size_t size) {
  strlcpy(why, "its place could not be checked; see the server log", size);
  bool ours = false;
  in_transaction("checking the site", [&] {
    static pg::Statement any{"SELECT FROM dts.site LIMIT 1", 0, {}};
    static pg::Statement other{
        "SELECT s.site FROM dts.site s, dts._place() p WHERE (s.system_identifier, s.database, s.site) IS DISTINCT FROM "
        "(p.system_identifier, p.database, p.site) LIMIT 1",
        0,
        {}};
    const pg::AsOwner as(store::catalog().owner);
    SPI_connect();
    const bool used = any.run(nullptr) > 0;
    ours = used && other.run(nullptr) == 0;
    SPI_finish();
    as.end();
    if (!used)
      strlcpy(why, store::kNothingYet, size);
    else if (!ours)
      strlcpy(why, "this database was restored, cloned or moved; SELECT dts.adopt() lets its tasks run here", size);
  });
  if (ours) why[0] = '\0';
  return ours;
}

TimestampTz list_lanes() {
  static long pace_ms = 0;
  const TimestampTz now = GetCurrentTimestamp();
  bool complete = true;
  int placed = 0;
  TimestampTz next = core::kMax;
  in_transaction("listing lanes", [&] {
    // Earliest first: where the table is too small, it holds the lanes that are due soonest.
    static pg::Statement with_rows{
        "WITH RECURSIVE l AS ((SELECT t.lane FROM dts.task t WHERE t.state = 0 ORDER BY t.lane LIMIT 1) UNION ALL "
        "SELECT (SELECT t.lane FROM dts.task t WHERE t.state = 0 AND t.lane > l.lane ORDER BY t.lane LIMIT 1) FROM l WHERE l.lane IS NOT "
        "NULL) "
        "SELECT d.id, d.owner::oid, d.queue, d.priority, f.run_at, d.handler, d.tenant, d.runner, d.requires, q.id, q.name, q.paused, "
        "q.durable, q.history, q.batch_size FROM l JOIN dts.lane d ON "
        "d.id = "
        "l.lane "
        "JOIN dts.queue q ON q.id = d.queue "
        "CROSS JOIN LATERAL (SELECT t.run_at FROM dts.task t WHERE t.lane = d.id AND t.state = 0 ORDER BY t.run_at LIMIT 1) f "
        "WHERE NOT q.paused ORDER BY f.run_at",
        0,
        {}};
    each_row(with_rows, nullptr, [&](uint64 i) {
      bool null = false;
      const store::LaneInfo lane{DatumGetInt32(pg::column(i, 1, &null)),
                                 DatumGetObjectId(pg::column(i, 2, &null)),
                                 DatumGetInt32(pg::column(i, 3, &null)),
                                 static_cast<int16>(DatumGetInt32(pg::column(i, 4, &null))),
                                 DatumGetInt32(pg::column(i, 6, &null)),
                                 store::tenant_hash(TextDatumGetCString(pg::column(i, 7, &null))),
                                 static_cast<core::Runner>(DatumGetInt16(pg::column(i, 8, &null))),
                                 store::labels_of(TextDatumGetCString(pg::column(i, 9, &null)))};
      const TimestampTz due = DatumGetTimestampTz(pg::column(i, 5, &null));
      if (store::lane_slot_of(MyDatabaseId, lane.lane) >= 0) return;
      if (store::queue_slot(MyDatabaseId, lane.queue) < 0) (void)store::apply_queue(MyDatabaseId, queue_row(i, 10), due);
      if (store::lane_slot_for(MyDatabaseId, lane, due) >= 0) {
        placed++;
        return;
      }
      complete = false;
      next = Min(next, due);
    });
  });
  store::notify_database(MyDatabaseId);
  if (complete) return 0;
  // Those left out are looked at again when the first of them is due, soon as long as lanes empty, else less and less often.
  const TimestampTz then = GetCurrentTimestamp();
  pace_ms = placed > 0 ? 50 : Min(Max(pace_ms, 25L) * 2, 1000L);
  return Max(next, then + Max(pace_ms * 1000, 4 * (then - now)));
}

namespace {

/// Applies what was asked for one task. Returns false if somebody still holds it.
bool apply_request(int64 id) {
  bool done = false;
  in_transaction("applying a request", [&] {
    TaskTable table = TaskTable::open();
    Task t;
    const TaskTable::Found found = table.lock(id, &t);
    if (found == TaskTable::Found::Busy) {
      table.close();
      return;
    }
    // A leased task runs although nobody holds its row: but for a cancel, what was asked for waits for its next attempt.
    const bool leased = found == TaskTable::Found::Locked && t.state == State::Leased;
    const store::Wish wish = store::take_requests(id, leased);
    done = wish.cancel || !leased;
    const Lane* const lane = found == TaskTable::Found::Locked ? store::lane_by_id(t.lane) : nullptr;
    if (lane != nullptr && wish.cancel) {
      Outcome o;
      o.state = State::Cancelled;
      o.ended_at = GetCurrentTimestamp();
      store::end_task(table, t, lane->info, o);
    } else if (lane != nullptr && !leased && (wish.has_run_at || wish.has_priority)) {
      Task now = t;
      const store::LaneInfo from = lane->info;
      const store::LaneInfo to = wish.has_priority ? store::lane_with_priority(*lane, wish.priority) : from;
      if (wish.has_run_at) now.run_at = Max(wish.run_at, GetCurrentTimestamp());
      now.lane = to.lane;
      table.update(t, now, from, to);
    } else if (lane == nullptr) {
      store::board_remove(MyDatabaseId, id);
    }
    table.close();
  });
  return done;
}

}  // namespace

bool apply_requests() {
  static pg::Statement next{"SELECT DISTINCT task FROM dts.request WHERE task > $1 ORDER BY task LIMIT $2", 2, {INT8OID, INT4OID}};
  auto* const task = static_cast<int64*>(palloc(sizeof(int64) * kSlice));
  bool complete = true;
  int64 after = 0;
  for (int n = kSlice; n == kSlice;) {
    n = 0;
    const Datum values[] = {Int64GetDatum(after), Int32GetDatum(kSlice)};
    complete &= in_transaction("reading requests", [&] { n = ids(next, values, kSlice, task); });
    for (int i = 0; i < n; i++) complete &= apply_request(task[i]);
    if (n > 0) after = task[n - 1];
  }
  pfree(task);
  return complete;
}

namespace {

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

void maintain_history() {
  in_transaction("creating and dropping partitions of history", [] {
    static pg::Statement partitions{"SELECT dts._maintain_history()", 0, {}};
    each_row(partitions, nullptr, [](uint64) {});
  });
  for (int turn = 0; turn < 100; turn++) {
    int64 removed = 0;
    in_transaction("removing old history", [&] {
      static pg::Statement purge{"SELECT dts._purge(5000)", 0, {}};
      (void)ids(purge, nullptr, 1, &removed);
    });
    if (removed < 5000) break;
    CHECK_FOR_INTERRUPTS();
  }
  // Charges against tasks that are gone would only make the others' look-ups longer.
  int64 charged[256];
  const int n = store::charges(MyDatabaseId, charged, 256);
  for (int i = 0; i < n; i++) {
    in_transaction("looking at a charge", [&] {
      TaskTable table = TaskTable::open();
      Task t;
      if (!table.read(charged[i], &t)) store::charge_remove(MyDatabaseId, charged[i]);
      table.close();
    });
  }
}

void count_keys() {
  store::DatabaseSlot* const d = store::database_slot(MyDatabaseId, true);
  if (d->keys_counted) return;
  count_agents_leases();
  d->keys_counted = in_transaction("counting keys of leases", [] {
    static pg::Statement leased{"SELECT ckey, id FROM dts.task WHERE state = 2 AND ckey IS NOT NULL", 0, {}};
    each_row(leased, nullptr, [](uint64 i) {
      bool null = false;
      store::key_taken(DatumGetInt64(pg::column(i, 1, &null)), DatumGetInt64(pg::column(i, 2, &null)));
    });
  });
  store::look_at_all_keys(MyDatabaseId);
}

namespace {
/// Looks at keys, a slice in each transaction.
bool look_at(const int64* key, int n) {
  bool done = true;
  for (int at = 0; at < n; at += 50)
    done &= in_transaction("releasing concurrency keys", [&] {
      TaskTable table = TaskTable::open();
      for (int i = at; i < Min(n, at + 50); i++) store::look_at_key(table, key[i]);
      table.close();
    });
  return done;
}
}  // namespace

bool look_at_keys() {
  static pg::Statement parked{
      "SELECT DISTINCT ckey FROM dts.task WHERE state = 4 AND ckey IS NOT NULL AND ckey > $1 ORDER BY ckey LIMIT $2",
      2,
      {INT8OID, INT4OID}};
  bool all = false, done = true;
  int64 key[store::kKeyNotes];
  int n = 0;
  while ((n = store::keys_to_look_at(key, store::kKeyNotes, &all)) > 0 || all) {
    done &= look_at(key, n);
    int64 after = PG_INT64_MIN;
    for (n = kSlice; all && n == kSlice;) {
      int64 slice[kSlice];
      const Datum values[] = {Int64GetDatum(after), Int32GetDatum(kSlice)};
      n = 0;
      done &= in_transaction("looking for parked tasks", [&] { n = ids(parked, values, kSlice, slice); });
      done &= look_at(slice, n);
      if (n > 0) after = slice[n - 1];
    }
    if (!done) {
      store::look_at_all_keys(MyDatabaseId);
      break;
    }
  }
  return done;
}

bool any_task() {
  bool any = true;
  in_transaction("looking for unfinished tasks", [&] {
    static pg::Statement exists{"SELECT 1::bigint FROM dts.task LIMIT 1", 0, {}};
    int64 one = 0;
    any = ids(exists, nullptr, 1, &one) > 0;
  });
  return any;
}

}  // namespace dts
