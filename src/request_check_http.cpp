// Checks at submit of the members of an HTTP request.
#include "core/header.hpp"
#include "core/http_status.hpp"
#include "core/reference.hpp"
#include "core/url.hpp"
#include "http/rules.hpp"
#include "request.hpp"
#include "request_check.hpp"
#include "settings.hpp"

namespace dts::request {

namespace {

/// All strings of a JSON value.
void check_json_references(const Check& c, const char* key, const JsonbValue& v) {
  if (v.type == jbvString) check_references(c, key, v);
  if (v.type != jbvBinary) return;
  JsonbIterator* it = JsonbIteratorInit(v.val.binary.data);
  JsonbValue e;
  JsonbIteratorToken token;
  while ((token = JsonbIteratorNext(&it, &e, false)) != WJB_DONE)
    if ((token == WJB_VALUE || token == WJB_ELEM) && e.type == jbvString) check_references(c, key, e);
}

struct UrlVerdict {
  const char* wrong;
  core::Egress egress;
  char target[320];
};

/// What C++ objects are needed for, without a call to the server in between.
UrlVerdict judge(std::string_view url, const http::RuleText* rules, int n) noexcept {
  UrlVerdict v{};
  try {
    core::Target t;
    v.wrong = core::check_url(url, &t);
    if (v.wrong != nullptr) return v;
    const std::vector<core::EgressRule> all = http::rules_of(rules, n);
    core::Address a;
    v.egress = core::parse_address(t.host, &a) ? core::may_connect(all, t, a) : core::may_ask(all, t);
    const std::string s = t.scheme + "://" + t.host + ":" + std::to_string(t.port);
    strlcpy(v.target, s.c_str(), sizeof(v.target));
  } catch (...) {
    v.wrong = "could not be checked for want of memory";
  }
  return v;
}

void check_url(const Check& c, const char*, const JsonbValue& v) {
  need_string(c, "url", v);
  const std::string_view all = view(v);
  if (all.size() > 8192) refuse(c, "url", "It is longer than 8192 bytes.", "Put data into the body.");
  std::string_view rest = all;
  core::Piece p;
  while (core::next_piece(&rest, c.values, &p)) {
    if (p.kind == core::Piece::Kind::Text) continue;
    const std::string_view before = all.substr(0, static_cast<size_t>(p.text.data() - all.data()));
    if (!core::may_stand_in_url(before.substr(0, before.rfind("${"))))
      refuse(c, "url", "A reference stands before the path.",
             "Scheme, host and port are written out; a workflow or handler for each host serves.");
  }
  check_references(c, "url", v);
  // The host is judged without what references will give, which come after it.
  const size_t first = all.find("${");
  http::RuleText* rules = nullptr;
  const int n = read_rules(c.role, &rules);
  const UrlVerdict verdict = judge(all.substr(0, first), rules, n);
  if (verdict.wrong != nullptr)
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("argument \"url\" %s", verdict.wrong),
                    errhint("Example: https://api.example.com/path?query. Logins go into a header, with a secret.")));
  refuse_egress(c, verdict.egress, verdict.target);
}

void check_number(const Check& c, const char* key, const JsonbValue& v, int lowest, int highest) {
  double d = -1;
  if (v.type == jbvNumeric) d = DatumGetFloat8(DirectFunctionCall1(numeric_float8_no_overflow, NumericGetDatum(v.val.numeric)));
  if (v.type != jbvNumeric || !(d >= lowest && d <= highest))
    refuse(c, key, psprintf("It must be a number between %d and %d.", lowest, highest), "Leave it out for the default.");
}

/// Statuses: numbers, or texts as "2xx".
void check_statuses(const Check& c, const char* key, const JsonbValue& v) {
  const char* const hint = "Give an array of statuses (404), classes (\"5xx\") and ranges (\"200-204\").";
  need_array(c, key, v, hint);
  const uint32 n = JsonContainerSize(v.val.binary.data);
  for (uint32 i = 0; i < n; i++) {
    const JsonbValue* const e = getIthJsonbValueFromContainer(v.val.binary.data, i);
    if (e->type == jbvNumeric)
      check_number(c, key, *e, 100, 599);
    else if (e->type != jbvString || core::parse_statuses(view(*e)).low == 0)
      refuse(c, key, "An element is no status.", hint);
  }
}

