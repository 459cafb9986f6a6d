// What can be known about a task's text before it runs.
#include "parameters.hpp"
#include "pg/guard.hpp"
#include "run_sql.hpp"

extern "C" {
#include "common/hashfn.h"
#include "parser/scanner.h"
}

namespace dts {

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
    (void)bind_parameters(args, false, types, n);
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
