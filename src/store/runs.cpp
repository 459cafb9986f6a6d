#include "store/runs.hpp"

#include "pg/as_owner.hpp"
#include "settings.hpp"
#include "store/batches.hpp"
#include "store/keys.hpp"
#include "store/leases.hpp"
#include "store/notifications.hpp"
#include "store/policy.hpp"

extern "C" {
#include "common/pg_prng.h"
}

namespace dts::store {

namespace {

enum Column {
  kTask,
  kEndedAt,
  kStartedAt,
  kDueAt,
  kSubmittedAt,
  kRowCount,
  kLane,
  kHandler,
  kWorkerPid,
  kFlags,
  kOutcome,
  kKind,
  kAttempt,
  kRetryAt,
  kToken,
  kBatch,
  kSql,
  kResult,
  kError,
  kNotices,
  kLabels,
  kAgent,
  kColumns
};

constexpr int kSqlKept = 1000;

/// The partition for an instant, cached until its day ends.
struct Leaf {
  Oid parent, relation, index;
  TimestampTz from, to;
};
Leaf leaf{};

/// The partition is not there yet: right after CREATE EXTENSION, on a server without our processes, or after a step of the clock.
Oid await_partition(const char* name) {
  static pg::Statement make{"SELECT dts._maintain_history()", 0, {}};
  if (why_closed(MyDatabaseId) == nullptr) {
    tell_scheduler(MyDatabaseId, kPartition);
    for (int turn = 0; turn < 200; turn++) {
      (void)WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, 10, PG_WAIT_EXTENSION);
      ResetLatch(MyLatch);
      CHECK_FOR_INTERRUPTS();
      AcceptInvalidationMessages();
      const Oid oid = get_relname_relid(name, catalog().schema);
      if (OidIsValid(oid)) return oid;
    }
    return InvalidOid;
  }
  const pg::AsOwner as(catalog().owner);
  SPI_connect();
  make.run(nullptr);
  SPI_finish();
  as.end();
  return get_relname_relid(name, catalog().schema);
}

Oid leaf_for(TimestampTz at) {
  if (leaf.parent == catalog().run && at >= leaf.from && at < leaf.to && SearchSysCacheExists1(RELOID, ObjectIdGetDatum(leaf.relation)))
    return leaf.relation;
  // Days in UTC, whatever the session's zone: timestamps count microseconds from midnight UTC.
  const int64 day = at >= 0 ? at / USECS_PER_DAY : -((-at + USECS_PER_DAY - 1) / USECS_PER_DAY);
  int y = 0, m = 0, d = 0;
  j2date(static_cast<int>(day + POSTGRES_EPOCH_JDATE), &y, &m, &d);
  char name[NAMEDATALEN];
  snprintf(name, sizeof(name), "run_%04d%02d%02d", y, m, d);
  Oid oid = get_relname_relid(name, catalog().schema);
  if (!OidIsValid(oid)) oid = await_partition(name);
  if (!OidIsValid(oid)) {
    ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE), errmsg("table \"dts.%s\" for history does not exist yet", name),
                    errhint("The scheduler of dts creates it; see the server log if it does not.")));
  }
  leaf = Leaf{catalog().run, oid, InvalidOid, day * USECS_PER_DAY, (day + 1) * USECS_PER_DAY};
  return oid;
}

/// Inserts into the leaf; its one index, on (task), by hand, others the general way.
void insert_run(Relation rel, HeapTuple tuple, int64 task) {
  heap_insert(rel, tuple, GetCurrentCommandId(true), 0, nullptr);
  List* const list = RelationGetIndexList(rel);
  ListCell* cell = nullptr;
  foreach (cell, list) {
    Relation const index = index_open(lfirst_oid(cell), RowExclusiveLock);
    Datum value = Int64GetDatum(task);
    bool null = false;
    static IndexInfo* info = nullptr;
    if (info == nullptr) {
      const MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);
      info = makeNode(IndexInfo);
      MemoryContextSwitchTo(old);
    }
    const bool ours = index->rd_index->indnatts == 1 && index->rd_index->indkey.values[0] == kTask + 1 &&
                      index->rd_rel->relam == BTREE_AM_OID && heap_attisnull(index->rd_indextuple, Anum_pg_index_indpred, nullptr);
    if (ours) {
      index_insert(index, &value, &null, &tuple->t_self, rel, UNIQUE_CHECK_NO, false, info);
    } else {
      ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                      errmsg("index \"%s\" is not supported on the history of dts", RelationGetRelationName(index)),
                      errhint("Drop it; copy the history to a table of your own to index it otherwise.")));
    }
    index_close(index, NoLock);
  }
  list_free(list);
}

