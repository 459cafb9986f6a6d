// Firing what is due. A slice of schedules in one transaction: their marks move, their tasks and decisions are written, or nothing is.
#include "pg/point.hpp"
#include "scheduler_transaction.hpp"
#include "schedules.hpp"
#include "settings.hpp"

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

core::Missed missed_of(const char* s) {
  return s[0] == 's' ? core::Missed::Skip : s[0] == 'o' ? core::Missed::Once : s[0] == 'a' ? core::Missed::All : core::Missed::Within;
}

core::Overlap overlap_of(const char* s) {
  if (s[0] == 's') return core::Overlap::Skip;
  if (s[0] == 'r') return core::Overlap::Replace;
  if (s[0] == 'a') return core::Overlap::Allow;
  return strcmp(s, "queue one") == 0 ? core::Overlap::QueueOne : core::Overlap::QueueAll;
}

pg::Statement due_schedules{
    "SELECT s.id, s.owner::oid, s.name, s.what, pg_catalog.has_function_privilege(s.owner::oid, 'dts.submit_many(jsonb)'::regprocedure, "
    "'EXECUTE'), s.timing, s.zone, s.both_days, o.entries, n.entries, s.shift, s.created_at, s.starts_at, s.ends_at, s.missed, "
    "s.missed_max, dts._us(s.missed_within), s.overlap, s.overlap_max, dts._us(s.late), dts._us(s.jitter), s.max_runs, c.fired_until, "
    "c.runs, c.waiting, c.last_due, c.last_success, c.last_end, r.running, c.next_fire "
    "FROM (SELECT * FROM dts.schedule_clock x WHERE (x.next_fire, x.schedule) > ($1, $4) AND x.next_fire <= $2 ORDER BY x.next_fire, "
    "x.schedule LIMIT $3 FOR UPDATE SKIP LOCKED) c "
    "JOIN dts.schedule s ON s.id = c.schedule LEFT JOIN dts.calendar o ON o.name = s.only_in LEFT JOIN dts.calendar n ON n.name = "
    "s.not_in "
    "CROSS JOIN LATERAL (SELECT pg_catalog.count(*)::int AS running FROM dts.schedule_run x WHERE x.schedule = s.id AND x.ended_at IS "
    "NULL AND x.backfill IS NULL) r ORDER BY c.next_fire, c.schedule",
    4,
    {TIMESTAMPTZOID, TIMESTAMPTZOID, INT4OID, INT4OID}};

char* text_of(uint64 row, int col, MemoryContext to) {
  bool null = false;
  const Datum d = pg::column(row, col, &null);
  return null ? nullptr : MemoryContextStrdup(to, TextDatumGetCString(d));
}

template <class T>
T* copy_of(uint64 row, int col, MemoryContext to) {
  bool null = false;
  const Datum d = pg::column_copy(to, row, col, &null);
  return null ? nullptr : reinterpret_cast<T*>(DatumGetPointer(d));
}

bool time_of(uint64 row, int col, TimestampTz* out) {
  bool null = false;
  *out = DatumGetTimestampTz(pg::column(row, col, &null));
  if (null) *out = 0;
  return !null;
}

int64 number_of(uint64 row, int col) {
  bool null = false;
  const Datum d = pg::column(row, col, &null);
  return null ? 0 : DatumGetInt64(d);
}

void read_schedule(uint64 i, MemoryContext to, Schedule* s) {
  bool null = false;
  s->id = DatumGetInt32(pg::column(i, 1, &null));
  s->owner = DatumGetObjectId(pg::column(i, 2, &null));
  s->name = text_of(i, 3, to);
  s->what = copy_of<Jsonb>(i, 4, to);
  s->may_submit = DatumGetBool(pg::column(i, 5, &null)) && !null;
  s->rule.timing = text_of(i, 6, to);
  s->rule.zone = text_of(i, 7, to);
  s->rule.both_days = DatumGetBool(pg::column(i, 8, &null));
  s->rule.only_in = copy_of<ArrayType>(i, 9, to);
  s->rule.not_in = copy_of<ArrayType>(i, 10, to);
  s->rule.shift = text_of(i, 11, to);
  time_of(i, 12, &s->rule.made_at);
  s->rule.has_start = time_of(i, 13, &s->rule.starts_at);
  s->rule.has_end = time_of(i, 14, &s->rule.ends_at);
  s->policy.missed = missed_of(text_of(i, 15, to));
  s->policy.missed_max = DatumGetInt32(pg::column(i, 16, &null));
  s->policy.within = number_of(i, 17);
  s->policy.overlap = overlap_of(text_of(i, 18, to));
  s->policy.overlap_max = DatumGetInt32(pg::column(i, 19, &null));
  s->policy.late = number_of(i, 20);
  s->jitter_us = number_of(i, 21);
  s->max_runs = number_of(i, 22);
  time_of(i, 23, &s->fired_until);
  s->runs = number_of(i, 24);
  s->waiting = copy_of<ArrayType>(i, 25, to);
  s->has_last_due = time_of(i, 26, &s->last_due);
  s->has_success = time_of(i, 27, &s->last_success);
  s->has_end = time_of(i, 28, &s->last_end);
  s->running = DatumGetInt32(pg::column(i, 29, &null));
}

