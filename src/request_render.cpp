// Requests in the courier: references and secrets become what they stand for, each in the form of its place.
#include "core/base64.hpp"
#include "core/header.hpp"
#include "core/http_status.hpp"
#include "core/mail.hpp"
#include "core/reference.hpp"
#include "core/url.hpp"
#include "http/rules.hpp"
#include "request.hpp"
#include "secret.hpp"
#include "settings.hpp"
#include "store/policy.hpp"

extern "C" {
#include "common/cryptohash.h"
#include "common/hmac.h"
#include "common/sha2.h"
#include "mb/pg_wchar.h"
}

namespace dts {

namespace {

constexpr int kSecrets = 32;
constexpr int kHeaders = 256;

/// What is known while one request is rendered. Plain data in the current context.
struct Render {
  const store::Task& task;
  Oid role;
  const JsonbContainer* doc;  // nullptr: no values
  const JsonbContainer* payload;
  const char* host;  // that secrets are asked for; "" until it is known
  Rendered out;
  http::Text* secrets;  // what is used of these two is copied in the end
  http::Text* headers;
};

/// Where a text stands: a value is escaped for it.
enum class Place { Url, Header, Plain };

void fail(Render* r, int sqlstate, const char* why) {
  if (r->out.error != nullptr) return;
  r->out.error = why;
  r->out.sqlstate = sqlstate;
}

std::string_view view(const JsonbValue& v) { return {v.val.string.val, static_cast<size_t>(v.val.string.len)}; }

http::Text in_utf8(const char* s, size_t n) {
  char* const converted = reinterpret_cast<char*>(pg_do_encoding_conversion(reinterpret_cast<unsigned char*>(const_cast<char*>(s)),
                                                                            static_cast<int>(n), GetDatabaseEncoding(), PG_UTF8));
  return converted == s ? http::Text{s, n} : http::Text{converted, strlen(converted)};
}

/// A value as text: strings as they are, numbers and the rest as JSON.
const char* text_of(const JsonbValue& v) {
  if (v.type == jbvString) return pnstrdup(v.val.string.val, v.val.string.len);
  if (v.type == jbvNull) return "";
  if (v.type == jbvBool) return v.val.boolean ? "true" : "false";
  if (v.type == jbvNumeric) return DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(v.val.numeric)));
  Jsonb* const j = JsonbValueToJsonb(const_cast<JsonbValue*>(&v));
  return JsonbToCString(nullptr, &j->root, static_cast<int>(VARSIZE(j)));
}

JsonbValue string_value(const char* s) {
  JsonbValue v;
  v.type = jbvString;
  v.val.string.val = const_cast<char*>(s);
  v.val.string.len = static_cast<int>(strlen(s));
  return v;
}

/// Steps into an object or array by one part of a path.
bool step(JsonbValue* at, std::string_view part) {
  if (at->type != jbvBinary) return false;
  JsonbContainer* const c = at->val.binary.data;
  if (JsonContainerIsObject(c)) return getKeyJsonValueFromContainer(c, part.data(), static_cast<int>(part.size()), at) != nullptr;
  uint32 i = 0;
  if (part.empty() || part.size() > 9) return false;
  for (const char ch : part) {
    if (ch < '0' || ch > '9') return false;
    i = i * 10 + static_cast<uint32>(ch - '0');
  }
  const JsonbValue* const e = i < JsonContainerSize(c) ? getIthJsonbValueFromContainer(c, i) : nullptr;
  if (e != nullptr) *at = *e;
  return e != nullptr;
}

bool task_value(const Render& r, std::string_view name, JsonbValue* out) {
  const char* s = nullptr;
  if (name == "id") s = psprintf("%lld", static_cast<long long>(r.task.id));
  if (name == "attempt") s = psprintf("%d", r.task.attempt);
  if (s != nullptr) *out = string_value(s);
  return s != nullptr;
}

