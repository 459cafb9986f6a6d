// Token buckets as one number: the time up to which tokens are spent (the "theoretical arrival time" of GCRA). Plain arithmetic; the
// caller gives the clock, in nanoseconds that never step, and keeps the number.
#pragma once

#include <cstdint>

namespace dts::core {

/// n per interval. `step` nanoseconds make one token, at most `depth` are kept. step 0: no limit.
struct Rate {
  int64_t step = 0;
  int64_t depth = 1;
};

/// With a burst: n per interval on average, `burst` at once. Without one (0): never more than n in *any* window of that length. A full
/// bucket and what flows in during the window must then stay within n together, so a fiftieth of n is kept back as depth: it makes up for
/// executors that come late, and costs at most two percent of the rate.
constexpr Rate make_rate(int64_t n, int64_t interval_ns, int64_t burst) {
  if (n <= 0 || interval_ns <= 0) return {};
  const auto share = [](int64_t whole, int64_t parts) { return whole / parts > 0 ? whole / parts : 1; };
  if (burst > 0) return {share(interval_ns, n), burst};
  if (n >= 50) {
    const int64_t depth = n / 50;
    return {interval_ns / (n - depth) + 1, depth};
  }
  constexpr int64_t kMargin = 20'000'000;
  const int64_t step = share(interval_ns, n);
  return {step + (step / 50 < kMargin ? step / 50 : kMargin) + 1, 1};
}

/// How many tokens there are.
constexpr int64_t tokens(const Rate& rate, int64_t spent_until, int64_t now) {
  if (rate.step == 0) return INT64_MAX;
  if (spent_until <= now) return rate.depth;
  const int64_t left = rate.depth - (spent_until - now + rate.step - 1) / rate.step;
  return left < 0 ? 0 : left;
}

/// The number after n tokens were taken.
constexpr int64_t spend(const Rate& rate, int64_t spent_until, int64_t now, int64_t n) {
  return (spent_until > now ? spent_until : now) + n * rate.step;
}

/// When there will be a token.
constexpr int64_t next_token(const Rate& rate, int64_t spent_until) { return spent_until - (rate.depth - 1) * rate.step; }

/// The number of an empty bucket: what was spent before the server started is not known, so all of it may have been.
constexpr int64_t drained(const Rate& rate, int64_t now) { return now + rate.depth * rate.step; }

}  // namespace dts::core
