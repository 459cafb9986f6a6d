// Where requests may go: rules of administrators, asked with the parts of a URL before a connection is made and with the address that it
// was made to. What no rule allows is refused; what one denies is refused whatever others say.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/address.hpp"

namespace dts::core {

struct Ports {
  int low = 0, high = 0;
};

/// One rule, for one role or all; the caller has chosen those that count.
struct EgressRule {
  bool allow = true;
  std::string host;                  // "api.example.com", "*.example.com", "*", an address
  std::vector<std::string> schemes;  // empty: https and smtps, which encrypt
  std::vector<Ports> ports;          // empty: the scheme's own
  std::vector<Network> networks;     // addresses that are not public and are allowed all the same
};

/// What a request asks for.
struct Target {
  std::string scheme, host;
  int port = 0;
};

enum class Egress { Allowed, NoRule, Denied, Address };

inline std::string lower(std::string_view s) {
  std::string out(s);
  for (char& c : out)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return out;
}

/// A host without the root's dot, brackets and upper case.
inline std::string plain_host(std::string_view host) {
  if (host.size() > 1 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
  while (!host.empty() && host.back() == '.') host.remove_suffix(1);
  return lower(host);
}

inline int default_port(std::string_view scheme) {
  if (scheme == "http") return 80;
  if (scheme == "https") return 443;
  if (scheme == "smtp") return 587;
  if (scheme == "smtps") return 465;
  return 0;
}

/// "*" is every host, "*.example.com" every name below it (not itself), anything else that name or address.
inline bool host_matches(std::string_view pattern, std::string_view host) {
  const std::string p = plain_host(pattern), h = plain_host(host);
  if (p == "*") return true;
  if (p.starts_with("*.")) return h.size() > p.size() - 1 && h.ends_with(std::string_view(p).substr(1));
  if (p == h) return true;
  Address a, b;
  return parse_address(p, &a) && parse_address(h, &b) && a == b;
}

/// Whether a pattern can be one: labels of letters, digits, '-' and '_', a '*' only as the first label, or an address.
inline bool is_host_pattern(std::string_view pattern) {
  const std::string p = plain_host(pattern);
  Address a;
  if (p == "*" || parse_address(p, &a)) return true;
  std::string_view rest = p;
  if (rest.starts_with("*.")) rest.remove_prefix(2);
  if (rest.empty() || rest.size() > 253) return false;
  size_t label = 0;
  for (const char c : rest) {
    if (c == '.') {
      if (label == 0) return false;
      label = 0;
      continue;
    }
    if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_')) return false;
    if (++label > 63) return false;
  }
  return label > 0;
}

inline bool rule_matches(const EgressRule& r, const Target& t) {
  if (!host_matches(r.host, t.host)) return false;
  bool scheme = r.schemes.empty() && (!r.allow || t.scheme == "https" || t.scheme == "smtps");
  for (const std::string& s : r.schemes) scheme |= s == t.scheme;
  if (!scheme) return false;
  bool port = r.ports.empty() && (!r.allow || t.port == default_port(t.scheme));
  for (const Ports& p : r.ports) port |= t.port >= p.low && t.port <= p.high;
  return port;
}

/// Before a name is looked up.
inline Egress may_ask(const std::vector<EgressRule>& rules, const Target& t) {
  bool allowed = false;
  for (const EgressRule& r : rules) {
    if (!rule_matches(r, t)) continue;
    if (!r.allow) return Egress::Denied;
    allowed = true;
  }
  return allowed ? Egress::Allowed : Egress::NoRule;
}

/// With the address that a connection is about to be, or was, made to. A rule for a host that is an address allows that address.
inline Egress may_connect(const std::vector<EgressRule>& rules, const Target& t, const Address& a) {
  const Egress asked = may_ask(rules, t);
  if (asked != Egress::Allowed || is_public(a)) return asked;
  for (const EgressRule& r : rules) {
    if (!r.allow || !rule_matches(r, t)) continue;
    Address own;
    if (parse_address(plain_host(r.host), &own) && own == a) return Egress::Allowed;
    for (const Network& n : r.networks)
      if (lies_in(a, n)) return Egress::Allowed;
  }
  return Egress::Address;
}

}  // namespace dts::core
