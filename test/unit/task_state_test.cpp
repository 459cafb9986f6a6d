// Every pair of states against a table written out by hand, and the names against those in the SQL.
#include "core/task_state.hpp"

#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <set>
#include <string>

using dts::core::is_end;
using dts::core::is_stored;
using dts::core::may_move;
using dts::core::name;
using dts::core::State;

namespace {

constexpr State kAll[] = {State::Ready,   State::Blocked,   State::Leased,  State::Waiting, State::Succeeded, State::Failed,
                          State::Expired, State::Cancelled, State::Skipped, State::Retry,   State::Parked};

// clang-format off
/// Row: from, column: to, both in the order of kAll; x = legal.
constexpr const char* kLegal[] = {
    //            R B L W  S F E C S  r P
    /* ready */     "xxxxxxxxx.x",
    /* blocked */   "x...xxxxx..",
    /* leased */    "x...xx.x...",
    /* waiting */   "x...xxxxx..",
    /* succeeded */ "...........",
    /* failed */    "x..........",
    /* expired */   "...........",
    /* cancelled */ "...........",
    /* skipped */   "...........",
    /* retry */     "...........",
    /* parked */    "xx...xxxx.x",
};
// clang-format on

}  // namespace

TEST(TaskState, LegalMovesAreExactlyThese) {
  for (size_t from = 0; from < std::size(kAll); from++)
    for (size_t to = 0; to < std::size(kAll); to++)
      EXPECT_EQ(may_move(kAll[from], kAll[to]), kLegal[from][to] == 'x') << name(kAll[from]) << " -> " << name(kAll[to]);
}

TEST(TaskState, NumbersOutsideTheTableMoveNowhere) {
  for (int code = -3; code < 30; code++) {
    const State s = static_cast<State>(code);
    if (std::string(name(s)) != "unknown") continue;
    EXPECT_FALSE(is_end(s) && code < 10) << code;
    for (State to : kAll) EXPECT_FALSE(may_move(s, to)) << code;
    for (State from : kAll) EXPECT_FALSE(may_move(from, s)) << code;
  }
}

TEST(TaskState, EveryUnfinishedStateHasAnExitAndAnEnd) {
  for (State s : {State::Ready, State::Blocked, State::Leased, State::Waiting, State::Parked}) {
    EXPECT_TRUE(may_move(s, State::Ready)) << name(s);
    EXPECT_TRUE(may_move(s, State::Cancelled)) << name(s);
    EXPECT_TRUE(may_move(s, State::Failed)) << name(s);
  }
}

TEST(TaskState, EndsAndStoredStates) {
  const std::set<State> ends{State::Succeeded, State::Failed, State::Expired, State::Cancelled, State::Skipped};
  const std::set<State> stored{State::Ready, State::Blocked, State::Leased, State::Waiting, State::Parked};
  for (State s : kAll) {
    EXPECT_EQ(is_end(s), ends.count(s) == 1) << name(s);
    EXPECT_EQ(is_stored(static_cast<int>(s)), stored.count(s) == 1) << name(s);
  }
  EXPECT_FALSE(is_stored(-1));
  EXPECT_TRUE(is_stored(4));
  EXPECT_FALSE(is_stored(5));
}

TEST(TaskState, NamesAreDistinct) {
  std::set<std::string> names;
  for (State s : kAll) names.insert(name(s));
  EXPECT_EQ(names.size(), std::size(kAll));
  EXPECT_EQ(names.count("unknown"), 0U);
}

// The numbers are stored in tables, so C++ and SQL must agree on them for ever.
TEST(TaskState, SqlNamesTheSameNumbers) {
  std::ifstream file(DTS_SOURCE_DIR "/src/sql/60_views.sql");
  const std::string sql((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  const size_t begin = sql.find("dts._state_name(state int2)");
  ASSERT_NE(begin, std::string::npos);
  const std::string body = sql.substr(begin, sql.find(';', begin) - begin);
  for (State s : kAll) {
    const std::string branch = "WHEN " + std::to_string(static_cast<int>(s)) + " THEN '" + name(s) + "'";
    EXPECT_NE(body.find(branch), std::string::npos) << branch;
  }
}
