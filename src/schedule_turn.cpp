// Carrying out what is decided for one schedule: tasks, decisions and the mark.
#include "schedule_turn.hpp"

#include "pg/columns.hpp"

namespace dts {

namespace {

const char* const kReasons[] = {"due", "catch-up", "missed", "late", "overlap", "replaced", "end reached"};

/// Somebody else's lock, deadlock or use of memory, and no fault of the schedule's.
bool passing(int sqlstate) {
  const int kind = ERRCODE_TO_CATEGORY(sqlstate);
  return kind == ERRCODE_TO_CATEGORY(ERRCODE_T_R_SERIALIZATION_FAILURE) || kind == ERRCODE_TO_CATEGORY(ERRCODE_INSUFFICIENT_RESOURCES) ||
         sqlstate == ERRCODE_LOCK_NOT_AVAILABLE || sqlstate == ERRCODE_QUERY_CANCELED || sqlstate == ERRCODE_ADMIN_SHUTDOWN;
}

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
  // What may be gone in a moment is tried again with the whole slice.
  if (error != nullptr && passing(error->sqlerrcode)) ReThrowError(error);
  if (error != nullptr) {
    t.ledger->decided(t.s.id, due, due, 1, "failed", "could not be submitted",
                      psprintf("%s: %s", unpack_sql_state(error->sqlerrcode), error->message));
    return false;
  }
  t.ledger->fired(t.s.id, due, task, reason, 0, t.wakes);
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
  t.n_waited = t.n_waiting;
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
  if (e.count > 0) t.ledger->decided(t.s.id, e.first, e.last, e.count, "skipped", "calendar", e.all ? "" : "and more: counted up to 10000");
}

/// Whether a due time that comes twice, since the clock was set back, had its run the first time, or has it before it.
bool fired_before(const Turn& t, TimestampTz due) {
  if (due > t.s.passed_until) return false;
  for (int i = 0; i < t.n_waiting; i++)
    if (DatumGetTimestampTz(t.waiting[i]) == due) return true;
  static pg::Statement fired{
      "SELECT 1 FROM dts.fire f WHERE f.schedule = $1 AND f.due_at = $2 AND f.decision = 'fired' LIMIT 1", 2, {INT4OID, TIMESTAMPTZOID}};
  const Datum values[] = {Int32GetDatum(t.s.id), TimestampTzGetDatum(due)};
  bool found = t.ledger->has_fired(t.s.id, due);
  each_row(fired, values, [&](uint64) { found = true; });
  return found;
}

void look_by_clock(Turn& t, core::Rule& rule, core::Decision& d, TimestampTz now) {
  // It has ended: a look because of a run by hand decides nothing.
  if (t.s.max_runs > 0 && t.s.runs + t.runs >= t.s.max_runs && t.n_waiting == 0) {
    t.next = core::kNever;
    return;
  }
  if (t.s.max_runs > 0) t.s.policy.runs_left = t.s.max_runs - t.s.runs - t.runs - t.n_waiting;
  d.make(rule, t.s.policy, t.s.fired_until, now, t.s.running, t.n_waiting);
  note_excluded(t, rule, t.s.fired_until, d.mark());
  if (d.replace()) {
    for (int i = 0; i < t.n_waiting; i++)
      t.ledger->decided(t.s.id, DatumGetTimestampTz(t.waiting[i]), DatumGetTimestampTz(t.waiting[i]), 1, "skipped", "replaced");
    t.n_waiting = 0;
    if (t.s.running > 0) cancel_runs(t.s.id);
  }
  for (int i = 0; i < d.size(); i++) {
    const core::Choice& c = d[i];
    const char* const reason = kReasons[static_cast<int>(c.reason)];
    if (c.fate != core::Fate::Skip && fired_before(t, c.first)) {
      t.ledger->decided(t.s.id, c.first, c.last, c.count, "skipped", "fired before");
    } else if (c.fate == core::Fate::Fire) {
      fire(t, c.first, reason, c.reason == core::Reason::Due ? c.first : now);
    } else if (c.fate == core::Fate::Wait) {
      t.waiting[t.n_waiting++] = TimestampTzGetDatum(c.first);
      t.ledger->decided(t.s.id, c.first, c.last, 1, "waiting", reason);
    } else {
      t.ledger->decided(t.s.id, c.first, c.last, c.count, "skipped", reason);
    }
  }
  t.mark = d.mark();
  const bool over = t.s.max_runs > 0 && t.s.runs + t.runs + t.n_waiting >= t.s.max_runs;
  t.next = over ? core::kNever : d.complete() ? core::next_due(rule, t.mark) : now;
}

/// An interval after the end of the last run; the first one at once.
void look_after_end(Turn& t, core::Rule& rule, TimestampTz now) {
  if (t.s.running > 0 || (t.s.max_runs > 0 && t.s.runs >= t.s.max_runs)) return;
  // By a clock that was set back since: the interval begins anew, and the mark is no time of a timing that would come again.
  if (t.s.has_end) t.s.last_end = Min(t.s.last_end, now);
  t.mark = t.s.fired_until = Min(t.s.fired_until, now);
  TimestampTz due = rule.has_start ? Max(rule.starts_at, rule.made_at) : rule.made_at;
  if (t.s.has_end) due = core::nth_of(rule.timing->span, t.s.last_end, 1, *rule.clock);
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
    t.ledger->decided(t.s.id, started, started, 1, "skipped", "overlap");
  else
    fire(t, started, "server start", now);
}

}  // namespace

