// {"workflow": name, "params": {...}} among the elements of dts.submit_many(jsonb): a run instead of a task.
#include "pg/as_owner.hpp"
#include "submit.hpp"

namespace dts {

namespace {

[[noreturn]] void refuse(const char* key, const char* place) {
  ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("\"%s\" in %s does not go with \"workflow\"", key, place),
                  errhint("The keys are workflow, params, key, run_at, delay, priority, labels and owner; the nodes say the rest.")));
}

pg::Statement start_run{"SELECT dts._start_for($1, $2, $3, $4, $5, $6, $7, $8)",
                        8,
                        {OIDOID, TEXTOID, JSONBOID, TEXTOID, TIMESTAMPTZOID, INT4OID, JSONBOID, JSONBOID}};
pg::Statement check_start{"SELECT dts._check_start($1, $2, $3, $4)", 4, {OIDOID, TEXTOID, JSONBOID, JSONBOID}};
pg::Statement end_of_run{"SELECT n.task FROM dts.workflow_node n WHERE n.run = $1 AND n.node = '(end)' AND n.idx = 0", 1, {INT8OID}};

/// Whose run it is: the caller's, or a role's that the caller is a member of.
Oid owner_of(const char* name) {
  if (name == nullptr) return GetUserId();
  const Oid owner = get_role_oid(name, false);
  if (!is_member_of_role(GetUserId(), owner))
    ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("permission denied to start a workflow for role \"%s\"", name),
                    errhint("\"owner\" must name a role that you are a member of.")));
  return owner;
}

struct Call {
  const char* workflow = nullptr;
  Jsonb* params = nullptr;
  Options options;
};

Call read_call(const JsonbValue& object, const char* place) {
  Call c;
  Options& o = c.options;
  JsonbIterator* it = JsonbIteratorInit(object.val.binary.data);
  JsonbValue v;
  (void)JsonbIteratorNext(&it, &v, false);
  while (JsonbIteratorNext(&it, &v, true) == WJB_KEY) {
    const char* const key = pnstrdup(v.val.string.val, v.val.string.len);
    (void)JsonbIteratorNext(&it, &v, true);
    if (v.type == jbvNull) continue;
    bool known = false;
    for (const char* name : {"key", "run_at", "delay", "priority", "labels", "owner"}) known |= strcmp(key, name) == 0;
    if (strcmp(key, "workflow") == 0)
      c.workflow = text_option(v, key, place);
    else if (strcmp(key, "params") == 0)
      c.params = json_of(v);
    else if (!known || !read_option(v, key, place, &o))
      refuse(key, place);
  }
  if (o.delay != nullptr) {
    if (o.run_at.given) refuse("delay", place);
    o.run_at = {true, DatumGetTimestampTz(DirectFunctionCall2(timestamptz_pl_interval, TimestampTzGetDatum(GetCurrentTimestamp()),
                                                              IntervalPGetDatum(o.delay)))};
  }
  return c;
}

}  // namespace

bool names_workflow(const JsonbValue& object) {
  JsonbValue v;
  return object.type == jbvBinary && JsonContainerIsObject(object.val.binary.data) &&
         getKeyJsonValueFromContainer(object.val.binary.data, "workflow", 8, &v) != nullptr;
}

int64 submit_workflow(const JsonbValue& object, const char* place, Jsonb* schedule, TimestampTz run_at) {
  Call c = read_call(object, place);
  Options& o = c.options;
  if (schedule != nullptr) o.run_at = {true, run_at};
  const Datum values[] = {ObjectIdGetDatum(owner_of(o.owner)), c.workflow == nullptr ? Datum{0} : CStringGetTextDatum(c.workflow),
                          PointerGetDatum(c.params),           o.key == nullptr ? Datum{0} : CStringGetTextDatum(o.key),
                          TimestampTzGetDatum(o.run_at.value), Int32GetDatum(o.priority.value),
                          PointerGetDatum(o.labels),           PointerGetDatum(schedule)};
  const char nulls[] = {' ',
                        c.workflow == nullptr ? 'n' : ' ',
                        c.params == nullptr ? 'n' : ' ',
                        o.key == nullptr ? 'n' : ' ',
                        o.run_at.given ? ' ' : 'n',
                        o.priority.given ? ' ' : 'n',
                        o.labels == nullptr ? 'n' : ' ',
                        schedule == nullptr ? 'n' : ' ',
                        '\0'};
  const pg::AsOwner as(store::catalog().owner);
  SPI_connect();
  bool null = false;
  int64 id = 0;
  if (start_run.run(values, nulls) == 1) {
    const Datum run = pg::column(0, 1, &null);
    if (end_of_run.run(&run) == 1) id = DatumGetInt64(pg::column(0, 1, &null));
  }
  if (id == 0) elog(ERROR, "a run has no end");
  SPI_finish();
  as.end();
  return id;
}

void check_workflow(const JsonbValue& object, const char* place) {
  const Call c = read_call(object, place);
  const Datum values[] = {ObjectIdGetDatum(owner_of(c.options.owner)), c.workflow == nullptr ? Datum{0} : CStringGetTextDatum(c.workflow),
                          PointerGetDatum(c.params), PointerGetDatum(c.options.labels)};
  const char nulls[] = {' ', c.workflow == nullptr ? 'n' : ' ', c.params == nullptr ? 'n' : ' ', c.options.labels == nullptr ? 'n' : ' ',
                        '\0'};
  const pg::AsOwner as(store::catalog().owner);
  SPI_connect();
  check_start.run(values, nulls);
  SPI_finish();
  as.end();
  settle_site();
}

}  // namespace dts
