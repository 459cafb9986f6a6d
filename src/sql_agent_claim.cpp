// What an agent calls for work: dts.claim leases what is due and hands it out. The order of steps is fixed in docs/architecture.md,
// "Agents".
#include "agent.hpp"
#include "pg/as_owner.hpp"
#include "pg/guard.hpp"
#include "settings.hpp"
#include "store/board.hpp"
#include "store/leases.hpp"
#include "store/permits.hpp"
#include "store/runs.hpp"

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

constexpr int kMostAtOnce = 1000;
constexpr int64 kTurnUs = 1000;  // tenants take turns by the number of tasks: how long agents will take is not known

/// Whether tasks of this role may run at all.
bool owner_may_run(Oid owner) {
  HeapTuple const tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(owner));
  if (!HeapTupleIsValid(tuple)) return false;
  const auto* const role = reinterpret_cast<Form_pg_authid>(GETSTRUCT(tuple));
  const bool may = role->rolcanlogin && (settings::allow_superuser_tasks || !role->rolsuper);
  ReleaseSysCache(tuple);
  return may;
}

/// What was asked for while nobody had it.
bool ended_before_start(TaskTable& table, const Task& t, const LaneInfo& lane) {
  Outcome o;
  o.ended_at = GetCurrentTimestamp();
  if (store::board_has(MyDatabaseId, t.id))
    o.state = State::Cancelled;
  else if (t.has_expires && t.expires_at <= o.ended_at)
    o.state = State::Expired;
  else
    return false;
  store::end_task(table, t, lane, o);
  return true;
}

/// Leases up to `most` tasks that suit; returns how many.
int lease_some(TaskTable& table, int pool, const store::Offer& offer, int most, Task* out) {
  int n = 0;
  for (int fruitless = 0; n < most && fruitless < 16;) {
    const int slot = store::choose_lane(pool, GetCurrentTimestamp(), store::suits, &offer);
    if (slot < 0) break;
    const LaneInfo lane = store::lane_info(store::lanes[slot]);
    const int places = owner_may_run(lane.owner) ? store::lease_reserve(slot, most - n) : 0;
    if (places == 0) {
      if (!owner_may_run(lane.owner)) store::back_off(slot);
      fruitless++;
      continue;
    }
    store::turn_begin(slot);
    Task* const got = out + n;
    const int claimed = table.claim(slot, lane, places, got);
    store::turn_charge(slot, kTurnUs * Max(claimed, 1));
    fruitless += claimed == 0 ? 1 : 0;
    for (int i = 0; i < claimed; i++)
      if (!ended_before_start(table, got[i], lane)) out[n++] = store::lease_task(table, got[i], lane);
    for (int i = n; i < most; i++) out[i] = Task();
    CHECK_FOR_INTERRUPTS();
  }
  return n;
}

pg::Statement hand_out{
    "WITH l AS (INSERT INTO dts.lease (token, task, started_at, until, deadline, period, role, agent) "
    "SELECT u.token, u.task, c.now, least(c.now + $3, c.now + NULLIF(t.timeout_ms, 0) * '1 ms'::interval), "
    "c.now + NULLIF(t.timeout_ms, 0) * '1 ms'::interval, $3, $4::oid::regrole, $5 "
    "FROM unnest($1, $2) u(token, task) JOIN dts.task t ON t.id = u.task CROSS JOIN (SELECT pg_catalog.clock_timestamp() AS now OFFSET 0) "
    "c RETURNING *) "
    "SELECT t.id, l.token, t.attempt::int, t.max_attempts::int, CASE t.kind WHEN 3 THEN 'command' ELSE 'external' END, q.name, "
    "pg_catalog.pg_get_userbyid(w.owner)::text, h.name, "
    "ARRAY(SELECT a.value FROM jsonb_array_elements_text(CASE WHEN t.kind = 3 THEN t.args -> 'argv' ELSE '[]' END) WITH ORDINALITY "
    "a(value, n) ORDER BY a.n), "
    "CASE WHEN t.kind = 3 THEN COALESCE(t.args -> 'env', '{}') END, CASE WHEN t.kind = 3 THEN t.args ->> 'stdin' END, "
    "CASE WHEN t.kind = 3 THEN t.args ->> 'dir' END, CASE WHEN t.kind = 3 THEN t.args -> 'container' END, "
    "CASE WHEN t.kind = 4 THEN t.args END, t.extra -> 'labels', NULLIF(t.timeout_ms, 0) * '1 ms'::interval, l.until, "
    "t.extra ->> 'idempotency_key', t.submitted_at, t.run_at "
    "FROM l JOIN dts.task t ON t.id = l.task JOIN dts.lane w ON w.id = t.lane JOIN dts.queue q ON q.id = w.queue "
    "LEFT JOIN dts.handler h ON h.id = t.handler AND t.handler <> 0 ORDER BY t.run_at, t.id",
    5,
    {UUIDARRAYOID, INT8ARRAYOID, INTERVALOID, OIDOID, TEXTOID}};

