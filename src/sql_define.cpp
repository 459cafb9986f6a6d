// Definitions: the trampoline that runs a private function as the owner of the extension, and the word to shared memory.
#include "pg/as_owner.hpp"
#include "pg/guard.hpp"
#include "run_sql.hpp"
#include "store/definitions.hpp"
#include "store/policy.hpp"
#include "store/touch.hpp"
#include "submit.hpp"

namespace dts {

namespace {

/// dts._name(caller oid, same arguments) for the public function dts.name that was called.
void find_private(FunctionCallInfo fcinfo, FmgrInfo* out) {
  const Oid public_oid = fcinfo->flinfo->fn_oid;
  HeapTuple const tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(public_oid));
  if (!HeapTupleIsValid(tuple)) elog(ERROR, "cache lookup failed for function %u", public_oid);
  const auto* const proc = reinterpret_cast<Form_pg_proc>(GETSTRUCT(tuple));
  Oid types[FUNC_MAX_ARGS];
  types[0] = OIDOID;
  const int n = proc->pronargs;
  for (int i = 0; i < n; i++) types[i + 1] = proc->proargtypes.values[i];
  const Oid schema = proc->pronamespace;
  char name[NAMEDATALEN];
  snprintf(name, sizeof(name), "_%s", NameStr(proc->proname));
  ReleaseSysCache(tuple);
  if (schema != store::catalog().schema) elog(ERROR, "function is not part of dts");
  oidvector* const signature = buildoidvector(types, n + 1);
  const Oid found =
      GetSysCacheOid3(PROCNAMEARGSNSP, Anum_pg_proc_oid, CStringGetDatum(name), PointerGetDatum(signature), ObjectIdGetDatum(schema));
  if (!OidIsValid(found)) elog(ERROR, "dts.%s does not exist", name);
  fmgr_info_cxt(found, out, fcinfo->flinfo->fn_mcxt);
}

/// What a session may have set that changes how the private functions' own texts are read, or how they write names.
void pin_syntax() {
  constexpr struct {
    const char* name;
    const char* value;
  } kPinned[] = {
      {"standard_conforming_strings", "on"}, {"transform_null_equals", "off"}, {"array_nulls", "on"}, {"quote_all_identifiers", "off"}};
  for (const auto& s : kPinned) (void)set_config_option(s.name, s.value, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
}

char first_char(int col) {
  bool null = false;
  return TextDatumGetCString(pg::column(0, col, &null))[0];
}

void queue_changed(int32 id) {
  static pg::Statement read{"SELECT name, paused, durable, history, batch_size FROM dts.queue WHERE id = $1", 1, {INT4OID}};
  const Datum values[] = {Int32GetDatum(id)};
  SPI_connect();
  if (read.run(values, nullptr, true) == 1) {
    bool null = false;
    store::QueueSettings q{};
    q.queue = id;
    strlcpy(q.name, TextDatumGetCString(pg::column(0, 1, &null)), sizeof(q.name));
    q.paused = DatumGetBool(pg::column(0, 2, &null));
    q.durable = DatumGetBool(pg::column(0, 3, &null));
    q.history = first_char(4);
    q.batch_size = DatumGetInt32(pg::column(0, 5, &null));
    store::touch_queue(q);
  }
  SPI_finish();
}

}  // namespace

}  // namespace dts

using namespace dts;

DTS_FUNCTION(dts_as_owner) {
  auto* function = static_cast<FmgrInfo*>(fcinfo->flinfo->fn_extra);
  if (function == nullptr) {
    function = static_cast<FmgrInfo*>(MemoryContextAllocZero(fcinfo->flinfo->fn_mcxt, sizeof(FmgrInfo)));
    find_private(fcinfo, function);
    fcinfo->flinfo->fn_extra = function;
  }
  LOCAL_FCINFO(call, FUNC_MAX_ARGS);
  InitFunctionCallInfoData(*call, function, static_cast<short>(fcinfo->nargs + 1), InvalidOid, nullptr, nullptr);
  call->args[0].value = ObjectIdGetDatum(GetUserId());
  call->args[0].isnull = false;
  for (int i = 0; i < fcinfo->nargs; i++) call->args[i + 1] = fcinfo->args[i];
  const pg::AsOwner as(store::catalog().owner);
  pin_syntax();  // undone with the rest, by end()
  Datum result = 0;
  // Where an error came from is the caller's statement. The private functions below are no matter of his, unless one of them is at fault.
  ErrorData* const error = pg::attempt(CurrentMemoryContext, [&] {
    error_context_stack = nullptr;
    result = FunctionCallInvoke(call);
  });
  if (error != nullptr) {
    if (ERRCODE_TO_CATEGORY(error->sqlerrcode) != ERRCODE_INTERNAL_ERROR) error->context = nullptr;
    ThrowErrorData(error);
  }
  as.end();
  fcinfo->isnull = call->isnull;
  return result;
}

DTS_FUNCTION(dts_definition_changed) {
  const char* const kind = text_to_cstring(PG_GETARG_TEXT_PP(0));
  if (strcmp(kind, "signal") == 0) {  // nothing is defined: a waiting task may have got what it waits for
    store::touch_events(store::kSignals);
    PG_RETURN_VOID();
  }
  if (strcmp(kind, "gate") == 0) {
    store::touch_events(store::kGates);
    PG_RETURN_VOID();
  }
  if (strcmp(kind, "change") == 0) {
    store::touch_events(store::kChanges);
    PG_RETURN_VOID();
  }
  store::definitions_dirty();
  if (strcmp(kind, "queue") == 0) {
    queue_changed(PG_GETARG_INT32(1));
  } else if (strcmp(kind, "limit") == 0) {
    store::each_limit(PG_GETARG_INT32(1), store::touch_limit);
    store::touch_events(store::kWaiting);
  } else if (strcmp(kind, "handler") == 0 || strcmp(kind, "egress") == 0) {
    store::touch_definitions();
  } else if (strcmp(kind, "notification") == 0) {
    store::touch_definitions();
    store::touch_events(store::kLate);
  } else if (strcmp(kind, "install") == 0) {
    store::touch_events(store::kDefinitions, true);
  } else if (strcmp(kind, "schedule") == 0) {
    store::touch_events(store::kSchedules);
  } else if (strcmp(kind, "rescan") == 0) {
    store::touch_events(store::kRescan);
  } else {
    store::touch_events(store::kDefinitions);
  }
  PG_RETURN_VOID();
}

DTS_FUNCTION(dts_site_changed) {
  if (!CALLED_AS_TRIGGER(fcinfo)) elog(ERROR, "dts._site_changed must be called as a trigger");
  store::touch_events(store::kDefinitions);
  return PointerGetDatum(nullptr);  // of an AFTER trigger nobody looks at it
}

DTS_FUNCTION(dts_check_retry) {
  store::check_retry(PG_ARGISNULL(0) ? nullptr : PG_GETARG_JSONB_P(0));
  PG_RETURN_VOID();
}

DTS_FUNCTION(dts_check_sql) {
  const bool transactional = PG_ARGISNULL(1) || PG_GETARG_BOOL(1);
  const int params = PG_ARGISNULL(2) ? 0 : PG_GETARG_INT32(2);
  const char* const sql = PG_ARGISNULL(0) ? nullptr : text_to_cstring(PG_GETARG_TEXT_PP(0));
  check_sql(sql, transactional, params, false);
  PG_RETURN_VOID();
}
