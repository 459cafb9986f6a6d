// Header fields of requests and mails: names are tokens, values hold no line breaks, and some fields belong to dts.
#pragma once

#include <string>
#include <string_view>

#include "core/egress.hpp"

namespace dts::core {

/// Whether a name is a token of RFC 9110.
inline bool is_token(std::string_view s) {
  if (s.empty() || s.size() > 256) return false;
  for (const char c : s) {
    const bool alnum = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    if (!alnum && std::string_view("!#$%&'*+-.^_`|~").find(c) == std::string_view::npos) return false;
  }
  return true;
}

/// Whether a value can stand in one line.
inline bool is_field_value(std::string_view s) {
  for (const char c : s)
    if ((static_cast<unsigned char>(c) < 0x20 && c != '\t') || c == 0x7f) return false;
  return true;
}

/// Fields that say how the message is framed or where it goes: libcurl makes them, and a second opinion is a way to smuggle requests.
inline bool is_reserved_field(std::string_view name) {
  const std::string n = lower(name);
  for (const std::string_view r : {"host", "content-length", "transfer-encoding", "connection", "keep-alive", "te", "trailer", "upgrade",
                                   "proxy-authorization", "proxy-connection", "expect", "http2-settings"})
    if (n == r) return true;
  return false;
}

/// A method is a token; CONNECT would be a tunnel, TRACE gives headers back.
inline bool is_method(std::string_view s) {
  if (!is_token(s) || s.size() > 32) return false;
  const std::string m = lower(s);
  return m != "connect" && m != "trace";
}

}  // namespace dts::core
