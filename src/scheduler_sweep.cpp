// The sweep: rows that were written behind dts's functions (a restore, logical replication, a superuser) are in no lane's set. It looks
// twice, a second apart, so that rows which are just on their way are not counted.
#include "clock_watch.hpp"
#include "scheduler_transaction.hpp"

namespace dts {

using core::State;
using store::Task;
using store::TaskTable;

namespace {

struct Candidate {
  int slot;
  store::LaneInfo lane;
  int64 id;
};
constexpr int kCandidates = 1000;
Candidate candidates[kCandidates];
int candidate_count = 0;

/// Whether a key is where executors look, or on its way there.
bool covered(int slot, int32 lane, core::Key key) {
  store::LaneSlot& l = store::lanes[slot];
  LWLockAcquire(&l.lock, LW_SHARED);
  const bool yes = !l.used || l.lane != lane || l.db != MyDatabaseId || l.set.contains(key) || pg_atomic_read_u32(&l.claims) > 0;
  LWLockRelease(&l.lock);
  return yes;
}

pg::Statement due_rows{"SELECT id, run_at FROM dts.task WHERE lane = $1 AND state = 0 AND run_at <= $2 ORDER BY run_at, id LIMIT $3",
                       3,
                       {INT4OID, TIMESTAMPTZOID, INT4OID}};

}  // namespace

bool sweep_look() {
  candidate_count = 0;
  pg_atomic_fetch_add_u64(&store::database_slot(MyDatabaseId, true)->sweeps, 1);
  list_lanes();
  for (int k = 0; k < store::shared->lane_count && candidate_count < kCandidates; k++) {
    const store::LaneSlot& l = store::lanes[k];
    if (!l.used || l.db != MyDatabaseId || l.queue_slot < 0) continue;
    const store::LaneInfo lane = store::lane_info(l);
    in_transaction("sweeping a lane", [&] {
      // Rows that became due within seconds may be on their way; older ones that no set covers are looked at again later.
      const Datum values[] = {Int32GetDatum(lane.lane), TimestampTzGetDatum(even_now() - 5000000), Int32GetDatum(kCandidates)};
      each_row(due_rows, values, [&](uint64 i) {
        bool null = false;
        const core::Key key{DatumGetTimestampTz(pg::column(i, 2, &null)), DatumGetInt64(pg::column(i, 1, &null))};
        if (candidate_count < kCandidates && !covered(k, lane.lane, key)) candidates[candidate_count++] = Candidate{k, lane, key.id};
      });
    });
  }
  return candidate_count > 0;
}

void sweep_offer() {
  if (candidate_count == 0) return;
  in_transaction("offering swept tasks", [] {
    TaskTable table = TaskTable::open();
    for (int i = 0; i < candidate_count; i++) {
      const Candidate& c = candidates[i];
      Task t;
      if (table.lock(c.id, &t) != TaskTable::Found::Locked || t.state != State::Ready || t.lane != c.lane.lane) continue;
      if (covered(c.slot, c.lane.lane, t.key())) {
        store::touch_locked(c.lane, t.key());
        continue;
      }
      ereport(LOG, (errmsg("dts task " INT64_FORMAT " was due, and no executor had been told of it", c.id)));
      pg_atomic_fetch_add_u64(&store::database_slot(MyDatabaseId, true)->swept, 1);
      store::touch_locked(c.lane, t.key());
    }
    table.close();
  });
  candidate_count = 0;
}

}  // namespace dts
