// Network addresses and what kind of place they belong to. A request may go to public addresses; any other only where a rule names it.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <string_view>

namespace dts::core {

/// An address of either family, in network order. An IPv4 address stands in the first four bytes.
struct Address {
  bool v6 = false;
  std::array<uint8_t, 16> byte{};
  friend bool operator==(const Address&, const Address&) = default;
};

/// A range of addresses: the first `bits` bits count.
struct Network {
  Address base;
  int bits = 0;
};

inline bool contains(const Network& n, const Address& a) {
  if (n.base.v6 != a.v6) return false;
  const int whole = n.bits / 8, rest = n.bits % 8;
  for (int i = 0; i < whole; i++)
    if (n.base.byte[i] != a.byte[i]) return false;
  if (rest == 0) return true;
  const auto mask = static_cast<uint8_t>(0xff << (8 - rest));
  return (n.base.byte[whole] & mask) == (a.byte[whole] & mask);
}

constexpr Address v4(uint8_t a, uint8_t b, uint8_t c, uint8_t d) { return Address{false, {a, b, c, d}}; }

namespace detail {

inline bool parse_v4(std::string_view s, uint8_t* out) {
  int part = 0;
  size_t i = 0;
  while (part < 4) {
    int value = 0, digits = 0;
    while (i < s.size() && s[i] >= '0' && s[i] <= '9' && digits < 3) {
      value = value * 10 + (s[i] - '0');
      i++;
      digits++;
    }
    if (digits == 0 || value > 255 || (digits > 1 && s[i - static_cast<size_t>(digits)] == '0')) return false;
    out[part++] = static_cast<uint8_t>(value);
    if (part < 4 && (i >= s.size() || s[i++] != '.')) return false;
  }
  return i == s.size();
}

inline int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

/// Groups of an IPv6 address, and where "::" stands among them.
inline bool parse_v6(std::string_view s, std::array<uint8_t, 16>* out) {
  uint8_t head[16] = {};
  int n = 0, gap = -1;
  size_t i = 0;
  if (s.starts_with("::")) {
    gap = 0;
    i = 2;
  }
  while (i < s.size()) {
    if (n >= 16) return false;
    const std::string_view rest = s.substr(i);
    const size_t end = rest.find(':');
    const std::string_view group = rest.substr(0, end);
    if (group.find('.') != std::string_view::npos) {
      if (end != std::string_view::npos || n > 12 || !parse_v4(group, head + n)) return false;
      n += 4;
      break;
    }
    if (group.empty() || group.size() > 4) return false;
    int value = 0;
    for (const char c : group) {
      if (hex_digit(c) < 0) return false;
      value = value * 16 + hex_digit(c);
    }
    head[n++] = static_cast<uint8_t>(value >> 8);
    head[n++] = static_cast<uint8_t>(value & 0xff);
    if (end == std::string_view::npos) break;
    i += end + 1;
    if (i < s.size() && s[i] == ':') {
      if (gap >= 0) return false;
      gap = n;
      i++;
    } else if (i == s.size()) {
      return false;
    }
  }
  if (gap < 0 ? n != 16 : n > 14) return false;
  out->fill(0);
  const int before = gap < 0 ? n : gap;
  std::memcpy(out->data(), head, static_cast<size_t>(before));
  std::memcpy(out->data() + 16 - (n - before), head + before, static_cast<size_t>(n - before));
  return true;
}

struct Range {
  uint8_t byte[16];
  int bits;
};

// After IANA's registries of special-purpose addresses, and what clouds answer on.
inline constexpr Range kSpecialV4[] = {
    {{0}, 8},           // this network
    {{10}, 8},          // private
    {{100, 64}, 10},    // carrier NAT; a cloud's metadata at 100.100.100.200
    {{127}, 8},         // loopback
    {{169, 254}, 16},   // link-local, and metadata of most clouds
    {{172, 16}, 12},    // private
    {{192, 0, 0}, 24},  // protocol assignments
    {{192, 0, 2}, 24},  // documentation
    {{192, 88, 99}, 24},
    {{192, 168}, 16},  // private
    {{198, 18}, 15},   // benchmarks
    {{198, 51, 100}, 24},
    {{203, 0, 113}, 24},
    {{224}, 4},  // multicast
    {{240}, 4},  // reserved, broadcast
};
inline constexpr Range kSpecialV6[] = {
    {{0}, 96},           // unspecified, loopback, and the old form of IPv4 addresses
    {{0x01, 0x00}, 64},  // discard
    {{0x20, 0x01}, 23},  // protocol assignments, Teredo among them
    {{0x20, 0x01, 0x0d, 0xb8}, 32},
    {{0x3f, 0xff}, 20},  // documentation
    {{0x5f, 0x00}, 16},  // segment routing
    {{0xfc}, 7},         // unique local
    {{0xfe, 0x80}, 10},  // link-local
    {{0xfe, 0xc0}, 10},  // site-local
    {{0xff}, 8},         // multicast
};

inline bool in_range(const Range& r, const Address& a) {
  Network n{a, r.bits};
  for (int i = 0; i < 16; i++) n.base.byte[i] = r.byte[i];
  return contains(n, a);
}

inline bool prefix(const Address& a, std::initializer_list<uint8_t> bytes) {
  size_t i = 0;
  for (const uint8_t b : bytes)
    if (a.byte[i++] != b) return false;
  return true;
}

}  // namespace detail

/// Reads the usual text form; no zone, no short or odd form of IPv4.
inline bool parse_address(std::string_view s, Address* out) {
  Address a;
  if (s.find(':') == std::string_view::npos) {
    if (!detail::parse_v4(s, a.byte.data())) return false;
  } else {
    a.v6 = true;
    if (!detail::parse_v6(s, &a.byte)) return false;
  }
  *out = a;
  return true;
}

/// "10.0.0.0/8", or an address alone.
inline bool parse_network(std::string_view s, Network* out) {
  const size_t slash = s.find('/');
  if (!parse_address(s.substr(0, slash), &out->base)) return false;
  out->bits = out->base.v6 ? 128 : 32;
  if (slash == std::string_view::npos) return true;
  const std::string_view n = s.substr(slash + 1);
  int bits = 0;
  if (n.empty() || n.size() > 3) return false;
  for (const char c : n) {
    if (c < '0' || c > '9') return false;
    bits = bits * 10 + (c - '0');
  }
  if (bits > out->bits) return false;
  out->bits = bits;
  return true;
}

/// The IPv4 address that an IPv6 address stands for: mapped, NAT64 (both prefixes), 6to4. What leads to it must be judged as it.
inline bool inner_v4(const Address& a, Address* out) {
  if (!a.v6) return false;
  int at = -1;
  if (detail::prefix(a, {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff}) || detail::prefix(a, {0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0}) ||
      detail::prefix(a, {0, 0x64, 0xff, 0x9b, 0, 1}))
    at = 12;
  if (detail::prefix(a, {0x20, 0x02})) at = 2;
  if (at < 0) return false;
  *out = v4(a.byte[at], a.byte[at + 1], a.byte[at + 2], a.byte[at + 3]);
  return true;
}

/// Whether an address belongs to the public internet.
inline bool is_public(const Address& a) {
  if (Address inner; inner_v4(a, &inner)) return is_public(inner);
  if (a.v6) {
    for (const auto& r : detail::kSpecialV6)
      if (detail::in_range(r, a)) return false;
    return true;
  }
  for (const auto& r : detail::kSpecialV4)
    if (detail::in_range(r, a)) return false;
  return true;
}

/// Whether an address lies in a network; a mapped address counts as what it maps.
inline bool lies_in(const Address& a, const Network& n) {
  if (contains(n, a)) return true;
  Address inner;
  return inner_v4(a, &inner) && contains(n, inner);
}

}  // namespace dts::core
