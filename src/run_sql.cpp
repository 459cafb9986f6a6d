#include "run_sql.hpp"

#include "parameters.hpp"

extern "C" {
#include "common/hashfn.h"
#include "utils/plancache.h"
}

namespace dts {

namespace {

struct PlanKey {
  uint64 hash;
  int32 length;
  int32 arguments;
};
struct PlanEntry {
  PlanKey key;
  SPIPlanPtr plan;
  char* sql;
  int n;
  Oid* types;
};
constexpr long kPlans = 400;
HTAB* plans = nullptr;
MemoryContext plan_memory = nullptr;
uint64 seen_once[4096];  // texts met once: a plan is kept from the second time on

void drop_plans() {
  if (plans != nullptr) {
    HASH_SEQ_STATUS all;
    hash_seq_init(&all, plans);
    while (auto* const e = static_cast<PlanEntry*>(hash_seq_search(&all))) SPI_freeplan(e->plan);
    MemoryContextReset(plan_memory);
  } else {
    plan_memory = AllocSetContextCreate(TopMemoryContext, "dts plans", ALLOCSET_DEFAULT_SIZES);
  }
  HASHCTL ctl{};
  ctl.keysize = sizeof(PlanKey);
  ctl.entrysize = sizeof(PlanEntry);
  ctl.hcxt = plan_memory;
  plans = hash_create("dts plans", kPlans, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

PlanEntry* find_plan(const PlanKey& key, const char* sql) {
  if (plans == nullptr) drop_plans();
  auto* const e = static_cast<PlanEntry*>(hash_search(plans, &key, HASH_FIND, nullptr));
  return e != nullptr && strcmp(e->sql, sql) == 0 ? e : nullptr;
}

PlanEntry* keep_plan(const PlanKey& key, const char* sql, const Oid* types, int n) {
  if (hash_get_num_entries(plans) >= kPlans) drop_plans();
  SPIPlanPtr const plan = SPI_prepare(sql, n, const_cast<Oid*>(types));
  if (plan == nullptr) elog(ERROR, "could not prepare the task's SQL: %s", SPI_result_code_string(SPI_result));
  SPI_keepplan(plan);
  bool found = false;
  auto* const e = static_cast<PlanEntry*>(hash_search(plans, &key, HASH_ENTER, &found));
  if (found) SPI_freeplan(e->plan);
  e->plan = plan;
  e->sql = MemoryContextStrdup(plan_memory, sql);
  e->n = n;
  e->types = static_cast<Oid*>(MemoryContextAlloc(plan_memory, sizeof(Oid) * (n + 1)));
  if (n > 0) memcpy(e->types, types, sizeof(Oid) * n);
  return e;
}

[[noreturn]] void refuse_spi(int rc) {
  if (rc == SPI_ERROR_TRANSACTION)
    ereport(ERROR, (errcode(ERRCODE_INVALID_TRANSACTION_TERMINATION), errmsg("transaction control is not allowed in a transactional task"),
                    errhint("Submit it with transactional => false if it must manage its own transactions.")));
  if (rc == SPI_ERROR_COPY)
    ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("COPY FROM STDIN and COPY TO STDOUT are not possible in a task")));
  ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("could not execute the task's SQL: %s", SPI_result_code_string(rc))));
}

int execute(const char* sql, Jsonb* args, bool payload, DestReceiver* dest) {
  SPIExecuteOptions options{};
  options.dest = dest;
  const int given = argument_count(args, payload);
  const PlanKey key{hash_bytes_extended(reinterpret_cast<const unsigned char*>(sql), static_cast<int>(strlen(sql)), 0),
                    static_cast<int32>(strlen(sql)), payload ? -1 : given};
  PlanEntry* e = find_plan(key, sql);
  if (e == nullptr) {
    uint64& seen = seen_once[key.hash % lengthof(seen_once)];
    const bool again = seen == key.hash;
    seen = key.hash;
    if (!again && given == 0) return SPI_execute_extended(sql, &options);
    List* const raw = pg_parse_query(sql);
    // Several statements may depend on each other (CREATE TABLE, then INSERT): they are analysed one by one.
    if (list_length(raw) != 1) return SPI_execute_extended(sql, &options);
    Oid* types = nullptr;
    const int n = infer_types(linitial_node(RawStmt, raw), sql, payload, given, &types);
    e = keep_plan(key, sql, types, n);
  }
  options.params = bind_parameters(args, payload, e->types, e->n);
  return SPI_execute_plan_extended(e->plan, &options);
}

}  // namespace

void run_transactional(const char* sql, Jsonb* args, bool payload, bool capture, SqlResult* result, int64 room) {
  if (sql == nullptr) ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("the handler of this task does not exist any more")));
  Receiver receiver = make_receiver(result, capture, room);
  PushActiveSnapshot(GetTransactionSnapshot());  // SPI wants an outer one; each statement gets its own on top
  SPI_connect();
  const int rc = execute(sql, args, payload, &receiver.pub);
  if (rc < 0) refuse_spi(rc);
  const bool rows = rc == SPI_OK_SELECT || rc == SPI_OK_INSERT_RETURNING || rc == SPI_OK_UPDATE_RETURNING ||
                    rc == SPI_OK_DELETE_RETURNING || (rc == SPI_OK_UTILITY && receiver.desc != nullptr);
  if (!rows) result->row_count = static_cast<int64>(SPI_processed);
  if (!rows) result->json.data = nullptr;
  SPI_finish();
  PopActiveSnapshot();
  if (result->json.data != nullptr) appendStringInfoChar(&result->json, ']');
}

void run_top_level(const char* sql) {
  if (sql == nullptr) ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("the handler of this task does not exist any more")));
  StartTransactionCommand();
  const MemoryContext old = MemoryContextSwitchTo(MessageContext);
  List* const raw = pg_parse_query(sql);
  RawStmt* const stmt = linitial_node(RawStmt, raw);
  const bool snapshot = analyze_requires_snapshot(stmt);
  if (snapshot) PushActiveSnapshot(GetTransactionSnapshot());
  List* const queries = pg_analyze_and_rewrite_fixedparams(stmt, sql, nullptr, 0, nullptr);
  List* const planned = pg_plan_queries(queries, sql, CURSOR_OPT_PARALLEL_OK, nullptr);
  if (snapshot) PopActiveSnapshot();
  Portal const portal = CreatePortal("", true, true);
  portal->visible = false;
  PortalDefineQuery(portal, nullptr, sql, CreateCommandTag(stmt->stmt), planned, nullptr);
  PortalStart(portal, nullptr, 0, InvalidSnapshot);
  QueryCompletion completion;
  DTS_PORTAL_RUN(portal, true, None_Receiver, &completion);
  PortalDrop(portal, false);
  MemoryContextSwitchTo(old);
  CommitTransactionCommand();
}

}  // namespace dts
