// Carrying out what is decided for one schedule: tasks, decisions and the mark.
#include "schedule_turn.hpp"

namespace dts {

namespace {

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
  static pg::Statement request{"SELECT x FROM dts._cancel_schedule_runs($1) x", 1, {INT4OID}};
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

}  // namespace

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

}  // namespace dts
