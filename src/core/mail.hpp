// Mail addresses and header texts: what may stand in an envelope, and non-ASCII text as encoded words (RFC 2047).
#pragma once

#include <string>
#include <string_view>

#include "core/base64.hpp"
#include "core/header.hpp"

namespace dts::core {

/// An address with the name shown for it: "Ann <ann@example.com>" or "ann@example.com".
struct Mailbox {
  std::string name, address;
};

/// Whether it can stand in an SMTP command: one @, no blanks, brackets, quotes or control characters.
inline bool is_mail_address(std::string_view s) {
  const size_t at = s.find('@');
  if (s.size() > 254 || at == std::string_view::npos || at == 0 || at > 64 || at + 1 >= s.size() ||
      s.find('@', at + 1) != std::string_view::npos)
    return false;
  for (const char c : s)
    if (static_cast<unsigned char>(c) <= 0x20 || c == 0x7f || std::string_view("<>()[]\\,;:\"").find(c) != std::string_view::npos)
      return false;
  return s.find("..") == std::string_view::npos && s[at + 1] != '.' && s[at + 1] != '-' && s.back() != '.';
}

inline bool parse_mailbox(std::string_view s, Mailbox* out) {
  const auto trim = [](std::string_view t) {
    while (!t.empty() && t.front() == ' ') t.remove_prefix(1);
    while (!t.empty() && t.back() == ' ') t.remove_suffix(1);
    return t;
  };
  s = trim(s);
  if (!is_field_value(s)) return false;
  const size_t open = s.rfind('<');
  out->name.clear();
  if (open != std::string_view::npos) {
    if (s.back() != '>') return false;
    std::string_view name = trim(s.substr(0, open));
    if (name.size() >= 2 && name.front() == '"' && name.back() == '"') name = name.substr(1, name.size() - 2);
    if (name.find_first_of("<>\"") != std::string_view::npos) return false;
    out->name = name;
    s = s.substr(open + 1, s.size() - open - 2);
  }
  out->address = s;
  return is_mail_address(s);
}

/// A text in a header: as it is if it is short ASCII, else as encoded words of at most 75 characters, split between characters of UTF-8.
inline std::string encoded_text(std::string_view s) {
  bool plain = s.size() < 70;
  for (const char c : s) plain &= static_cast<unsigned char>(c) >= 0x20 && static_cast<unsigned char>(c) < 0x7f;
  if (plain && s.find("=?") == std::string_view::npos) return std::string(s);
  constexpr size_t kBytes = 42;  // 56 characters of base64
  std::string out;
  while (!s.empty()) {
    size_t n = s.size() < kBytes ? s.size() : kBytes;
    while (n < s.size() && n > 1 && (static_cast<unsigned char>(s[n]) & 0xc0) == 0x80) n--;
    if (!out.empty()) out += "\r\n ";
    out += "=?UTF-8?B?" + base64(s.substr(0, n)) + "?=";
    s.remove_prefix(n);
  }
  return out;
}

/// A mailbox in a header.
inline std::string mailbox_text(const Mailbox& m) {
  if (m.name.empty()) return m.address;
  bool atom = true;
  for (const char c : m.name) atom &= is_token(std::string_view(&c, 1)) || c == ' ';
  const std::string name = encoded_text(m.name);
  return (atom || name != m.name ? name : "\"" + m.name + "\"") + " <" + m.address + ">";
}

/// Whether an answer of an SMTP server is worth another attempt.
constexpr bool is_temporary_reply(int code) { return code >= 400 && code <= 499; }

}  // namespace dts::core
