// Buckets of the latency histogram.
#include "core/histogram.hpp"

#include <gtest/gtest.h>

#include <limits>

using dts::core::bucket;
using dts::core::kBuckets;

TEST(Histogram, EachBucketDoubles) {
  for (int i = 1; i < kBuckets - 1; i++) {
    const int64_t low = int64_t{1} << i;
    EXPECT_EQ(bucket(low), i);
    EXPECT_EQ(bucket(2 * low - 1), i);
  }
}

TEST(Histogram, ShortAndNegativeDurationsShareTheFirst) {
  for (int64_t us : {std::numeric_limits<int64_t>::min(), int64_t{-1}, int64_t{0}, int64_t{1}}) EXPECT_EQ(bucket(us), 0);
}

TEST(Histogram, TheLastTakesTheRest) {
  EXPECT_EQ(bucket((int64_t{1} << (kBuckets - 1)) - 1), kBuckets - 2);
  EXPECT_EQ(bucket(int64_t{1} << (kBuckets - 1)), kBuckets - 1);
  EXPECT_EQ(bucket(std::numeric_limits<int64_t>::max()), kBuckets - 1);
}

TEST(Histogram, NeverDecreases) {
  int last = 0;
  for (int64_t us = 0; us < 100'000; us++) {
    ASSERT_GE(bucket(us), last);
    last = bucket(us);
  }
}
