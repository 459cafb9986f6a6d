// Egress rules from their texts.
#pragma once

#include <cstdlib>

#include "core/egress.hpp"
#include "http/client.hpp"

namespace dts::http {

inline std::vector<std::string> split(const char* list) {
  std::vector<std::string> out;
  std::string_view rest = list == nullptr ? "" : list;
  while (!rest.empty()) {
    const size_t end = rest.find(',');
    if (end != 0) out.emplace_back(rest.substr(0, end));
    rest = end == std::string_view::npos ? std::string_view() : rest.substr(end + 1);
  }
  return out;
}

inline core::EgressRule rule_of(const RuleText& t) {
  core::EgressRule r;
  r.allow = t.allow;
  r.host = t.host;
  r.schemes = split(t.schemes);
  for (const std::string& p : split(t.ports)) {
    const size_t dash = p.find('-');
    const int low = std::atoi(p.c_str());
    r.ports.push_back({low, dash == std::string::npos ? low : std::atoi(p.c_str() + dash + 1)});
  }
  for (const std::string& n : split(t.networks)) {
    core::Network network;
    if (core::parse_network(n, &network)) r.networks.push_back(network);
  }
  return r;
}

inline std::vector<core::EgressRule> rules_of(const RuleText* texts, int n) {
  std::vector<core::EgressRule> all;
  all.reserve(static_cast<size_t>(n));
  for (int i = 0; i < n; i++) all.push_back(rule_of(texts[i]));
  return all;
}

}  // namespace dts::http
