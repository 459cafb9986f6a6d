#include "run_sql.hpp"

#include "pg/guard.hpp"
#include "settings.hpp"

extern "C" {
#include "common/hashfn.h"
#include "parser/scanner.h"
#include "utils/plancache.h"
}

namespace dts {

namespace {

// ---- parameters

/// Also of a domain over it.
bool is_json(Oid type) {
  const Oid base = OidIsValid(type) ? getBaseType(type) : InvalidOid;
  return base == JSONBOID || base == JSONOID;
}

/// A value as JSON.
char* json_text(const JsonbValue& v) {
  Jsonb* const j = JsonbValueToJsonb(const_cast<JsonbValue*>(&v));
  return JsonbToCString(nullptr, &j->root, VARSIZE(j));
}

/// Text of a JSON scalar for a type's input function; nullptr for null.
char* scalar_text(const JsonbValue& v) {
  switch (v.type) {
    case jbvNull: return nullptr;
    case jbvBool: return pstrdup(v.val.boolean ? "true" : "false");
    case jbvNumeric: return DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(v.val.numeric)));
    case jbvString: return pnstrdup(v.val.string.val, v.val.string.len);
    default: return json_text(v);
  }
}

/// A JSON array as a literal of a PostgreSQL array; `json`: its elements are json or jsonb, so that strings keep their quotes.
void array_text(StringInfo out, JsonbContainer* array, bool json) {
  appendStringInfoChar(out, '{');
  const uint32 n = JsonContainerSize(array);
  for (uint32 i = 0; i < n; i++) {
    if (i > 0) appendStringInfoChar(out, ',');
    const JsonbValue* const e = getIthJsonbValueFromContainer(array, i);
    if (e->type == jbvBinary && JsonContainerIsArray(e->val.binary.data)) {
      check_stack_depth();
      array_text(out, e->val.binary.data, json);
      continue;
    }
    const char* const text = json ? json_text(*e) : scalar_text(*e);
    if (text == nullptr) {
      appendStringInfoString(out, "NULL");
      continue;
    }
    appendStringInfoChar(out, '"');
    for (const char* c = text; *c != '\0'; c++) {
      if (*c == '"' || *c == '\\') appendStringInfoChar(out, '\\');
      appendStringInfoChar(out, *c);
    }
    appendStringInfoChar(out, '"');
  }
  appendStringInfoChar(out, '}');
}

Datum to_type(const JsonbValue& v, Oid type, bool* isnull) {
  *isnull = v.type == jbvNull && !is_json(type);
  if (*isnull) {
    // Domains may refuse NULL.
    Oid input = InvalidOid, param = InvalidOid;
    getTypeInputInfo(type, &input, &param);
    return OidInputFunctionCall(input, nullptr, param, -1);
  }
  if (type == JSONBOID) return JsonbPGetDatum(JsonbValueToJsonb(const_cast<JsonbValue*>(&v)));
  char* text = nullptr;
  const Oid element = get_element_type(getBaseType(type));
  if (is_json(type)) {
    text = json_text(v);
  } else if (v.type == jbvBinary && JsonContainerIsArray(v.val.binary.data) && OidIsValid(element)) {
    StringInfoData literal;
    initStringInfo(&literal);
    array_text(&literal, v.val.binary.data, is_json(element));
    text = literal.data;
  } else {
    text = scalar_text(v);
  }
  Oid input = InvalidOid, param = InvalidOid;
  getTypeInputInfo(type, &input, &param);
  return OidInputFunctionCall(input, text, param, -1);
}

ParamListInfo bind(Jsonb* args, bool payload, const Oid* types, int n) {
  if (n == 0) return nullptr;
  ParamListInfo const list = makeParamList(n);
  for (int i = 0; i < n; i++) {
    ParamExternData& p = list->params[i];
    p.pflags = PARAM_FLAG_CONST;
    p.ptype = types[i];
    if (payload) {
      p.value = JsonbPGetDatum(args);
      p.isnull = args == nullptr;
      continue;
    }
    const JsonbValue* const v = getIthJsonbValueFromContainer(&args->root, i);
    p.value = to_type(*v, types[i], &p.isnull);
  }
  return list;
}

/// Types of a text's parameters as the server infers them. A payload's one parameter is jsonb.
int infer_types(RawStmt* raw, const char* sql, bool payload, int given, Oid** types) {
  *types = nullptr;
  int n = 0;
  if (payload) {
    *types = static_cast<Oid*>(palloc(sizeof(Oid)));
    (*types)[0] = JSONBOID;
    return 1;
  }
  if (given == 0) return 0;
  // Utility statements take no parameters; the analysis of a copy leaves the original to the planner.
  Query* const query = parse_analyze_varparams(static_cast<RawStmt*>(copyObjectImpl(raw)), sql, types, &n, nullptr);
  (void)query;
  for (int i = 0; i < n; i++)
    if ((*types)[i] == InvalidOid || (*types)[i] == UNKNOWNOID) (*types)[i] = TEXTOID;
  while (n < given) {  // a number that the text skips still takes its argument
    *types = *types == nullptr ? static_cast<Oid*>(palloc(sizeof(Oid) * given)) : static_cast<Oid*>(repalloc(*types, sizeof(Oid) * given));
    (*types)[n++] = TEXTOID;
  }
  return n;
}