/// The value of a reference: payload.a.b, task.id, or any path into the values that came with the request. "?" at its end: null if there
/// is none; ":-x": x.
bool find_value(const Render& r, std::string_view path, JsonbValue* out) {
  const size_t fallback = path.find(":-");
  const std::string_view otherwise = fallback == std::string_view::npos ? std::string_view() : path.substr(fallback + 2);
  path = path.substr(0, fallback);
  const bool optional = path.ends_with('?');
  if (optional) path.remove_suffix(1);
  JsonbValue at;
  at.type = jbvBinary;
  bool found = false;
  if (path.starts_with("task.")) {
    found = task_value(r, path.substr(5), &at);
  } else {
    const bool payload = path == "payload" || path.starts_with("payload.");
    const JsonbContainer* const root = payload ? r.payload : r.doc;
    found = root != nullptr;
    at.val.binary.data = const_cast<JsonbContainer*>(root);
    if (payload) path = path.size() > 8 ? path.substr(8) : std::string_view();
    while (found && !path.empty()) {
      const size_t dot = path.find('.');
      found = step(&at, path.substr(0, dot));
      path = dot == std::string_view::npos ? std::string_view() : path.substr(dot + 1);
    }
  }
  if (found) {
    *out = at;
    return true;
  }
  out->type = jbvNull;
  if (fallback != std::string_view::npos) *out = string_value(pnstrdup(otherwise.data(), otherwise.size()));
  return optional || fallback != std::string_view::npos;
}

/// The value of a secret, noted so that nothing shows it; "" after a failure.
http::Text secret_value(Render* r, std::string_view name) {
  const char* const n = pnstrdup(name.data(), name.size());
  int& count = r->out.request.secret_count;
  for (size_t i = 0; i < static_cast<size_t>(count); i++)
    if (name == std::string_view(r->secrets[2 * i].data, r->secrets[2 * i].size)) return r->secrets[2 * i + 1];
  const Secret s = find_secret(n, r->role, true);
  if (!s.found) {
    fail(r, ERRCODE_UNDEFINED_OBJECT, psprintf("secret \"%s\" does not exist, or may not be used", n));
    return {};
  }
  if (!s.opened) {
    fail(r, ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, psprintf("secret \"%s\" cannot be used: %s", n, s.why));
    return {};
  }
  bool sent_there = s.hosts[0] == '\0';
  for (const char* p = s.hosts; *p != '\0' && !sent_there;) {
    const size_t length = strcspn(p, ",");
    sent_there = core::host_matches(std::string_view(p, length), r->host);
    p += length + (p[length] == ',' ? 1 : 0);
  }
  if (!sent_there) {
    fail(r, ERRCODE_INSUFFICIENT_PRIVILEGE, psprintf("secret \"%s\" may not be sent to this host", n));
    return {};
  }
  if (count == kSecrets) {
    fail(r, ERRCODE_PROGRAM_LIMIT_EXCEEDED, "the request refers to more than 32 secrets");
    return {};
  }
  http::Text* const pair = &r->secrets[2 * static_cast<size_t>(count)];
  pair[0] = {n, strlen(n)};
  pair[1] = {s.value, s.size};
  count++;
  return {s.value, s.size};
}

void append_escaped(StringInfo to, std::string_view s, Place place) {
  if (place != Place::Url) {
    appendBinaryStringInfo(to, s.data(), static_cast<int>(s.size()));
    return;
  }
  constexpr char kHex[] = "0123456789ABCDEF";
  for (const char c : s) {
    if (isalnum(static_cast<unsigned char>(c)) != 0 || strchr("-._~", c) != nullptr) {
      if (c != '\0' && static_cast<unsigned char>(c) < 0x80) {
        appendStringInfoChar(to, c);
        continue;
      }
    }
    appendStringInfoChar(to, '%');
    appendStringInfoChar(to, kHex[static_cast<unsigned char>(c) >> 4]);
    appendStringInfoChar(to, kHex[static_cast<unsigned char>(c) & 15]);
  }
}

/// A text with its references replaced.
http::Text render_text(Render* r, std::string_view s, Place place) {
  if (s.find("${") == std::string_view::npos) return in_utf8(s.data(), s.size());
  StringInfoData out;
  initStringInfo(&out);
  core::Piece p;
  while (core::next_piece(&s, r->doc != nullptr || r->payload != nullptr, &p)) {
    if (p.kind == core::Piece::Kind::Text) {
      appendBinaryStringInfo(&out, p.text.data(), static_cast<int>(p.text.size()));
    } else if (p.kind == core::Piece::Kind::Secret) {
      const http::Text t = secret_value(r, p.text);
      append_escaped(&out, {t.data == nullptr ? "" : t.data, t.size}, place);
    } else {
      JsonbValue v;
      if (!find_value(*r, p.text, &v)) {
        fail(r, ERRCODE_UNDEFINED_OBJECT, psprintf("\"${%s}\" has no value", pnstrdup(p.text.data(), p.text.size())));
        continue;
      }
      append_escaped(&out, text_of(v), place);
    }
  }
  return in_utf8(out.data, static_cast<size_t>(out.len));
}

