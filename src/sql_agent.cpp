// What an agent says of a lease that it has: complete, fail, heartbeat. Each is one short transaction of its own, or part of the agent's.
// The order of steps is fixed in docs/architecture.md, "Agents".
#include "agent.hpp"

#include "pg/as_owner.hpp"
#include "pg/guard.hpp"
#include "settings.hpp"
#include "store/board.hpp"
#include "store/leases.hpp"
#include "store/permits.hpp"
#include "store/policy.hpp"
#include "submit_command.hpp"

extern "C" {
#include "access/xact.h"
}

namespace dts {

namespace {

using core::State;
using store::LaneInfo;
using store::Outcome;
using store::Task;
using store::TaskTable;

bool same(const pg_uuid_t& a, const pg_uuid_t& b) {
  unsigned char differ = 0;  // in constant time: the token is a secret
  for (int i = 0; i < UUID_LEN; i++) differ |= static_cast<unsigned char>(a.data[i] ^ b.data[i]);
  return differ == 0;
}

struct Call {
  int64 task;
  pg_uuid_t token;
};

Call call_of(FunctionCallInfo fcinfo) {
  for (int i = 0; i < 2; i++)
    if (PG_ARGISNULL(i))
      ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("argument \"%s\" must not be null", i == 0 ? "task" : "token"),
                      errhint("Give what dts.claim returned.")));
  return Call{PG_GETARG_INT64(0), *PG_GETARG_UUID_P(1)};
}

/// How the claim with this token ended, from history; 0 if nothing is known of it. `by_agent`: by its own word.
int past_end(const Call& c, bool* by_agent) {
  static pg::Statement past{
      "SELECT r.outcome::int, r.error IS NULL OR r.error ->> 'sqlstate' = 'TQ011' FROM dts.run r WHERE r.task = $1 AND r.token = $2 "
      "ORDER BY r.ended_at LIMIT 1",
      2,
      {INT8OID, UUIDOID}};
  const Datum values[] = {Int64GetDatum(c.task), UUIDPGetDatum(&c.token)};
  int outcome = 0;
  const pg::AsOwner as(store::catalog().owner, pg::Plans::ByKey);
  SPI_connect();
  if (past.run(values, nullptr, true) > 0) {
    bool null = false;
    outcome = DatumGetInt32(pg::column(0, 1, &null));
    *by_agent = DatumGetBool(pg::column(0, 2, &null));
  }
  SPI_finish();
  as.end();
  return outcome;
}

[[noreturn]] void too_late(const Call& c, int outcome) {
  const char* const why = outcome == static_cast<int>(State::Cancelled) ? "The task was cancelled."
                          : outcome == 0                                ? "The token is not that of a lease on this task."
                                         : "It was taken back when it had not been renewed in time, or had ended.";
  ereport(ERROR, (errcode(MAKE_SQLSTATE('T', 'Q', '0', '1', '0')), errmsg("the lease on task %lld is over", static_cast<long long>(c.task)),
                  errdetail("%s", why), errhint("Drop the work and claim again; nothing was changed.")));
}

/// Locks the task of a lease that holds; false if it does not.
bool lock_lease(TaskTable& table, const Call& c, Task* t, LaneInfo* lane) {
  const TaskTable::Found found = table.lock(c.task, t);
  if (found == TaskTable::Found::Busy)
    ereport(ERROR, (errcode(ERRCODE_LOCK_NOT_AVAILABLE), errmsg("task %lld is held by another session", static_cast<long long>(c.task)),
                    errhint("Call again after a moment; the lease is as it was.")));
  if (found != TaskTable::Found::Locked) return false;
  const store::Lane* const l = store::lane_by_id(t->lane);
  store::Lease lease;
  const bool holds = l != nullptr && l->info.runner == core::Runner::Agent && t->state == State::Leased && t->has_token &&
                     same(t->token, c.token) && store::read_lease(c.token, &lease) && store::role_may(GetUserId(), lease.role);
  if (holds) *lane = l->info;
  return holds;
}

Datum answer(const char* text) { return CStringGetTextDatum(text); }

