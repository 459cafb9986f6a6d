// Base64 and what is signed of a webhook (Standard Webhooks 1.0).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace dts::core {

inline std::string base64(std::string_view s) {
  constexpr char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  out.reserve((s.size() + 2) / 3 * 4);
  for (size_t i = 0; i < s.size(); i += 3) {
    uint32_t v = static_cast<unsigned char>(s[i]) << 16;
    if (i + 1 < s.size()) v |= static_cast<unsigned char>(s[i + 1]) << 8;
    if (i + 2 < s.size()) v |= static_cast<unsigned char>(s[i + 2]);
    out += kDigits[v >> 18 & 63];
    out += kDigits[v >> 12 & 63];
    out += i + 1 < s.size() ? kDigits[v >> 6 & 63] : '=';
    out += i + 2 < s.size() ? kDigits[v & 63] : '=';
  }
  return out;
}

/// False if it is not base64; line breaks and blanks are passed over.
inline bool from_base64(std::string_view s, std::string* out) {
  out->clear();
  uint32_t v = 0;
  int n = 0, padding = 0;
  for (const char c : s) {
    int d = -1;
    if (c >= 'A' && c <= 'Z') d = c - 'A';
    if (c >= 'a' && c <= 'z') d = c - 'a' + 26;
    if (c >= '0' && c <= '9') d = c - '0' + 52;
    if (c == '+') d = 62;
    if (c == '/') d = 63;
    if (c == '\n' || c == '\r' || c == ' ') continue;
    if (c == '=') {
      if (++padding > 2) return false;
      d = 0;
    } else if (padding > 0 || d < 0) {
      return false;
    }
    v = v << 6 | static_cast<uint32_t>(d);
    if (++n == 4) {
      *out += static_cast<char>(v >> 16 & 255);
      if (padding < 2) *out += static_cast<char>(v >> 8 & 255);
      if (padding < 1) *out += static_cast<char>(v & 255);
      n = 0;
      v = 0;
    }
  }
  return n == 0;
}

/// "id.timestamp.body".
inline std::string webhook_content(std::string_view id, int64_t timestamp, std::string_view body) {
  std::string s(id);
  s += '.';
  s += std::to_string(timestamp);
  s += '.';
  s += body;
  return s;
}

/// The bytes of a signing secret: "whsec_" and base64, as tools show it, or else the text itself.
inline std::string webhook_key(std::string_view secret) {
  std::string key;
  if (secret.starts_with("whsec_") && from_base64(secret.substr(6), &key)) return key;
  return std::string(secret);
}

}  // namespace dts::core
