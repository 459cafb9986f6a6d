// RangeSet against two references: the union of ranges without a limit (exact), and the plain set of keys that must never be lost.
#include "core/range_set.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>
#include <vector>

using dts::core::Key;
using dts::core::kHighest;
using dts::core::kLowest;
using dts::core::kMax;
using dts::core::kMin;
using dts::core::next;
using dts::core::Range;
using dts::core::RangeSet;

namespace {

using Ranges = std::vector<Range>;
using Wide = __int128;  // differences of two 64-bit instants do not fit 64 bits

template <int N>
Ranges ranges_of(const RangeSet<N>& set) {
  Ranges out;
  for (int i = 0; i < set.size(); i++) out.push_back(set[i]);
  return out;
}

bool same(const Ranges& a, const Ranges& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const Range& x, const Range& y) { return x.lo == y.lo && x.hi == y.hi; });
}

bool adjoins(const Range& a, const Range& b) { return b.lo <= a.hi || (a.hi < kHighest && next(a.hi) == b.lo); }

/// The union, by sorting and joining: slow and obvious.
Ranges united(Ranges all) {
  std::sort(all.begin(), all.end(), [](const Range& a, const Range& b) { return a.lo < b.lo; });
  Ranges out;
  for (const Range& r : all) {
    if (!out.empty() && adjoins(out.back(), r)) {
      if (out.back().hi < r.hi) out.back().hi = r.hi;
    } else {
      out.push_back(r);
    }
  }
  return out;
}

/// max(0, min(now, b.lo.run_at) - a.hi.run_at), without a limit on its size.
Wide gap_cost(const Range& a, const Range& b, int64_t now) {
  const Wide end = std::min(now, b.lo.run_at);
  return std::max<Wide>(0, end - a.hi.run_at);
}

/// What add() has to leave behind, given what was there before.
Ranges expected_add(Ranges before, const Range& added, int64_t now, size_t limit) {
  before.push_back(added);
  Ranges all = united(before);
  if (all.size() <= limit) return all;
  size_t best = 0;
  for (size_t i = 1; i + 1 < all.size(); i++)
    if (gap_cost(all[i], all[i + 1], now) < gap_cost(all[best], all[best + 1], now)) best = i;
  all[best].hi = all[best + 1].hi;
  all.erase(all.begin() + static_cast<std::ptrdiff_t>(best) + 1);
  return all;
}

template <int N>
void expect_well_formed(const RangeSet<N>& set) {
  ASSERT_LE(set.size(), N);
  for (int i = 0; i < set.size(); i++) ASSERT_TRUE(set[i].lo <= set[i].hi);
  for (int i = 0; i + 1 < set.size(); i++) ASSERT_FALSE(adjoins(set[i], set[i + 1])) << "ranges " << i << " and " << i + 1;
  ASSERT_EQ(set.first(), set.empty() ? kMax : set[0].lo.run_at);
}

/// One lane's life: keys offered, ranges taken, some put back. `draw` makes a key, so that a test chooses the world it plays in.
template <int N, class DrawKey>
void random_life(unsigned seed, int steps, DrawKey draw) {
  std::mt19937_64 random(seed);
  RangeSet<N> set;
  std::set<Key> offered;  // keys that were added and not taken since
  for (int step = 0; step < steps; step++) {
    const int64_t now = draw(random).run_at;
    if (random() % 4 != 0) {
      Range r{draw(random), draw(random)};
      if (random() % 2 == 0) r.hi = r.lo;
      if (r.hi < r.lo) std::swap(r.lo, r.hi);
      const Ranges expected = expected_add(ranges_of(set), r, now, N);
      set.add(r.lo, r.hi, now);
      ASSERT_TRUE(same(ranges_of(set), expected)) << "seed " << seed << ", step " << step;
      offered.insert(r.lo);
      offered.insert(r.hi);
    } else {
      Range out[N + 1];
      const Ranges before = ranges_of(set);
      const int max = static_cast<int>(random() % (N + 1));
      const int taken = set.take_due(now, max, out);
      ASSERT_LE(taken, max);
      for (int i = 0; i < taken; i++) {
        ASSERT_LE(out[i].lo.run_at, now);
        offered.erase(offered.lower_bound(out[i].lo), offered.upper_bound(out[i].hi));
      }
      ASSERT_TRUE(taken == max || set.empty() || set.first() > now) << "a due range was left";
      Ranges together(out, out + taken);
      for (const Range& r : ranges_of(set)) together.push_back(r);
      ASSERT_TRUE(same(together, before)) << "seed " << seed << ", step " << step;
    }
    expect_well_formed(set);
    for (const Key& k : offered)
      ASSERT_TRUE(set.contains(k)) << "seed " << seed << ", step " << step << " lost " << k.run_at << "/" << k.id;
  }
}