/// Cancelled, if somebody wants that; false if nobody does.
bool end_cancelled(TaskTable& table, const Task& t, const LaneInfo& lane) {
  if (store::shared == nullptr || !store::board_has(MyDatabaseId, t.id)) return false;
  Outcome o;
  o.state = State::Cancelled;
  o.ended_at = GetCurrentTimestamp();
  store::end_task(table, t, lane, o);
  return true;
}

/// The error of a run, from what the agent says.
Jsonb* error_of(const char* message, FunctionCallInfo fcinfo) {
  Jsonb* const base = store::error_json(MAKE_SQLSTATE('T', 'Q', '0', '1', '1'), message, nullptr);
  StringInfoData more;
  initStringInfo(&more);
  appendStringInfoChar(&more, '{');
  if (!PG_ARGISNULL(3)) appendStringInfo(&more, "\"exit_code\": %d", PG_GETARG_INT32(3));
  if (!PG_ARGISNULL(6)) {
    Jsonb* const fields = PG_GETARG_JSONB_P(6);
    appendStringInfo(&more, "%s\"fields\": %s", more.len > 1 ? ", " : "", JsonbToCString(nullptr, &fields->root, VARSIZE(fields)));
  }
  appendStringInfoChar(&more, '}');
  return DatumGetJsonbP(DirectFunctionCall2(jsonb_concat, JsonbPGetDatum(base), DirectFunctionCall1(jsonb_in, CStringGetDatum(more.data))));
}

/// Whether the command said that only other exit codes are worth another attempt.
bool code_is_final(const Task& t, int code) {
  JsonbValue v;
  if (t.kind != core::Kind::Command || !store::json_member(t.args, "retry_exit_codes", &v) || v.type != jbvBinary) return false;
  const uint32 n = JsonContainerSize(v.val.binary.data);
  for (uint32 i = 0; i < n; i++) {
    const JsonbValue* const e = getIthJsonbValueFromContainer(v.val.binary.data, i);
    if (e->type == jbvNumeric && DatumGetInt32(DirectFunctionCall1(numeric_int4, NumericGetDatum(e->val.numeric))) == code) return false;
  }
  return true;
}

void check_size(Jsonb* j, const char* argument) {
  if (j != nullptr && VARSIZE(j) > static_cast<Size>(settings::max_result_kb) * 1024)
    ereport(ERROR,
            (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("argument \"%s\" is too large", argument),
             errdetail("It has %zu bytes, at most %d kB are allowed.", static_cast<size_t>(VARSIZE(j)), settings::max_result_kb),
             errhint("Keep large data in a table or a file and give its name, or raise dts.max_result_size. The lease still holds.")));
}

}  // namespace

}  // namespace dts

using namespace dts;

DTS_FUNCTION(dts_complete) {
  const Call c = call_of(fcinfo);
  Jsonb* const result = PG_ARGISNULL(2) ? nullptr : PG_GETARG_JSONB_P(2);
  check_size(result, "result");
  TaskTable table = TaskTable::open("dts.complete()");
  Task t;
  LaneInfo lane{};
  if (!lock_lease(table, c, &t, &lane)) {
    bool by_agent = false;
    const int outcome = past_end(c, &by_agent);
    if (outcome != static_cast<int>(State::Succeeded)) too_late(c, outcome);
    table.close();
    return answer("succeeded");  // the same as the first time
  }
  const bool cancelled = end_cancelled(table, t, lane);
  if (!cancelled) {
    Outcome o;
    o.ended_at = GetCurrentTimestamp();
    o.result = result == nullptr ? nullptr : JsonbToCString(nullptr, &result->root, VARSIZE(result));
    o.result_length = o.result == nullptr ? 0 : static_cast<int>(strlen(o.result));
    store::end_task(table, t, lane, o);
  }
  table.close();
  ForceSyncCommit();  // what was answered outlives a crash
  return answer(cancelled ? "cancelled" : "succeeded");
}

