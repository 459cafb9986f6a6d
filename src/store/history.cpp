#include "store/history.hpp"

#include "pg/as_owner.hpp"
#include "store/policy.hpp"

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

/// What history shows of what was run: the text, or the arguments of a command.
text* what_runs(const Task& t) {
  JsonbValue argv;
  if (t.kind != core::Kind::Command || !json_member(t.args, "argv", &argv)) return t.sql;
  Jsonb* const j = JsonbValueToJsonb(&argv);
  return cstring_to_text(JsonbToCString(nullptr, &j->root, VARSIZE(j)));
}
}  // namespace

void add_run(const Task& t, const LaneInfo& lane, char history, const Outcome& o) {
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

  Relation const rel = open_table(leaf_for(o.ended_at), RowExclusiveLock, kColumns);
  HeapTuple const tuple = heap_form_tuple(RelationGetDescr(rel), values, nulls);
  insert_run(rel, tuple, t.id);
  heap_freetuple(tuple);
  table_close(rel, NoLock);
}

}  // namespace dts::store
