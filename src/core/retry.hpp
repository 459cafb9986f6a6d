// Retry policy: how long to wait before attempt n + 1. Pure arithmetic; the caller brings the random number.
#pragma once

#include <cstdint>

namespace dts::core {

enum class Strategy : uint8_t { Exponential, Linear, Fixed };

/// Delays in milliseconds. The defaults are those of a task that says nothing: 1 s, 2 s, 4 s, ... up to an hour, full jitter.
struct RetryPolicy {
  Strategy strategy = Strategy::Exponential;
  double base_ms = 1000;
  double factor = 2;
  double cap_ms = 3600 * 1000.0;
  bool jitter = true;
};

/// No delay is longer than a century: a stored policy may say anything, and the result is added to a clock.
inline constexpr double kLongestDelayMs = 100 * 365.25 * 24 * 3600 * 1000.0;

/// Delay in ms after `attempt` (1 = the first) has failed. random01 is uniform in [0, 1).
/// Full jitter (a delay uniform between 0 and the computed one) with a floor of half the base, since delays near zero burn all
/// attempts within the trouble that they should outlast.
inline int64_t retry_delay_ms(const RetryPolicy& p, int attempt, double random01) {
  double d = p.base_ms;
  if (p.strategy == Strategy::Exponential) {
    for (int i = 1; i < attempt && d < p.cap_ms; i++) d *= p.factor;
  } else if (p.strategy == Strategy::Linear) {
    d = p.base_ms * (attempt < 1 ? 1 : attempt);
  }
  if (!(d < p.cap_ms)) d = p.cap_ms;
  if (p.jitter) {
    const double floor = p.base_ms / 2 < d ? p.base_ms / 2 : d;
    d = floor + (d - floor) * random01;
  }
  if (!(d >= 1)) return 1;  // also NaN
  return static_cast<int64_t>(d < kLongestDelayMs ? d : kLongestDelayMs);
}

/// Whether a five-character SQLSTATE is matched by a pattern: a whole SQLSTATE, or a class (its first two characters).
constexpr bool sqlstate_matches(const char* sqlstate, const char* pattern, int length) {
  if (length != 2 && length != 5) return false;
  for (int i = 0; i < length; i++)
    if (sqlstate[i] != pattern[i]) return false;
  return true;
}

}  // namespace dts::core