bool of_agent(const Task& t, const LaneInfo& lane) { return t.state == core::State::Leased && lane.runner == core::Runner::Agent; }

const char* safe_name(core::State s) { return core::name(s); }

void remember_error(int queue_slot, const Outcome& o) {
  if (queue_slot < 0 || o.error == nullptr) return;
  JsonbValue v;
  if (!json_member(o.error, "message", &v) || v.type != jbvString) return;
  QueueSlot& q = queues[queue_slot];
  LWLockAcquire(&q.error_lock, LW_EXCLUSIVE);
  const int n = pg_mbcliplen(v.val.string.val, v.val.string.len, sizeof(q.last_error) - 1);
  memcpy(q.last_error, v.val.string.val, n);
  q.last_error[n] = '\0';
  q.last_error_at = o.ended_at;
  LWLockRelease(&q.error_lock);
}

void tell_end(const Task& t, int queue_slot, const Outcome& o) {
  Ended e{};
  e.task = t.id;
  e.outcome = o.state;
  e.queue_slot = queue_slot;
  e.lane_slot = shared == nullptr ? -1 : lane_slot_of(MyDatabaseId, t.lane);
  e.bytes = t.bytes();
  e.ran = o.started_at != 0;
  e.charged = o.charged;
  e.run_us = e.ran ? o.ended_at - o.started_at : 0;
  e.wait_us = e.ran ? o.started_at - Max(t.run_at, t.submitted_at) : 0;
  touch_ended(e);
}

/// Releases the idempotency key of a task that ends. Somebody who is just taking the key over holds its row: he sees for himself
/// that the task is gone, so nobody waits here.
pg::Statement key_end{
    "WITH k AS (SELECT owner, key, keep FROM dts.key WHERE task = $1 FOR UPDATE SKIP LOCKED), "
    "u AS (UPDATE dts.key x SET free_at = pg_catalog.clock_timestamp() + k.keep FROM k WHERE k.keep IS NOT NULL AND (x.owner, x.key) = "
    "(k.owner, k.key)) "
    "DELETE FROM dts.key x USING k WHERE k.keep IS NULL AND (x.owner, x.key) = (k.owner, k.key)",
    1,
    {INT8OID}};

pg::Statement dead_letter{
    "INSERT INTO dts.dead_letter (id, failed_at, submitted_at, lane, timeout_ms, handler, flags, kind, attempt, max_attempts, crashes, "
    "sql, args, extra, error, batch) "
    "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16) ON CONFLICT (id) DO NOTHING",
    16,
    {INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT4OID, INT4OID, INT4OID, INT4OID, INT2OID, INT2OID, INT2OID, INT2OID, TEXTOID, JSONBOID,
     JSONBOID, JSONBOID, INT8OID}};

void keep_dead_letter(const Task& t, const Outcome& o) {
  const Datum values[] = {Int64GetDatum(t.id),
                          TimestampTzGetDatum(o.ended_at),
                          TimestampTzGetDatum(t.submitted_at),
                          Int32GetDatum(t.lane),
                          Int32GetDatum(t.timeout_ms),
                          Int32GetDatum(t.handler),
                          Int32GetDatum(t.flags),
                          Int16GetDatum(static_cast<int16>(t.kind)),
                          Int16GetDatum(t.attempt),
                          Int16GetDatum(t.max_attempts),
                          Int16GetDatum(t.crashes),
                          PointerGetDatum(t.sql),
                          PointerGetDatum(t.args),
                          PointerGetDatum(t.extra),
                          PointerGetDatum(o.error),
                          Int64GetDatum(t.batch)};
  char nulls[17];
  memset(nulls, ' ', 16);
  nulls[16] = '\0';
  if (t.sql == nullptr) nulls[11] = 'n';
  if (t.args == nullptr) nulls[12] = 'n';
  if (t.extra == nullptr) nulls[13] = 'n';
  if (o.error == nullptr) nulls[14] = 'n';
  if (t.batch == 0) nulls[15] = 'n';
  const pg::AsOwner as(catalog().owner);
  SPI_connect();
  dead_letter.run(values, nulls);
  SPI_finish();
  as.end();
}

void release_key(const Task& t) {
  const Datum values[] = {Int64GetDatum(t.id)};
  const pg::AsOwner as(catalog().owner);
  SPI_connect();
  key_end.run(values, nullptr, true);
  SPI_finish();
  as.end();
}

