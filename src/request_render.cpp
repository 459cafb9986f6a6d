// Requests in the courier: what HTTP and mail have in common, which is secrets, headers and limits.
#include "core/egress.hpp"
#include "core/header.hpp"
#include "request_json.hpp"
#include "request_render.hpp"
#include "secret.hpp"
#include "settings.hpp"

namespace dts::request {

namespace {

constexpr int kSecrets = 32;
constexpr int kHeaders = 256;

}  // namespace

void fail(Render* r, int sqlstate, const char* why) {
  if (r->out.error != nullptr) return;
  r->out.error = why;
  r->out.sqlstate = sqlstate;
}

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

void add_line(Render* r, const char* name, const char* value) {
  if (value == nullptr || value[0] == '\0' || r->out.request.header_count == kHeaders) return;
  const char* const line = psprintf("%s: %s", name, value);
  r->headers[r->out.request.header_count++] = {line, strlen(line)};
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
  each_member(v.val.binary.data, [&](const JsonbValue& name, const JsonbValue& value) {
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
  });
}

}  // namespace dts::request

namespace dts {

namespace {

const http::Text* copied(const http::Text* from, int n) {
  const Size size = sizeof(http::Text) * static_cast<Size>(n);
  return n == 0 ? nullptr : static_cast<http::Text*>(memcpy(palloc(size), from, size));
}

}  // namespace

Rendered render_request(const store::Task& task, Jsonb* request, Jsonb* payload, Oid role) {
  static http::Text secrets[2 * request::kSecrets], headers[request::kHeaders];
  request::Render whole{task, role, nullptr, nullptr, "", {}, secrets, headers};
  request::Render* const r = &whole;
  JsonbValue v;
  if (request::member(&request->root, "values", &v) && v.type == jbvBinary) r->doc = v.val.binary.data;
  if (payload != nullptr) r->payload = &payload->root;
  if (task.kind == core::Kind::Mail)
    request::render_mail(r, request);
  else
    request::render_http(r, request);
  http::Request& q = r->out.request;
  q.role = role;
  q.headers = copied(headers, q.header_count);
  q.secrets = copied(secrets, 2 * q.secret_count);
  q.timeout_ms = task.timeout_ms > 0 ? task.timeout_ms : settings::http_timeout_ms;
  q.connect_timeout_ms = request::int_member(request, "connect_timeout", settings::http_connect_timeout_ms, 1000);
  if (q.connect_timeout_ms <= 0) q.connect_timeout_ms = settings::http_connect_timeout_ms;
  return r->out;  // `mail` is pointed to by whoever starts it: this copy moves
}

}  // namespace dts
