// What SQL asks of schedules: due times, readings, checks, a run by hand, what a running task knows of its schedule.
#include "core/timing_words.hpp"
#include "pg/as_owner.hpp"
#include "pg/guard.hpp"
#include "schedule_ledger.hpp"
#include "store/policy.hpp"

extern "C" {
#include "common/hashfn.h"
}

namespace dts {

namespace {

const char* text_arg(FunctionCallInfo fcinfo, int i) { return PG_ARGISNULL(i) ? nullptr : text_to_cstring(PG_GETARG_TEXT_PP(i)); }

/// Arguments: timing, zone, both_days, only_in, not_in, shift, made_at, starts_at, ends_at.
RuleText rule_args(FunctionCallInfo fcinfo) {
  RuleText r;
  r.timing = text_arg(fcinfo, 0);
  r.zone = text_arg(fcinfo, 1);
  r.both_days = !PG_ARGISNULL(2) && PG_GETARG_BOOL(2);
  if (!PG_ARGISNULL(3)) r.only_in = PG_GETARG_ARRAYTYPE_P(3);
  if (!PG_ARGISNULL(4)) r.not_in = PG_GETARG_ARRAYTYPE_P(4);
  r.shift = text_arg(fcinfo, 5);
  r.made_at = PG_ARGISNULL(6) ? GetCurrentTimestamp() : PG_GETARG_TIMESTAMPTZ(6);
  r.has_start = !PG_ARGISNULL(7);
  if (r.has_start) r.starts_at = PG_GETARG_TIMESTAMPTZ(7);
  r.has_end = !PG_ARGISNULL(8);
  if (r.has_end) r.ends_at = PG_GETARG_TIMESTAMPTZ(8);
  return r;
}

JsonbValue whole(Jsonb* object) {
  JsonbValue v;
  v.type = jbvBinary;
  v.val.binary.data = &object->root;
  v.val.binary.len = static_cast<int>(VARSIZE(object)) - VARHDRSZ;
  return v;
}

[[noreturn]] void null_timing() {
  ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("argument \"timing\" must not be null"),
                  errhint("Examples: '30 2 * * *', 'every 90 seconds', 'at 2030-01-31 18:00'.")));
}

}  // namespace

}  // namespace dts

using namespace dts;

/// ... and after, until, at most n.
DTS_FUNCTION(dts_due_times) {
  InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
  auto* const info = reinterpret_cast<ReturnSetInfo*>(fcinfo->resultinfo);
  core::Rule* const rule = make_rule(rule_args(fcinfo));
  TimestampTz at = PG_ARGISNULL(9) ? schedule_now() : PG_GETARG_TIMESTAMPTZ(9);
  const TimestampTz until = PG_ARGISNULL(10) ? core::kNever - 1 : PG_GETARG_TIMESTAMPTZ(10);
  const int64 n = PG_ARGISNULL(11) ? 1 : PG_GETARG_INT64(11);
  if (TIMESTAMP_NOT_FINITE(at))
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("argument \"after\" must be finite"), errhint("Example: now().")));
  for (int64 i = 0; i < n; i++) {
    at = core::next_due(*rule, at);
    if (at == core::kNever || at > until || !IS_VALID_TIMESTAMP(at)) break;
    Datum value = TimestampTzGetDatum(at);
    bool null = false;
    tuplestore_putvalues(info->setResult, info->setDesc, &value, &null);
    if (i % 64 == 0) CHECK_FOR_INTERRUPTS();
  }
  return Datum{0};
}

/// Arguments of the rule, and a due time: the one before it.
DTS_FUNCTION(dts_due_before) {
  if (PG_ARGISNULL(9)) PG_RETURN_NULL();
  core::Rule* const rule = make_rule(rule_args(fcinfo));
  const int64 at = core::previous_due(*rule, PG_GETARG_TIMESTAMPTZ(9));
  if (at == core::kNever) PG_RETURN_NULL();
  PG_RETURN_TIMESTAMPTZ(at);
}

