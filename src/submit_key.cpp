// Idempotency keys: one row for each key and owner in dts.key. One mechanism gives "once", singleton, debounce and throttle
// (docs/concepts.md). A second submit of a key waits for the transaction of the first, as any unique key makes it.
#include "pg/as_owner.hpp"
#include "submit.hpp"

namespace dts {

namespace {

using store::Task;
using store::TaskTable;

enum class OnConflict { Return, Replace, Push, Error };

OnConflict parse(const char* s) {
  if (s == nullptr || strcmp(s, "return") == 0) return OnConflict::Return;
  return strcmp(s, "replace") == 0 ? OnConflict::Replace : strcmp(s, "push") == 0 ? OnConflict::Push : OnConflict::Error;
}

pg::Statement insert_key{"INSERT INTO dts.key (owner, key, task, keep) VALUES ($1, $2, $3, $4) ON CONFLICT (owner, key) DO NOTHING",
                         4,
                         {OIDOID, TEXTOID, INT8OID, INTERVALOID}};
pg::Statement read_key{
    "SELECT task, free_at, keep, free_at <= pg_catalog.clock_timestamp() FROM dts.key WHERE owner = $1 AND key = $2 FOR UPDATE",
    2,
    {OIDOID, TEXTOID}};
pg::Statement take_key{
    "UPDATE dts.key SET task = $3, keep = $4, free_at = NULL WHERE owner = $1 AND key = $2", 4, {OIDOID, TEXTOID, INT8OID, INTERVALOID}};
pg::Statement keep_key{
    "UPDATE dts.key SET free_at = pg_catalog.clock_timestamp() + keep WHERE owner = $1 AND key = $2", 2, {OIDOID, TEXTOID}};

struct KeyRow {
  bool found;
  int64 task;
  bool ended, forgotten, keeps;
};

class Keys {
 public:
  Keys(Oid owner, const Options& o, int64 task) {
    values_[0] = ObjectIdGetDatum(owner);
    values_[1] = CStringGetTextDatum(o.key);
    values_[2] = Int64GetDatum(task);
    values_[3] = IntervalPGetDatum(o.key_ttl);
    nulls_[3] = o.key_ttl == nullptr ? 'n' : ' ';
  }
  bool insert() { return run(insert_key) == 1; }
  void take() { run(take_key); }
  void keep() { run(keep_key); }
  KeyRow read() {
    KeyRow k{};
    const pg::AsOwner as(store::catalog().owner);
    SPI_connect();
    bool null = false;
    if (read_key.run(values_, nulls_, true) == 1) {
      k.found = true;
      k.task = DatumGetInt64(pg::column(0, 1, &null));
      (void)pg::column(0, 2, &null);
      k.ended = !null;
      (void)pg::column(0, 3, &null);
      k.keeps = !null;
      k.forgotten = DatumGetBool(pg::column(0, 4, &null)) && !null;
    }
    SPI_finish();
    as.end();
    return k;
  }

 private:
  uint64 run(pg::Statement& s) {
    const pg::AsOwner as(store::catalog().owner);
    SPI_connect();
    const uint64 n = s.run(values_, nulls_, true);
    SPI_finish();
    as.end();
    return n;
  }
  Datum values_[4];
  char nulls_[5] = {' ', ' ', ' ', ' ', '\0'};
};

int64 start_new(TaskTable& table, Prepared& p) {
  table.insert(p.task, p.lane);
  return p.task.id;
}

int64 refuse(const Options& o, int64 existing) {
  ereport(ERROR,
          (errcode(ERRCODE_UNIQUE_VIOLATION), errmsg("key \"%s\" is already used by task %lld", o.key, static_cast<long long>(existing)),
           errhint("With on_conflict => 'return' the existing task's id is given.")));
  return 0;
}

/// The existing task is locked by us and has not ended.
int64 meet(TaskTable& table, const Task& existing, Prepared& p, const Options& o, OnConflict mode) {
  const store::Lane* const lane = store::lane_by_id(existing.lane);
  if (lane == nullptr) return existing.id;
  const store::LaneInfo from = lane->info;
  if (mode == OnConflict::Error) return refuse(o, existing.id);
  const bool waits = existing.state == core::State::Ready || existing.state == core::State::Parked;
  if (mode == OnConflict::Return || !waits) {
    table.keep(existing, from);
    return existing.id;
  }
  Task now = existing;
  store::LaneInfo to = from;
  if (mode == OnConflict::Push) {
    now.run_at = p.task.run_at;
    now.state = core::State::Ready;  // parked ones go through the claim again
  } else {
    now = p.task;
    now.id = existing.id;
    now.batch = existing.batch;
    now.state = core::State::Ready;
    to = p.lane;
  }
  table.update(existing, now, from, to);
  return existing.id;
}

}  // namespace

int64 submit_with_key(TaskTable& table, Prepared& p, const Options& o) {
  const OnConflict mode = parse(o.on_conflict);
  p.task.id = store::next_task_id();
  Keys keys(p.lane.owner, o, p.task.id);
  for (;;) {
    if (keys.insert()) return start_new(table, p);
    const KeyRow k = keys.read();
    if (!k.found) continue;  // its transaction rolled back, or the key was forgotten, between the two looks
    CHECK_FOR_INTERRUPTS();
    if (k.ended) {
      if (k.forgotten) {
        keys.take();
        return start_new(table, p);
      }
      return mode == OnConflict::Error ? refuse(o, k.task) : k.task;
    }
    Task existing;
    switch (table.lock(k.task, &existing)) {
      case TaskTable::Found::Locked:
        if (existing.state == core::State::Leased && (mode == OnConflict::Replace || mode == OnConflict::Push)) {
          keys.take();  // it runs too, outside a transaction
          return start_new(table, p);
        }
        return meet(table, existing, p, o, mode);
      case TaskTable::Found::Missing:
        // It ended while somebody else held the key's row; the key is kept from now on, or free.
        if (!k.keeps) {
          keys.take();
          return start_new(table, p);
        }
        keys.keep();
        return mode == OnConflict::Error ? refuse(o, k.task) : k.task;
      case TaskTable::Found::Busy:
        // It runs: an event that must be followed by a run (replace, push) gets a run of its own after this one.
        if (mode == OnConflict::Error) return refuse(o, k.task);
        if (mode == OnConflict::Return) return k.task;
        keys.take();
        return start_new(table, p);
    }
  }
}

}  // namespace dts