DTS_FUNCTION(dts_fail) {
  const Call c = call_of(fcinfo);
  const char* const message = PG_ARGISNULL(2) ? "the agent gave no reason" : text_to_cstring(PG_GETARG_TEXT_PP(2));
  Jsonb* const error = error_of(message, fcinfo);
  check_size(error, "fields");
  Options when;
  if (!PG_ARGISNULL(5)) when.delay = PG_GETARG_INTERVAL_P(5);
  const TimestampTz now = GetCurrentTimestamp();
  const TimestampTz at = due_time(when, now);
  TaskTable table = TaskTable::open("dts.fail()");
  Task t;
  LaneInfo lane{};
  if (!lock_lease(table, c, &t, &lane)) {
    bool by_agent = false;
    const int outcome = past_end(c, &by_agent);
    const bool failed = outcome == static_cast<int>(State::Retry) || outcome == static_cast<int>(State::Failed);
    if (!failed || !by_agent) too_late(c, outcome);
    table.close();
    return answer(core::name(static_cast<State>(outcome)));
  }
  const char* result = "cancelled";
  if (!end_cancelled(table, t, lane)) {
    Outcome o;
    o.ended_at = now;
    o.error = error;
    o.final = PG_ARGISNULL(4) ? !PG_ARGISNULL(3) && code_is_final(t, PG_GETARG_INT32(3)) : !PG_GETARG_BOOL(4);
    const bool insist = !PG_ARGISNULL(4) && PG_GETARG_BOOL(4);
    if (when.delay != nullptr)
      o.again_at = at;
    else if (insist)
      o.again_at = now + store::backoff_ms(t, t.attempt) * 1000;
    t.attempt--;  // it was counted when it was leased
    result = core::name(store::fail_task(table, t, lane, o, true));
  }
  table.close();
  ForceSyncCommit();
  return answer(result);
}

DTS_FUNCTION(dts_heartbeat) {
  // What lapses meanwhile is seen by the row locks: nobody waits for one, and what is locked is asked for again.
  static pg::Statement renew{
      "WITH w AS (SELECT DISTINCT u.token FROM unnest($1) u(token) WHERE u.token IS NOT NULL), "
      "h AS (SELECT l.token, l.task, l.until, l.ended, t.id IS NOT NULL AND l.ended IS NULL AS holds FROM w JOIN dts.lease l ON l.token = "
      "w.token "
      "LEFT JOIN dts.task t ON t.id = l.task AND t.state = 2 AND t.token = l.token WHERE dts._role_may($2, l.role::oid)), "
      "k AS (SELECT l.token FROM dts.lease l WHERE l.token IN (SELECT h.token FROM h WHERE h.holds) AND l.ended IS NULL FOR UPDATE SKIP "
      "LOCKED), "
      "x AS (UPDATE dts.lease l SET until = greatest(least(pg_catalog.clock_timestamp() + l.period, l.deadline), "
      "pg_catalog.clock_timestamp()) FROM k WHERE l.token = k.token "
      "RETURNING l.token, l.until) "
      "SELECT w.token, h.task, CASE WHEN x.token IS NOT NULL THEN 'held' WHEN h.holds THEN 'busy' WHEN h.ended = 13 THEN 'cancelled' "
      "ELSE 'lost' END, CASE WHEN h.holds THEN COALESCE(x.until, h.until) END "
      "FROM w LEFT JOIN h ON h.token = w.token LEFT JOIN x ON x.token = w.token",
      2,
      {UUIDARRAYOID, OIDOID}};
  Agent agent = read_name(fcinfo, "dts.heartbeat()");
  InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
  show_presence(agent);
  if (PG_ARGISNULL(1)) return Datum{0};
  const Datum values[] = {PG_GETARG_DATUM(1), ObjectIdGetDatum(GetUserId())};
  auto* const info = reinterpret_cast<ReturnSetInfo*>(fcinfo->resultinfo);
  const pg::AsOwner as(store::catalog().owner, pg::Plans::ByKey);
  SPI_connect();
  const uint64 rows = renew.run(values, nullptr, true);
  for (uint64 i = 0; i < rows; i++) tuplestore_puttuple(info->setResult, SPI_tuptable->vals[i]);
  SPI_finish();
  as.end();
  return Datum{0};
}
