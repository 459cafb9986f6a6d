// Requests at submit: everything that can be known to be wrong is refused here.
#include "core/header.hpp"
#include "core/http_status.hpp"
#include "core/mail.hpp"
#include "core/reference.hpp"
#include "core/url.hpp"
#include "http/rules.hpp"
#include "pg/as_owner.hpp"
#include "request.hpp"
#include "request_json.hpp"
#include "secret.hpp"
#include "settings.hpp"
#include "store/definitions.hpp"

namespace dts {

namespace {

/// What the checks know of the request they are in. Plain data: errors jump over it.
struct Check {
  Oid role;
  bool values;
  const char* place;
  const char* host;  // of the URL, once it is known
};

[[noreturn]] void refuse(const Check& c, const char* key, const char* detail, const char* hint) {
  ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid value for argument \"%s\"", key),
                  c.place != nullptr ? errdetail("%s (in %s)", detail, c.place) : errdetail("%s", detail), errhint("%s", hint)));
}

std::string_view view(const JsonbValue& v) { return {v.val.string.val, static_cast<size_t>(v.val.string.len)}; }

const char* text_of(const JsonbValue& v) { return pnstrdup(v.val.string.val, v.val.string.len); }

void need_string(const Check& c, const char* key, const JsonbValue& v) {
  if (v.type != jbvString) refuse(c, key, "It is not a string.", "Give a string.");
}

/// Calls f(string) for each element of an array of strings, or for one string.
template <class F>
void each_string(const Check& c, const char* key, const JsonbValue& v, F&& f) {
  if (v.type == jbvString) {
    f(v);
    return;
  }
  if (v.type != jbvBinary || !JsonContainerIsArray(v.val.binary.data)) refuse(c, key, "It is not an array.", "Give an array of strings.");
  const uint32 n = JsonContainerSize(v.val.binary.data);
  for (uint32 i = 0; i < n; i++) {
    const JsonbValue* const e = getIthJsonbValueFromContainer(v.val.binary.data, i);
    if (e->type != jbvString) refuse(c, key, "An element is not a string.", "Give an array of strings.");
    f(*e);
  }
}

/// Calls f(key, value) for each member of an object.
template <class F>
void each_member(const Check& c, const char* key, const JsonbValue& v, F&& f) {
  if (v.type != jbvBinary || !JsonContainerIsObject(v.val.binary.data))
    refuse(c, key, "It is not a JSON object.", "Give an object, for example {\"name\": \"value\"}.");
  JsonbIterator* it = JsonbIteratorInit(v.val.binary.data);
  JsonbValue name, value;
  (void)JsonbIteratorNext(&it, &value, false);
  while (JsonbIteratorNext(&it, &name, true) == WJB_KEY) {
    (void)JsonbIteratorNext(&it, &value, true);
    f(name, value);
  }
}

void check_secret(const Check& c, const char* key, const char* name) {
  const Secret s = find_secret(name, c.role, false);
  if (!s.found)
    ereport(ERROR,
            (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("secret \"%s\" does not exist", name),
             errdetail("Argument \"%s\" refers to it; role \"%s\" must be allowed to use it.", key, GetUserNameFromId(c.role, false)),
             errhint("Create it with dts.create_secret, or see dts.secrets.")));
}

/// The references of a text: secrets exist, and only templates have others.
void check_references(const Check& c, const char* key, const JsonbValue& v) {
  std::string_view rest = view(v);
  core::Piece p;
  while (core::next_piece(&rest, c.values, &p))
    if (p.kind == core::Piece::Kind::Secret) check_secret(c, key, pnstrdup(p.text.data(), p.text.size()));
}

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
    std::vector<core::EgressRule> all;
    all.reserve(static_cast<size_t>(n));
    for (int i = 0; i < n; i++) all.push_back(http::rule_of(rules[i]));
    core::Address a;
    v.egress = core::parse_address(t.host, &a) ? core::may_connect(all, t, a) : core::may_ask(all, t);
    const std::string s = t.scheme + "://" + t.host + ":" + std::to_string(t.port);
    strlcpy(v.target, s.c_str(), sizeof(v.target));
  } catch (...) {
    v.wrong = "could not be checked for want of memory";
  }
  return v;
}

void refuse_egress(const Check& c, core::Egress v, const char* target) {
  if (v == core::Egress::Allowed) return;
  ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("requests to %s are not allowed", target),
                  errdetail(v == core::Egress::Denied    ? "A rule denies it."
                            : v == core::Egress::Address ? "The address is private or special, and no rule names it."
                                                         : "No rule allows it to role \"%s\".",
                            GetUserNameFromId(c.role, false)),
                  errhint("An administrator decides with dts.allow_host; see dts.egress.")));
}

