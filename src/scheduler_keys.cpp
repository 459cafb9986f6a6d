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

}  // namespace dts
