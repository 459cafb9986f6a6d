#include "core/rate.hpp"

#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace {

using namespace dts::core;

constexpr int64_t kSecond = 1'000'000'000;

/// Most tokens in any window of `window`, when somebody takes all there are at each of `times`.
int64_t busiest(const Rate& rate, int64_t start, const std::vector<int64_t>& times, int64_t window) {
  int64_t spent = start;
  std::vector<int64_t> taken;
  int64_t most = 0;
  size_t low = 0;
  for (const int64_t now : times) {
    const int64_t n = tokens(rate, spent, now);
    spent = spend(rate, spent, now, n);
    taken.insert(taken.end(), static_cast<size_t>(n), now);
    while (low < taken.size() && taken[low] <= now - window) low++;
    most = std::max(most, static_cast<int64_t>(taken.size() - low));
  }
  return most;
}

std::vector<int64_t> clock(unsigned seed, int64_t until, int64_t longest) {
  std::mt19937_64 random(seed);
  std::vector<int64_t> times;
  for (int64_t now = 0; now < until; now += 1 + static_cast<int64_t>(random() % static_cast<uint64_t>(longest))) times.push_back(now);
  return times;
}

TEST(Rate, NoLimit) {
  EXPECT_EQ(make_rate(0, kSecond, 0).step, 0);
  EXPECT_EQ(tokens(make_rate(0, kSecond, 0), 0, 0), INT64_MAX);
}

TEST(Rate, WithoutBurstNoWindowHoldsMore) {
  for (const int64_t n : {1, 2, 10, 49, 50, 100, 1000, 20000})
    for (unsigned seed = 0; seed < 5; seed++)
      EXPECT_LE(busiest(make_rate(n, kSecond, 0), 0, clock(seed, 20 * kSecond, kSecond / 50), kSecond), n) << n;
}

TEST(Rate, WithoutBurstItIsUsed) {
  for (const int64_t n : {1, 10, 49, 50, 1000, 20000}) {
    const Rate rate = make_rate(n, kSecond, 0);
    int64_t spent = 0, total = 0;
    for (int64_t now = 0; now < 50 * kSecond; now += kSecond / 1000) {
      const int64_t k = tokens(rate, spent, now);
      spent = spend(rate, spent, now, k);
      total += k;
    }
    EXPECT_GE(total, 50 * n * 95 / 100) << n;
  }
}

TEST(Rate, BurstIsKeptAndNoMore) {
  const Rate rate = make_rate(10, kSecond, 5);
  EXPECT_EQ(tokens(rate, 0, 100 * kSecond), 5);
  const int64_t spent = spend(rate, 0, 100 * kSecond, 5);
  EXPECT_EQ(tokens(rate, spent, 100 * kSecond), 0);
  EXPECT_EQ(next_token(rate, spent), 100 * kSecond + kSecond / 10);
  EXPECT_EQ(tokens(rate, spent, 100 * kSecond + kSecond / 10 - 1), 0);
  EXPECT_EQ(tokens(rate, spent, 100 * kSecond + kSecond / 10), 1);
}

TEST(Rate, TokensComeBackUnused) {
  const Rate rate = make_rate(100, kSecond, 10);
  const int64_t spent = spend(rate, 0, kSecond, 10);
  EXPECT_EQ(tokens(rate, spent - 4 * rate.step, kSecond), 4);
}

TEST(Rate, AServerThatStartsHasNone) {
  for (const int64_t burst : {0, 1, 7}) {
    const Rate rate = make_rate(10, kSecond, burst);
    EXPECT_EQ(tokens(rate, drained(rate, 5), 5), 0);
    EXPECT_EQ(next_token(rate, drained(rate, 5)), 5 + rate.step);
  }
}

TEST(Rate, MoreThanOneATick) {
  const Rate rate = make_rate(5'000'000'000, kSecond, 3);
  EXPECT_GE(rate.step, 1);
}

}  // namespace