void check_url_argument(Check* c, const JsonbValue& v) {
  need_string(*c, "url", v);
  const std::string_view all = view(v);
  if (all.size() > 8192) refuse(*c, "url", "It is longer than 8192 bytes.", "Put data into the body.");
  std::string_view rest = all;
  core::Piece p;
  while (core::next_piece(&rest, c->values, &p)) {
    if (p.kind == core::Piece::Kind::Text) continue;
    const std::string_view before = all.substr(0, static_cast<size_t>(p.text.data() - all.data()));
    if (!core::may_stand_in_url(before.substr(0, before.rfind("${"))))
      refuse(*c, "url", "A reference stands before the path.",
             "Scheme, host and port are written out; a workflow or handler for each host serves.");
  }
  check_references(*c, "url", v);
  // The host is judged without what references will give, which come after it.
  const size_t first = all.find("${");
  http::RuleText* rules = nullptr;
  const int n = read_rules(c->role, &rules);
  const UrlVerdict verdict = judge(all.substr(0, first), rules, n);
  if (verdict.wrong != nullptr)
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("argument \"url\" %s", verdict.wrong),
                    errhint("Example: https://api.example.com/path?query. Logins go into a header, with a secret.")));
  refuse_egress(*c, verdict.egress, verdict.target);
}

void check_headers(const Check& c, const JsonbValue& v, bool mail) {
  int n = 0;
  each_member(c, "headers", v, [&](const JsonbValue& name, const JsonbValue& value) {
    if (!core::is_token(view(name)))
      refuse(c, "headers", psprintf("\"%s\" is not a header name.", text_of(name)), "Names are letters, digits and -.");
    bool reserved = !mail && core::is_reserved_field(view(name));
    for (const char* own :
         {"to", "cc", "bcc", "from", "subject", "date", "reply-to", "sender", "content-type", "mime-version", "content-transfer-encoding"})
      reserved |= mail && pg_strcasecmp(own, text_of(name)) == 0;
    if (reserved) refuse(c, "headers", psprintf("\"%s\" cannot be set.", text_of(name)), "dts makes this field itself.");
    const auto one = [&](const JsonbValue& e) {
      if (!core::is_field_value(view(e)))
        refuse(c, "headers", psprintf("The value of \"%s\" holds a line break or control character.", text_of(name)),
               "Header values are one line.");
      check_references(c, "headers", e);
    };
    if (value.type == jbvNumeric || value.type == jbvBool) return;
    each_string(c, "headers", value, one);
    if (++n > 100) refuse(c, "headers", "There are more than 100.", "Put data into the body.");
  });
}

int number(const Check& c, const char* key, const JsonbValue& v, int lowest, int highest) {
  double d = -1;
  if (v.type == jbvNumeric) d = DatumGetFloat8(DirectFunctionCall1(numeric_float8_no_overflow, NumericGetDatum(v.val.numeric)));
  if (v.type != jbvNumeric || !(d >= lowest && d <= highest))
    refuse(c, key, psprintf("It must be a number between %d and %d.", lowest, highest), "Leave it out for the default.");
  return static_cast<int>(d);
}

/// Statuses: numbers, or texts as "2xx".
void check_statuses(const Check& c, const char* key, const JsonbValue& v) {
  const char* const hint = "Give an array of statuses (404), classes (\"5xx\") and ranges (\"200-204\").";
  if (v.type != jbvBinary || !JsonContainerIsArray(v.val.binary.data)) refuse(c, key, "It is not an array.", hint);
  const uint32 n = JsonContainerSize(v.val.binary.data);
  for (uint32 i = 0; i < n; i++) {
    const JsonbValue* const e = getIthJsonbValueFromContainer(v.val.binary.data, i);
    if (e->type == jbvNumeric)
      (void)number(c, key, *e, 100, 599);
    else if (e->type != jbvString || core::parse_statuses(view(*e)).low == 0)
      refuse(c, key, "An element is no status.", hint);
  }
}