/// DROP EXTENSION takes the locks of our tables in an order of its own: we give way before the server looks for a deadlock.
void give_way() { (void)set_config_option("lock_timeout", "400ms", PGC_SUSET, PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0, false); }

/// What one look at a schedule changes.
struct Turn {
  Schedule s;
  TimestampTz mark = 0, next = core::kNever;
  int64 runs = 0, succeeded = 0, failed = 0, last_task = 0;
  Datum waiting[core::kMostKept];
  int n_waiting = 0;
  const char* trouble = nullptr;
  bool wakes = false;  // it looks again when a run ends
};

const char* const kReasons[] = {"due", "catch-up", "missed", "late", "overlap", "replaced", "end reached"};

/// Submits in a subtransaction of its own: what one owner may not do, or did wrong, is his schedule's matter only.
bool fire(Turn& t, TimestampTz due, const char* reason, TimestampTz run_at) {
  MemoryContext const memory = CurrentMemoryContext;
  ResourceOwner const resources = CurrentResourceOwner;
  Oid user = InvalidOid;
  int context = 0;
  GetUserIdAndSecContext(&user, &context);
  int64 task = 0;
  BeginInternalSubTransaction(nullptr);
  MemoryContextSwitchTo(memory);
  ErrorData* const error = pg::attempt(memory, [&] {
    // The tasks' due times are in the server's clock.
    task = submit_due(t.s, due, run_at - settings::schedule_clock_offset_s * USECS_PER_SEC);
    ReleaseCurrentSubTransaction();
  });
  if (error != nullptr) RollbackAndReleaseCurrentSubTransaction();
  MemoryContextSwitchTo(memory);
  CurrentResourceOwner = resources;
  SetUserIdAndSecContext(user, context);
  if (error != nullptr) {
    note_decision(t.s.id, due, due, 1, "failed", "could not be submitted", 0,
                  psprintf("%s: %s", unpack_sql_state(error->sqlerrcode), error->message));
    return false;
  }
  note_fired(t.s, due, task, reason, 0, t.wakes);
  t.runs++;
  t.last_task = task;
  t.s.running++;
  t.s.has_last_due = true;
  t.s.last_due = due;
  return true;
}

void load_waiting(Turn& t) {
  if (t.s.waiting == nullptr) return;
  Datum* values = nullptr;
  bool* nulls = nullptr;
  int n = 0;
  deconstruct_array(t.s.waiting, TIMESTAMPTZOID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE, &values, &nulls, &n);
  for (int i = 0; i < n && i < core::kMostKept; i++) t.waiting[t.n_waiting++] = values[i];
}

/// Due times that waited behind a run, oldest first.
void fire_waiting(Turn& t, TimestampTz now) {
  int done = 0;
  while (done < t.n_waiting && t.s.running == 0) fire(t, DatumGetTimestampTz(t.waiting[done++]), "waited", now);
  if (done > 0) memmove(t.waiting, t.waiting + done, sizeof(Datum) * (t.n_waiting - done));
  t.n_waiting -= done;
}

