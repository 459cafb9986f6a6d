// Looking at dependencies: the task that runs here, the parents that a task had.
#include "pg/guard.hpp"
#include "store/definitions.hpp"
#include "store/tasks.hpp"
#include "store/policy.hpp"
#include "steer.hpp"

namespace dts {

namespace {

int64 current_task() { return store::own_slot < 0 ? 0 : static_cast<int64>(pg_atomic_read_u64(&store::slots[store::own_slot].current)); }

/// Puts the ids of one run [lo, hi].
void put_run(ReturnSetInfo* info, JsonbContainer* run) {
  int64 end[2] = {0, -1};
  for (uint32 i = 0; i < 2; i++) {
    const JsonbValue* const v = getIthJsonbValueFromContainer(run, i);
    if (v == nullptr || v->type != jbvNumeric) return;
    end[i] = DatumGetInt64(DirectFunctionCall1(numeric_int8, NumericGetDatum(v->val.numeric)));
  }
  for (int64 id = end[0]; id <= end[1]; id++) {
    Datum d = Int64GetDatum(id);
    bool null = false;
    tuplestore_putvalues(info->setResult, info->setDesc, &d, &null);
  }
}

}  // namespace

}  // namespace dts

using namespace dts;

DTS_FUNCTION(dts_current_task) {
  const int64 id = current_task();
  if (id == 0) PG_RETURN_NULL();
  PG_RETURN_INT64(id);
}

DTS_FUNCTION(dts_parents) {
  InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
  auto* const info = reinterpret_cast<ReturnSetInfo*>(fcinfo->resultinfo);
  if (PG_ARGISNULL(0)) return Datum{0};
  const int64 id = PG_GETARG_INT64(0);
  store::TaskTable table = store::TaskTable::open_to_read();
  store::Task t;
  const bool found = table.read(id, &t);
  table.close();
  if (!found) (void)state_of(id);  // ended: its parents are not known any more; or it never was
  if (!found) return Datum{0};
  const store::Lane* const lane = store::lane_by_id(t.lane);
  if (lane == nullptr || !store::role_may(GetUserId(), lane->info.owner)) no_task(id);
  JsonbValue v;
  if (!store::json_member(t.extra, "parents", &v) || v.type != jbvBinary) return Datum{0};
  JsonbIterator* it = JsonbIteratorInit(v.val.binary.data);
  JsonbValue run;
  (void)JsonbIteratorNext(&it, &run, false);
  while (JsonbIteratorNext(&it, &run, true) == WJB_ELEM)
    if (run.type == jbvBinary) put_run(info, run.val.binary.data);
  return Datum{0};
}
