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
    int64 one = 0;
    if (quiet && ids(any, nullptr, 1, &one) == 0) store::edges_none(proof);
  });
}

}  // namespace dts