/// Unfinished runs of a schedule are asked to end; those that somebody holds end as soon as they can be reached.
void cancel_runs(int32 schedule) {
  static pg::Statement request{
      "INSERT INTO dts.request (task, kind, by_role) SELECT r.task, 'cancel', s.owner FROM dts.schedule_run r JOIN dts.schedule s ON s.id "
      "= "
      "r.schedule WHERE r.schedule = $1 AND r.ended_at IS NULL AND r.backfill IS NULL AND NOT EXISTS (SELECT FROM dts.request q WHERE "
      "q.task = "
      "r.task AND q.kind = 'cancel') RETURNING task",
      1,
      {INT4OID}};
  const Datum values[] = {Int32GetDatum(schedule)};
  const pg::AsOwner as(store::catalog().owner);
  SPI_connect();
  const uint64 n = request.run(values);
  bool null = false;
  for (uint64 i = 0; i < n; i++) {
    const int64 task = DatumGetInt64(pg::column(i, 1, &null));
    // The post comes before the scan, as in dts.cancel.
    if (store::board_add(MyDatabaseId, task)) (void)store::slots_interrupt(MyDatabaseId, task);
  }
  SPI_finish();
  as.end();
  if (n > 0) store::touch_events(store::kRequests);
}

void note_excluded(const Turn& t, const core::Rule& rule, TimestampTz from, TimestampTz to) {
  const core::Excluded e = core::excluded_between(rule, from, to, 10000);
  if (e.count > 0)
    note_decision(t.s.id, e.first, e.last, e.count, "skipped", "calendar", 0, e.all ? nullptr : "and more: counted up to 10000");
}

void look_by_clock(Turn& t, core::Rule& rule, core::Decision& d, TimestampTz now) {
  if (t.s.max_runs > 0) t.s.policy.runs_left = t.s.max_runs - t.s.runs - t.n_waiting;
  d.make(rule, t.s.policy, t.s.fired_until, now, t.s.running, t.n_waiting);
  note_excluded(t, rule, t.s.fired_until, d.mark());
  if (d.replace()) {
    for (int i = 0; i < t.n_waiting; i++)
      note_decision(t.s.id, DatumGetTimestampTz(t.waiting[i]), DatumGetTimestampTz(t.waiting[i]), 1, "skipped", "replaced", 0, nullptr);
    t.n_waiting = 0;
    if (t.s.running > 0) cancel_runs(t.s.id);
  }
  for (int i = 0; i < d.size(); i++) {
    const core::Choice& c = d[i];
    const char* const reason = kReasons[static_cast<int>(c.reason)];
    if (c.fate == core::Fate::Fire) {
      fire(t, c.first, reason, c.reason == core::Reason::Due ? c.first : now);
    } else if (c.fate == core::Fate::Wait) {
      t.waiting[t.n_waiting++] = TimestampTzGetDatum(c.first);
      note_decision(t.s.id, c.first, c.last, 1, "waiting", reason, 0, nullptr);
    } else {
      note_decision(t.s.id, c.first, c.last, c.count, "skipped", reason, 0, nullptr);
    }
  }
  t.mark = d.mark();
  const bool over = t.s.max_runs > 0 && t.s.runs + t.runs + t.n_waiting >= t.s.max_runs;
  t.next = over ? core::kNever : d.complete() ? core::next_due(rule, t.mark) : now;
}

/// An interval after the end of the last run; the first one at once.
void look_after_end(Turn& t, core::Rule& rule, TimestampTz now) {
  if (t.s.running > 0 || (t.s.max_runs > 0 && t.s.runs >= t.s.max_runs)) return;
  TimestampTz due = rule.has_start ? Max(rule.starts_at, rule.made_at) : rule.made_at;
  if (t.s.has_end) {
    due = core::nth_of(rule.timing->span, t.s.last_end, 1, *rule.clock);
    // The clock was put back since: not later than one interval from now.
    due = Min(due, core::nth_of(rule.timing->span, now, 1, *rule.clock));
  }
  if (due <= t.s.fired_until) due = t.s.fired_until + 1;
  while (due != core::kNever && core::has_calendar(rule) && !core::allowed(rule, rule.clock->wall(core::floor_div(due, USECS_PER_SEC)))) {
    due += SECS_PER_MINUTE * USECS_PER_SEC;
    if (due > now + int64{366} * USECS_PER_DAY) due = core::kNever;
  }
  if (due >= rule.ends_at) return;
  t.next = due;
  if (due > now) return;
  t.mark = due;
  const bool fired = fire(t, due, "due", now);
  t.next = fired ? core::kNever : core::nth_of(rule.timing->span, now, 1, *rule.clock);
}

void look_at_start(Turn& t, TimestampTz now) {
  const TimestampTz started = PgStartTime;
  if (t.s.fired_until >= started) return;
  t.mark = started;
  if (t.s.running > 0 && t.s.policy.overlap != core::Overlap::Allow)
    note_decision(t.s.id, started, started, 1, "skipped", "overlap", 0, nullptr);
  else
    fire(t, started, "server start", now);
}

