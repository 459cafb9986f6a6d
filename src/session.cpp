// What a task may leave in its session, and the messages that it raises (declared in run_sql.hpp).
#include "run_sql.hpp"

extern "C" {
#include "common/pg_prng.h"
#include "libpq/be-fsstubs.h"
}

namespace dts {

namespace {

constexpr int kNoticesKept = 8192;
StringInfoData notices;
bool collecting = false;
bool cut = false;
bool used = false;
ProcessUtility_hook_type next_utility = nullptr;

// ---- notices: the server sends them to "the client", which is this

void comm_nothing() {}
int comm_zero() { return 0; }
bool comm_false() { return false; }

void keep_notice(const char* s, size_t length) {
  if (!collecting || cut) return;
  StringInfoData message;
  initStringInfo(&message);
  appendBinaryStringInfo(&message, s, static_cast<int>(length));
  ErrorData e{};
  pq_parse_errornotice(&message, &e);
  if (e.elevel >= ERROR) return;
  if (notices.len > 0) appendStringInfoChar(&notices, '\n');
  appendStringInfo(&notices, "%s: %s",
                   e.elevel == WARNING  ? "WARNING"
                   : e.elevel == NOTICE ? "NOTICE"
                   : e.elevel == INFO   ? "INFO"
                                        : "DEBUG",
                   e.message != nullptr ? e.message : "");
  if (e.detail != nullptr) appendStringInfo(&notices, " (%s)", e.detail);
  if (notices.len > kNoticesKept) {
    notices.len = pg_mbcliplen(notices.data, notices.len, kNoticesKept - 16);
    notices.data[notices.len] = '\0';
    appendStringInfoString(&notices, "... (cut)");
    cut = true;
  }
}

int comm_put(char type, const char* s, size_t length) {
  if (type == 'N') keep_notice(s, length);
  return 0;
}
void comm_put_noblock(char type, const char* s, size_t length) { comm_put(type, s, length); }

constexpr PQcommMethods kCollector = {comm_nothing, comm_zero, comm_zero, comm_false, comm_put, comm_put_noblock};

// ---- session state

/// Statements whose effect outlives the transaction.
bool leaves_something(const Node* n) {
  switch (nodeTag(n)) {
    case T_PrepareStmt:
    case T_DeallocateStmt:
    case T_DeclareCursorStmt:
    case T_LoadStmt:
    case T_DiscardStmt:
    case T_ListenStmt:
    case T_UnlistenStmt:
    case T_ConstraintsSetStmt: return true;
    default: return false;
  }
}

void on_utility(PlannedStmt* stmt, const char* query, bool read_only, ProcessUtilityContext context, ParamListInfo params,
                QueryEnvironment* environment, DestReceiver* dest, QueryCompletion* qc) {
  if (leaves_something(stmt->utilityStmt)) used = true;
  result_forget(dest);
  if (next_utility != nullptr)
    next_utility(stmt, query, read_only, context, params, environment, dest, qc);
  else
    standard_ProcessUtility(stmt, query, read_only, context, params, environment, dest, qc);
}

}  // namespace

void notices_install() {
  MemoryContext const old = MemoryContextSwitchTo(TopMemoryContext);
  initStringInfo(&notices);
  MemoryContextSwitchTo(old);
  PqCommMethods = &kCollector;
  whereToSendOutput = DestRemote;
  FrontendProtocol = PG_PROTOCOL_LATEST;
}

void notices_begin() {
  resetStringInfo(&notices);
  cut = false;
  collecting = true;
}

const char* notices_take() {
  collecting = false;
  return notices.len == 0 ? nullptr : notices.data;
}

void session_install() {
  next_utility = ProcessUtility_hook;
  ProcessUtility_hook = on_utility;
}

bool session_used() { return used || (MyXactFlags & XACT_FLAGS_ACCESSEDTEMPNAMESPACE) != 0 || !ThereAreNoReadyPortals(); }

void session_forget() {
  LockReleaseSession(USER_LOCKMETHOD);
  ResetSequenceCaches();
  AtEOXact_LargeObject(true);  // descriptors: in a batch the transaction goes on
  (void)DirectFunctionCall1(setseed, Float8GetDatum(pg_prng_double(&pg_global_prng_state)));
}

void session_reset() {
  session_forget();
  if (!used) return;
  used = false;
  PortalHashTableDeleteAll();
  DropAllPreparedStatements();
}

}  // namespace dts