/// The scheduler counts it; it is woken if the schedule waits for this end.
void note_scheduled_end(const Task& t, const Outcome& o) {
  static pg::Statement note{
      "UPDATE dts.schedule_run SET ended_at = $2, outcome = $3 WHERE task = $1 RETURNING wakes", 3, {INT8OID, TIMESTAMPTZOID, INT2OID}};
  const Datum values[] = {Int64GetDatum(t.id), TimestampTzGetDatum(o.ended_at), Int16GetDatum(static_cast<int16>(o.state))};
  const pg::AsOwner as(catalog().owner);
  SPI_connect();
  bool null = false;
  if (note.run(values, nullptr, true) > 0 && DatumGetBool(pg::column(0, 1, &null))) touch_events(kScheduleRun);
  SPI_finish();
  as.end();
}

void push_pair(JsonbParseState** state, const char* key, const char* value) {
  if (value == nullptr) return;
  JsonbValue k, v;
  k.type = jbvString;
  k.val.string.val = const_cast<char*>(key);
  k.val.string.len = static_cast<int>(strlen(key));
  pushJsonbValue(state, WJB_KEY, &k);
  // Text of errors can be in any encoding (bytes raised by C code): what is not valid is shown as question marks.
  const int length = static_cast<int>(Min(strlen(value), size_t{8192}));
  char* const clean = pnstrdup(value, pg_mbcliplen(value, length, length));
  if (!pg_verifymbstr(clean, static_cast<int>(strlen(clean)), true))
    for (char* c = clean; *c != '\0'; c++)
      if (static_cast<unsigned char>(*c) >= 0x80) *c = '?';
  v.type = jbvString;
  v.val.string.val = clean;
  v.val.string.len = static_cast<int>(strlen(clean));
  pushJsonbValue(state, WJB_VALUE, &v);
}

}  // namespace

Jsonb* error_json(const ErrorData* e) {
  JsonbParseState* state = nullptr;
  pushJsonbValue(&state, WJB_BEGIN_OBJECT, nullptr);
  push_pair(&state, "sqlstate", unpack_sql_state(e->sqlerrcode));
  push_pair(&state, "message", e->message != nullptr ? e->message : "missing error text");
  push_pair(&state, "detail", e->detail);
  push_pair(&state, "hint", e->hint);
  push_pair(&state, "context", e->context);
  push_pair(&state, "schema", e->schema_name);
  push_pair(&state, "table", e->table_name);
  push_pair(&state, "column", e->column_name);
  push_pair(&state, "datatype", e->datatype_name);
  push_pair(&state, "constraint", e->constraint_name);
  push_pair(&state, "internal_query", e->internalquery);
  if (e->internalpos > 0) push_pair(&state, "internal_position", psprintf("%d", e->internalpos));
  if (e->cursorpos > 0) push_pair(&state, "position", psprintf("%d", e->cursorpos));
  return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, nullptr));
}

Jsonb* error_json(int sqlstate, const char* message, const char* hint) {
  ErrorData e{};
  e.sqlerrcode = sqlstate;
  e.message = const_cast<char*>(message);
  e.hint = const_cast<char*>(hint);
  return error_json(&e);
}

namespace {
/// What history shows of what was run: the text, or the arguments of a command.
text* what_runs(const Task& t) {
  JsonbValue argv;
  if (t.kind != core::Kind::Command || !json_member(t.args, "argv", &argv)) return t.sql;
  Jsonb* const j = JsonbValueToJsonb(&argv);
  return cstring_to_text(JsonbToCString(nullptr, &j->root, VARSIZE(j)));
}
}  // namespace