/// A JSON value with its references replaced: a whole string takes the type of its value.
JsonbValue* render_json(Render* r, const JsonbContainer* c) {
  JsonbParseState* state = nullptr;
  JsonbIterator* it = JsonbIteratorInit(const_cast<JsonbContainer*>(c));
  JsonbValue v;
  JsonbIteratorToken token;
  JsonbValue* result = nullptr;
  while ((token = JsonbIteratorNext(&it, &v, false)) != WJB_DONE) {
    if ((token != WJB_VALUE && token != WJB_ELEM) || v.type != jbvString || view(v).find("${") == std::string_view::npos) {
      result = pushJsonbValue(
          &state, token,
          token == WJB_KEY || token == WJB_VALUE || token == WJB_ELEM || (token == WJB_BEGIN_ARRAY && v.val.array.rawScalar) ? &v
                                                                                                                             : nullptr);
      continue;
    }
    std::string_view rest = view(v);
    core::Piece p;
    JsonbValue whole;
    const bool one =
        core::next_piece(&rest, r->doc != nullptr || r->payload != nullptr, &p) && rest.empty() && p.kind == core::Piece::Kind::Value;
    if (one && find_value(*r, p.text, &whole)) {
      result = pushJsonbValue(&state, token, &whole);
      continue;
    }
    const http::Text t = render_text(r, view(v), Place::Plain);
    JsonbValue text = string_value("");
    text.val.string.val = const_cast<char*>(t.data);
    text.val.string.len = static_cast<int>(t.size);
    result = pushJsonbValue(&state, token, &text);
  }
  return result;
}

void add_header(Render* r, const char* name, const http::Text& value) {
  int& n = r->out.request.header_count;
  if (n == kHeaders) {
    fail(r, ERRCODE_PROGRAM_LIMIT_EXCEEDED, "the request has too many headers");
    return;
  }
  // A value of a payload is checked where it stands: a line break would be a second header.
  if (!core::is_field_value({value.data, value.size})) {
    fail(r, ERRCODE_INVALID_PARAMETER_VALUE, psprintf("the value of header \"%s\" holds a line break or control character", name));
    return;
  }
  StringInfoData line;
  initStringInfo(&line);
  appendStringInfo(&line, "%s: ", name);
  appendBinaryStringInfo(&line, value.data, static_cast<int>(value.size));
  r->headers[n++] = {line.data, static_cast<size_t>(line.len)};
}

bool has_header(const Render& r, const char* name) {
  const size_t length = strlen(name);
  for (int i = 0; i < r.out.request.header_count; i++)
    if (pg_strncasecmp(r.headers[i].data, name, length) == 0 && r.headers[i].data[length] == ':') return true;
  return false;
}

void add_headers(Render* r, Jsonb* request) {
  JsonbValue v;
  if (!member(&request->root, "headers", &v) || v.type != jbvBinary || !JsonContainerIsObject(v.val.binary.data)) return;
  JsonbIterator* it = JsonbIteratorInit(v.val.binary.data);
  JsonbValue name, value;
  (void)JsonbIteratorNext(&it, &value, false);
  while (JsonbIteratorNext(&it, &name, true) == WJB_KEY) {
    (void)JsonbIteratorNext(&it, &value, true);
    const char* const n = text_of(name);
    if (value.type == jbvBinary && JsonContainerIsArray(value.val.binary.data)) {
      const uint32 count = JsonContainerSize(value.val.binary.data);
      for (uint32 i = 0; i < count; i++) {
        const char* const s = text_of(*getIthJsonbValueFromContainer(value.val.binary.data, i));
        add_header(r, n, render_text(r, s, Place::Header));
      }
    } else if (value.type != jbvNull) {
      const char* const s = text_of(value);
      add_header(r, n, render_text(r, s, Place::Header));
    }
  }
}

