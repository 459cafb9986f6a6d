// Runs of workflows where a task is asked for: the task that ends a run stands for it.
#include "pg/as_owner.hpp"
#include "steer.hpp"
#include "store/definitions.hpp"

namespace dts {

namespace {

pg::Statement end_of{
    "SELECT n.task, r.owner::oid, CASE WHEN r.ended_at IS NOT NULL THEN r.state END FROM dts.workflow_run r JOIN dts.workflow_node n ON "
    "n.run = r.id "
    "AND n.node = '(end)' AND n.idx = 0 WHERE r.id = $1",
    1,
    {INT8OID}};

core::State state_named(const char* name) {
  for (const core::State s : {core::State::Succeeded, core::State::Failed, core::State::Cancelled})
    if (strcmp(core::name(s), name) == 0) return s;
  return core::State::Leased;
}

}  // namespace

bool find_run(int64 id, RunEnd* out) {
  const Datum value = Int64GetDatum(id);
  const pg::AsOwner as(store::catalog().owner);
  SPI_connect();
  bool null = false;
  Oid owner = InvalidOid;
  if (end_of.run(&value, nullptr, true) == 1) {
    out->task = DatumGetInt64(pg::column(0, 1, &null));
    owner = DatumGetObjectId(pg::column(0, 2, &null));
    const Datum state = pg::column(0, 3, &null);
    out->state = null ? core::State::Leased : state_named(TextDatumGetCString(state));
  }
  SPI_finish();
  as.end();
  return OidIsValid(owner) && store::caller_sees(owner);
}

}  // namespace dts