/// valid, reading, error, position, hint
DTS_FUNCTION(dts_check_timing) {
  TupleDesc desc = nullptr;
  if (get_call_result_type(fcinfo, nullptr, &desc) != TYPEFUNC_COMPOSITE) elog(ERROR, "row type expected");
  const char* const given = text_arg(fcinfo, 0);
  if (given == nullptr) null_timing();
  const char* const zone = pg_get_timezone_name(zone_by_name(text_arg(fcinfo, 1)));
  auto* const timing = new (palloc(sizeof(core::Timing))) core::Timing();
  core::ParseError e;
  const bool good = core::parse_timing(given, timing, &e);
  Datum values[5] = {BoolGetDatum(good)};
  bool nulls[5] = {false, !good, good, good, good || e.hint[0] == '\0'};
  if (good) {
    auto* const words = new (palloc(sizeof(core::Words))) core::Words();
    core::describe(*timing, zone, *words);
    values[1] = CStringGetTextDatum(words->text());
  } else {
    values[2] = CStringGetTextDatum(e.message);
    values[3] = Int32GetDatum(e.position);
    values[4] = CStringGetTextDatum(e.hint);
  }
  PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}

/// The reading of a timing that was checked when it was stored.
DTS_FUNCTION(dts_reading) {
  auto* const timing = new (palloc(sizeof(core::Timing))) core::Timing();
  core::ParseError e;
  if (!core::parse_timing(text_arg(fcinfo, 0), timing, &e)) PG_RETURN_NULL();
  timing->cron.both = PG_GETARG_BOOL(2);
  auto* const words = new (palloc(sizeof(core::Words))) core::Words();
  core::describe(*timing, text_arg(fcinfo, 1), *words);
  PG_RETURN_TEXT_P(cstring_to_text(words->text()));
}

/// Raises what is wrong; returns the zone as the server spells it.
DTS_FUNCTION(dts_check_rule) {
  const RuleText given = rule_args(fcinfo);
  core::Rule* const rule = make_rule(given);
  const core::TimingKind kind = rule->timing->kind;
  const bool follows_events = kind == core::TimingKind::AfterEnd || kind == core::TimingKind::Reboot;
  if (follows_events && given.shift != nullptr)
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("argument \"shift\" is not for this timing"),
                    errhint("It moves runs of fixed times.")));
  const TimestampTz from = given.has_start ? given.starts_at - 1 : given.made_at;
  if (!follows_events && core::next_due(*rule, from) == core::kNever)
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("the schedule would never run"),
                    errdetail("No time of the timing is still to come, within its bounds and in what its calendars allow."),
                    errhint("Look at dts.next_runs, the calendars, starts_at and ends_at.")));
  PG_RETURN_TEXT_P(cstring_to_text(pg_get_timezone_name(zone_by_name(given.zone))));
}

DTS_FUNCTION(dts_zone_print) {
  const char* const name = text_to_cstring(PG_GETARG_TEXT_PP(0));
  pg_tz* const zone = strlen(name) > TZ_STRLEN_MAX ? nullptr : pg_tzset(name);
  if (zone == nullptr) PG_RETURN_NULL();
  const ServerZone z(zone);
  uint64 print = 0;
  const int64 end = core::days_of(2060, 1, 1) * SECS_PER_DAY;
  for (int64 at = core::days_of(2020, 1, 1) * SECS_PER_DAY; at < end;) {
    const core::Segment s = z.segment(at);
    const int64 change[] = {s.end, s.offset};
    print = hash_bytes_extended(reinterpret_cast<const unsigned char*>(change), sizeof(change), print);
    at = s.end;
  }
  PG_RETURN_INT64(static_cast<int64>(print));
}

DTS_FUNCTION(dts_check_calendar) {
  RuleText given;
  given.timing = "@daily";
  if (PG_ARGISNULL(0))
    ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("argument \"entries\" must not be null"),
                    errhint("Example: ARRAY['mon-fri 09:00-17:00'].")));
  given.only_in = PG_GETARG_ARRAYTYPE_P(0);
  if (ARR_NDIM(given.only_in) > 1)
    ereport(ERROR, (errcode(ERRCODE_ARRAY_SUBSCRIPT_ERROR), errmsg("argument \"entries\" must be a one-dimensional array"),
                    errhint("Write ARRAY['mon-fri', '*-12-25'].")));
  (void)make_rule(given);
  PG_RETURN_VOID();
}

