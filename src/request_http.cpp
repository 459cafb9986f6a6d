// HTTP requests: rendering, and which statuses they call a success.
#include "core/http_status.hpp"
#include "core/url.hpp"
#include "request_json.hpp"
#include "request_render.hpp"
#include "settings.hpp"

namespace dts::request {

namespace {

http::Text render_form(Render* r, const JsonbValue& form) {
  StringInfoData out;
  initStringInfo(&out);
  each_member(form.val.binary.data, [&](const JsonbValue& name, const JsonbValue& value) {
    if (value.type == jbvNull) return;
    if (out.len > 0) appendStringInfoChar(&out, '&');
    const http::Text n = in_utf8(name.val.string.val, static_cast<size_t>(name.val.string.len));
    append_escaped(&out, {n.data, n.size}, Place::Url);
    appendStringInfoChar(&out, '=');
    const char* const s = text_of(value);
    const http::Text t = render_text(r, s, Place::Plain);
    append_escaped(&out, {t.data, t.size}, Place::Url);
  });
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

/// PEM from a secret that the request names.
http::Text pem(Render* r, Jsonb* request, const char* key) {
  const char* const name = text_member(request, key);
  return name == nullptr ? http::Text() : secret_value(r, name);
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

}  // namespace

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

}  // namespace dts::request

namespace dts {

namespace {

/// Whether the request has a list of statuses under this key, and this one is in it.
bool listed(Jsonb* request, const char* key, int status, bool* given) {
  JsonbValue v;
  *given = request::member(&request->root, key, &v) && v.type == jbvBinary;
  if (!*given) return false;
  const uint32 n = JsonContainerSize(v.val.binary.data);
  for (uint32 i = 0; i < n; i++) {
    const JsonbValue* const e = getIthJsonbValueFromContainer(v.val.binary.data, i);
    const core::Statuses s = core::parse_statuses(e->type == jbvString ? request::view(*e) : std::string_view(request::text_of(*e)));
    if (s.low != 0 && status >= s.low && status <= s.high) return true;
  }
  return false;
}

}  // namespace

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

}  // namespace dts
