// Verdicts against a count of all ways in which the open edges may still end; cycles against a slow search.
#include "core/dependency.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

#include "core/cycle.hpp"

using dts::core::State;
using dts::core::Verdict;
using dts::core::verdict;

TEST(Verdict, IsWhatEveryEndOfTheOpenEdgesWouldGive) {
  for (int need = -1; need <= 5; need++)
    for (int accepted = 0; accepted <= 4; accepted++)
      for (int refused = 0; refused <= 4; refused++)
        for (int open = 0; open <= 4; open++) {
          if (need == 0) continue;
          bool may_hold = false, may_fail = false;
          for (int more = 0; more <= open; more++) {
            const int good = accepted + more;
            const int all = accepted + refused + open;
            const bool holds = need == dts::core::kNeedAll ? good == all : good >= need;
            (holds ? may_hold : may_fail) = true;
          }
          const Verdict wants = !may_fail ? Verdict::Ready : !may_hold ? Verdict::Dead : Verdict::Open;
          EXPECT_EQ(verdict(need, accepted, refused, open), wants) << need << ' ' << accepted << ' ' << refused << ' ' << open;
        }
}

TEST(Verdict, NeverMovesBack) {
  for (int need : {-1, 1, 2, 3})
    for (int a = 0; a < 4; a++)
      for (int r = 0; r < 4; r++)
        for (int o = 1; o < 4; o++) {
          const Verdict before = verdict(need, a, r, o);
          if (before == Verdict::Open) continue;
          EXPECT_EQ(verdict(need, a + 1, r, o - 1), before);
          EXPECT_EQ(verdict(need, a, r + 1, o - 1), before);
        }
}

TEST(Accept, EachEndHasABitAndEndedHasAll) {
  const State ends[] = {State::Succeeded, State::Failed, State::Expired, State::Cancelled, State::Skipped};
  for (State a : ends) {
    for (State b : ends) EXPECT_EQ(dts::core::accepts(dts::core::accept_bit(a), static_cast<int>(b)), a == b);
    EXPECT_TRUE(dts::core::accepts(dts::core::kAcceptAny, static_cast<int>(a)));
    EXPECT_FALSE(dts::core::accepts(dts::core::accept_bit(a), dts::core::kUnknownOutcome));
    EXPECT_FALSE(dts::core::accepts(dts::core::kParentKeepsFailures, static_cast<int>(a)));
  }
  EXPECT_TRUE(dts::core::accepts(dts::core::kAcceptAny, dts::core::kUnknownOutcome));
}

namespace {

std::vector<int32_t> cycle_of(const std::vector<std::vector<int32_t>>& to) {
  const auto n = static_cast<int32_t>(to.size());
  std::vector<int32_t> first{0}, all;
  for (const auto& row : to) {
    all.insert(all.end(), row.begin(), row.end());
    first.push_back(static_cast<int32_t>(all.size()));
  }
  std::vector<int8_t> color(to.size());
  std::vector<int32_t> path(to.size()), next(to.size());
  const int32_t length = dts::core::find_cycle({n, first.data(), all.data()}, {color.data(), path.data(), next.data()});
  path.resize(static_cast<size_t>(length));
  return path;
}

}  // namespace

TEST(Cycle, PathIsOne) {
  std::mt19937 random(7);
  int with = 0;
  for (int turn = 0; turn < 2000; turn++) {
    const int n = 1 + static_cast<int>(random() % 12);
    std::vector<std::vector<int32_t>> to(static_cast<size_t>(n));
    std::vector<std::vector<bool>> reach(static_cast<size_t>(n), std::vector<bool>(static_cast<size_t>(n)));
    for (int e = static_cast<int>(random() % 20); e > 0; e--) {
      const size_t a = random() % static_cast<size_t>(n), b = random() % static_cast<size_t>(n);
      to[a].push_back(static_cast<int32_t>(b));
      reach[a][b] = true;
    }
    for (size_t k = 0; k < to.size(); k++)
      for (size_t i = 0; i < to.size(); i++)
        for (size_t j = 0; j < to.size(); j++)
          if (reach[i][k] && reach[k][j]) reach[i][j] = true;
    bool cyclic = false;
    for (size_t i = 0; i < to.size(); i++) cyclic = cyclic || reach[i][i];
    const auto path = cycle_of(to);
    ASSERT_EQ(!path.empty(), cyclic);
    with += cyclic;
    for (size_t i = 0; i < path.size(); i++) {
      const auto& row = to[static_cast<size_t>(path[i])];
      EXPECT_NE(std::find(row.begin(), row.end(), path[(i + 1) % path.size()]), row.end());
    }
  }
  EXPECT_GT(with, 200);
  EXPECT_LT(with, 1900);
}

TEST(Cycle, DeepGraphsNeedNoStack) {
  std::vector<std::vector<int32_t>> chain(1000000);
  for (size_t i = 0; i + 1 < chain.size(); i++) chain[i].push_back(static_cast<int32_t>(i + 1));
  EXPECT_TRUE(cycle_of(chain).empty());
  chain.back().push_back(0);
  EXPECT_EQ(cycle_of(chain).size(), chain.size());
}
