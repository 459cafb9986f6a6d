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
/// look at it. They are found page by page, for there may be millions of others. One statement, one snapshot: however many edges come
/// meanwhile, it looks at one page of them.
void tidy_orphans() {
  static int64 child = 0, parent = 0;  // where the last page ended
  static pg::Statement page{
      "WITH page AS MATERIALIZED (SELECT x.child, x.parent, x.outcome FROM dts.dependency x WHERE (x.child, x.parent) > ($1, $2) "
      "ORDER BY x.child, x.parent LIMIT 10000), "
      "gone AS MATERIALIZED (SELECT p.child, p.parent FROM page p WHERE p.outcome IS NULL AND (SELECT t.id FROM dts.task t WHERE t.id = "
      "p.child) IS NULL AND (SELECT t.id FROM dts.task t WHERE t.id = p.parent) IS NULL), "
      "free AS MATERIALIZED (SELECT x.child, x.parent FROM dts.dependency x, gone g WHERE x.parent = g.parent AND x.child = g.child FOR "
      "UPDATE OF x SKIP LOCKED), "
      "tidied AS (DELETE FROM dts.dependency d USING free f WHERE d.parent = f.parent AND d.child = f.child) "
      "SELECT p.child, p.parent FROM page p OFFSET 9999",
      2,
      {INT8OID, INT8OID}};
  const Datum from[] = {Int64GetDatum(child), Int64GetDatum(parent)};
  child = parent = 0;  // unless there is another page
  each_row(page, from, [&](uint64 i) {
    bool null = false;
    child = DatumGetInt64(pg::column(i, 1, &null));
    parent = DatumGetInt64(pg::column(i, 2, &null));
  });
}

}  // namespace

void tidy_dependencies() {
  uint64 proof = 0;
  const bool quiet = store::edges_quiet(&proof);
  in_transaction("tidying dependencies", [&] {
    pg::plan_by_key(GUC_ACTION_LOCAL);
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
