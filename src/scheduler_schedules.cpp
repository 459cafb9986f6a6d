// Firing what is due. A slice of schedules in one transaction: their marks move, their tasks and decisions are written, or nothing is.
#include "pg/point.hpp"
#include "schedule_turn.hpp"

namespace dts {

namespace {

/// Each fire is a subtransaction that writes; with more than 64 of them every reader of the server would slow down.
constexpr int kSlice = 50;

/// No schedule is due before this (in the clock of schedules): the scan of the index begins here, not among dead entries.
TimestampTz not_before = PG_INT64_MIN;
int slice_size = kSlice;
/// Slices between two looks at the scheduler's other work: executors have to be started for what was fired.
constexpr int kSlices = 10;

/// Where the next slice begins: schedules that are due in the same microsecond go by id.
struct Cursor {
  TimestampTz next_fire;
  int32 schedule;
};
Cursor cursor{PG_INT64_MIN, -1};
int singles = 0;

pg::Statement due_schedules{
    "SELECT s.id, s.owner::oid, s.name, s.what, pg_catalog.has_function_privilege(s.owner::oid, 'dts.submit_many(jsonb)'::regprocedure, "
    "'EXECUTE'), s.timing, s.zone, s.both_days, o.entries, n.entries, s.shift, s.created_at, s.starts_at, s.ends_at, s.missed, "
    "s.missed_max, dts._us(s.missed_within), s.overlap, s.overlap_max, dts._us(s.late), dts._us(s.jitter), s.max_runs, c.fired_until, "
    "c.runs, c.waiting, c.last_due, c.last_success, c.last_end, r.running, c.next_fire, c.passed_until "
    "FROM (SELECT * FROM dts.schedule_clock x WHERE (x.next_fire, x.schedule) > ($1, $4) AND x.next_fire <= $2 ORDER BY x.next_fire, "
    "x.schedule LIMIT $3 FOR UPDATE SKIP LOCKED) c "
    "JOIN dts.schedule s ON s.id = c.schedule LEFT JOIN dts.calendar o ON o.name = s.only_in LEFT JOIN dts.calendar n ON n.name = "
    "s.not_in "
    "CROSS JOIN LATERAL (SELECT pg_catalog.count(*)::int AS running FROM dts.schedule_run x WHERE x.schedule = s.id AND x.ended_at IS "
    "NULL AND x.backfill IS NULL) r ORDER BY c.next_fire, c.schedule",
    4,
    {TIMESTAMPTZOID, TIMESTAMPTZOID, INT4OID, INT4OID}};

/// DROP EXTENSION takes the locks of our tables in an order of its own: we give way before the server looks for a deadlock.
void give_way() { (void)set_config_option("lock_timeout", "400ms", PGC_SUSET, PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0, false); }

/// Looks at up to `slice_size` schedules that are due. Returns how many; -1 if the slice failed. `more`: one of them had more due times
/// than are looked at in one turn.
int fire_slice(TimestampTz now, Cursor* from, bool* more) {
  int n = 0;
  *more = false;
  Cursor next = *from;
  const bool good = in_transaction("firing schedules", [&] {
    give_way();
    // What the mark says and what was submitted are one commit: a crash loses both or neither.
    (void)set_config_option("synchronous_commit", "off", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0, false);
    pg::plan_by_key(GUC_ACTION_LOCAL);
    MemoryContext const memory = CurrentMemoryContext;
    auto* const turns = static_cast<Turn*>(palloc0(sizeof(Turn) * slice_size));
    auto* const d = new (palloc(sizeof(core::Decision))) core::Decision();
    const Datum values[] = {TimestampTzGetDatum(from->next_fire), TimestampTzGetDatum(now), Int32GetDatum(slice_size),
                            Int32GetDatum(from->schedule)};
    Cursor last = *from;
    each_row(due_schedules, values, [&](uint64 i) {
      read_schedule(i, memory, &(new (&turns[n++]) Turn())->s);
      last = {turns[n - 1].s.next_fire, turns[n - 1].s.id};
    });
    if (n > 0) count_ended(turns, n);
    Ledger ledger;
    for (int i = 0; i < n; i++) {
      turns[i].ledger = &ledger;
      look(turns[i], *d, now);
      *more |= turns[i].next <= now;
    }
    ledger.write();
    if (n > 0) DTS_POINT("schedule.fired");
    save(turns, n);
    next = last;
    if (n > 0) DTS_POINT("schedule.marked");
  });
  if (n > 0) DTS_POINT("schedule.committed");
  if (good) *from = next;
  return good ? n : -1;
}

/// A schedule whose slice of one fails is put off, so that it does not stop the others. False if that failed as well.
bool put_off_first(TimestampTz now) {
  return in_transaction("putting a schedule off", [&] {
    give_way();
    static pg::Statement later{
        "UPDATE dts.schedule_clock SET next_fire = $3 + '10 s'::interval, trouble = 'could not be looked at; see the server log' WHERE "
        "schedule = (SELECT x.schedule FROM dts.schedule_clock x WHERE (x.next_fire, x.schedule) > ($1, $4) AND x.next_fire <= $2 ORDER "
        "BY "
        "x.next_fire, "
        "x.schedule LIMIT 1 FOR UPDATE SKIP LOCKED)",
        4,
        {TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT4OID}};
    const Datum values[] = {TimestampTzGetDatum(cursor.next_fire), TimestampTzGetDatum(now), TimestampTzGetDatum(now),
                            Int32GetDatum(cursor.schedule)};
    each_row(later, values, [](uint64) {});
  });
}

/// The lowest next due time at or after an instant; kNever if there is none.
TimestampTz first_due(TimestampTz from) {
  TimestampTz first = core::kNever;
  in_transaction("looking for the next schedule", [&] {
    give_way();
    static pg::Statement lowest{
        "SELECT x.next_fire FROM dts.schedule_clock x WHERE x.next_fire >= $1 ORDER BY x.next_fire LIMIT 1", 1, {TIMESTAMPTZOID}};
    const Datum values[] = {TimestampTzGetDatum(from)};
    each_row(lowest, values, [&](uint64) {
      bool null = false;
      first = DatumGetTimestampTz(pg::column(0, 1, &null));
    });
  });
  return first;
}

/// Nothing is left that could be taken: when to look again, in the clock of schedules.
TimestampTz settle(TimestampTz now) {
  const TimestampTz first = first_due(not_before);
  not_before = first == core::kNever ? PG_INT64_MAX - 1 : first;
  if (first > now) return first;
  // Due, and yet not taken: somebody holds its row. The others do not wait for it.
  return Min(first_due(now + 1), now + USECS_PER_SEC);
}

}  // namespace

TimestampTz fire_schedules() {
  // Where nothing can be written at all (a full disk, no transaction ids left), it is tried less and less often.
  static int refused = 0;
  if (cursor.next_fire < not_before) cursor = {not_before, -1};
  for (int turn = 0; turn < kSlices; turn++) {
    const TimestampTz now = schedule_now();
    const int asked = slice_size;
    bool more = false;
    const int n = fire_slice(now, &cursor, &more);
    if (n < 0) {
      // One by one, until the bad one is found and put off.
      if (slice_size == 1) refused = put_off_first(now) ? 0 : Min(refused + 1, 6);
      slice_size = 1;
      singles = 0;
      return GetCurrentTimestamp() + (USECS_PER_SEC / 10 << refused);
    }
    refused = 0;
    if (slice_size == 1 && ++singles == kSlice) slice_size = kSlice;
    if (n == asked) {
      CHECK_FOR_INTERRUPTS();
      continue;
    }
    slice_size = kSlice;
    const TimestampTz next = more ? now : settle(now);
    cursor = {not_before, -1};
    if (more) continue;
    return next == core::kNever ? core::kNever : next - settings::schedule_clock_offset_s * USECS_PER_SEC;
  }
  return GetCurrentTimestamp();
}

void schedules_changed(bool start) {
  not_before = PG_INT64_MIN;
  cursor = {PG_INT64_MIN, -1};
  if (!start) return;
  marks_set_back();
  in_transaction("schedules at the start of the server", [] {
    give_way();
    // Also those whose zone may be known again; and runs whose task is gone without a word.
    static pg::Statement again{
        "UPDATE dts.schedule_clock c SET next_fire = pg_catalog.clock_timestamp(), trouble = NULL FROM dts.schedule s WHERE s.id = "
        "c.schedule AND NOT s.paused AND (c.trouble IS NOT NULL OR (c.fired_until < $1 AND s.timing LIKE '%@%' AND s.timing ~* "
        "'@reboot') OR (c.next_fire > $1 AND s.timing ~* 'after\\s+end\\s*$'))",
        1,
        {TIMESTAMPTZOID}};
    static pg::Statement lost{
        "UPDATE dts.schedule_run r SET ended_at = pg_catalog.clock_timestamp(), outcome = 13 WHERE r.ended_at IS NULL AND NOT EXISTS "
        "(SELECT FROM dts.task t WHERE t.id = r.task)",
        0,
        {}};
    const Datum values[] = {TimestampTzGetDatum(PgStartTime)};
    each_row(again, values, [](uint64) {});
    each_row(lost, nullptr, [](uint64) {});
    // A process keeps the zones that it has read.
    static bool zones_seen = false;
    static pg::Statement zones{"SELECT dts._look_at_zones($1)", 1, {TIMESTAMPTZOID}};
    const Datum now[] = {TimestampTzGetDatum(schedule_now())};
    if (!zones_seen) each_row(zones, now, [](uint64) {});
    zones_seen = true;
  });
  schedule_runs_ended();
}

void schedule_runs_ended() {
  in_transaction("looking at runs that ended", [] {
    give_way();
    static pg::Statement wake{
        "UPDATE dts.schedule_clock c SET next_fire = $1 FROM dts.schedule s WHERE s.id = c.schedule AND NOT s.paused AND c.schedule IN "
        "(SELECT r.schedule FROM dts.schedule_run r WHERE r.wakes AND r.ended_at IS NOT NULL AND r.backfill IS NULL)",
        1,
        {TIMESTAMPTZOID}};
    const TimestampTz now = schedule_now();
    const Datum values[] = {TimestampTzGetDatum(now)};
    each_row(wake, values, [](uint64) {});
    not_before = Min(not_before, now);
    if (cursor.next_fire > now) cursor = {not_before, -1};
  });
}

}  // namespace dts
