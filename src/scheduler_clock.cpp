// A clock that was set back: what was due by the old one must not wait until the new one gets there again.
#include "clock_watch.hpp"
#include "schedules.hpp"
#include "scheduler_transaction.hpp"
#include "store/definitions.hpp"
#include "store/permits.hpp"

namespace dts {

namespace {

constexpr int kPortion = 1000;  // tasks in one transaction

/// Due before the step, or waiting for a next attempt: times that dts itself counted from the old clock. What somebody asked for by the
/// clock on the wall stays.
pg::Statement stranded{
    "SELECT t.id FROM dts.task t WHERE t.id > $1 AND t.state = 0 AND t.run_at > $2 AND (t.run_at <= $3 OR t.attempt > 0) ORDER BY t.id "
    "LIMIT 1000",
    3,
    {INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID}};

/// Intervals after an end begin anew with the next look, which sees to it that they wait at most once their length.
pg::Statement intervals{
    "UPDATE dts.schedule_clock c SET next_fire = $1 FROM dts.schedule s WHERE s.id = c.schedule AND c.next_fire > $1 AND s.timing ~* "
    "'after\\s+end\\s*$'",
    1,
    {TIMESTAMPTZOID}};

/// Leases of agents end a full period after the clock was set, at the latest: their agents may be dead.
pg::Statement leases{
    "UPDATE dts.lease l SET until = least(pg_catalog.clock_timestamp() + l.period, l.deadline - $1 * '1 us'::interval), "
    "deadline = l.deadline - $1 * '1 us'::interval FROM (SELECT x.token FROM dts.lease x WHERE x.until > pg_catalog.clock_timestamp() + "
    "x.period FOR UPDATE SKIP LOCKED) o WHERE o.token = l.token",
    1,
    {INT8OID}};

/// Stranded tasks that somebody had locked, most often the executor that runs them: should that one die, they are due as by the old clock.
struct Held {
  int64 id;
  TimestampTz was, now;
};
constexpr int kHeld = 4096;
Held held[kHeld];
int held_count = 0;

/// @reboot and intervals after an end have no times that come twice.
pg::Statement marks{
    "UPDATE dts.schedule_clock c SET passed_until = greatest(c.passed_until, c.fired_until), fired_until = $1, next_fire = CASE WHEN "
    "s.paused "
    "THEN NULL ELSE $1 END, last_due = CASE WHEN c.last_due > $1 THEN (SELECT pg_catalog.max(f.due_at) FROM dts.fire f WHERE f.schedule = "
    "c.schedule AND f.decision = 'fired' AND f.due_at <= $1) ELSE c.last_due END, last_success = CASE WHEN c.last_success > $1 THEN "
    "(SELECT "
    "pg_catalog.max(f.due_at) FROM dts.fire f JOIN dts.run r ON r.task = f.task AND r.outcome = 10 WHERE f.schedule = c.schedule AND "
    "f.due_at <= $1) ELSE c.last_success END FROM dts.schedule s WHERE s.id = c.schedule AND c.fired_until > $1 AND s.timing !~* "
    "'@reboot|after\\s+end\\s*$'",
    1,
    {TIMESTAMPTZOID}};

/// What was renewed by the old clock ends as long after now as it would have.
pg::Statement longer{
    "UPDATE dts.lease l SET until = l.until + $1 * '1 us'::interval, deadline = l.deadline + $1 * '1 us'::interval FROM (SELECT x.token "
    "FROM "
    "dts.lease x WHERE x.until - x.period <= $2 FOR UPDATE SKIP LOCKED) o WHERE o.token = l.token",
    2,
    {INT8OID, TIMESTAMPTZOID}};

constexpr int64 kFar = int64{3600} * USECS_PER_SEC;
int64 leapt_at = -kFar;  // by the clock that never steps

void bring_back(const Held& h) {
  store::TaskTable table = store::TaskTable::open();
  store::Task t;
  const store::TaskTable::Found found = table.lock(h.id, &t);
  const store::Lane* const lane = found == store::TaskTable::Found::Locked ? store::lane_by_id(t.lane) : nullptr;
  if (lane != nullptr && t.state == core::State::Ready && t.run_at > GetCurrentTimestamp() && (t.run_at <= h.was || t.attempt > 0)) {
    store::Task moved = t;
    moved.run_at = t.run_at <= h.was ? h.now : t.run_at - (h.was - h.now);
    table.update(t, moved, lane->info, lane->info);
  } else if (lane != nullptr) {
    table.keep(t, lane->info);
  } else if (found == store::TaskTable::Found::Busy && held_count < kHeld) {
    held[held_count++] = h;
  }
  table.close();
}

}  // namespace

void clock_set_back(TimestampTz was, TimestampTz now) {
  ereport(LOG, (errmsg("dts: the clock was set back by %ld seconds", static_cast<long>((was - now) / USECS_PER_SEC))));
  int64 last = 0;
  int n = kPortion;
  auto* const id = static_cast<int64*>(palloc(sizeof(int64) * kPortion));
  while (n == kPortion) {
    n = 0;
    if (!in_transaction("bringing back tasks that were due", [&] {
          const Datum values[] = {Int64GetDatum(last), TimestampTzGetDatum(now), TimestampTzGetDatum(was)};
          n = ids(stranded, values, kPortion, id);
          for (int i = 0; i < n; i++) bring_back({id[i], was, now});
        }))
      break;
    if (n > 0) last = id[n - 1];
    CHECK_FOR_INTERRUPTS();
  }
  in_transaction("leases after a clock was set back", [&] {
    const Datum values[] = {Int64GetDatum(was - now)};
    each_row(leases, values, [](uint64) {});
  });
  in_transaction("intervals after a clock was set back", [] {
    const Datum values[] = {TimestampTzGetDatum(schedule_now())};
    each_row(intervals, values, [](uint64) {});
  });
  marks_set_back();
  schedules_changed(false);
}

void clock_set_forward(TimestampTz was, TimestampTz now) {
  if (now - was >= kFar) leapt_at = store::steady_us();
  ereport(LOG, (errmsg("dts: the clock was set forward by %ld seconds", static_cast<long>((now - was) / USECS_PER_SEC))));
  in_transaction("leases after a clock was set forward", [&] {
    const Datum values[] = {Int64GetDatum(now - was), TimestampTzGetDatum(was)};
    each_row(longer, values, [](uint64) {});
  });
}

bool clock_leapt() { return store::steady_us() - leapt_at < kFar; }

void marks_set_back() {
  in_transaction("marks of schedules ahead of the clock", [] {
    const Datum values[] = {TimestampTzGetDatum(schedule_now())};
    each_row(marks, values, [](uint64) {});
  });
}

void clock_set_back_rest() {
  if (held_count == 0) return;
  const int n = held_count;
  auto* const again = static_cast<Held*>(palloc(sizeof(Held) * n));
  memcpy(again, held, sizeof(Held) * n);
  held_count = 0;
  if (!in_transaction("bringing back tasks that were held", [&] {
        for (int i = 0; i < n; i++) bring_back(again[i]);
      })) {
    memcpy(held, again, sizeof(Held) * n);
    held_count = n;
  }
}

}  // namespace dts
