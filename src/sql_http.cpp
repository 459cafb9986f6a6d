// dts.submit_http and dts.submit_mail: their arguments become the JSON object that is stored, which is the same as in dts.submit_many.
#include "core/egress.hpp"
#include "core/url.hpp"
#include "pg/guard.hpp"
#include "request.hpp"
#include "rows.hpp"
#include "store/transfers.hpp"
#include "submit.hpp"

namespace dts {

namespace {

enum class As : uint8 { Text, Json, Int, Seconds, Texts, Bytes };
struct Argument {
  const char* key;
  As as;
};

/// In the order of the arguments in src/sql/31_submit_http.sql.
constexpr Argument kHttp[] = {{"url", As::Text},
                              {"method", As::Text},
                              {"body", As::Json},
                              {"headers", As::Json},
                              {"form", As::Json},
                              {"body_text", As::Text},
                              {"body_base64", As::Bytes},
                              {"follow", As::Int},
                              {"success", As::Json},
                              {"retry_on", As::Json},
                              {"connect_timeout", As::Seconds},
                              {"response", As::Text},
                              {"keep_headers", As::Texts},
                              {"max_response", As::Int},
                              {"idempotency_header", As::Text},
                              {"traceparent", As::Text},
                              {"sign", As::Texts},
                              {"ca", As::Text},
                              {"certificate", As::Text},
                              {"private_key", As::Text}};
constexpr Argument kMail[] = {{"to", As::Texts},    {"subject", As::Text},  {"body", As::Text}, {"cc", As::Texts},
                              {"bcc", As::Texts},   {"reply_to", As::Text}, {"html", As::Text}, {"attachments", As::Json},
                              {"sender", As::Text}, {"headers", As::Json}};

JsonbValue string_value(const char* s, int length) {
  JsonbValue v;
  v.type = jbvString;
  v.val.string.val = const_cast<char*>(s);
  v.val.string.len = length;
  return v;
}

JsonbValue number_value(Datum numeric) {
  JsonbValue v;
  v.type = jbvNumeric;
  v.val.numeric = DatumGetNumeric(numeric);
  return v;
}

void push_texts(JsonbParseState** state, ArrayType* array, const char* key) {
  Datum* values = nullptr;
  bool* nulls = nullptr;
  int n = 0;
  deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &values, &nulls, &n);
  pushJsonbValue(state, WJB_BEGIN_ARRAY, nullptr);
  for (int i = 0; i < n; i++) {
    if (nulls[i])
      ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("argument \"%s\" must not contain null", key),
                      errhint("Leave the element out.")));
    const text* const t = DatumGetTextPP(values[i]);
    JsonbValue v = string_value(VARDATA_ANY(t), static_cast<int>(VARSIZE_ANY_EXHDR(t)));
    pushJsonbValue(state, WJB_ELEM, &v);
  }
  pushJsonbValue(state, WJB_END_ARRAY, nullptr);
}

void push_value(JsonbParseState** state, Datum d, const Argument& a) {
  JsonbValue v;
  switch (a.as) {
    case As::Text: {
      const text* const t = DatumGetTextPP(d);
      v = string_value(VARDATA_ANY(t), static_cast<int>(VARSIZE_ANY_EXHDR(t)));
      break;
    }
    case As::Json: {
      Jsonb* const j = DatumGetJsonbP(d);
      if (JB_ROOT_IS_SCALAR(j)) {
        (void)JsonbExtractScalar(&j->root, &v);
      } else {
        v.type = jbvBinary;
        v.val.binary.data = &j->root;
        v.val.binary.len = static_cast<int>(VARSIZE(j)) - VARHDRSZ;
      }
      break;
    }
    case As::Int: v = number_value(DirectFunctionCall1(int4_numeric, d)); break;
    case As::Seconds: {
      const Interval* const i = DatumGetIntervalP(d);
      const double s = static_cast<double>(i->time) / 1e6 + (i->day + i->month * 30.0) * 86400;
      v = number_value(DirectFunctionCall1(float8_numeric, Float8GetDatum(s)));
      break;
    }
    case As::Texts: push_texts(state, DatumGetArrayTypeP(d), a.key); return;
    case As::Bytes: {
      const text* const t = DatumGetTextPP(DirectFunctionCall2(binary_encode, d, CStringGetTextDatum("base64")));
      v = string_value(VARDATA_ANY(t), static_cast<int>(VARSIZE_ANY_EXHDR(t)));
      break;
    }
  }
  pushJsonbValue(state, WJB_VALUE, &v);
}

template <size_t N>
Jsonb* request_of(FunctionCallInfo fcinfo, const Argument (&arguments)[N]) {
  JsonbParseState* state = nullptr;
  pushJsonbValue(&state, WJB_BEGIN_OBJECT, nullptr);
  for (size_t i = 0; i < N; i++) {
    if (PG_ARGISNULL(i)) continue;
    JsonbValue k = string_value(arguments[i].key, static_cast<int>(strlen(arguments[i].key)));
    pushJsonbValue(&state, WJB_KEY, &k);
    push_value(&state, PG_GETARG_DATUM(i), arguments[i]);
  }
  return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, nullptr));
}

int64 submit(core::Kind kind, Jsonb* request, const Options& o) {
  Prepared p = prepare_outside(kind, o);
  check_request(kind, request, p.lane.owner, false, nullptr);
  check_payload_size(request, kind == core::Kind::Http ? "body" : "attachments");
  p.task.args = request;
  return submit_prepared(p, o);
}

}  // namespace

}  // namespace dts

