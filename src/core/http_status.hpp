// Statuses of HTTP: which are meant by "2xx" or 404, which are worth another attempt, and what Retry-After says.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace dts::core {

/// One status ("404"), a class ("4xx") or a range ("200-299"); low 0 if it is none.
struct Statuses {
  int low = 0, high = 0;
};

inline Statuses parse_statuses(std::string_view s) {
  const auto number = [](std::string_view t) {
    int n = 0;
    if (t.size() != 3) return 0;
    for (const char c : t) {
      if (c < '0' || c > '9') return 0;
      n = n * 10 + (c - '0');
    }
    return n >= 100 && n <= 599 ? n : 0;
  };
  if (s.size() == 3 && s[0] >= '1' && s[0] <= '5' && (s.substr(1) == "xx" || s.substr(1) == "XX")) {
    const int c = (s[0] - '0') * 100;
    return {c, c + 99};
  }
  if (s.size() == 7 && s[3] == '-') {
    const int low = number(s.substr(0, 3)), high = number(s.substr(4));
    return low > 0 && high >= low ? Statuses{low, high} : Statuses{};
  }
  const int n = number(s);
  return {n, n};
}

constexpr bool is_success(int status) { return status >= 200 && status <= 299; }

/// Worth another attempt when nobody says otherwise: what may be over later.
constexpr bool is_retryable(int status) { return status == 408 || status == 425 || status == 429 || (status >= 500 && status <= 599); }

namespace detail {

constexpr int64_t days_before(int64_t y, int m, int d) {
  y -= m <= 2;
  const int64_t era = (y >= 0 ? y : y - 399) / 400;
  const auto yoe = static_cast<unsigned>(y - era * 400);
  const unsigned doy = (153u * static_cast<unsigned>(m > 2 ? m - 3 : m + 9) + 2) / 5 + static_cast<unsigned>(d) - 1;
  return era * 146097 + static_cast<int64_t>(yoe * 365 + yoe / 4 - yoe / 100 + doy) - 719468;
}

/// Words of a text between blanks, commas and dashes.
inline std::string_view word(std::string_view* s) {
  while (!s->empty() && std::string_view(" ,-\t").find(s->front()) != std::string_view::npos) s->remove_prefix(1);
  const size_t n = s->find_first_of(" ,-\t");
  const std::string_view w = s->substr(0, n);
  s->remove_prefix(w.size());
  return w;
}

inline int digits(std::string_view s) {
  int n = 0;
  if (s.empty() || s.size() > 4) return -1;
  for (const char c : s) {
    if (c < '0' || c > '9') return -1;
    n = n * 10 + (c - '0');
  }
  return n;
}

inline int month(std::string_view s) {
  constexpr std::string_view kMonths = "JanFebMarAprMayJunJulAugSepOctNovDec";
  const size_t at = s.size() == 3 ? kMonths.find(s) : std::string_view::npos;
  return at == std::string_view::npos || at % 3 != 0 ? -1 : static_cast<int>(at / 3) + 1;
}

inline int clock_seconds(std::string_view s) {
  if (s.size() != 8 || s[2] != ':' || s[5] != ':') return -1;
  const int h = digits(s.substr(0, 2)), m = digits(s.substr(3, 2)), sec = digits(s.substr(6, 2));
  return h < 0 || h > 23 || m < 0 || m > 59 || sec < 0 || sec > 60 ? -1 : h * 3600 + m * 60 + sec;
}

}  // namespace detail

/// Seconds since 1970 of a date in one of the three forms of RFC 9110; nothing if it is none.
inline std::optional<int64_t> parse_http_date(std::string_view s) {
  using namespace detail;
  (void)word(&s);  // the weekday, which may be wrong
  const std::string_view second = word(&s);
  int d = 0, m = month(second), y = 0, time = 0;
  if (m > 0) {  // Sun Nov  6 08:49:37 1994
    d = digits(word(&s));
    time = clock_seconds(word(&s));
    y = digits(word(&s));
  } else {  // Sun, 06 Nov 1994 08:49:37 GMT, Sunday, 06-Nov-94 08:49:37 GMT
    d = digits(second);
    m = month(word(&s));
    y = digits(word(&s));
    time = clock_seconds(word(&s));
    if (y >= 0 && y < 100) y += y < 70 ? 2000 : 1900;
  }
  if (d < 1 || d > 31 || m < 1 || time < 0 || y < 1970 || y > 9999) return std::nullopt;
  return days_before(y, m, d) * 86400 + time;
}

/// How long a server asks to wait: seconds, or until a date. Nothing if it says nothing that can be read; never longer than a day,
/// since a server should not decide that a task never comes again.
inline std::optional<int64_t> retry_after_seconds(std::string_view value, int64_t now) {
  constexpr int64_t kLongest = 86400;
  while (!value.empty() && (value.front() == ' ' || value.front() == '\t')) value.remove_prefix(1);
  while (!value.empty() && (value.back() == ' ' || value.back() == '\t' || value.back() == '\r')) value.remove_suffix(1);
  if (value.empty()) return std::nullopt;
  if (value.find_first_not_of("0123456789") == std::string_view::npos) {
    int64_t n = 0;
    for (const char c : value)
      if (n <= kLongest) n = n * 10 + (c - '0');
    return n < kLongest ? n : kLongest;
  }
  const std::optional<int64_t> at = parse_http_date(value);
  if (!at.has_value()) return std::nullopt;
  const int64_t wait = *at - now;
  return wait < 0 ? 0 : wait < kLongest ? wait : kLongest;
}

}  // namespace dts::core
