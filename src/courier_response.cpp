// What has come back, as the result of a task: JSON with status, headers, body and times; and whether that is a success.
#include "core/http_status.hpp"
#include "courier.hpp"
#include "pg/guard.hpp"
#include "request_json.hpp"

extern "C" {
#include "common/base64.h"
#include "mb/pg_wchar.h"
}

namespace dts {

namespace {

using http::Failure;

constexpr int kErrorBody = 2048;  // of a failed request's body that its error shows

/// Headers that are kept when nobody says which.
constexpr const char* kKept[] = {"content-type", "content-length", "location", "retry-after",
                                 "etag",         "last-modified",  "link",     "x-request-id"};

struct Header {
  std::string_view name, value;
};

bool next_header(std::string_view* rest, Header* out) {
  while (!rest->empty()) {
    const size_t end = rest->find('\n');
    std::string_view line = rest->substr(0, end);
    *rest = end == std::string_view::npos ? std::string_view() : rest->substr(end + 1);
    while (!line.empty() && (line.back() == '\r' || line.back() == ' ')) line.remove_suffix(1);
    const size_t colon = line.find(':');
    if (colon == std::string_view::npos || colon == 0) continue;
    out->name = line.substr(0, colon);
    out->value = line.substr(colon + 1);
    while (!out->value.empty() && (out->value.front() == ' ' || out->value.front() == '\t')) out->value.remove_prefix(1);
    return true;
  }
  return false;
}

bool same_name(std::string_view a, const char* b, size_t length) { return a.size() == length && pg_strncasecmp(a.data(), b, length) == 0; }

std::string_view find_header(const http::Response& r, const char* name) {
  std::string_view rest(r.headers.data == nullptr ? "" : r.headers.data, r.headers.size);
  Header h;
  while (next_header(&rest, &h))
    if (same_name(h.name, name, strlen(name))) return h.value;
  return {};
}

bool is_kept(Jsonb* request, std::string_view name) {
  JsonbValue v;
  if (!request::member(&request->root, "keep_headers", &v) || v.type != jbvBinary) {
    for (const char* k : kKept)
      if (same_name(name, k, strlen(k))) return true;
    return false;
  }
  const uint32 n = JsonContainerSize(v.val.binary.data);
  for (uint32 i = 0; i < n; i++) {
    const JsonbValue* const e = getIthJsonbValueFromContainer(v.val.binary.data, i);
    if (e->type != jbvString) continue;
    if (e->val.string.len == 1 && e->val.string.val[0] == '*') return true;
    if (same_name(name, e->val.string.val, static_cast<size_t>(e->val.string.len))) return true;
  }
  return false;
}

/// Bytes as text of the database's encoding; nullptr if they are not valid, or hold what a text cannot.
const char* as_text(std::string_view s) {
  if (memchr(s.data(), '\0', s.size()) != nullptr || !pg_verify_mbstr(PG_UTF8, s.data(), static_cast<int>(s.size()), true)) return nullptr;
  char* const copy = pnstrdup(s.data(), s.size());
  if (GetDatabaseEncoding() == PG_UTF8 || GetDatabaseEncoding() == PG_SQL_ASCII) return copy;
  for (const char c : s)
    if (static_cast<unsigned char>(c) >= 0x80) return nullptr;  // not every character has a place in this encoding
  return copy;
}

/// The longest beginning of a cut text that ends with a whole character.
std::string_view whole_characters(std::string_view s, bool cut) {
  if (!cut) return s;
  size_t n = s.size();
  while (n > 0 && s.size() - n < 4 && (static_cast<unsigned char>(s[n - 1]) & 0xc0) == 0x80) n--;
  return n > 0 && (static_cast<unsigned char>(s[n - 1]) & 0xc0) == 0xc0 ? s.substr(0, n - 1) : s;
}

/// Whether a text is JSON that the server can keep (no \u0000, no number beyond all bounds), tried in a subtransaction.
bool is_json(const char* s) {
  MemoryContext const memory = CurrentMemoryContext;
  ResourceOwner const owner = CurrentResourceOwner;
  BeginInternalSubTransaction(nullptr);
  MemoryContextSwitchTo(memory);
  ErrorData* const error = pg::attempt(memory, [&] { (void)DirectFunctionCall1(jsonb_in, CStringGetDatum(s)); });
  if (error == nullptr)
    ReleaseCurrentSubTransaction();
  else
    RollbackAndReleaseCurrentSubTransaction();
  MemoryContextSwitchTo(memory);
  CurrentResourceOwner = owner;
  return error == nullptr;
}

bool says_json(std::string_view type) {
  const size_t end = type.find(';');
  type = type.substr(0, end);
  while (!type.empty() && type.back() == ' ') type.remove_suffix(1);
  return same_name(type, "application/json", 16) || (type.size() > 5 && same_name(type.substr(type.size() - 5), "+json", 5));
}

void add_string(StringInfo to, std::string_view s) {
  const char* const text = as_text(s);
  escape_json(to, text != nullptr ? text : "?");
}

void add_body(StringInfo to, const http::Response& r, Jsonb* request) {
  const char* const wanted = request::text_member(request, "response");
  const char* const as = wanted == nullptr ? "auto" : wanted;
  if (strcmp(as, "none") == 0) return;
  const std::string_view all(r.body.data == nullptr ? "" : r.body.data, r.body.size);
  if (strcmp(as, "bytes") != 0) {
    const char* const text = as_text(whole_characters(all, r.cut));
    const bool json =
        text != nullptr && !r.cut && (strcmp(as, "json") == 0 || (strcmp(as, "auto") == 0 && says_json(find_header(r, "content-type"))));
    if (json && text[0] != '\0' && is_json(text)) {
      appendStringInfo(to, ", \"body\": %s", text);
      return;
    }
    if (text != nullptr) {
      appendStringInfoString(to, ", \"body\": ");
      escape_json(to, text);
      return;
    }
  }
  appendStringInfoString(to, ", \"body_base64\": \"");
  const int length = pg_b64_enc_len(static_cast<int>(all.size()));
  enlargeStringInfo(to, length + 1);
  const int n = pg_b64_encode(pg::base64_source(all.data()), static_cast<int>(all.size()), to->data + to->len, length);
  if (n > 0) to->len += n;
  to->data[to->len] = '\0';
  appendStringInfoChar(to, '"');
}

void add_headers(StringInfo to, const http::Response& r, Jsonb* request) {
  appendStringInfoString(to, ", \"headers\": {");
  std::string_view rest(r.headers.data == nullptr ? "" : r.headers.data, r.headers.size);
  Header h;
  bool first = true;
  while (next_header(&rest, &h)) {
    if (!is_kept(request, h.name)) continue;
    if (!first) appendStringInfoString(to, ", ");
    first = false;
    char* const name = pnstrdup(h.name.data(), h.name.size());
    for (char* c = name; *c != '\0'; c++) *c = static_cast<char>(pg_ascii_tolower(static_cast<unsigned char>(*c)));
    add_string(to, name);
    appendStringInfoString(to, ": ");
    add_string(to, h.value);
  }
  appendStringInfoChar(to, '}');
}

/// Microseconds as milliseconds: "12.345".
void add_ms(StringInfo to, const char* name, int64 us) {
  char digits[MAXINT8LEN + 1];
  const int n = pg_lltoa(us / 1000, digits);
  const int rest = static_cast<int>(us % 1000);
  const char decimals[] = {'.', static_cast<char>('0' + rest / 100), static_cast<char>('0' + rest / 10 % 10),
                           static_cast<char>('0' + rest % 10)};
  appendStringInfoString(to, name);
  appendBinaryStringInfo(to, digits, n);
  appendBinaryStringInfo(to, decimals, sizeof(decimals));
}

void add_timings(StringInfo to, const http::Response& r) {
  add_ms(to, ", \"timings\": {\"name\": ", Max(r.looked_up, int64{0}));
  add_ms(to, ", \"connect\": ", Max(r.connected, int64{0}));
  add_ms(to, ", \"tls\": ", Max(r.secured, int64{0}));
  add_ms(to, ", \"first_byte\": ", Max(r.first_byte, int64{0}));
  add_ms(to, ", \"total\": ", Max(r.total, int64{0}));
  appendStringInfoChar(to, '}');
}

const char* result_of(const http::Response& r, core::Kind kind, Jsonb* request, int* length) {
  StringInfoData s;
  initStringInfo(&s);
  appendStringInfo(&s, "{\"status\": %d", r.status);
  if (kind == core::Kind::Http) {
    add_headers(&s, r, request);
    add_body(&s, r, request);
    if (r.cut) appendStringInfoString(&s, ", \"cut\": true");
    if (r.resent > 0) appendStringInfo(&s, ", \"resent\": %d", r.resent);
    if (r.redirects > 0) {
      appendStringInfo(&s, ", \"redirects\": %d, \"url\": ", r.redirects);
      add_string(&s, r.url);
    }
  }
  add_timings(&s, r);
  appendStringInfoChar(&s, '}');
  *length = s.len;
  return s.data;
}

int sqlstate_of(const http::Response& r) {
  switch (r.failure) {
    case Failure::Refused: return ERRCODE_INSUFFICIENT_PRIVILEGE;
    case Failure::Lookup:
    case Failure::Connect: return ERRCODE_SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION;    // 08001
    case Failure::Tls: return ERRCODE_SQLSERVER_REJECTED_ESTABLISHMENT_OF_SQLCONNECTION;  // 08004
    case Failure::Timeout: return ERRCODE_QUERY_CANCELED;
    case Failure::Broken: return ERRCODE_CONNECTION_FAILURE;
    case Failure::Protocol:
    case Failure::Redirects: return ERRCODE_PROTOCOL_VIOLATION;
    case Failure::Local: return ERRCODE_OUT_OF_MEMORY;
    default: return ERRCODE_CONNECTION_EXCEPTION;
  }
}

/// TQ and the status: callers tell them apart, and policies name them ("TQ404").
int status_sqlstate(int status) {
  const int s = status >= 100 && status <= 999 ? status : 0;
  return MAKE_SQLSTATE('T', 'Q', '0' + s / 100, '0' + s / 10 % 10, '0' + s % 10);
}

int64 unix_now() { return GetCurrentTimestamp() / USECS_PER_SEC + (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * 86400LL; }

void judge_status(const http::Response& r, Jsonb* request, store::Outcome* o) {
  if (is_success(request, r.status)) {
    o->state = core::State::Succeeded;
    return;
  }
  const std::string_view body =
      whole_characters(std::string_view(r.body.data == nullptr ? "" : r.body.data, Min(r.body.size, size_t{kErrorBody})), true);
  const char* const text = as_text(body);
  ErrorData e{};
  e.sqlerrcode = status_sqlstate(r.status);
  e.message = psprintf("HTTP status %d", r.status);
  e.detail = text != nullptr && text[0] != '\0' ? const_cast<char*>(text) : nullptr;
  o->state = core::State::Failed;
  o->error = store::error_json(&e);
  o->permanent = !is_retryable(request, r.status);
  const std::optional<int64_t> wait = core::retry_after_seconds(find_header(r, "retry-after"), unix_now());
  if (wait.has_value()) o->not_before = GetCurrentTimestamp() + *wait * USECS_PER_SEC;
}

}  // namespace

void judge_response(const http::Response& r, core::Kind kind, Jsonb* request, store::Outcome* o) {
  if (r.status != 0) o->result = result_of(r, kind, request, &o->result_length);
  o->truncated = r.cut;
  if (r.failure == Failure::None && kind == core::Kind::Http) {
    judge_status(r, request, o);
    return;
  }
  if (r.failure == Failure::None) {
    o->state = core::State::Succeeded;
    return;
  }
  ErrorData e{};
  const bool rejected = r.failure == Failure::Rejected && r.status >= 400;
  const char* const text = as_text(r.message);
  e.sqlerrcode = rejected ? status_sqlstate(r.status) : sqlstate_of(r);
  e.message = const_cast<char*>(text != nullptr ? text : "the request failed");
  o->state = core::State::Failed;
  o->error = store::error_json(&e);
  o->permanent = r.failure == Failure::Refused || r.failure == Failure::Redirects || (rejected && r.status >= 500);
}

}  // namespace dts
