// Retry delays: bounds, cap, overflow, jitter, and matching of SQLSTATEs.
#include "core/retry.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

using dts::core::retry_delay_ms;
using dts::core::RetryPolicy;
using dts::core::sqlstate_matches;
using dts::core::Strategy;

namespace {

constexpr double kAlmostOne = 0.9999999999;

RetryPolicy plain(Strategy strategy, double base, double factor, double cap) { return {strategy, base, factor, cap, false}; }

}  // namespace

TEST(Retry, ExponentialDoublesUpToTheCap) {
  const RetryPolicy p = plain(Strategy::Exponential, 1000, 2, 3'600'000);
  EXPECT_EQ(retry_delay_ms(p, 1, 0), 1000);
  EXPECT_EQ(retry_delay_ms(p, 2, 0), 2000);
  EXPECT_EQ(retry_delay_ms(p, 3, 0), 4000);
  EXPECT_EQ(retry_delay_ms(p, 12, 0), 2'048'000);
  EXPECT_EQ(retry_delay_ms(p, 13, 0), 3'600'000);
  EXPECT_EQ(retry_delay_ms(p, 1000, 0), 3'600'000);
}

TEST(Retry, LinearAndFixed) {
  const RetryPolicy linear = plain(Strategy::Linear, 500, 2, 10'000);
  EXPECT_EQ(retry_delay_ms(linear, 1, 0), 500);
  EXPECT_EQ(retry_delay_ms(linear, 7, 0), 3500);
  EXPECT_EQ(retry_delay_ms(linear, 1000, 0), 10'000);
  const RetryPolicy fixed = plain(Strategy::Fixed, 500, 2, 10'000);
  for (int attempt : {1, 2, 1000}) EXPECT_EQ(retry_delay_ms(fixed, attempt, 0), 500);
}

TEST(Retry, TheCapHoldsBelowTheBaseToo) {
  for (Strategy s : {Strategy::Exponential, Strategy::Linear, Strategy::Fixed})
    EXPECT_EQ(retry_delay_ms(plain(s, 5000, 2, 100), 3, 0), 100);
}

TEST(Retry, AttemptsBelowOneCountAsTheFirst) {
  for (Strategy s : {Strategy::Exponential, Strategy::Linear, Strategy::Fixed})
    for (int attempt : {0, -1, std::numeric_limits<int>::min()}) EXPECT_EQ(retry_delay_ms(plain(s, 1000, 2, 60'000), attempt, 0), 1000);
}

TEST(Retry, AFactorOfOneStaysAndASmallerOneShrinks) {
  EXPECT_EQ(retry_delay_ms(plain(Strategy::Exponential, 1000, 1, 60'000), 1000, 0), 1000);
  EXPECT_EQ(retry_delay_ms(plain(Strategy::Exponential, 1000, 0.5, 60'000), 3, 0), 250);
  EXPECT_EQ(retry_delay_ms(plain(Strategy::Exponential, 1000, 0, 60'000), 1000, 0), 1);
}

TEST(Retry, JitterIsBetweenHalfTheBaseAndTheDelay) {
  RetryPolicy p;
  EXPECT_EQ(retry_delay_ms(p, 1, 0), 500);
  EXPECT_EQ(retry_delay_ms(p, 4, 0), 500);
  EXPECT_EQ(retry_delay_ms(p, 4, kAlmostOne), 7999);
  EXPECT_EQ(retry_delay_ms(p, 1000, kAlmostOne), 3'599'999);
  std::mt19937_64 random(7);
  std::uniform_real_distribution<double> uniform(0, 1);
  for (int i = 0; i < 20'000; i++) {
    const int attempt = 1 + static_cast<int>(random() % 1000);
    const int64_t delay = retry_delay_ms(p, attempt, uniform(random));
    p.jitter = false;
    const int64_t full = retry_delay_ms(p, attempt, 0);
    p.jitter = true;
    ASSERT_GE(delay, 500);
    ASSERT_LE(delay, full);
  }
}

TEST(Retry, JitterNeverRaisesADelayAboveTheCap) {
  RetryPolicy p{Strategy::Fixed, 10'000, 2, 100, true};
  for (double r : {0.0, 0.5, kAlmostOne}) EXPECT_EQ(retry_delay_ms(p, 1, r), 100);
}

// A policy is stored JSON: whatever got past its checks once must still give a delay that can be added to a clock.
TEST(Retry, AnyPolicyGivesAUsableDelay) {
  const double values[] = {
      0,           -1, 1, 1e9, 1e18, 1e19, 1e300, -1e300, std::numeric_limits<double>::infinity(), -std::numeric_limits<double>::infinity(),
      std::nan("")};
  const int64_t century_ms = 100LL * 366 * 24 * 3600 * 1000;
  for (Strategy s : {Strategy::Exponential, Strategy::Linear, Strategy::Fixed})
    for (double base : values)
      for (double factor : values)
        for (double cap : values)
          for (bool jitter : {false, true})
            for (int attempt : {1, 2, 1000, std::numeric_limits<int>::max()}) {
              if (s == Strategy::Exponential && attempt > 1000) continue;
              const int64_t delay = retry_delay_ms({s, base, factor, cap, jitter}, attempt, 0.5);
              ASSERT_GE(delay, 1) << base << " " << factor << " " << cap;
              ASSERT_LE(delay, century_ms) << base << " " << factor << " " << cap;
            }
}

TEST(Sqlstate, MatchesWholeCodesAndClasses) {
  EXPECT_TRUE(sqlstate_matches("40001", "40001", 5));
  EXPECT_FALSE(sqlstate_matches("40001", "40P01", 5));
  EXPECT_TRUE(sqlstate_matches("40P01", "40", 2));
  EXPECT_FALSE(sqlstate_matches("22012", "23", 2));
}

TEST(Sqlstate, OtherLengthsNeverMatch) {
  for (int length : {-1, 0, 1, 3, 4, 6}) EXPECT_FALSE(sqlstate_matches("40001", "40001x", length)) << length;
}
