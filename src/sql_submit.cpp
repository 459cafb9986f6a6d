// The submit family. Everything is checked here, in the caller's transaction, before a row is written.
#include "depends.hpp"
#include "pg/as_owner.hpp"
#include "pg/guard.hpp"
#include "store/keys.hpp"

namespace dts {

namespace {

using store::Task;
using store::TaskTable;

const char* text_arg(FunctionCallInfo fcinfo, int i) { return PG_ARGISNULL(i) ? nullptr : text_to_cstring(PG_GETARG_TEXT_PP(i)); }

Datum array_element_error(const char* argument) {
  ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("argument \"%s\" must not contain null", argument),
                  errhint("Leave the element out, or use an empty JSON array for no arguments.")));
  return Datum{0};
}

/// Elements of an array argument; refuses NULL, more dimensions and NULL elements.
Datum* elements(FunctionCallInfo fcinfo, int i, const char* name, Oid type, int* n) {
  if (PG_ARGISNULL(i))
    ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("argument \"%s\" must not be null", name),
                    errhint("For no tasks give an empty array.")));
  ArrayType* const array = PG_GETARG_ARRAYTYPE_P(i);
  if (ARR_NDIM(array) > 1)
    ereport(ERROR, (errcode(ERRCODE_ARRAY_SUBSCRIPT_ERROR), errmsg("argument \"%s\" must be a one-dimensional array", name),
                    errhint("Write ARRAY[...] or array_agg(...).")));
  Datum* values = nullptr;
  bool* nulls = nullptr;
  deconstruct_array(array, type, -1, false, TYPALIGN_INT, &values, &nulls, n);
  for (int k = 0; k < *n; k++)
    if (nulls[k]) array_element_error(name);
  return values;
}

/// Inserts n tasks that differ in one payload each, and gives their ids as the result set.
class Many {
 public:
  Many(FunctionCallInfo fcinfo, const Prepared& first, const Options& o)
      : prepared_(first), table_(TaskTable::open()), edges_(store::EdgeTable::open()) {
    links_.look(table_, read_depends(o.depends_on, false), &prepared_.task);
    places_ = store::key_policy(first.lane).most;
    InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
    info_ = reinterpret_cast<ReturnSetInfo*>(fcinfo->resultinfo);
  }
  Task& task() { return prepared_.task; }
  void add() {
    Task& t = prepared_.task;
    bytes_ += t.bytes();
    store::check_room(prepared_.lane, n_ + 1, bytes_);
    t.id = store::next_task_id();
    // Of one concurrency key only as many are ready as may run: the others would be parked one by one at their claim.
    if (t.ckey != 0 && t.state == core::State::Ready && n_ == places_ && t.run_at <= t.submitted_at) t.state = core::State::Parked;
    table_.insert_untold(t);
    if (t.state == core::State::Parked)
      store::key_parked(t.ckey, t.id);
    else if (t.state != core::State::Ready)
      links_.connect(table_, edges_, t, prepared_.lane);
    growth_.inserted(table_, edges_, t);
    if (n_ == 0) lowest_ = t.id;
    if (t.state == core::State::Ready) highest_ = t.id;
    n_++;
    Datum value = Int64GetDatum(t.id);
    bool null = false;
    tuplestore_putvalues(info_->setResult, info_->setDesc, &value, &null);
    if (n_ % 1024 == 0) CHECK_FOR_INTERRUPTS();
  }
  void finish() {
    if (n_ > 0 && highest_ == 0)
      store::touch_submitted(prepared_.lane, n_);
    else if (n_ > 0)
      store::touch_inserted_many(prepared_.lane, {prepared_.task.run_at, lowest_}, {prepared_.task.run_at, highest_}, n_);
    if (n_ > 0) store::touch_bytes(prepared_.lane, bytes_);
    edges_.close();
    table_.close();
  }

 private:
  Prepared prepared_;
  TaskTable table_;
  store::EdgeTable edges_;
  Links links_;
  BatchGrowth growth_;
  ReturnSetInfo* info_ = nullptr;
  int n_ = 0, places_ = 0;
  int64 bytes_ = 0;
  int64 lowest_ = 0, highest_ = 0;
};

}  // namespace

int64 submit_prepared(Prepared& p, const Options& o) {
  store::check_room(p.lane, 1, p.task.bytes());
  store::TaskTable table = store::TaskTable::open();
  Links links;
  links.look(table, read_depends(o.depends_on, false), &p.task);
  int64 id = 0;
  if (o.key != nullptr) {
    id = submit_with_key(table, p, o);
  } else {
    id = p.task.id = store::next_task_id();
    table.insert(p.task, p.lane);
  }
  const bool fresh = id == p.task.id;
  if (fresh && (p.task.state != core::State::Ready || p.task.batch != 0)) {
    store::EdgeTable edges = store::EdgeTable::open();
    BatchGrowth growth;
    growth.inserted(table, edges, p.task);
    links.connect(table, edges, p.task, p.lane);
    edges.close();
  }
  table.close();
  return id;
}

}  // namespace dts

using namespace dts;