void add_run(const Task& t, const LaneInfo& lane, char history, int, const Outcome& o) {
  const bool good = o.state == core::State::Succeeded;
  // "Failures only" keeps the success that follows failures, or the history of that task would end with one.
  const bool follows_failure = t.attempt > 1 || (t.flags & core::kRedriven) != 0;
  if (history == 'n' || (history == 'f' && good && !follows_failure)) return;
  Datum values[kColumns];
  bool nulls[kColumns] = {};
  values[kTask] = Int64GetDatum(t.id);
  values[kEndedAt] = TimestampTzGetDatum(o.ended_at);
  values[kStartedAt] = TimestampTzGetDatum(o.started_at);
  nulls[kStartedAt] = o.started_at == 0;
  values[kDueAt] = TimestampTzGetDatum(t.run_at);
  values[kSubmittedAt] = TimestampTzGetDatum(t.submitted_at);
  values[kRowCount] = Int64GetDatum(o.row_count);
  values[kLane] = Int32GetDatum(lane.lane);
  values[kHandler] = Int32GetDatum(t.handler);
  values[kWorkerPid] = Int32GetDatum(o.worker_pid);
  values[kFlags] = Int32GetDatum(o.truncated ? core::kTruncated : 0);
  values[kOutcome] = Int16GetDatum(static_cast<int16>(o.state));
  values[kKind] = Int16GetDatum(static_cast<int16>(t.kind));
  values[kAttempt] = Int16GetDatum(t.attempt);
  values[kRetryAt] = TimestampTzGetDatum(o.retry_at);
  nulls[kRetryAt] = o.state != core::State::Retry;
  values[kToken] = UUIDPGetDatum(&t.token);
  nulls[kToken] = !t.has_token;
  values[kBatch] = Int64GetDatum(t.batch);
  nulls[kBatch] = t.batch == 0;
  text* const what = what_runs(t);
  const int sql_size = what == nullptr ? 0 : static_cast<int>(VARSIZE_ANY_EXHDR(what));
  nulls[kSql] = what == nullptr;
  values[kSql] = sql_size <= kSqlKept
                     ? PointerGetDatum(what)
                     : PointerGetDatum(cstring_to_text_with_len(VARDATA_ANY(what), pg_mbcliplen(VARDATA_ANY(what), sql_size, kSqlKept)));
  nulls[kResult] = o.result == nullptr;
  values[kResult] = o.result == nullptr ? Datum{0} : PointerGetDatum(cstring_to_text_with_len(o.result, o.result_length));
  nulls[kError] = o.error == nullptr;
  values[kError] = PointerGetDatum(o.error);
  nulls[kNotices] = o.notices == nullptr;
  values[kNotices] = o.notices == nullptr ? Datum{0} : CStringGetTextDatum(o.notices);
  JsonbValue labels;
  const bool labelled = json_member(t.extra, "labels", &labels);
  nulls[kLabels] = !labelled;
  nulls[kAgent] = o.agent == nullptr;
  values[kAgent] = o.agent == nullptr ? Datum{0} : CStringGetTextDatum(o.agent);
  values[kLabels] = labelled ? JsonbPGetDatum(JsonbValueToJsonb(&labels)) : Datum{0};

  Relation const rel = table_open(leaf_for(o.ended_at), RowExclusiveLock);
  HeapTuple const tuple = heap_form_tuple(RelationGetDescr(rel), values, nulls);
  insert_run(rel, tuple, t.id);
  heap_freetuple(tuple);
  table_close(rel, NoLock);
}

void end_task(TaskTable& tasks, const Task& t, const LaneInfo& lane, const Outcome& outcome) {
  Outcome o = outcome;
  if (of_agent(t, lane)) lease_left(t, lane, &o);
  if (!core::may_move(t.state, o.state)) elog(ERROR, "task cannot move from %s to %s", safe_name(t.state), safe_name(o.state));
  tasks.remove(t, lane);
  const int slot = shared == nullptr ? -1 : queue_slot(MyDatabaseId, lane.queue);
  char history = 'a';
  if (slot >= 0) {
    history = queues[slot].history;
  } else if (const Queue* const q = queue_by_id(lane.queue)) {
    history = q->history;
  }
  add_run(t, lane, history, slot, o);
  if (o.state == core::State::Failed && o.dead_letter) {
    keep_dead_letter(t, o);
    remember_error(slot, o);
  }
  if ((t.flags & core::kHasKey) != 0) release_key(t);
  if (t.ckey != 0) key_left(tasks, t, lane, false);
  if (t.batch != 0) tally(t.batch, static_cast<int>(o.state), 1);
  if ((t.flags & core::kScheduled) != 0) note_scheduled_end(t, o);
  announce(t, lane, o);
  tell_end(t, slot, o);
}