http::Text decode(Render* r, std::string_view s) {
  const auto size = static_cast<int>(s.size());
  char* const out = static_cast<char*>(palloc(static_cast<Size>(size) + 4));
  const auto run = [&]() noexcept {
    try {
      std::string bytes;
      if (!core::from_base64(s, &bytes)) return -1;
      return static_cast<int>(bytes.copy(out, bytes.size()));
    } catch (...) {
      return -1;
    }
  };
  const int n = run();
  if (n < 0) fail(r, ERRCODE_INVALID_PARAMETER_VALUE, "the bytes are not base64");
  return {out, n < 0 ? 0 : static_cast<size_t>(n)};
}

http::Text render_form(Render* r, const JsonbValue& form) {
  StringInfoData out;
  initStringInfo(&out);
  JsonbIterator* it = JsonbIteratorInit(form.val.binary.data);
  JsonbValue name, value;
  (void)JsonbIteratorNext(&it, &value, false);
  while (JsonbIteratorNext(&it, &name, true) == WJB_KEY) {
    (void)JsonbIteratorNext(&it, &value, true);
    if (value.type == jbvNull) continue;
    if (out.len > 0) appendStringInfoChar(&out, '&');
    const http::Text n = in_utf8(name.val.string.val, static_cast<size_t>(name.val.string.len));
    append_escaped(&out, {n.data, n.size}, Place::Url);
    appendStringInfoChar(&out, '=');
    const char* const s = text_of(value);
    const http::Text t = render_text(r, s, Place::Plain);
    append_escaped(&out, {t.data, t.size}, Place::Url);
  }
  return {out.data, static_cast<size_t>(out.len)};
}

void set_body(Render* r, Jsonb* request) {
  JsonbValue v;
  const char* type = nullptr;
  http::Request& q = r->out.request;
  if (getKeyJsonValueFromContainer(&request->root, "body", 4, &v) != nullptr) {
    Jsonb* const j = JsonbValueToJsonb(&v);
    Jsonb* const rendered = JsonbValueToJsonb(render_json(r, &j->root));
    const char* const s = JsonbToCString(nullptr, &rendered->root, static_cast<int>(VARSIZE(rendered)));
    q.body = in_utf8(s, strlen(s));
    type = "application/json";
  } else if (member(&request->root, "form", &v) && v.type == jbvBinary) {
    q.body = render_form(r, v);
    type = "application/x-www-form-urlencoded";
  } else if (member(&request->root, "body_text", &v)) {
    q.body = render_text(r, view(v), Place::Plain);
    type = "text/plain; charset=utf-8";
  } else if (member(&request->root, "body_base64", &v)) {
    q.body = decode(r, view(v));
    type = "application/octet-stream";
  } else {
    return;
  }
  q.has_body = true;
  if (!has_header(*r, "Content-Type")) add_header(r, "Content-Type", {type, strlen(type)});
}

const char* uuid_text(const pg_uuid_t* u) { return DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(u))); }

/// The same in each attempt, and never that of another task, also not after a failover that hands ids out again: a digest of what no two
/// tasks share. (Standard Webhooks calls it webhook-id.)
const char* message_id(const store::Task& t) {
  const struct { int64 id, submitted_at, lane; } who{t.id, t.submitted_at, t.lane};
  pg_uuid_t u;
  uint8 digest[PG_SHA256_DIGEST_LENGTH];
  pg_cryptohash_ctx* const c = pg_cryptohash_create(PG_SHA256);
  if (pg_cryptohash_init(c) < 0 || pg_cryptohash_update(c, reinterpret_cast<const uint8*>(&who), sizeof(who)) < 0 ||
      pg_cryptohash_final(c, digest, sizeof(digest)) < 0)
    ereport(ERROR, (errmsg("could not compute a digest")));
  pg_cryptohash_free(c);
  memcpy(u.data, digest, sizeof(u.data));
  u.data[6] = static_cast<unsigned char>((u.data[6] & 0x0f) | 0x80);  // version 8, of our own making
  u.data[8] = static_cast<unsigned char>((u.data[8] & 0x3f) | 0x80);
  return uuid_text(&u);
}