void save(Turn& t) {
  static pg::Statement update{
      "UPDATE dts.schedule_clock SET fired_until = $2, next_fire = $3, runs = runs + $4, succeeded = succeeded + $5, failed = failed + $6, "
      "waiting = $7, last_due = $8, last_fired_at = CASE WHEN $4 > 0 THEN pg_catalog.clock_timestamp() ELSE last_fired_at END, "
      "last_task = COALESCE($9, last_task), last_success = $10, last_end = $11, trouble = $12 WHERE schedule = $1",
      12,
      {INT4OID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT8OID, INT8OID, INT8OID, 1185, TIMESTAMPTZOID, INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID,
       TEXTOID}};
  ArrayType* const waiting = construct_array(t.waiting, t.n_waiting, TIMESTAMPTZOID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE);
  const Datum values[] = {Int32GetDatum(t.s.id),
                          TimestampTzGetDatum(Max(t.mark, t.s.fired_until)),
                          TimestampTzGetDatum(t.next),
                          Int64GetDatum(t.runs),
                          Int64GetDatum(t.succeeded),
                          Int64GetDatum(t.failed),
                          PointerGetDatum(waiting),
                          TimestampTzGetDatum(t.s.last_due),
                          Int64GetDatum(t.last_task),
                          TimestampTzGetDatum(t.s.last_success),
                          TimestampTzGetDatum(t.s.last_end),
                          t.trouble == nullptr ? Datum{0} : CStringGetTextDatum(t.trouble)};
  const char nulls[] = {' ',
                        ' ',
                        t.next == core::kNever ? 'n' : ' ',
                        ' ',
                        ' ',
                        ' ',
                        ' ',
                        t.s.has_last_due ? ' ' : 'n',
                        t.last_task != 0 ? ' ' : 'n',
                        t.s.has_success ? ' ' : 'n',
                        t.s.has_end ? ' ' : 'n',
                        t.trouble != nullptr ? ' ' : 'n',
                        '\0'};
  const pg::AsOwner as(store::catalog().owner);
  SPI_connect();
  update.run(values, nulls);
  SPI_finish();
  as.end();
}

/// Runs that ended since the last look are counted and forgotten.
void count_ended(Turn* turns, int n) {
  static pg::Statement take{
      "DELETE FROM dts.schedule_run WHERE schedule = ANY ($1) AND ended_at IS NOT NULL AND backfill IS NULL RETURNING schedule, due_at, "
      "outcome, ended_at",
      1,
      {INT4ARRAYOID}};
  auto* const id = static_cast<Datum*>(palloc(sizeof(Datum) * n));
  for (int i = 0; i < n; i++) id[i] = Int32GetDatum(turns[i].s.id);
  const Datum values[] = {PointerGetDatum(construct_array(id, n, INT4OID, 4, true, TYPALIGN_INT))};
  each_row(take, values, [&](uint64 row) {
    bool null = false;
    const int32 schedule = DatumGetInt32(pg::column(row, 1, &null));
    for (int i = 0; i < n; i++) {
      Turn& t = turns[i];
      if (t.s.id != schedule) continue;
      const TimestampTz due = DatumGetTimestampTz(pg::column(row, 2, &null));
      const bool good = DatumGetInt16(pg::column(row, 3, &null)) == static_cast<int16>(core::State::Succeeded);
      const TimestampTz ended = DatumGetTimestampTz(pg::column(row, 4, &null)) + settings::schedule_clock_offset_s * USECS_PER_SEC;
      (good ? t.succeeded : t.failed)++;
      if (good && (!t.s.has_success || due > t.s.last_success)) {
        t.s.has_success = true;
        t.s.last_success = due;
      }
      if (!t.s.has_end || ended > t.s.last_end) {
        t.s.has_end = true;
        t.s.last_end = ended;
      }
    }
  });
}

