// The state of a task, from its row while there is one, else from history; and who may know it.
#include "pg/as_owner.hpp"
#include "pg/guard.hpp"
#include "pg/wal.hpp"
#include "steer.hpp"
#include "store/definitions.hpp"

namespace dts {

namespace {

using core::State;
using store::Lane;
using store::Task;
using store::TaskTable;

pg::Statement final_run{
    "SELECT r.outcome, l.owner::oid FROM dts.run r JOIN dts.lane l ON l.id = r.lane WHERE r.task = $1 AND r.outcome <> 20 ORDER BY "
    "r.ended_at DESC LIMIT 1",
    1,
    {INT8OID}};
pg::Statement dead{"SELECT 11::int2, l.owner::oid FROM dts.dead_letter d JOIN dts.lane l ON l.id = d.lane WHERE d.id = $1", 1, {INT8OID}};

}  // namespace

void no_task(int64 id) {
  RunEnd run;
  if (find_run(id, &run))
    ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE), errmsg("%lld is a run of a workflow, not a task", static_cast<long long>(id)),
                    errhint("Runs are steered with dts.cancel_run, dts.pause_run, dts.resume_run and dts.retry_run.")));
  ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("task %lld does not exist", static_cast<long long>(id)),
                  errhint("It may have been removed by the retention of its queue, or belong to another role.")));
}

bool ended_state(int64 id, State* out) {
  const Datum values[] = {Int64GetDatum(id)};
  bool found = false;
  Oid owner = InvalidOid;
  const pg::AsOwner as(store::catalog().owner);
  SPI_connect();
  for (pg::Statement* s : {&dead, &final_run}) {
    if (found || s->run(values, nullptr, true) == 0) continue;
    bool null = false;
    *out = static_cast<State>(DatumGetInt16(pg::column(0, 1, &null)));
    owner = DatumGetObjectId(pg::column(0, 2, &null));
    found = true;
  }
  SPI_finish();
  as.end();
  return found && store::caller_sees(owner);
}

const char* ended_name(int64 id) {
  State s{};
  if (!ended_state(id, &s)) no_task(id);
  // What we answer must outlive a crash: the end that we read may have been committed asynchronously.
  if (!RecoveryInProgress()) pg::flush_wal();
  return core::name(s);
}

bool find_state(int64 id, State* out) {
  TaskTable table = TaskTable::open_to_read();
  Task t;
  const bool found = table.read(id, &t);
  table.close();
  if (found) {
    const Lane* const l = store::lane_by_id(t.lane);
    if (l == nullptr || !store::caller_sees(l->info.owner)) no_task(id);
    *out = t.state;
    return true;
  }
  if (ended_state(id, out)) return true;
  RunEnd run;
  if (!find_run(id, &run)) return false;
  *out = run.state;
  return true;
}

State state_of(int64 id) {
  State s{};
  if (!find_state(id, &s)) no_task(id);
  return s;
}

}  // namespace dts

using namespace dts;

DTS_FUNCTION(dts_state_code) {
  const core::State s = state_of(task_arg(fcinfo));
  PG_RETURN_INT16(static_cast<int16>(s == core::State::Parked ? core::State::Ready : s));
}

DTS_FUNCTION(dts_caller_may) { PG_RETURN_BOOL(store::role_may(GetUserId(), PG_GETARG_OID(0))); }

DTS_FUNCTION(dts_caller_sees) { PG_RETURN_BOOL(store::caller_sees(PG_GETARG_OID(0))); }

DTS_FUNCTION(dts_role_may) { PG_RETURN_BOOL(store::role_may(PG_GETARG_OID(0), PG_GETARG_OID(1))); }