const char* signature(const http::Text& secret, const char* id, int64 at, const http::Text& body) {
  char out[64] = "";
  const auto run = [&]() noexcept {
    try {
      const std::string key = core::webhook_key({secret.data, secret.size});
      const std::string content = core::webhook_content(id, at, {body.data == nullptr ? "" : body.data, body.size});
      uint8 mac[PG_SHA256_DIGEST_LENGTH];
      pg_hmac_ctx* const c = pg_hmac_create(PG_SHA256);
      const bool good = c != nullptr && pg_hmac_init(c, reinterpret_cast<const uint8*>(key.data()), key.size()) >= 0 &&
                        pg_hmac_update(c, reinterpret_cast<const uint8*>(content.data()), content.size()) >= 0 &&
                        pg_hmac_final(c, mac, sizeof(mac)) >= 0;
      pg_hmac_free(c);
      if (good) strlcpy(out, core::base64({reinterpret_cast<const char*>(mac), sizeof(mac)}).c_str(), sizeof(out));
    } catch (...) {
    }
  };
  run();
  return out[0] == '\0' ? nullptr : psprintf("v1,%s", out);
}

/// Standard Webhooks 1.0: several secrets give several signatures, so that a receiver may change from one to the next.
void sign(Render* r, Jsonb* request, const char* id) {
  JsonbValue v;
  if (!member(&request->root, "sign", &v)) return;
  const int64 at = GetCurrentTimestamp() / USECS_PER_SEC + (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * 86400LL;
  StringInfoData all;
  initStringInfo(&all);
  const auto one = [&](const JsonbValue& name) {
    const http::Text secret = secret_value(r, view(name));
    const char* const s = r->out.error != nullptr ? nullptr : signature(secret, id, at, r->out.request.body);
    if (s != nullptr) appendStringInfo(&all, "%s%s", all.len > 0 ? " " : "", s);
  };
  if (v.type == jbvString) {
    one(v);
  } else if (v.type == jbvBinary) {
    const uint32 n = JsonContainerSize(v.val.binary.data);
    for (uint32 i = 0; i < n; i++) one(*getIthJsonbValueFromContainer(v.val.binary.data, i));
  }
  const char* const stamp = psprintf("%lld", static_cast<long long>(at));
  add_header(r, "webhook-id", {id, strlen(id)});
  add_header(r, "webhook-timestamp", {stamp, strlen(stamp)});
  add_header(r, "webhook-signature", {all.data, static_cast<size_t>(all.len)});
}

http::Text pem(Render* r, Jsonb* request, const char* key) {
  const char* const name = text_member(request, key);
  return name == nullptr ? http::Text() : secret_value(r, name);
}

int int_member(Jsonb* request, const char* key, int otherwise, double scale = 1) {
  JsonbValue v;
  if (!member(&request->root, key, &v) || v.type != jbvNumeric) return otherwise;
  const double d = DatumGetFloat8(DirectFunctionCall1(numeric_float8_no_overflow, NumericGetDatum(v.val.numeric))) * scale;
  return d >= 0 && d <= 2e9 ? static_cast<int>(d) : otherwise;
}

/// "host:port" of a URL, which is written out in it.
void set_host(Render* r, const char* url) {
  static char host[320];
  host[0] = '\0';
  char* const name = static_cast<char*>(palloc0(320));
  const auto run = [&]() noexcept {
    try {
      core::Target t;
      if (const char* const wrong = core::check_url(url, &t)) return wrong;
      strlcpy(name, t.host.c_str(), 320);
      strlcpy(host, (t.host + ":" + std::to_string(t.port)).c_str(), sizeof(host));
    } catch (...) {
    }
    return static_cast<const char*>(nullptr);
  };
  if (const char* const wrong = run()) fail(r, ERRCODE_INVALID_PARAMETER_VALUE, psprintf("the URL %s", wrong));
  r->host = name;
  r->out.host = pstrdup(host);
}

const char* c_string(const http::Text& t) { return pnstrdup(t.data == nullptr ? "" : t.data, t.size); }

void render_http(Render* r, Jsonb* request) {
  http::Request& q = r->out.request;
  JsonbValue v;
  if (!member(&request->root, "url", &v) || v.type != jbvString) {
    fail(r, ERRCODE_INVALID_PARAMETER_VALUE, "the request has no URL");
    return;
  }
  const std::string_view url = view(v);
  set_host(r, pnstrdup(url.data(), url.substr(0, url.find("${")).size()));
  if (r->out.error != nullptr) return;
  q.url = c_string(render_text(r, url, Place::Url));
  add_headers(r, request);
  set_body(r, request);
  const char* const method = text_member(request, "method");
  q.method = pstrdup(method != nullptr ? method : q.has_body ? "POST" : "GET");
  for (char* c = const_cast<char*>(q.method); *c != '\0'; c++) *c = static_cast<char>(pg_toupper(static_cast<unsigned char>(*c)));
  const char* const id = message_id(r->task);
  const char* const idempotency = text_member(request, "idempotency_header");
  if (idempotency == nullptr || idempotency[0] != '\0') {
    const char* const name = idempotency != nullptr ? idempotency : "Idempotency-Key";
    if (!has_header(*r, name)) add_header(r, name, {id, strlen(id)});
  }
  if (const char* const trace = text_member(request, "traceparent"); trace != nullptr && !has_header(*r, "traceparent"))
    add_header(r, "traceparent", {trace, strlen(trace)});
  if (!has_header(*r, "User-Agent")) add_header(r, "User-Agent", {"dts/" DTS_VERSION, strlen("dts/" DTS_VERSION)});
  sign(r, request, id);
  q.redirects = int_member(request, "follow", 0);
  q.most_body =
      static_cast<size_t>(Min(int_member(request, "max_response", settings::max_result_kb * 1024), settings::max_response_kb * 1024));
  q.ca = pem(r, request, "ca");
  q.certificate = pem(r, request, "certificate");
  q.key = pem(r, request, "private_key");
}

// ---- mail

/// Mailboxes of a member, rendered: their addresses for the envelope, and the text of the header.
const char* mailboxes(Render* r, Jsonb* request, const char* key, const char** to, int* count, int most) {
  JsonbValue v;
  if (!member(&request->root, key, &v)) return nullptr;
  StringInfoData header;
  initStringInfo(&header);
  const uint32 n = v.type == jbvBinary ? JsonContainerSize(v.val.binary.data) : 1;
  for (uint32 i = 0; i < n; i++) {
    const JsonbValue* const e = v.type == jbvBinary ? getIthJsonbValueFromContainer(v.val.binary.data, i) : &v;
    if (e->type != jbvString) continue;
    const http::Text t = render_text(r, view(*e), Place::Plain);
    char address[256] = "", shown[2048] = "";
    const auto run = [&]() noexcept {
      try {
        core::Mailbox m;
        if (!core::parse_mailbox({t.data, t.size}, &m)) return false;
        strlcpy(address, m.address.c_str(), sizeof(address));
        strlcpy(shown, core::mailbox_text(m).c_str(), sizeof(shown));
        return true;
      } catch (...) {
        return false;
      }
    };
    if (!run()) {
      fail(r, ERRCODE_INVALID_PARAMETER_VALUE, psprintf("\"%s\" is not a mail address", c_string(t)));
      return nullptr;
    }
    if (to != nullptr) {
      if (*count == most) {
        fail(r, ERRCODE_PROGRAM_LIMIT_EXCEEDED, psprintf("the mail has more than %d recipients", most));
        return nullptr;
      }
      to[(*count)++] = psprintf("<%s>", address);
    }
    appendStringInfo(&header, "%s%s", header.len > 0 ? ",\r\n " : "", shown);
  }
  return header.data;
}

/// A header of ours: its folds are made here, so it is not looked at for line breaks.
void add_line(Render* r, const char* name, const char* value) {
  if (value == nullptr || value[0] == '\0' || r->out.request.header_count == kHeaders) return;
  const char* const line = psprintf("%s: %s", name, value);
  r->headers[r->out.request.header_count++] = {line, strlen(line)};
}

http::Text text_part(Render* r, Jsonb* request, const char* key) {
  JsonbValue v;
  if (!member(&request->root, key, &v) || v.type != jbvString) return {};
  return render_text(r, view(v), Place::Plain);
}

void add_attachments(Render* r, Jsonb* request) {
  JsonbValue v;
  if (!member(&request->root, "attachments", &v) || v.type != jbvBinary) return;
  const uint32 n = JsonContainerSize(v.val.binary.data);
  auto* const parts = static_cast<http::Part*>(palloc0(sizeof(http::Part) * (n + 1)));
  for (uint32 i = 0; i < n; i++) {
    const JsonbValue* const e = getIthJsonbValueFromContainer(v.val.binary.data, i);
    JsonbValue field;
    if (e->type != jbvBinary) continue;
    if (member(e->val.binary.data, "name", &field))
      parts[i].name = in_utf8(field.val.string.val, static_cast<size_t>(field.val.string.len));
    const bool typed = member(e->val.binary.data, "type", &field);
    const char* const type = typed ? text_of(field) : "application/octet-stream";
    parts[i].type = {type, strlen(type)};
    if (member(e->val.binary.data, "base64", &field))
      parts[i].data = decode(r, view(field));
    else if (member(e->val.binary.data, "text", &field))
      parts[i].data = render_text(r, view(field), Place::Plain);
  }
  r->out.mail.parts = parts;
  r->out.mail.part_count = static_cast<int>(n);
}

/// Whether rules allow mails to the domains of all recipients.
const char* refused_domain(const http::RuleText* rules, int n, const char* const* to, int count) noexcept {
  try {
    std::vector<core::EgressRule> all;
    all.reserve(static_cast<size_t>(n));
    for (int i = 0; i < n; i++) all.push_back(http::rule_of(rules[i]));
    for (int i = 0; i < count; i++) {
      std::string domain(strchr(to[i], '@') + 1);
      domain.pop_back();  // >
      if (core::may_ask(all, core::Target{"mailto", core::plain_host(domain), 0}) != core::Egress::Allowed) return strchr(to[i], '@') + 1;
    }
    return nullptr;
  } catch (...) {
    return "all";
  }
}

void render_mail(Render* r, Jsonb* request) {
  constexpr int kRecipients = 1000;
  http::Mail& m = r->out.mail;
  http::Request& q = r->out.request;
  if (settings::smtp_url == nullptr || settings::smtp_url[0] == '\0') {
    fail(r, ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, "there is no mail server: dts.smtp_url is not set");
    return;
  }
  r->host = "";
  r->out.host = pstrdup(settings::smtp_url);
  auto** const to = static_cast<const char**>(palloc(sizeof(char*) * kRecipients));
  int count = 0;
  const char* const sender_text = text_member(request, "sender");
  const char* const given = sender_text != nullptr ? c_string(render_text(r, sender_text, Place::Plain)) : settings::smtp_sender;
  char address[256] = "", shown[2048] = "";
  const auto run = [&]() noexcept {
    try {
      core::Mailbox from;
      if (!core::parse_mailbox(given == nullptr ? "" : given, &from)) return false;
      strlcpy(address, from.address.c_str(), sizeof(address));
      strlcpy(shown, core::mailbox_text(from).c_str(), sizeof(shown));
      return true;
    } catch (...) {
      return false;
    }
  };
  if (!run()) fail(r, ERRCODE_INVALID_PARAMETER_VALUE, "there is no valid sender: give one, or set dts.smtp_sender");
  m.from = psprintf("<%s>", address);
  add_line(r, "From", shown);
  add_line(r, "To", mailboxes(r, request, "to", to, &count, kRecipients));
  add_line(r, "Cc", mailboxes(r, request, "cc", to, &count, kRecipients));
  (void)mailboxes(r, request, "bcc", to, &count, kRecipients);
  add_line(r, "Reply-To", mailboxes(r, request, "reply_to", nullptr, nullptr, 0));
  const http::Text subject = text_part(r, request, "subject");
  if (!core::is_field_value({subject.data == nullptr ? "" : subject.data, subject.size}))
    fail(r, ERRCODE_INVALID_PARAMETER_VALUE, "the subject holds a line break or control character");
  char encoded[8192] = "";
  const auto encode = [&]() noexcept {
    try {
      strlcpy(encoded, core::encoded_text({subject.data == nullptr ? "" : subject.data, subject.size}).c_str(), sizeof(encoded));
    } catch (...) {
    }
  };
  encode();
  add_line(r, "Subject", encoded);
  char date[64];
  const pg_time_t now = timestamptz_to_time_t(GetCurrentTimestamp());
  pg_strftime(date, sizeof(date), "%a, %d %b %Y %H:%M:%S +0000", pg_gmtime(&now));
  add_line(r, "Date", date);
  const char* const at = strchr(address, '@');
  add_line(r, "Message-ID", psprintf("<%s%s>", message_id(r->task), at != nullptr ? at : "@dts"));
  add_line(r, "Auto-Submitted", "auto-generated");
  add_headers(r, request);
  m.text = text_part(r, request, "body");
  m.html = text_part(r, request, "html");
  add_attachments(r, request);
  http::RuleText* rules = nullptr;
  const int n = read_rules(r->role, &rules);
  if (const char* const domain = refused_domain(rules, n, to, count))
    fail(r, ERRCODE_INSUFFICIENT_PRIVILEGE, psprintf("no rule allows mails to %s", pnstrdup(domain, strcspn(domain, ">"))));
  m.to = to;
  m.to_count = count;
  m.tls = settings::smtp_tls;
  if (settings::smtp_user != nullptr && settings::smtp_user[0] != '\0') {
    m.user = pstrdup(settings::smtp_user);
    if (settings::smtp_password != nullptr && settings::smtp_password[0] != '\0') {
      // The administrator's, whoever sends.
      const Oid sender = r->role;
      r->role = BOOTSTRAP_SUPERUSERID;
      m.password = c_string(secret_value(r, settings::smtp_password));
      r->role = sender;
    }
  }
  q.url = pstrdup(settings::smtp_url);
  q.method = "";
  q.most_body = 4096;
}

bool listed(Jsonb* request, const char* key, int status, bool* given) {
  JsonbValue v;
  *given = member(&request->root, key, &v) && v.type == jbvBinary;
  if (!*given) return false;
  const uint32 n = JsonContainerSize(v.val.binary.data);
  for (uint32 i = 0; i < n; i++) {
    const JsonbValue* const e = getIthJsonbValueFromContainer(v.val.binary.data, i);
    const core::Statuses s = core::parse_statuses(e->type == jbvString ? view(*e) : std::string_view(text_of(*e)));
    if (s.low != 0 && status >= s.low && status <= s.high) return true;
  }
  return false;
}

}  // namespace