/// A small dense world: ranges meet, overlap and swallow each other all the time.
Key dense(std::mt19937_64& random) { return {static_cast<int64_t>(random() % 40), static_cast<int64_t>(random() % 5)}; }

/// The same with keys at the ends of both numbers, where next() wraps and differences overflow.
Key extreme(std::mt19937_64& random) {
  static constexpr int64_t kValues[] = {kMin, kMin + 1, -2, -1, 0, 1, 2, kMax - 1, kMax};
  return {kValues[random() % 9], kValues[random() % 9]};
}

/// Real instants in microseconds, some in the future.
Key realistic(std::mt19937_64& random) {
  return {848'000'000'000'000 + static_cast<int64_t>(random() % 600'000'000), static_cast<int64_t>(random() % 1'000'000)};
}

template <class Draw>
void many_lives(Draw draw) {
  for (unsigned seed = 1; seed <= 60; seed++) {
    random_life<1>(seed, 400, draw);
    random_life<2>(seed, 400, draw);
    random_life<6>(seed, 400, draw);
    random_life<14>(seed, 400, draw);
  }
}

}  // namespace

TEST(RangeSetRandom, DenseKeys) { many_lives(dense); }
TEST(RangeSetRandom, ExtremeKeys) { many_lives(extreme); }
TEST(RangeSetRandom, RealisticKeys) { many_lives(realistic); }

TEST(Key, NextIsTheImmediateSuccessor) {
  EXPECT_EQ(next({5, 7}), (Key{5, 8}));
  EXPECT_EQ(next({5, kMax}), (Key{6, kMin}));
  EXPECT_EQ(next({-1, kMax}), (Key{0, kMin}));
  EXPECT_EQ(next(kLowest), (Key{kMin, kMin + 1}));
  EXPECT_EQ(next(kHighest), kHighest);
}

TEST(Key, OrdersByDueTimeThenId) {
  EXPECT_TRUE((Key{1, 9} < Key{2, 0}));
  EXPECT_TRUE((Key{1, 1} < Key{1, 2}));
  EXPECT_FALSE((Key{1, 2} < Key{1, 2}));
  EXPECT_TRUE((Key{1, 2} <= Key{1, 2}));
  EXPECT_FALSE((Key{2, 0} <= Key{1, 9}));
}

TEST(RangeSet, EmptyHasNothing) {
  RangeSet<4> set;
  Range out[4];
  EXPECT_TRUE(set.empty());
  EXPECT_EQ(set.first(), kMax);
  EXPECT_FALSE(set.contains(kLowest));
  EXPECT_EQ(set.take_due(kMax, 4, out), 0);
}

TEST(RangeSet, NeighboursJoinWithoutAMerge) {
  RangeSet<1> set;
  EXPECT_FALSE(set.add({5, kMax}, {5, kMax}, 100));
  EXPECT_FALSE(set.add({6, kMin}, {6, 3}, 100));
  EXPECT_FALSE(set.add({5, 0}, {5, kMax - 1}, 100));
  ASSERT_EQ(set.size(), 1);
  EXPECT_EQ(set[0].lo, (Key{5, 0}));
  EXPECT_EQ(set[0].hi, (Key{6, 3}));
}