void check_http_member(Check* c, const char* key, const JsonbValue& v) {
  const auto is = [key](const char* name) { return strcmp(key, name) == 0; };
  if (is("url")) {
    check_url_argument(c, v);
  } else if (is("method")) {
    need_string(*c, key, v);
    if (!core::is_method(view(v)))
      refuse(*c, key, "It is not a method that can be sent.", "GET, POST, PUT, PATCH, DELETE, HEAD and others, but not CONNECT or TRACE.");
  } else if (is("headers")) {
    check_headers(*c, v, false);
  } else if (is("body")) {
    check_json_references(*c, key, v);
  } else if (is("form")) {
    each_member(*c, key, v, [&](const JsonbValue&, const JsonbValue& value) {
      if (value.type == jbvBinary) refuse(*c, key, "A value is an object or array.", "Values of forms are texts, numbers and booleans.");
    });
    check_json_references(*c, key, v);
  } else if (is("body_text")) {
    need_string(*c, key, v);
    check_references(*c, key, v);
  } else if (is("body_base64")) {
    need_string(*c, key, v);
  } else if (is("follow")) {
    (void)number(*c, key, v, 0, 20);
  } else if (is("success") || is("retry_on")) {
    check_statuses(*c, key, v);
  } else if (is("connect_timeout")) {
    (void)number(*c, key, v, 0, 600);
  } else if (is("max_response")) {
    (void)number(*c, key, v, 0, settings::max_response_kb * 1024);
  } else if (is("response")) {
    const char* const s = v.type == jbvString ? text_of(v) : "";
    if (strcmp(s, "auto") != 0 && strcmp(s, "json") != 0 && strcmp(s, "text") != 0 && strcmp(s, "bytes") != 0 && strcmp(s, "none") != 0)
      refuse(*c, key, "It is none of those there are.", "Use auto, json, text, bytes or none.");
  } else if (is("keep_headers")) {
    each_string(*c, key, v, [](const JsonbValue&) {});
  } else if (is("idempotency_header")) {
    need_string(*c, key, v);
    if (v.val.string.len > 0 && (!core::is_token(view(v)) || core::is_reserved_field(view(v))))
      refuse(*c, key, "It is not a header name.", "Give a name, or an empty text for none.");
  } else if (is("traceparent")) {
    need_string(*c, key, v);
    const std::string_view t = view(v);
    bool good = t.size() == 55 && t[2] == '-' && t[35] == '-' && t[52] == '-';
    for (size_t i = 0; good && i < t.size(); i++) good = t[i] == '-' || (t[i] >= '0' && t[i] <= '9') || (t[i] >= 'a' && t[i] <= 'f');
    if (!good) refuse(*c, key, "It is not a traceparent.", "It reads 00-<32 hexadecimal digits>-<16>-<2>, as in W3C Trace Context.");
  } else if (is("sign")) {
    each_string(*c, key, v, [&](const JsonbValue& e) { check_secret(*c, key, text_of(e)); });
  } else if (is("ca") || is("certificate") || is("private_key")) {
    need_string(*c, key, v);
    check_secret(*c, key, text_of(v));
  } else if (!is("values")) {
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                    errmsg("unknown key \"%s\" in %s", key, c->place != nullptr ? c->place : "the request"),
                    errhint("The keys are the arguments of dts.submit_http, and body_base64.")));
  }
}

void check_recipient(const Check& c, const char* key, const JsonbValue& v, const http::RuleText* rules, int n) {
  const std::string_view whole = view(v);
  char domain[256] = "", wrong = 0;
  core::Egress verdict = core::Egress::NoRule;
  const auto look = [&]() noexcept {
    try {
      core::Mailbox m;
      if (!core::parse_mailbox(whole, &m)) {
        wrong = 1;
        return;
      }
      if (rules == nullptr) return;
      std::vector<core::EgressRule> all;
      all.reserve(static_cast<size_t>(n));
      for (int i = 0; i < n; i++) all.push_back(http::rule_of(rules[i]));
      const core::Target t{"mailto", core::plain_host(m.address.substr(m.address.find('@') + 1)), 0};
      verdict = core::may_ask(all, t);
      strlcpy(domain, t.host.c_str(), sizeof(domain));
    } catch (...) {
      wrong = 1;
    }
  };
  look();
  if (wrong != 0)
    refuse(c, key, psprintf("\"%s\" is not a mail address.", text_of(v)), "Write ann@example.com, or Ann Lee <ann@example.com>.");
  if (rules != nullptr) refuse_egress(c, verdict, psprintf("mailto:%s", domain));
}