int argument_count(Jsonb* args, bool payload) { return payload ? 1 : args == nullptr ? 0 : static_cast<int>(JB_ROOT_COUNT(args)); }

// ---- kept plans

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
  memcpy(e->types, types, sizeof(Oid) * n);
  return e;
}

// ---- result

struct Receiver {
  DestReceiver pub;
  SqlResult* result;
  MemoryContext memory;
  TupleDesc desc;
  bool capture;
  int64 limit;
};

void receiver_startup(DestReceiver* self, int, TupleDesc desc) {
  auto* const r = reinterpret_cast<Receiver*>(self);
  r->desc = nullptr;
  r->result->row_count = 0;
  r->result->truncated = false;
  if (!r->capture) return;
  const MemoryContext old = MemoryContextSwitchTo(r->memory);
  r->desc = CreateTupleDescCopy(desc);
  BlessTupleDesc(r->desc);
  if (r->result->json.data == nullptr) initStringInfo(&r->result->json);
  resetStringInfo(&r->result->json);
  appendStringInfoChar(&r->result->json, '[');
  MemoryContextSwitchTo(old);
}

/// A row that can never fit is not even converted: the conversion itself would fail on a gigabyte.
bool too_big(TupleTableSlot* slot, int64 limit) {
  int64 size = 0;
  for (int i = 0; i < slot->tts_tupleDescriptor->natts; i++) {
    if (slot->tts_isnull[i] || TupleDescAttr(slot->tts_tupleDescriptor, i)->attlen != -1) continue;
    size += static_cast<int64>(toast_raw_datum_size(slot->tts_values[i]));
  }
  return size > limit;
}

bool receiver_row(TupleTableSlot* slot, DestReceiver* self) {
  auto* const r = reinterpret_cast<Receiver*>(self);
  r->result->row_count++;
  if (!r->capture || r->result->truncated) return true;
  slot_getallattrs(slot);
  StringInfo const json = &r->result->json;
  if (too_big(slot, r->limit - json->len)) {
    r->result->truncated = true;
    return true;
  }
  const MemoryContext old = MemoryContextSwitchTo(r->memory);
  HeapTuple const tuple = heap_form_tuple(r->desc, slot->tts_values, slot->tts_isnull);
  const Datum row = DirectFunctionCall1(row_to_json, heap_copy_tuple_as_datum(tuple, r->desc));
  text* const t = DatumGetTextPP(row);
  const int length = static_cast<int>(VARSIZE_ANY_EXHDR(t));
  if (json->len + length + 2 > r->limit) {
    r->result->truncated = true;
  } else {
    if (json->len > 1) appendStringInfoChar(json, ',');
    appendBinaryStringInfo(json, VARDATA_ANY(t), length);
  }
  heap_freetuple(tuple);
  MemoryContextSwitchTo(old);
  return true;
}

void receiver_shutdown(DestReceiver*) {}

bool is_ours(const DestReceiver* dest) { return dest != nullptr && dest->receiveSlot == receiver_row; }

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
  options.params = bind(args, payload, e->types, e->n);
  return SPI_execute_plan_extended(e->plan, &options);
}

}  // namespace

void result_forget(DestReceiver* dest) {
  if (!is_ours(dest)) return;
  auto* const r = reinterpret_cast<Receiver*>(dest);
  r->desc = nullptr;
  r->result->row_count = 0;
  r->result->truncated = false;
}

void run_transactional(const char* sql, Jsonb* args, bool payload, bool capture, SqlResult* result) {
  if (sql == nullptr) ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("the handler of this task does not exist any more")));
  Receiver receiver{};
  receiver.pub.receiveSlot = receiver_row;
  receiver.pub.rStartup = receiver_startup;
  receiver.pub.rShutdown = receiver_shutdown;
  receiver.pub.rDestroy = receiver_shutdown;
  receiver.pub.mydest = DestNone;
  receiver.result = result;
  receiver.memory = CurrentMemoryContext;
  receiver.capture = capture;
  receiver.limit = static_cast<int64>(settings::max_result_kb) * 1024;
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

namespace {
/// Token number of a placeholder. The grammar's header is not installed by newer servers; PL/pgSQL relies on the same order of tokens.
constexpr int kParamToken = 267;
}  // namespace