TEST(RangeSet, OneAddCanSwallowSeveral) {
  RangeSet<4> set;
  for (int64_t t : {10, 20, 30, 40}) set.add({t, 0}, {t, 0}, 0);
  EXPECT_FALSE(set.add({15, 0}, {35, 0}, 0));
  ASSERT_EQ(set.size(), 3);
  EXPECT_EQ(set[1].lo, (Key{15, 0}));
  EXPECT_EQ(set[1].hi, (Key{35, 0}));
}

TEST(RangeSet, MergesTheCheapestGap) {
  RangeSet<3> set;
  for (int64_t t : {10, 30, 35}) set.add({t, 0}, {t, 0}, 100);
  EXPECT_TRUE(set.add({60, 0}, {60, 0}, 100));  // gaps 20, 5, 25
  ASSERT_EQ(set.size(), 3);
  EXPECT_EQ(set[1].lo, (Key{30, 0}));
  EXPECT_EQ(set[1].hi, (Key{35, 0}));
}

TEST(RangeSet, FutureGapsMergeFreeOfCharge) {
  RangeSet<3> set;
  for (int64_t t : {10, 15, 1000}) set.add({t, 0}, {t, 0}, 100);
  EXPECT_TRUE(set.add({900'000, 0}, {900'000, 0}, 100));  // the widest gap, and nobody has deleted a row in it yet
  ASSERT_EQ(set.size(), 3);
  EXPECT_EQ(set[0].hi, (Key{10, 0}));
  EXPECT_EQ(set[2].lo, (Key{1000, 0}));
  EXPECT_EQ(set[2].hi, (Key{900'000, 0}));
}

TEST(RangeSet, AGapCountsOnlyAsFarAsItIsPast) {
  RangeSet<2> set;
  set.add({10, 0}, {10, 0}, 100);
  set.add({40, 0}, {40, 0}, 100);
  EXPECT_TRUE(set.add({900, 0}, {900, 0}, 60));  // 30 of the first gap are past, 20 of the second
  ASSERT_EQ(set.size(), 2);
  EXPECT_EQ(set[0].hi, (Key{10, 0}));
  EXPECT_EQ(set[1].lo, (Key{40, 0}));
}

TEST(RangeSet, EverythingSwallowsEverything) {
  RangeSet<3> set;
  for (int64_t t : {1, 3, 5}) set.add({t, 0}, {t, 0}, 0);
  EXPECT_FALSE(set.add(kLowest, kHighest, 0));
  ASSERT_EQ(set.size(), 1);
  EXPECT_EQ(set.first(), kMin);
  EXPECT_TRUE(set.contains(kLowest) && set.contains(kHighest) && set.contains({0, 0}));
  EXPECT_FALSE(set.add({7, 7}, {7, 7}, 0));
  EXPECT_EQ(set.size(), 1);
}

TEST(RangeSet, CostsSpanTheWholeClock) {
  RangeSet<2> set;  // the first gap is wider than int64_t can say; it must not look cheap
  set.add(kLowest, kLowest, kMax);
  set.add({5, 0}, {5, 0}, kMax);
  EXPECT_TRUE(set.add({14, 0}, {14, 0}, kMax));
  EXPECT_EQ(set[0].hi, kLowest);
  EXPECT_EQ(set[1].hi, (Key{14, 0}));
}

TEST(RangeSet, TakesDueRangesFromTheLowEnd) {
  RangeSet<4> set;
  for (int64_t t : {10, 20, 30}) set.add({t, 0}, {t + 5, 0}, 0);
  Range out[4];
  EXPECT_EQ(set.take_due(9, 4, out), 0);
  EXPECT_EQ(set.take_due(20, 1, out), 1);
  EXPECT_EQ(out[0].lo, (Key{10, 0}));
  EXPECT_EQ(set.take_due(22, 4, out), 1);  // begins in the past, ends in the future: taken whole
  EXPECT_EQ(out[0].hi, (Key{25, 0}));
  EXPECT_EQ(set.first(), 30);
  set.clear();
  EXPECT_TRUE(set.empty());
}
