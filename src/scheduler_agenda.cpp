// The scheduler's part in releasing dependents: what no executor looks at, at a pace.
#include "scheduler_transaction.hpp"
#include "store/dependencies.hpp"

namespace dts {

TimestampTz resolve_agenda() {
  TimestampTz at = 0;
  for (int turn = 0; turn < 100; turn++) {
    const TimestampTz now = GetCurrentTimestamp();
    if (!store::agenda_due(MyDatabaseId, now, &at)) return at;
    store::Round round = store::Round::Failed;
    if (!in_transaction("releasing dependents", [&] { round = store::resolve(); })) round = store::Round::Failed;
    store::agenda_pace(round);
    CHECK_FOR_INTERRUPTS();
  }
  return GetCurrentTimestamp();
}

void wake_waiting() {
  in_transaction("waking waiting tasks", [] {
    static pg::Statement wake{"SELECT dts._wake_waiting()", 0, {}};
    each_row(wake, nullptr, [](uint64) {});
  });
}

bool open_gates() {
  static pg::Statement open{"SELECT dts._open_gates()", 0, {}};
  bool all = false;
  (void)in_transaction("opening gates", [&] {
    each_row(open, nullptr, [&](uint64 i) {
      bool null = false;
      all = DatumGetBool(pg::column(i, 1, &null));
    });
  });
  return all;
}

TimestampTz look_at_changes() {
  static pg::Statement look{"SELECT dts._look_at_changes()", 0, {}};
  TimestampTz next = 0;
  const bool done = in_transaction("looking at changes of tables", [&] {
    each_row(look, nullptr, [&](uint64 i) {
      bool null = false;
      const Datum at = pg::column(i, 1, &null);
      if (!null) next = DatumGetTimestampTz(at);
    });
  });
  return done ? next : GetCurrentTimestamp() + 10000000;
}

namespace {

/// Edges whose two ends are gone, and that nobody recorded: written while the parent ended, for a child that ended before anybody could
/// look at it. They are found page by page, for there may be millions of others. (Subqueries, not joins: never a hash of all tasks.)
void tidy_orphans() {
  static int64 child = 0, parent = 0;  // where the last page ended
  static pg::Statement page{
      "SELECT child, parent FROM dts.dependency WHERE (child, parent) > ($1, $2) ORDER BY child, parent OFFSET 9999 LIMIT 1",
      2,
      {INT8OID, INT8OID}};
  static pg::Statement orphans{
      "DELETE FROM dts.dependency d USING (SELECT x.parent, x.child FROM dts.dependency x WHERE (x.child, x.parent) > ($1, $2) AND "
      "(x.child, x.parent) <= ($3, $4) AND x.outcome IS NULL AND (SELECT t.id FROM dts.task t WHERE t.id = x.child) IS NULL AND "
      "(SELECT t.id FROM dts.task t WHERE t.id = x.parent) IS NULL FOR UPDATE OF x SKIP LOCKED) x "
      "WHERE d.parent = x.parent AND d.child = x.child",
      4,
      {INT8OID, INT8OID, INT8OID, INT8OID}};
  Datum range[] = {Int64GetDatum(child), Int64GetDatum(parent), Int64GetDatum(PG_INT64_MAX), Int64GetDatum(PG_INT64_MAX)};
  child = parent = 0;  // unless there is another page
  each_row(page, range, [&](uint64 i) {
    bool null = false;
    range[2] = Int64GetDatum(child = DatumGetInt64(pg::column(i, 1, &null)));
    range[3] = Int64GetDatum(parent = DatumGetInt64(pg::column(i, 2, &null)));
  });
  each_row(orphans, range, [](uint64) {});
}

}  // namespace

void tidy_dependencies() {
  uint64 proof = 0;
  const bool quiet = store::edges_quiet(&proof);
  in_transaction("tidying dependencies", [&] {
    // Left over where somebody held the edge, or the child was decided before its last parent ended.
    static pg::Statement left_over{
        "DELETE FROM dts.dependency d USING (SELECT x.parent, x.child FROM dts.dependency x WHERE x.outcome IS NOT NULL AND NOT EXISTS "
        "(SELECT FROM dts.task t WHERE t.id = x.child AND t.state = 1) LIMIT 10000 FOR UPDATE SKIP LOCKED) x "
        "WHERE d.parent = x.parent AND d.child = x.child",
        0,
        {}};
    static pg::Statement any{"SELECT 1::bigint FROM dts.dependency LIMIT 1", 0, {}};
    if (proof == 0 && !quiet) return;
    each_row(left_over, nullptr, [](uint64) {});
    tidy_orphans();
    int64 one = 0;
    if (quiet && ids(any, nullptr, 1, &one) == 0) store::edges_none(proof);
  });
}

}  // namespace dts