void check_method(const Check& c, const char* key, const JsonbValue& v) {
  need_string(c, key, v);
  if (!core::is_method(view(v)))
    refuse(c, key, "It is not a method that can be sent.", "GET, POST, PUT, PATCH, DELETE, HEAD and others, but not CONNECT or TRACE.");
}

void check_form(const Check& c, const char* key, const JsonbValue& v) {
  need_object(c, key, v);
  each_member(v.val.binary.data, [&](const JsonbValue&, const JsonbValue& value) {
    if (value.type == jbvBinary) refuse(c, key, "A value is an object or array.", "Values of forms are texts, numbers and booleans.");
  });
  check_json_references(c, key, v);
}

void check_body_text(const Check& c, const char* key, const JsonbValue& v) {
  need_string(c, key, v);
  check_references(c, key, v);
}

void check_response(const Check& c, const char* key, const JsonbValue& v) {
  const std::string_view s = v.type == jbvString ? view(v) : std::string_view();
  if (s != "auto" && s != "json" && s != "text" && s != "bytes" && s != "none")
    refuse(c, key, "It is none of those there are.", "Use auto, json, text, bytes or none.");
}

void check_idempotency_header(const Check& c, const char* key, const JsonbValue& v) {
  need_string(c, key, v);
  if (v.val.string.len > 0 && (!core::is_token(view(v)) || core::is_reserved_field(view(v))))
    refuse(c, key, "It is not a header name.", "Give a name, or an empty text for none.");
}

void check_traceparent(const Check& c, const char* key, const JsonbValue& v) {
  need_string(c, key, v);
  const std::string_view t = view(v);
  bool good = t.size() == 55 && t[2] == '-' && t[35] == '-' && t[52] == '-';
  for (size_t i = 0; good && i < t.size(); i++) good = t[i] == '-' || (t[i] >= '0' && t[i] <= '9') || (t[i] >= 'a' && t[i] <= 'f');
  if (!good) refuse(c, key, "It is not a traceparent.", "It reads 00-<32 hexadecimal digits>-<16>-<2>, as in W3C Trace Context.");
}

/// The name of a secret that holds PEM.
void check_pem(const Check& c, const char* key, const JsonbValue& v) {
  need_string(c, key, v);
  check_secret(c, key, text_of(v));
}

/// The keys of a request, and how their values are checked.
constexpr struct {
  const char* key;
  void (*check)(const Check& c, const char* key, const JsonbValue& v);
} kMembers[] = {
    {"url", check_url},
    {"method", check_method},
    {"headers", [](const Check& c, const char*, const JsonbValue& v) { check_headers(c, v, false); }},
    {"body", check_json_references},
    {"form", check_form},
    {"body_text", check_body_text},
    {"body_base64", need_string},
    {"follow", [](const Check& c, const char* key, const JsonbValue& v) { check_number(c, key, v, 0, 20); }},
    {"success", check_statuses},
    {"retry_on", check_statuses},
    {"connect_timeout", [](const Check& c, const char* key, const JsonbValue& v) { check_number(c, key, v, 0, 600); }},
    {"max_response",
     [](const Check& c, const char* key, const JsonbValue& v) { check_number(c, key, v, 0, settings::max_response_kb * 1024); }},
    {"response", check_response},
    {"keep_headers", [](const Check& c, const char* key, const JsonbValue& v) { each_string(c, key, v, [](const JsonbValue&) {}); }},
    {"idempotency_header", check_idempotency_header},
    {"traceparent", check_traceparent},
    {"sign", [](const Check& c, const char* key,
                const JsonbValue& v) { each_string(c, key, v, [&](const JsonbValue& e) { check_secret(c, key, text_of(e)); }); }},
    {"ca", check_pem},
    {"certificate", check_pem},
    {"private_key", check_pem},
    {"values", [](const Check&, const char*, const JsonbValue&) {}},
};

}  // namespace

void check_http_member(const Check& c, const char* key, const JsonbValue& v) {
  for (const auto& m : kMembers) {
    if (strcmp(key, m.key) != 0) continue;
    m.check(c, key, v);
    return;
  }
  ereport(ERROR,
          (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("unknown key \"%s\" in %s", key, c.place != nullptr ? c.place : "the request"),
           errhint("The keys are the arguments of dts.submit_http, and body_base64.")));
}

}  // namespace dts::request