Wish take_requests(int64 task, bool leased) {
  // One statement: what is asked for between reading and forgetting must not be forgotten.
  static pg::Statement take{
      "WITH r AS (DELETE FROM dts.request WHERE task = $1 "
      "AND (NOT $2 OR EXISTS (SELECT FROM dts.request c WHERE c.task = $1 AND c.kind = 'cancel')) RETURNING kind, run_at, priority, at) "
      "SELECT bool_or(kind = 'cancel'), (array_agg(run_at ORDER BY at DESC) FILTER (WHERE kind = 'reschedule'))[1], "
      "(array_agg(priority ORDER BY at DESC) FILTER (WHERE kind = 'priority'))[1] FROM r",
      2,
      {INT8OID, BOOLOID}};
  const Datum values[] = {Int64GetDatum(task), BoolGetDatum(leased)};
  Wish w{};
  const pg::AsOwner as(catalog().owner);
  SPI_connect();
  if (take.run(values) == 1) {
    bool null = false;
    w.cancel = DatumGetBool(pg::column(0, 1, &null)) && !null;
    w.run_at = DatumGetTimestampTz(pg::column(0, 2, &null));
    w.has_run_at = !null;
    w.priority = DatumGetInt32(pg::column(0, 3, &null));
    w.has_priority = !null;
  }
  SPI_finish();
  as.end();
  return w;
}

core::State fail_task(TaskTable& tasks, const Task& t, const LaneInfo& lane, Outcome& o, bool counts) {
  Task now = t;
  if (counts) now.attempt = static_cast<int16>(t.attempt + 1);
  JsonbValue v;
  char sqlstate[6] = "XX000";
  if (json_member(o.error, "sqlstate", &v) && v.type == jbvString && v.val.string.len == 5) memcpy(sqlstate, v.val.string.val, 5);
  if (o.crashed) {
    // The first crash may be a bystander's; from then on it runs alone, and only those crashes count.
    if ((t.flags & core::kSuspect) != 0) now.crashes = static_cast<int16>(t.crashes + 1);
    now.flags |= core::kSuspect;
  }
  const bool used_up = o.crashed ? now.crashes >= settings::max_crashes : counts && now.attempt >= t.max_attempts;
  TimestampTz next_at = used_up || o.final ? 0
                        : o.again_at != 0  ? o.again_at
                                           : next_attempt_at(t, Max(now.attempt, 1), sqlstate, o.permanent);
  if (next_at != 0) next_at = Max(next_at, o.not_before);
  if (next_at == 0) {
    o.state = core::State::Failed;
    end_task(tasks, now, lane, o);
    return o.state;
  }
  Task again = now;
  again.run_at = next_at;
  again.state = core::State::Ready;
  again.has_lease = again.has_token = false;
  // What was noted while the attempt ran holds for the next one, however soon that comes.
  const DatabaseSlot* const d = shared == nullptr ? nullptr : database_slot(MyDatabaseId, false);
  Wish wish{};
  if (d != nullptr && pg_atomic_read_u32(const_cast<pg_atomic_uint32*>(&d->notes)) != 0) wish = take_requests(t.id, false);
  if (wish.cancel) {
    o.state = core::State::Cancelled;
    end_task(tasks, now, lane, o);
    return o.state;
  }
  LaneInfo to = lane;
  if (wish.has_priority)
    if (const Lane* const l = lane_by_id(t.lane)) to = lane_with_priority(*l, wish.priority);
  again.lane = to.lane;
  if (wish.has_run_at) again.run_at = Max(wish.run_at, GetCurrentTimestamp());
  o.state = core::State::Retry;
  o.retry_at = again.run_at;
  tasks.update(t, again, lane, to);
  if (of_agent(t, lane)) lease_left(t, lane, &o);
  if (t.ckey != 0) key_left(tasks, t, lane, true);
  const int slot = shared == nullptr ? -1 : queue_slot(MyDatabaseId, lane.queue);
  add_run(now, lane, slot >= 0 ? queues[slot].history : 'a', slot, o);
  remember_error(slot, o);
  announce(now, lane, o);
  tell_end(t, slot, o);
  return o.state;
}

TimestampTz next_attempt_at(const Task& t, int attempt, const char* sqlstate, bool permanent) {
  Jsonb* policy = nullptr;
  JsonbValue v;
  if (json_member(t.extra, "retry", &v) && v.type == jbvBinary) policy = JsonbValueToJsonb(&v);
  JsonbValue named;
  if (!retry_wanted(policy, sqlstate) || (permanent && !json_member(policy, "on", &named))) return 0;
  return GetCurrentTimestamp() + backoff_ms(t, attempt) * 1000;
}

int64 backoff_ms(const Task& t, int attempt) {
  Jsonb* policy = nullptr;
  JsonbValue v;
  if (json_member(t.extra, "retry", &v) && v.type == jbvBinary) policy = JsonbValueToJsonb(&v);
  return core::retry_delay_ms(read_retry(policy), attempt, pg_prng_double(&pg_global_prng_state));
}

}  // namespace dts::store
