// References in the texts of a request: ${secret:name}, and in templates ${payload.field}. A text is taken apart once and values are put
// in by position, so a value that looks like a reference stays what it is. $${ stands for ${.
#pragma once

#include <string_view>

namespace dts::core {

struct Piece {
  enum class Kind { Text, Secret, Value } kind = Kind::Text;
  std::string_view text;  // the text, the secret's name, or the path of the value
};

inline bool is_secret_name(std::string_view s) {
  if (s.empty() || s.size() > 63) return false;
  for (const char c : s)
    if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-' || c == '.')) return false;
  return true;
}

/// The next piece of a text, which is shortened by it; false at its end. `values`: whether there are others than secrets; without, what
/// is no secret is text.
inline bool next_piece(std::string_view* s, bool values, Piece* out) {
  if (s->empty()) return false;
  size_t from = 0;
  for (;;) {
    const size_t at = s->find("${", from);
    if (at == std::string_view::npos) break;
    const size_t end = s->find('}', at);
    if (end == std::string_view::npos) break;
    if (at > 0 && (*s)[at - 1] == '$') {  // $${: the text up to the first of the two, then the rest goes on behind it
      *out = {Piece::Kind::Text, s->substr(0, at - 1)};
      if (at == 1) {
        *out = {Piece::Kind::Text, s->substr(at, 2)};
        s->remove_prefix(at + 2);
      } else {
        s->remove_prefix(at - 1);
      }
      return true;
    }
    const std::string_view inside = s->substr(at + 2, end - at - 2);
    const bool secret = inside.starts_with("secret:") && is_secret_name(inside.substr(7));
    if (!secret && !values) {
      from = end + 1;
      continue;
    }
    if (at > 0) {
      *out = {Piece::Kind::Text, s->substr(0, at)};
      s->remove_prefix(at);
    } else {
      *out = secret ? Piece{Piece::Kind::Secret, inside.substr(7)} : Piece{Piece::Kind::Value, inside};
      s->remove_prefix(end + 1);
    }
    return true;
  }
  *out = {Piece::Kind::Text, *s};
  *s = {};
  return true;
}

/// Where a value stands in a URL: before the path nothing may be put in, the host is fixed by the template.
inline bool may_stand_in_url(std::string_view before) {
  const size_t mark = before.find("://");
  return mark != std::string_view::npos && before.find_first_of("/?#", mark + 3) != std::string_view::npos;
}

}  // namespace dts::core