int count_placeholders(const char* sql) {
  core_yy_extra_type extra;
  core_YYSTYPE value;
  YYLTYPE location = 0;
  core_yyscan_t const scanner = scanner_init(sql, &extra, &ScanKeywords, ScanKeywordTokens);
  int highest = 0;
  for (int token = core_yylex(&value, &location, scanner); token != 0; token = core_yylex(&value, &location, scanner)) {
    if (token != kParamToken) continue;
    if (value.ival <= 0) ereport(ERROR, (errcode(ERRCODE_UNDEFINED_PARAMETER), errmsg("there is no parameter $%d", value.ival)));
    if (value.ival > highest) highest = value.ival;
  }
  scanner_finish(scanner);
  return highest;
}

namespace {

/// The position of an error in the task's text must not be taken for one in the statement that submits it.
void transpose_error(void* sql) {
  const int position = geterrposition();
  if (position <= 0) return;
  errposition(0);
  internalerrposition(position);
  internalerrquery(static_cast<const char*>(sql));
}

SqlShape parse_shape(const char* sql) {
  ErrorContextCallback line{};
  line.callback = transpose_error;
  line.arg = const_cast<char*>(sql);
  line.previous = error_context_stack;
  error_context_stack = &line;
  SqlShape shape{};
  List* const raw = pg_parse_query(sql);
  shape.statements = list_length(raw);
  ListCell* cell = nullptr;
  foreach (cell, raw) {
    const Node* const stmt = lfirst_node(RawStmt, cell)->stmt;
    if (IsA(stmt, TransactionStmt)) shape.transaction_control = true;
    if (IsA(stmt, CopyStmt) && reinterpret_cast<const CopyStmt*>(stmt)->filename == nullptr)
      shape.copy_stream = reinterpret_cast<const CopyStmt*>(stmt)->is_from ? "COPY FROM STDIN" : "COPY TO STDOUT";
  }
  shape.placeholders = strchr(sql, '$') == nullptr ? 0 : count_placeholders(sql);
  error_context_stack = line.previous;
  return shape;
}

}  // namespace

SqlShape shape_of(const char* sql) {
  constexpr int kRemembered = 8;
  struct Remembered {
    uint64 hash;
    size_t length;
    SqlShape shape;
  };
  static Remembered last[kRemembered];
  static int turn = 0;
  const size_t length = strlen(sql);
  const uint64 hash = hash_bytes_extended(reinterpret_cast<const unsigned char*>(sql), static_cast<int>(length), 1);
  for (const Remembered& r : last)
    if (r.hash == hash && r.length == length && length > 0) return r.shape;
  const SqlShape shape = parse_shape(sql);
  last[turn] = Remembered{hash, length, shape};
  turn = (turn + 1) % kRemembered;
  return shape;
}

void check_arguments(const char* sql, Jsonb* args, bool payload) {
  if (payload || args == nullptr || JB_ROOT_COUNT(args) == 0) return;
  const MemoryContext memory = CurrentMemoryContext;
  const ResourceOwner owner = CurrentResourceOwner;
  BeginInternalSubTransaction(nullptr);
  MemoryContextSwitchTo(memory);
  ErrorData* const error = pg::attempt(memory, [&] {
    // A table that somebody has locked is no reason to wait: what cannot be checked now is checked when the task runs.
    (void)set_config_option("lock_timeout", "10ms", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0, false);
    PushActiveSnapshot(GetTransactionSnapshot());
    List* const raw = pg_parse_query(sql);
    Oid* types = nullptr;
    const int n = infer_types(linitial_node(RawStmt, raw), sql, false, static_cast<int>(JB_ROOT_COUNT(args)), &types);
    (void)bind(args, false, types, n);
    PopActiveSnapshot();
  });
  RollbackAndReleaseCurrentSubTransaction();
  MemoryContextSwitchTo(memory);
  CurrentResourceOwner = owner;
  if (error == nullptr) return;
  switch (error->sqlerrcode) {
    case ERRCODE_UNDEFINED_TABLE:
    case ERRCODE_UNDEFINED_FUNCTION:
    case ERRCODE_UNDEFINED_COLUMN:
    case ERRCODE_UNDEFINED_OBJECT:
    case ERRCODE_UNDEFINED_SCHEMA:
    case ERRCODE_INSUFFICIENT_PRIVILEGE:
    case ERRCODE_LOCK_NOT_AVAILABLE: FreeErrorData(error); return;
    default: break;
  }
  if (error->sqlerrcode == ERRCODE_QUERY_CANCELED || ERRCODE_TO_CATEGORY(error->sqlerrcode) == ERRCODE_OPERATOR_INTERVENTION)
    ReThrowError(error);
  ereport(ERROR, (errcode(error->sqlerrcode), errmsg("argument \"args\" does not fit the SQL: %s", error->message),
                  error->detail != nullptr ? errdetail("%s", error->detail) : 0,
                  errhint("The arguments are bound to $1, $2, ... in the order of the JSON array.")));
}

}  // namespace dts