void look(Turn& t, core::Decision& d, TimestampTz now) {
  MemoryContext const memory = CurrentMemoryContext;
  t.mark = t.s.fired_until;
  load_waiting(t);
  core::Rule* rule = nullptr;
  // Compiled when it was made; a zone may have left the server's database since.
  ErrorData* const error = pg::attempt(memory, [&] { rule = make_rule(t.s.rule); });
  if (error != nullptr) {
    t.trouble = psprintf("%s: %s", unpack_sql_state(error->sqlerrcode), error->message);
    t.next = core::kNever;
    save(t);
    return;
  }
  t.wakes = waits_for_ends(t.s) || rule->timing->kind == core::TimingKind::AfterEnd;
  fire_waiting(t, now);
  switch (rule->timing->kind) {
    case core::TimingKind::AfterEnd: look_after_end(t, *rule, now); break;
    case core::TimingKind::Reboot: look_at_start(t, now); break;
    default: look_by_clock(t, *rule, d, now);
  }
  save(t);
}

/// Looks at up to `slice_size` schedules that are due. Returns how many; -1 if the slice failed.
int fire_slice(TimestampTz now, Cursor* from) {
  int n = 0;
  Cursor next = *from;
  const bool good = in_transaction("firing schedules", [&] {
    give_way();
    // What the mark says and what was submitted are one commit: a crash loses both or neither.
    (void)set_config_option("synchronous_commit", "off", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0, false);
    // By key, whatever the statistics say of tables that were empty a minute ago.
    for (const char* way : {"enable_seqscan", "enable_hashjoin", "enable_mergejoin"})
      (void)set_config_option(way, "off", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0, false);
    MemoryContext const memory = CurrentMemoryContext;
    auto* const turns = static_cast<Turn*>(palloc0(sizeof(Turn) * slice_size));
    auto* const d = new (palloc(sizeof(core::Decision))) core::Decision();
    const Datum values[] = {TimestampTzGetDatum(from->next_fire), TimestampTzGetDatum(now), Int32GetDatum(slice_size),
                            Int32GetDatum(from->schedule)};
    Cursor last = *from;
    each_row(due_schedules, values, [&](uint64 i) {
      read_schedule(i, memory, &(new (&turns[n++]) Turn())->s);
      time_of(i, 30, &last.next_fire);
      last.schedule = turns[n - 1].s.id;
    });
    if (n > 0) count_ended(turns, n);
    for (int i = 0; i < n; i++) look(turns[i], *d, now);
    next = last;
  });
  DTS_POINT("schedules.fired");
  if (good) *from = next;
  return good ? n : -1;
}

/// A schedule whose slice of one fails is put off, so that it does not stop the others.
void put_off_first(TimestampTz now) {
  in_transaction("putting a schedule off", [&] {
    give_way();
    static pg::Statement later{
        "UPDATE dts.schedule_clock SET next_fire = $3 + '1 min'::interval, trouble = 'could not be looked at; see the server log' WHERE "
        "schedule = (SELECT x.schedule FROM dts.schedule_clock x WHERE (x.next_fire, x.schedule) > ($1, $4) AND x.next_fire <= $2 ORDER BY "
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
  if (cursor.next_fire < not_before) cursor = {not_before, -1};
  for (int turn = 0; turn < kSlices; turn++) {
    const TimestampTz now = schedule_now();
    const int asked = slice_size;
    const int n = fire_slice(now, &cursor);
    if (n < 0) {
      // One by one, until the bad one is found and put off.
      if (slice_size == 1) put_off_first(now);
      slice_size = 1;
      singles = 0;
      return GetCurrentTimestamp() + USECS_PER_SEC / 10;
    }
    if (slice_size == 1 && ++singles == kSlice) slice_size = kSlice;
    if (n == asked) {
      CHECK_FOR_INTERRUPTS();
      continue;
    }
    slice_size = kSlice;
    const TimestampTz next = settle(now);
    cursor = {not_before, -1};
    return next == core::kNever ? core::kNever : next - settings::schedule_clock_offset_s * USECS_PER_SEC;
  }
  return GetCurrentTimestamp();
}

void schedules_changed(bool start) {
  not_before = PG_INT64_MIN;
  cursor = {PG_INT64_MIN, -1};
  if (!start) return;
  in_transaction("schedules at the start of the server", [] {
    give_way();
    // Also those whose zone may be known again; and runs whose task is gone without a word.
    static pg::Statement again{
        "UPDATE dts.schedule_clock c SET next_fire = pg_catalog.clock_timestamp(), trouble = NULL FROM dts.schedule s WHERE s.id = "
        "c.schedule AND NOT s.paused AND (c.trouble IS NOT NULL OR (c.fired_until < $1 AND s.timing LIKE '%@%' AND s.timing ~* "
        "'@reboot'))",
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