/// Refuses what the owner may not submit, as it would be at the first run, and options that a schedule sets itself.
DTS_FUNCTION(dts_check_task) {
  const Oid owner = PG_GETARG_OID(0);
  Jsonb* const what = PG_GETARG_JSONB_P(1);
  for (const char* key : {"run_at", "delay", "key", "on_conflict", "key_ttl", "expires", "depends_on", "owner", "name"}) {
    JsonbValue v;
    if (JB_ROOT_IS_OBJECT(what) && store::json_member(what, key, &v))
      ereport(ERROR,
              (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("option \"%s\" is not for the task of a schedule", key),
               errhint("When its tasks are due, whose they are, and that there is one for each due time, the schedule itself says.")));
  }
  Oid user = InvalidOid;
  int context = 0;
  GetUserIdAndSecContext(&user, &context);
  SetUserIdAndSecContext(owner, context | SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
  if (names_workflow(whole(what))) {
    check_workflow(whole(what), "the schedule's task");
  } else {
    Options o;
    (void)prepare_json(whole(what), "the schedule's task", &o);
  }
  SetUserIdAndSecContext(user, context);
  PG_RETURN_VOID();
}

/// Submits a run of a schedule for a due time: dts.run_now and backfills. Called as the owner of the extension.
DTS_FUNCTION(dts_fire_by_hand) {
  static pg::Statement read{
      "SELECT s.id, s.owner::oid, s.name, s.what, pg_catalog.has_function_privilege(s.owner::oid, 'dts.submit_many(jsonb)'::regprocedure, "
      "'EXECUTE'), c.last_due, c.last_success, (SELECT d.due_at FROM dts._due_before(s, $2) d(due_at)) FROM dts.schedule s JOIN "
      "dts.schedule_clock c ON c.schedule = s.id WHERE s.id = $1",
      2,
      {INT4OID, TIMESTAMPTZOID}};
  const TimestampTz due = PG_GETARG_TIMESTAMPTZ(1);
  const int32 backfill = PG_ARGISNULL(2) ? 0 : PG_GETARG_INT32(2);
  const Datum values[] = {PG_GETARG_DATUM(0), TimestampTzGetDatum(due)};
  const char nulls[] = {' ', backfill == 0 ? 'n' : ' ', '\0'};
  MemoryContext const memory = CurrentMemoryContext;
  Schedule s;
  const pg::AsOwner as(store::catalog().owner);
  SPI_connect();
  if (read.run(values, nulls) != 1) elog(ERROR, "schedule %d does not exist", PG_GETARG_INT32(0));
  bool null = false;
  s.id = DatumGetInt32(pg::column(0, 1, &null));
  s.owner = DatumGetObjectId(pg::column(0, 2, &null));
  s.name = MemoryContextStrdup(memory, TextDatumGetCString(pg::column(0, 3, &null)));
  s.what = DatumGetJsonbP(pg::column_copy(memory, 0, 4, &null));
  s.may_submit = DatumGetBool(pg::column(0, 5, &null)) && !null;
  s.last_due = DatumGetTimestampTz(pg::column(0, 6, &null));
  s.has_last_due = !null;
  s.last_success = DatumGetTimestampTz(pg::column(0, 7, &null));
  s.has_success = !null && s.last_success < due;
  if (backfill != 0) {
    s.last_due = DatumGetTimestampTz(pg::column(0, 8, &null));
    s.has_last_due = !null;
  }
  SPI_finish();
  as.end();
  const int64 task = submit_due(s, due, GetCurrentTimestamp());
  Ledger ledger;
  ledger.fired(s.id, due, task, backfill != 0 ? "backfill" : "by hand", backfill, true);
  ledger.write();
  PG_RETURN_INT64(task);
}

/// What the running task, or the workflow run that it is a node of, knows of its schedule; NULL outside of such a task.
DTS_FUNCTION(dts_schedule_tag) {
  static pg::Statement of_run{
      "SELECT r.schedule FROM dts.workflow_node n JOIN dts.workflow_run r ON r.id = n.run WHERE n.task = $1 AND r.schedule IS NOT NULL "
      "LIMIT 1",
      1,
      {INT8OID}};
  const int64 id = store::own_slot < 0 ? 0 : static_cast<int64>(pg_atomic_read_u64(&store::slots[store::own_slot].current));
  if (id == 0) PG_RETURN_NULL();
  store::TaskTable table = store::TaskTable::open_to_read();
  store::Task t;
  const bool found = table.read(id, &t);
  table.close();
  JsonbValue v;
  if (found && store::json_member(t.extra, "schedule", &v) && v.type == jbvBinary) PG_RETURN_JSONB_P(JsonbValueToJsonb(&v));
  MemoryContext const memory = CurrentMemoryContext;
  const Datum values[] = {Int64GetDatum(id)};
  const pg::AsOwner as(store::catalog().owner);
  SPI_connect();
  bool null = true;
  Datum tag{0};
  if (of_run.run(values) == 1) tag = pg::column_copy(memory, 0, 1, &null);
  SPI_finish();
  as.end();
  if (null) PG_RETURN_NULL();
  PG_RETURN_DATUM(tag);
}