DTS_FUNCTION(dts_submit) {
  const Options o = read_options(fcinfo, 2, false);
  Jsonb* const args = PG_ARGISNULL(1) ? nullptr : PG_GETARG_JSONB_P(1);
  Prepared p = prepare_sql(text_arg(fcinfo, 0), o);
  check_args(p, args);
  p.task.args = args;
  PG_RETURN_INT64(submit_prepared(p, o));
}

DTS_FUNCTION(dts_submit_handler) {
  const Options o = read_options(fcinfo, 2, false);
  Prepared p = prepare_handler(text_arg(fcinfo, 0), o);
  p.task.args = PG_ARGISNULL(1) ? nullptr : PG_GETARG_JSONB_P(1);
  check_payload_size(p.task.args, "payload");
  PG_RETURN_INT64(submit_prepared(p, o));
}

DTS_FUNCTION(dts_submit_many_args) {
  const Options o = read_options(fcinfo, 2, true);
  int n = 0;
  Datum* const args = elements(fcinfo, 1, "args", JSONBOID, &n);
  Prepared p = prepare_sql(text_arg(fcinfo, 0), o);
  if (n == 0) check_sql(text_arg(fcinfo, 0), p.task.transactional(), INT_MAX, false);
  Many many(fcinfo, p, o);
  for (int i = 0; i < n; i++) {
    Jsonb* const a = DatumGetJsonbP(args[i]);
    // The first is analysed against the SQL; all are counted. One that does not fit otherwise fails when it runs.
    check_args(p, a, i == 0);
    many.task().args = a;
    many.add();
  }
  many.finish();
  return Datum{0};
}

DTS_FUNCTION(dts_submit_many_sqls) {
  const Options o = read_options(fcinfo, 1, true);
  int n = 0;
  Datum* const sqls = elements(fcinfo, 0, "sqls", TEXTOID, &n);
  // Options are checked for no texts too: a mistake shows before there is work.
  Prepared p = prepare_sql(n == 0 ? "" : text_to_cstring(DatumGetTextPP(sqls[0])), o);
  Many many(fcinfo, p, o);
  MemoryContext const scratch = AllocSetContextCreate(CurrentMemoryContext, "dts submit", ALLOCSET_DEFAULT_SIZES);
  for (int i = 0; i < n; i++) {
    MemoryContext const old = MemoryContextSwitchTo(scratch);
    text* const sql = DatumGetTextPP(sqls[i]);
    check_sql(text_to_cstring(sql), p.task.transactional(), 0, false);
    many.task().sql = sql;
    many.add();
    MemoryContextSwitchTo(old);
    MemoryContextReset(scratch);
  }
  many.finish();
  return Datum{0};
}

DTS_FUNCTION(dts_submit_handler_many) {
  const Options o = read_options(fcinfo, 2, true);
  int n = 0;
  Datum* const payloads = elements(fcinfo, 1, "payloads", JSONBOID, &n);
  Prepared p = prepare_handler(text_arg(fcinfo, 0), o);
  Many many(fcinfo, p, o);
  for (int i = 0; i < n; i++) {
    Jsonb* const a = DatumGetJsonbP(payloads[i]);
    check_payload_size(a, "payloads");
    many.task().args = a;
    many.add();
  }
  many.finish();
  return Datum{0};
}

DTS_FUNCTION(dts_submit_many_json) {
  if (PG_ARGISNULL(0))
    ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("argument \"tasks\" must not be null"),
                    errhint("For no tasks give an empty array, '[]'.")));
  Jsonb* const tasks = PG_GETARG_JSONB_P(0);
  if (!JB_ROOT_IS_ARRAY(tasks) || JB_ROOT_IS_SCALAR(tasks))
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("argument \"tasks\" must be a JSON array of objects"),
                    errhint("Example: [{\"sql\": \"SELECT 1\"}, {\"handler\": \"name\", \"payload\": {}}].")));
  InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
  auto* const info = reinterpret_cast<ReturnSetInfo*>(fcinfo->resultinfo);
  const uint32 n = JB_ROOT_COUNT(tasks);
  auto* const ids = static_cast<int64*>(MemoryContextAllocHuge(CurrentMemoryContext, sizeof(int64) * (n + 1)));
  if (has_names(tasks)) {
    submit_graph(tasks, ids);
  } else {
    for (uint32 i = 0; i < n; i++) {
      const JsonbValue* const v = getIthJsonbValueFromContainer(&tasks->root, i);
      const char* const place = psprintf("element %u of argument \"tasks\"", i);
      if (names_workflow(*v)) {
        ids[i] = submit_workflow(*v, place);
      } else {
        Options o;
        Prepared p = prepare_json(*v, place, &o);
        ids[i] = submit_prepared(p, o);
      }
      CHECK_FOR_INTERRUPTS();
    }
  }
  for (uint32 i = 0; i < n; i++) {
    Datum id = Int64GetDatum(ids[i]);
    bool null = false;
    tuplestore_putvalues(info->setResult, info->setDesc, &id, &null);
  }
  return Datum{0};
}