void count_ended(Turn* turns, int n) {
  static pg::Statement take{
      "DELETE FROM dts.schedule_run WHERE schedule = ANY ($1) AND ended_at IS NOT NULL AND backfill IS NULL RETURNING schedule, due_at, "
      "outcome, ended_at",
      1,
      {INT4ARRAYOID}};
  const TimestampTz now = schedule_now();
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
      // Fired by a clock that was set back since, it is no success of the past.
      if (good && due <= now && (!t.s.has_success || due > t.s.last_success)) {
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
  if (error != nullptr || rule == nullptr) {
    t.trouble = error == nullptr ? pstrdup("there is no rule") : psprintf("%s: %s", unpack_sql_state(error->sqlerrcode), error->message);
    t.next = core::kNever;
    return;
  }
  t.wakes = waits_for_ends(t.s) || rule->timing->kind == core::TimingKind::AfterEnd;
  fire_waiting(t, now);
  switch (rule->timing->kind) {
    case core::TimingKind::AfterEnd: look_after_end(t, *rule, now); break;
    case core::TimingKind::Reboot: look_at_start(t, now); break;
    default: look_by_clock(t, *rule, d, now);
  }
}

namespace {

/// What waits behind a run; most schedules have none.
void save_waiting(const Turn& t) {
  static pg::Statement update{"UPDATE dts.schedule_clock SET waiting = $2 WHERE schedule = $1", 2, {INT4OID, TIMESTAMPTZARRAYOID}};
  ArrayType* const waiting = construct_array(const_cast<Datum*>(t.waiting), t.n_waiting, TIMESTAMPTZOID, 8, true, TYPALIGN_DOUBLE);
  const Datum values[] = {Int32GetDatum(t.s.id), PointerGetDatum(waiting)};
  update.run(values);
}

}  // namespace

void save(Turn* turns, int n) {
  // What there is none of has a value of its own: unnest() gets no nulls.
  static pg::Statement update{
      "UPDATE dts.schedule_clock c SET fired_until = u.mark, next_fire = NULLIF(u.next, 'infinity'), runs = c.runs + u.runs, succeeded = "
      "c.succeeded + u.succeeded, failed = c.failed + u.failed, last_due = NULLIF(u.last_due, '-infinity'), last_fired_at = CASE WHEN "
      "u.runs "
      "> 0 THEN pg_catalog.clock_timestamp() ELSE c.last_fired_at END, last_task = COALESCE(NULLIF(u.last_task, 0), c.last_task), "
      "last_success = NULLIF(u.last_success, '-infinity'), last_end = NULLIF(u.last_end, '-infinity'), trouble = NULLIF(u.trouble, '') "
      "FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) u(schedule, mark, next, runs, succeeded, failed, last_due, "
      "last_task, last_success, last_end, trouble) WHERE c.schedule = u.schedule",
      11,
      {INT4ARRAYOID, TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID, INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID, TIMESTAMPTZARRAYOID, INT8ARRAYOID,
       TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID, TEXTARRAYOID}};
  if (n == 0) return;
  const pg::Columns c(n);
  const Turn* const t = turns;
  const Datum values[] = {c.int4s([t](int i) { return t[i].s.id; }),
                          c.times([t](int i) { return Max(t[i].mark, t[i].s.fired_until); }),
                          c.times([t](int i) { return t[i].next == core::kNever ? DT_NOEND : t[i].next; }),
                          c.int8s([t](int i) { return t[i].runs; }),
                          c.int8s([t](int i) { return t[i].succeeded; }),
                          c.int8s([t](int i) { return t[i].failed; }),
                          c.times([t](int i) { return t[i].s.has_last_due ? t[i].s.last_due : DT_NOBEGIN; }),
                          c.int8s([t](int i) { return t[i].last_task; }),
                          c.times([t](int i) { return t[i].s.has_success ? t[i].s.last_success : DT_NOBEGIN; }),
                          c.times([t](int i) { return t[i].s.has_end ? t[i].s.last_end : DT_NOBEGIN; }),
                          c.texts([t](int i) { return t[i].trouble == nullptr ? "" : t[i].trouble; })};
  const pg::AsOwner as(store::catalog().owner);
  SPI_connect();
  update.run(values);
  for (int i = 0; i < n; i++)
    if (t[i].n_waiting > 0 || t[i].n_waited > 0) save_waiting(t[i]);
  SPI_finish();
  as.end();
}

}  // namespace dts