void check_mail_member(const Check& c, const char* key, const JsonbValue& v, const http::RuleText* rules, int n) {
  const auto is = [key](const char* name) { return strcmp(key, name) == 0; };
  if (is("to") || is("cc") || is("bcc")) {
    each_string(c, key, v, [&](const JsonbValue& e) {
      if (!c.values) check_recipient(c, key, e, rules, n);
    });
  } else if (is("reply_to") || is("sender")) {
    need_string(c, key, v);
    if (!c.values) check_recipient(c, key, v, nullptr, 0);
  } else if (is("subject")) {
    need_string(c, key, v);
    if (!core::is_field_value(view(v)) || v.val.string.len > 2000)
      refuse(c, key, "It holds a line break or control character, or is longer than 2000 bytes.", "A subject is one line.");
  } else if (is("body") || is("html")) {
    need_string(c, key, v);
  } else if (is("headers")) {
    check_headers(c, v, true);
  } else if (is("attachments")) {
    if (v.type != jbvBinary || !JsonContainerIsArray(v.val.binary.data))
      refuse(c, key, "It is not an array.", "Give an array of {\"name\", \"type\", \"base64\"}.");
    const uint32 count = JsonContainerSize(v.val.binary.data);
    for (uint32 i = 0; i < count; i++) {
      const JsonbValue* const e = getIthJsonbValueFromContainer(v.val.binary.data, i);
      bool name = false, data = false;
      each_member(c, key, *e, [&](const JsonbValue& k, const JsonbValue& value) {
        const char* const what = text_of(k);
        need_string(c, key, value);
        if (strcmp(what, "name") == 0) {
          name = core::is_field_value(view(value)) && view(value).find_first_of("\"\\") == std::string_view::npos;
        } else if (strcmp(what, "type") == 0) {
          const size_t slash = view(value).find('/');
          if (slash == std::string_view::npos || !core::is_token(view(value).substr(0, slash)) ||
              !core::is_token(view(value).substr(slash + 1)))
            refuse(c, key, "A type is not a media type.", "For example \"application/pdf\".");
        } else if (strcmp(what, "base64") == 0 || strcmp(what, "text") == 0) {
          data = true;
        } else {
          refuse(c, key, psprintf("\"%s\" is not known.", what), "The keys are name, type, and base64 or text.");
        }
      });
      if (!name || !data)
        refuse(c, key, "An attachment has no name or no data.",
               "Give {\"name\", \"type\", \"base64\"} or {\"name\", \"type\", \"text\"}; names are one line, without quotes.");
    }
  } else if (!is("values")) {
    ereport(ERROR,
            (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("unknown key \"%s\" in %s", key, c.place != nullptr ? c.place : "the mail"),
             errhint("The keys are the arguments of dts.submit_mail.")));
  }
}

[[noreturn]] void missing(const char* argument, const char* hint) {
  ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("argument \"%s\" must not be null", argument), errhint("%s", hint)));
}

}  // namespace

int read_rules(Oid role, http::RuleText** out) {
  static pg::Statement rules{"SELECT * FROM dts._rule_texts($1)", 1, {OIDOID}};
  MemoryContext const mine = CurrentMemoryContext;
  const Datum values[] = {ObjectIdGetDatum(role)};
  const pg::AsOwner as(store::catalog().owner);
  SPI_connect();
  const int n = static_cast<int>(rules.run(values, nullptr, true));
  auto* const all = static_cast<http::RuleText*>(MemoryContextAllocZero(mine, sizeof(http::RuleText) * static_cast<size_t>(n + 1)));
  for (int i = 0; i < n; i++) {
    bool null = false;
    all[i].allow = DatumGetBool(pg::column(static_cast<uint64>(i), 1, &null));
    const char** const texts[] = {&all[i].host, &all[i].schemes, &all[i].ports, &all[i].networks};
    for (int k = 0; k < 4; k++) {
      const Datum d = pg::column(static_cast<uint64>(i), k + 2, &null);
      *texts[k] = null ? "" : MemoryContextStrdup(mine, TextDatumGetCString(d));
    }
  }
  SPI_finish();
  as.end();
  MemoryContextSwitchTo(mine);
  *out = all;
  return n;
}

void check_request(core::Kind kind, Jsonb* request, Oid role, bool values, const char* place) {
  Check c{role, values, place, nullptr};
  const bool mail = kind == core::Kind::Mail;
  http::RuleText* rules = nullptr;
  const int n = mail ? read_rules(role, &rules) : 0;
  int bodies = 0;
  JsonbValue whole;
  whole.type = jbvBinary;
  whole.val.binary.data = &request->root;
  each_member(c, mail ? "mail" : "http", whole, [&](const JsonbValue& name, const JsonbValue& value) {
    const char* const key = text_of(name);
    if (value.type == jbvNull && strcmp(key, "body") != 0) return;
    if (mail)
      check_mail_member(c, key, value, rules, n);
    else
      check_http_member(&c, key, value);
    if (strncmp(key, "body", 4) == 0 || strcmp(key, "form") == 0) bodies++;
  });
  JsonbValue v;
  if (mail) {
    if (!request::member(&request->root, "to", &v) || (v.type == jbvBinary && JsonContainerSize(v.val.binary.data) == 0))
      missing("to", "Give at least one address.");
    if (!request::member(&request->root, "subject", &v)) missing("subject", "An empty text is a subject, too.");
    if (!request::member(&request->root, "body", &v) && !request::member(&request->root, "html", &v)) missing("body", "Give body or html.");
    return;
  }
  if (!request::member(&request->root, "url", &v)) missing("url", "Give where the request goes, for example https://api.example.com/path.");
  if (bodies > 1)
    ereport(ERROR,
            (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
             errmsg("more than one of \"body\", \"form\", \"body_text\" and \"body_bytes\" is given"), errhint("A request has one body.")));
}

}  // namespace dts
