// Templates of requests: references become what they stand for, each in the form of its place.
#include "core/base64.hpp"
#include "core/reference.hpp"
#include "request_json.hpp"
#include "request_render.hpp"

extern "C" {
#include "mb/pg_wchar.h"
}

namespace dts::request {

namespace {

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

}  // namespace

http::Text in_utf8(const char* s, size_t n) {
  char* const converted = reinterpret_cast<char*>(pg_do_encoding_conversion(reinterpret_cast<unsigned char*>(const_cast<char*>(s)),
                                                                            static_cast<int>(n), GetDatabaseEncoding(), PG_UTF8));
  return converted == s ? http::Text{s, n} : http::Text{converted, strlen(converted)};
}

const char* c_string(const http::Text& t) { return pnstrdup(t.data == nullptr ? "" : t.data, t.size); }

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

}  // namespace dts::request
