// Concurrency keys: counted at the start, looked at when one may be free.
#include "scheduler_transaction.hpp"
#include "store/keys.hpp"

namespace dts {

using store::TaskTable;

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

constexpr int kSlice = 500;

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

namespace {

/// A free key and the first task that is parked behind it.
struct Idle {
  int64 key, task;
};
constexpr int kIdle = 500;
Idle idle[kIdle];
int idle_count = 0;

/// Free keys with parked tasks and none that is ready, or runs: one probe of the index for each key. In strict order a first task that
/// is not parked is what the others wait for.
int idle_keys(Idle* out) {
  static pg::Statement free{
      "WITH RECURSIVE k(key) AS ((SELECT ckey FROM dts.task WHERE ckey IS NOT NULL AND state = 4 ORDER BY ckey LIMIT 1) "
      "UNION ALL SELECT (SELECT t.ckey FROM dts.task t WHERE t.ckey > k.key AND t.state = 4 ORDER BY t.ckey LIMIT 1) FROM k "
      "WHERE k.key IS NOT NULL) "
      "SELECT k.key, p.id, p.lane, p.state = 4 FROM k CROSS JOIN LATERAL "
      "(SELECT id, lane, state FROM dts.task t WHERE t.ckey = k.key ORDER BY t.id LIMIT 1) p "
      "WHERE NOT EXISTS (SELECT FROM dts.task t WHERE t.ckey = k.key AND t.state IN (0, 2)) LIMIT $1",
      1,
      {INT4OID}};
  int32 lane[kIdle];
  bool parked[kIdle];
  int found = 0, n = 0;
  in_transaction("sweeping concurrency keys", [&] {
    const Datum values[] = {Int32GetDatum(kIdle)};
    each_row(free, values, [&](uint64 i) {
      bool null = false;
      if (found == kIdle) return;
      out[found] = Idle{DatumGetInt64(pg::column(i, 1, &null)), DatumGetInt64(pg::column(i, 2, &null))};
      lane[found] = DatumGetInt32(pg::column(i, 3, &null));
      parked[found++] = DatumGetBool(pg::column(i, 4, &null));
    });
    for (int i = 0; i < found; i++) {
      const store::Lane* const l = store::lane_by_id(lane[i]);
      int held = 0;
      (void)store::key_holder(out[i].key, &held);
      if (l != nullptr && held == 0 && (parked[i] || !store::key_policy(l->info).fifo)) out[n++] = out[i];
    }
  });
  return n;
}

}  // namespace

bool sweep_keys() {
  idle_count = 0;
  if (pg_atomic_read_u32(&store::database_slot(MyDatabaseId, true)->parked) == 0) return false;
  idle_count = idle_keys(idle);
  return idle_count > 0;
}

void sweep_keys_again() {
  if (idle_count == 0) return;
  // A key that is at work has another first task by now.
  static Idle still[kIdle];
  const int n = idle_keys(still);
  for (int i = 0; i < n; i++)
    for (int k = 0; k < idle_count; k++)
      if (idle[k].key == still[i].key && idle[k].task == still[i].task) {
        ereport(LOG, (errmsg("dts task " INT64_FORMAT " was parked behind a concurrency key that is free", still[i].task)));
        pg_atomic_fetch_add_u64(&store::database_slot(MyDatabaseId, true)->swept, 1);
        store::look_afresh(still[i].key);
      }
  idle_count = 0;
}

}  // namespace dts