bool member(const JsonbContainer* object, const char* key, JsonbValue* out) {
  return getKeyJsonValueFromContainer(const_cast<JsonbContainer*>(object), key, static_cast<int>(strlen(key)), out) != nullptr &&
         out->type != jbvNull;
}

const char* text_member(Jsonb* object, const char* key) {
  JsonbValue v;
  return member(&object->root, key, &v) && v.type == jbvString ? text_of(v) : nullptr;
}

bool is_success(Jsonb* request, int status) {
  bool given = false;
  const bool yes = listed(request, "success", status, &given);
  return given ? yes : core::is_success(status);
}

bool is_retryable(Jsonb* request, int status) {
  bool given = false;
  const bool yes = listed(request, "retry_on", status, &given);
  return given ? yes : core::is_retryable(status);
}

namespace {
const http::Text* copied(const http::Text* from, int n) {
  const Size size = sizeof(http::Text) * static_cast<Size>(n);
  return n == 0 ? nullptr : static_cast<http::Text*>(memcpy(palloc(size), from, size));
}
}  // namespace

Rendered render_request(const store::Task& task, Jsonb* request, Jsonb* payload, Oid role) {
  static http::Text secrets[2 * kSecrets], headers[kHeaders];
  Render whole{task, role, nullptr, nullptr, "", {}, secrets, headers};
  Render* const r = &whole;
  JsonbValue v;
  if (member(&request->root, "values", &v) && v.type == jbvBinary) r->doc = v.val.binary.data;
  if (payload != nullptr) r->payload = &payload->root;
  if (task.kind == core::Kind::Mail)
    render_mail(r, request);
  else
    render_http(r, request);
  http::Request& q = r->out.request;
  q.role = role;
  q.headers = copied(headers, q.header_count);
  q.secrets = copied(secrets, 2 * q.secret_count);
  q.timeout_ms = task.timeout_ms > 0 ? task.timeout_ms : settings::http_timeout_ms;
  q.connect_timeout_ms = int_member(request, "connect_timeout", settings::http_connect_timeout_ms, 1000);
  if (q.connect_timeout_ms <= 0) q.connect_timeout_ms = settings::http_connect_timeout_ms;
  return r->out;  // `mail` is pointed to by whoever starts it: this copy moves
}

}  // namespace dts
