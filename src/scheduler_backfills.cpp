// Backfills: due times on file, submitted so many at a time. An end of one makes room for the next.
#include "scheduler_transaction.hpp"
#include "schedules.hpp"

namespace dts {

namespace {

constexpr int kAtOnce = 50;  // runs in one transaction
constexpr int kBackfills = 64;

/// Those that were cancelled, too, while runs of them end.
pg::Statement running{
    "SELECT b.id FROM dts.backfill b WHERE b.state = 'running' OR b.id IN (SELECT r.backfill FROM dts.schedule_run r WHERE r.wakes AND "
    "r.ended_at IS NOT NULL) ORDER BY b.state = 'running', b.id LIMIT 64",
    0,
    {}};
/// The ends of its runs are counted.
pg::Statement count{
    "WITH e AS (DELETE FROM dts.schedule_run WHERE backfill = $1 AND ended_at IS NOT NULL RETURNING outcome), "
    "n AS (SELECT pg_catalog.count(*) FILTER (WHERE e.outcome = 10) AS good, pg_catalog.count(*) FILTER (WHERE e.outcome <> 10) AS bad "
    "FROM e) "
    "UPDATE dts.backfill b SET succeeded = b.succeeded + n.good, failed = b.failed + n.bad FROM n WHERE b.id = $1 AND n.good + n.bad > 0",
    1,
    {INT4OID}};
pg::Statement next{
    "WITH d AS (SELECT x.due_at FROM dts.backfill b JOIN dts.backfill_due x ON x.backfill = b.id WHERE b.id = $1 AND b.state = 'running' "
    "ORDER BY CASE WHEN "
    "b.newest_first THEN x.due_at END DESC, x.due_at LIMIT (SELECT LEAST(GREATEST(b.max_parallel - (SELECT pg_catalog.count(*) FROM "
    "dts.schedule_run r WHERE r.backfill = $1), 0), 50) FROM dts.backfill b WHERE b.id = $1)), "
    "gone AS (DELETE FROM dts.backfill_due x USING d WHERE x.backfill = $1 AND x.due_at = d.due_at RETURNING x.due_at) "
    "SELECT dts._fire_by_hand(b.schedule, g.due_at, b.id) FROM dts.backfill b, (SELECT gone.due_at FROM gone ORDER BY gone.due_at) g "
    "WHERE b.id = $1",
    1,
    {INT4OID}};
pg::Statement finish{
    "UPDATE dts.backfill b SET state = 'done', ended_at = pg_catalog.clock_timestamp() WHERE b.id = $1 AND b.state = 'running' AND NOT "
    "EXISTS (SELECT FROM dts.backfill_due d WHERE d.backfill = $1) AND NOT EXISTS (SELECT FROM dts.schedule_run r WHERE r.backfill = $1)",
    1,
    {INT4OID}};
pg::Statement give_up{
    "UPDATE dts.backfill b SET state = 'failed', detail = 'a run could not be submitted; see the server log', ended_at = "
    "pg_catalog.clock_timestamp() WHERE b.id = $1",
    1,
    {INT4OID}};

}  // namespace

void fire_backfills() {
  int32 id[kBackfills];
  int n = 0;
  in_transaction("looking for backfills", [&] {
    each_row(running, nullptr, [&](uint64 i) {
      bool null = false;
      if (n < kBackfills) id[n++] = DatumGetInt32(pg::column(i, 1, &null));
    });
  });
  for (int i = 0; i < n; i++) {
    const Datum values[] = {Int32GetDatum(id[i])};
    int fired = 0;
    do {
      fired = 0;
      const bool good = in_transaction("submitting runs of a backfill", [&] {
        each_row(count, values, [](uint64) {});
        each_row(next, values, [&](uint64) { fired++; });
        each_row(finish, values, [](uint64) {});
      });
      // Its owner may have lost his rights, say: it ends here, with what is left undone.
      if (!good) in_transaction("giving a backfill up", [&] { each_row(give_up, values, [](uint64) {}); });
      if (!good) break;
      CHECK_FOR_INTERRUPTS();
    } while (fired == kAtOnce);
  }
}

}  // namespace dts