void hand_out_leases(FunctionCallInfo fcinfo, const Task* t, int n, const char* agent, Interval* period) {
  auto* const tokens = static_cast<Datum*>(palloc(sizeof(Datum) * n));
  auto* const tasks = static_cast<Datum*>(palloc(sizeof(Datum) * n));
  for (int i = 0; i < n; i++) {
    tokens[i] = UUIDPGetDatum(&t[i].token);
    tasks[i] = Int64GetDatum(t[i].id);
  }
  const Datum values[] = {PointerGetDatum(construct_array(tokens, n, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR)),
                          PointerGetDatum(construct_array(tasks, n, INT8OID, 8, true, TYPALIGN_DOUBLE)), IntervalPGetDatum(period),
                          ObjectIdGetDatum(GetUserId()), CStringGetTextDatum(agent)};
  auto* const info = reinterpret_cast<ReturnSetInfo*>(fcinfo->resultinfo);
  CommandCounterIncrement();
  const pg::AsOwner as(store::catalog().owner, pg::Plans::ByKey);
  SPI_connect();
  const uint64 rows = hand_out.run(values, nullptr, true);
  for (uint64 i = 0; i < rows; i++) tuplestore_puttuple(info->setResult, SPI_tuptable->vals[i]);
  bool null = false;
  for (uint64 i = 0; i < rows; i++) store::lease_until(DatumGetTimestampTz(pg::column(i, 17, &null)));
  SPI_finish();
  as.end();
  if (rows != static_cast<uint64>(n)) elog(ERROR, "leased %d tasks but found %d", n, static_cast<int>(rows));
}

Interval* period_arg(FunctionCallInfo fcinfo, int i) {
  if (PG_ARGISNULL(i))
    ereport(ERROR,
            (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("argument \"lease\" must not be null"), errhint("Example: '1 minute'.")));
  Interval* const p = PG_GETARG_INTERVAL_P(i);
  const double us = static_cast<double>(p->time) + (p->day + p->month * 30.0) * static_cast<double>(USECS_PER_DAY);
  if (us < USECS_PER_SEC || us > static_cast<double>(USECS_PER_DAY))
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("argument \"lease\" must be between 1 second and 1 day"),
                    errhint("It is how long a silent agent is waited for; heartbeats renew it.")));
  return p;
}

}  // namespace

}  // namespace dts

using namespace dts;

DTS_FUNCTION(dts_claim) {
  Agent agent = read_agent(fcinfo, "dts.claim()");
  if (PG_ARGISNULL(3) || PG_GETARG_INT32(3) < 1 || PG_GETARG_INT32(3) > kMostAtOnce)
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("argument \"max\" must be between 1 and %d", kMostAtOnce),
                    errhint("Claim as many as can be begun at once.")));
  const int most = PG_GETARG_INT32(3);
  Interval* const period = period_arg(fcinfo, 4);
  InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
  show_presence(agent);
  const int pool = store::why_closed(MyDatabaseId) != nullptr || !store::installation_known() ? -1 : agent_pool();
  if (pool < 0) return Datum{0};
  auto* const tasks = static_cast<Task*>(palloc(sizeof(Task) * most));
  for (int i = 0; i < most; i++) tasks[i] = Task();
  TaskTable table = TaskTable::open("dts.claim()");
  const int n = lease_some(table, pool, agent.offer, most, tasks);
  table.close();
  store::notify_pool(pool);  // passes a wake-up on: others may take what was put back
  if (n == 0) return Datum{0};
  hand_out_leases(fcinfo, tasks, n, agent.name, period);
  ForceSyncCommit();  // before the agent does anything
  return Datum{0};
}
