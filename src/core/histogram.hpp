// Latency histogram with buckets that double: bucket i (from 0) counts durations below 2^(i+1) microseconds; in SQL, where arrays begin at
// 1, below 2^i.
#pragma once

#include <bit>
#include <cstdint>

namespace dts::core {

inline constexpr int kBuckets = 40;  // the last one takes everything from 2^39 us (6 days) on

/// Index of the bucket for a duration; negative durations (a clock step) count as zero.
constexpr int bucket(int64_t us) {
  if (us < 2) return 0;
  const int i = std::bit_width(static_cast<uint64_t>(us)) - 1;
  return i < kBuckets ? i : kBuckets - 1;
}

}  // namespace dts::core