using namespace dts;

DTS_FUNCTION(dts_submit_http) {
  const Options o = read_options(fcinfo, lengthof(kHttp), false, false);
  PG_RETURN_INT64(submit(core::Kind::Http, request_of(fcinfo, kHttp), o));
}

DTS_FUNCTION(dts_submit_mail) {
  const Options o = read_options(fcinfo, lengthof(kMail), false, false);
  PG_RETURN_INT64(submit(core::Kind::Mail, request_of(fcinfo, kMail), o));
}

DTS_FUNCTION(dts_submit_mail_text) {
  if (!PG_ARGISNULL(0)) {
    Datum one = PG_GETARG_DATUM(0);
    char* const to = TextDatumGetCString(one);
    fcinfo->args[0].value = to[0] == '{' ? OidInputFunctionCall(F_ARRAY_IN, to, TEXTOID, -1)
                                         : PointerGetDatum(construct_array(&one, 1, TEXTOID, -1, false, TYPALIGN_INT));
  }
  return dts_submit_mail(fcinfo);
}

DTS_FUNCTION(dts_check_host_pattern) { PG_RETURN_BOOL(core::is_host_pattern(text_to_cstring(PG_GETARG_TEXT_PP(0)))); }

DTS_FUNCTION(dts_check_request) {
  if (PG_ARGISNULL(1) || !JB_ROOT_IS_OBJECT(PG_GETARG_JSONB_P(1)))
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("a request must be a JSON object"),
                    errhint("Its keys are the arguments of dts.submit_http or dts.submit_mail.")));
  const bool mail = strcmp(text_to_cstring(PG_GETARG_TEXT_PP(0)), "mail") == 0;
  check_request(mail ? core::Kind::Mail : core::Kind::Http, PG_GETARG_JSONB_P(1), PG_GETARG_OID(2), true,
                mail ? "argument \"mail\"" : "argument \"http\"");
  PG_RETURN_VOID();
}

DTS_FUNCTION(dts_hosts) {
  ReturnSetInfo* const info = begin_rows(fcinfo);
  if (store::shared == nullptr) return Datum{0};
  for (int i = 0; i < store::kHosts; i++) {
    LWLockAcquire(&store::transfer_head->hosts_lock, LW_SHARED);
    const store::HostSlot h = store::hosts[i];
    LWLockRelease(&store::transfer_head->hosts_lock);
    if (!h.used || h.db != MyDatabaseId) continue;
    const char* const circuit = h.circuit == store::Circuit::Closed ? "closed" : h.circuit == store::Circuit::Open ? "open" : "half open";
    Datum v[11] = {CStringGetTextDatum(h.name),
                   CStringGetTextDatum(circuit),
                   Int32GetDatum(h.in_flight),
                   Int32GetDatum(h.failures),
                   TimestampTzGetDatum(h.open_until),
                   Int64GetDatum(h.succeeded),
                   Int64GetDatum(h.failed),
                   Int64GetDatum(h.deferred),
                   Float8GetDatum(h.mean_us),
                   CStringGetTextDatum(h.last_error),
                   TimestampTzGetDatum(h.last_failure_at)};
    bool nulls[11] = {};
    nulls[4] = h.circuit != store::Circuit::Open;
    nulls[9] = h.last_error[0] == '\0';
    nulls[10] = h.last_failure_at == 0;
    put_row(info, v, nulls);
  }
  return Datum{0};
}

/// "host:port" of a URL, as hosts are named; nullptr for what is none.
DTS_FUNCTION(dts_request_host) {
  const char* const url = text_to_cstring(PG_GETARG_TEXT_PP(0));
  char name[320] = "";
  const auto look = [&]() noexcept {
    try {
      core::Target t;
      std::string_view s(url);
      if (core::check_url(s.substr(0, s.find("${")), &t) == nullptr)
        strlcpy(name, (t.host + ":" + std::to_string(t.port)).c_str(), sizeof(name));
    } catch (...) {
    }
  };
  look();
  if (name[0] == '\0') PG_RETURN_NULL();
  PG_RETURN_DATUM(CStringGetTextDatum(name));
}

/// A task that was put off is due now; false if it is not, or somebody has it in hand.
DTS_FUNCTION(dts_hasten) {
  store::TaskTable table = store::TaskTable::open("dts.reset_host()");
  store::Task t;
  const bool found = table.lock(PG_GETARG_INT64(0), &t) == store::TaskTable::Found::Locked && t.state == core::State::Ready &&
                     (t.flags & core::kPutOff) != 0;
  const store::Lane* const lane = found ? store::lane_by_id(t.lane) : nullptr;
  if (lane != nullptr) {
    store::Task now = t;
    now.run_at = GetCurrentTimestamp();
    now.flags &= ~core::kPutOff;
    table.update(t, now, lane->info, lane->info);
  }
  table.close();
  PG_RETURN_BOOL(lane != nullptr);
}

DTS_FUNCTION(dts_reset_circuit) {
  const char* const name = text_to_cstring(PG_GETARG_TEXT_PP(0));
  bool found = false;
  for (int i = 0; store::shared != nullptr && i < store::kHosts; i++) {
    store::HostSlot& h = store::hosts[i];
    if (!h.used || h.db != MyDatabaseId || strcmp(h.name, name) != 0) continue;
    h.reset = found = true;
    h.open_until = GetCurrentTimestamp();
  }
  PG_RETURN_BOOL(found);
}
