#include <algorithm>

#include "scheduler_transaction.hpp"
#include "schedules.hpp"
#include "settings.hpp"
#include "store/journal.hpp"

namespace dts {

namespace {

using core::State;
using store::Lane;
using store::Outcome;
using store::Task;
using store::TaskTable;

constexpr int kSlice = 500;
constexpr int kPurged = 5000;

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

namespace {

/// A lane from a row of list_lanes.
store::LaneInfo lane_row(uint64 i) {
  bool null = false;
  return {DatumGetInt32(pg::column(i, 1, &null)),
          DatumGetObjectId(pg::column(i, 2, &null)),
          DatumGetInt32(pg::column(i, 3, &null)),
          static_cast<int16>(DatumGetInt32(pg::column(i, 4, &null))),
          DatumGetInt32(pg::column(i, 6, &null)),
          store::tenant_hash(TextDatumGetCString(pg::column(i, 7, &null))),
          static_cast<core::Runner>(DatumGetInt16(pg::column(i, 8, &null))),
          store::labels_of(TextDatumGetCString(pg::column(i, 9, &null)))};
}

/// Earliest first: where the table is too small, it holds the lanes that are due soonest.
pg::Statement lanes_with_rows{
    "WITH RECURSIVE l AS ((SELECT t.lane FROM dts.task t WHERE t.state = 0 ORDER BY t.lane LIMIT 1) UNION ALL "
    "SELECT (SELECT t.lane FROM dts.task t WHERE t.state = 0 AND t.lane > l.lane ORDER BY t.lane LIMIT 1) FROM l WHERE l.lane IS NOT "
    "NULL) "
    "SELECT d.id, d.owner::oid, d.queue, d.priority, f.run_at, d.handler, d.tenant, d.runner, d.requires, q.id, q.name, q.paused, "
    "q.durable, q.history, q.batch_size FROM l JOIN dts.lane d ON d.id = l.lane "
    "JOIN dts.queue q ON q.id = d.queue "
    "CROSS JOIN LATERAL (SELECT t.run_at FROM dts.task t WHERE t.lane = d.id AND t.state = 0 ORDER BY t.run_at LIMIT 1) f "
    "WHERE NOT q.paused ORDER BY f.run_at",
    0,
    {}};

}  // namespace

TimestampTz list_lanes() {
  static long pace_ms = 0;
  const TimestampTz now = GetCurrentTimestamp();
  bool complete = true;
  int placed = 0;
  TimestampTz next = core::kMax;
  // Roles for which there was no room: what of theirs is due later needs not be tried. There may be more of them than are kept.
  Oid refused[64];
  int refusals = 0;
  in_transaction("listing lanes", [&] {
    each_row(lanes_with_rows, nullptr, [&](uint64 i) {
      bool null = false;
      const store::LaneInfo lane = lane_row(i);
      const TimestampTz due = DatumGetTimestampTz(pg::column(i, 5, &null));
      if (store::lane_slot_of(MyDatabaseId, lane.lane) >= 0) return;
      if (std::find(refused, refused + refusals, lane.owner) == refused + refusals) {
        if (store::queue_slot(MyDatabaseId, lane.queue) < 0) (void)store::apply_queue(MyDatabaseId, queue_row(i, 10), due);
        if (store::lane_slot_for(MyDatabaseId, lane, due) >= 0) {
          placed++;
          return;
        }
        if (refusals < static_cast<int>(lengthof(refused)) && store::queue_slot(MyDatabaseId, lane.queue) >= 0)
          refused[refusals++] = lane.owner;
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

long maintain_history() {
  // Of a history that is read all the time partitions go as well: with more patience each time, and less often, so that readers wait
  // little.
  constexpr int kPatience = 100, kMostPatience = 5000;
  static int patience_ms = kPatience;
  int32 left = 0;
  // A clock that leaps far forward is wrong as often as right: nothing is removed for its age until it has had time to be put right.
  const bool remove = !clock_leapt();
  in_transaction("creating and dropping partitions of history", [&] {
    static pg::Statement partitions{"SELECT dts._maintain_history($1)", 1, {INT4OID}};
    const Datum patience[] = {Int32GetDatum(remove ? patience_ms : 0)};
    each_row(partitions, patience, [&](uint64) {
      bool null = false;
      left = DatumGetInt32(pg::column(0, 1, &null));
    });
  });
  int64 removed = 0;
  for (int turn = 0; turn < 100 && remove; turn++) {
    removed = 0;
    in_transaction("removing old history", [&] {
      static pg::Statement purge{"SELECT dts._purge($1)", 1, {INT4OID}};
      const Datum most[] = {Int32GetDatum(kPurged)};
      (void)ids(purge, most, 1, &removed);
    });
    if (removed < kPurged) break;
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
  const long again_s = left == 0 ? (removed < kPurged ? 3600 : 60) : Min(60L * patience_ms / kPatience, 3600L);
  patience_ms = left == 0 ? kPatience : Min(patience_ms * 2, kMostPatience);
  return again_s;
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
