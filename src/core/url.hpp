// URLs as far as they can be judged without a library: for errors at submit. What is sent is taken apart by libcurl, and judged again.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "core/egress.hpp"

namespace dts::core {

/// Why a URL is refused; nullptr if it is one that a request may have. Fills the target as far as it is known.
inline const char* check_url(std::string_view url, Target* out) {
  for (const char c : url)
    if (static_cast<unsigned char>(c) <= 0x20 || c == 0x7f) return "holds a blank or control character";
  const size_t mark = url.find("://");
  if (mark == std::string_view::npos) return "has no scheme";
  out->scheme = lower(url.substr(0, mark));
  if (out->scheme != "http" && out->scheme != "https") return "must begin with http:// or https://";
  std::string_view rest = url.substr(mark + 3);
  const std::string_view authority = rest.substr(0, rest.find_first_of("/?#\\"));
  if (rest.substr(authority.size()).starts_with("\\")) return "holds a backslash";
  if (authority.find('@') != std::string_view::npos) return "holds a user name or password";
  std::string_view host = authority, port;
  if (authority.starts_with("[")) {
    const size_t end = authority.find(']');
    if (end == std::string_view::npos) return "has no valid host";
    host = authority.substr(0, end + 1);
    port = authority.substr(end + 1);
  } else if (const size_t colon = authority.find(':'); colon != std::string_view::npos) {
    host = authority.substr(0, colon);
    port = authority.substr(colon);
  }
  out->host = plain_host(host);
  if (out->host.empty() || out->host.size() > 253) return "has no valid host";
  if (out->host.find('%') != std::string::npos) return "has a host with escapes or a zone";
  out->port = default_port(out->scheme);
  if (port.empty()) return nullptr;
  int n = 0;
  for (const char c : port.substr(1)) {
    if (c < '0' || c > '9' || n > 65535) return "has no valid port";
    n = n * 10 + (c - '0');
  }
  if (port[0] != ':' || n < 1 || n > 65535) return "has no valid port";
  out->port = n;
  return nullptr;
}

/// What a value becomes in a path segment, a query value or a form: only unreserved characters stay.
inline std::string percent_encode(std::string_view s) {
  constexpr char kHex[] = "0123456789ABCDEF";
  std::string out;
  for (const char c : s) {
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_' || c == '~') {
      out += c;
    } else {
      out += '%';
      out += kHex[static_cast<unsigned char>(c) >> 4];
      out += kHex[static_cast<unsigned char>(c) & 15];
    }
  }
  return out;
}

/// A text as it stands between the quotes of JSON, as most libraries write it.
inline std::string json_escape(std::string_view s) {
  std::string out;
  for (const char c : s) {
    switch (c) {
      case '"': out += "\\\""; break;
      case '\\': out += "\\\\"; break;
      case '\n': out += "\\n"; break;
      case '\r': out += "\\r"; break;
      case '\t': out += "\\t"; break;
      default: out += c;
    }
  }
  return out;
}

}  // namespace dts::core
