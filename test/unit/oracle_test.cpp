// The next due time against a slow oracle that looks at every minute or second of the wall clock through the C library's zones.
#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <ctime>
#include <functional>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "core/timing_next.hpp"
#include "core/timing_parse.hpp"
#include "libc_zone.hpp"

using namespace dts::core;

namespace {

/// What a random expression means, worked out apart from the parser and the compiled form.
struct Sets {
  std::set<int> second, minute, hour, day, month, weekday;
  bool any_hour = false, any_day = false, any_weekday = false, both = false;
  /// The special forms, by looking at the calendar: whether a day is one of them.
  std::function<bool(const std::tm&)> special_day, special_weekday;
};

int length_of(const std::tm& t) {
  std::tm first{};
  first.tm_year = t.tm_year;
  first.tm_mon = t.tm_mon + 1;
  first.tm_mday = 0;
  first.tm_hour = 12;
  (void)timegm(&first);
  return first.tm_mday;
}

int weekday_on(const std::tm& t, int day) { return ((t.tm_wday + day - t.tm_mday) % 7 + 7) % 7; }

/// The day that "<day>W" means in the month of t; 0 if the month has no such day.
int nearest_weekday(const std::tm& t, int day) {
  if (day > length_of(t)) return 0;
  for (const int off : {0, -1, 1, -2, 2}) {
    const int d = day + off;
    const int w = weekday_on(t, d);
    if (d >= 1 && d <= length_of(t) && w != 0 && w != 6) return d;
  }
  return 0;
}

/// L, L-n, LW, nW as day of month; nL, n#m as day of week.
std::string random_special_day(std::mt19937& random, Sets* s) {
  const int n = static_cast<int>(random() % 20) + 1;
  switch (random() % 4) {
    case 0: s->special_day = [](const std::tm& t) { return t.tm_mday == length_of(t); }; return "L";
    case 1: s->special_day = [n](const std::tm& t) { return t.tm_mday == length_of(t) - n; }; return "L-" + std::to_string(n);
    case 2:
      s->special_day = [](const std::tm& t) {
        int d = length_of(t);
        while (weekday_on(t, d) == 0 || weekday_on(t, d) == 6) d--;
        return t.tm_mday == d;
      };
      return "LW";
    default: s->special_day = [n](const std::tm& t) { return t.tm_mday == nearest_weekday(t, n); }; return std::to_string(n) + "W";
  }
}

std::string random_special_weekday(std::mt19937& random, Sets* s) {
  const int w = static_cast<int>(random() % 7), n = static_cast<int>(random() % 5) + 1;
  if (random() % 2 == 0) {
    s->special_weekday = [w](const std::tm& t) { return t.tm_wday == w && t.tm_mday + 7 > length_of(t); };
    return std::to_string(w) + "L";
  }
  s->special_weekday = [w, n](const std::tm& t) { return t.tm_wday == w && (t.tm_mday + 6) / 7 == n; };
  return std::to_string(w) + "#" + std::to_string(n);
}

std::string random_field(std::mt19937& random, int lowest, int highest, std::set<int>* set, bool* any) {
  set->clear();
  *any = false;
  switch (random() % 5) {
    case 0:
      for (int i = lowest; i <= highest; i++) set->insert(i);
      *any = true;
      return "*";
    case 1: {
      const int by = static_cast<int>(random() % 7) + 1;
      for (int i = lowest; i <= highest; i += by) set->insert(i);
      *any = true;
      return "*/" + std::to_string(by);
    }
    case 2: {
      const int a = lowest + static_cast<int>(random() % (highest - lowest + 1));
      const int b = a + static_cast<int>(random() % (highest - a + 1));
      for (int i = a; i <= b; i++) set->insert(i);
      return std::to_string(a) + "-" + std::to_string(b);
    }
    default: {
      std::string text;
      for (unsigned n = random() % 3 + 1; n > 0; n--) {
        const int a = lowest + static_cast<int>(random() % (highest - lowest + 1));
        set->insert(a);
        text += (text.empty() ? "" : ",") + std::to_string(a);
      }
      return text;
    }
  }
}

bool wanted(const Sets& s, const std::tm& t) {
  if (s.second.count(t.tm_sec) == 0 || s.minute.count(t.tm_min) == 0 || s.hour.count(t.tm_hour) == 0 || s.month.count(t.tm_mon + 1) == 0)
    return false;
  const bool day = s.special_day ? s.special_day(t) : s.day.count(t.tm_mday) != 0;
  const bool week = s.special_weekday ? s.special_weekday(t) : s.weekday.count(t.tm_wday) != 0;
  return s.both || s.any_day || s.any_weekday ? day && week : day || week;
}

/// Every step in [from, to) that is due, by looking at the clock on the wall.
std::vector<int64_t> oracle(const Sets& s, const std::vector<std::tm>& wall, int64_t from, int step) {
  std::vector<int64_t> due;
  auto number = [](const std::tm& t) {
    return ((days_of(t.tm_year + 1900, t.tm_mon + 1, t.tm_mday) * 24 + t.tm_hour) * 60 + t.tm_min) * 60 + t.tm_sec;
  };
  int64_t highest = number(wall[0]);
  for (size_t i = 1; i < wall.size(); i++) {
    const int64_t now = number(wall[i]);
    const int64_t at = from + static_cast<int64_t>(i) * step;
    if (s.any_hour) {
      if (wanted(s, wall[i])) due.push_back(at);
      continue;
    }
    bool hit = false;
    for (int64_t w = highest + step; w <= now; w += step) {
      const int64_t day = floor_div(w, kSecondsPerDay);
      const Civil d = civil_of(day);
      std::tm t{};
      t.tm_year = d.year - 1900;
      t.tm_mon = d.month - 1;
      t.tm_mday = d.day;
      t.tm_wday = weekday_of(day);
      const auto time = static_cast<int>(w - day * kSecondsPerDay);
      t.tm_hour = time / 3600;
      t.tm_min = time / 60 % 60;
      t.tm_sec = time % 60;
      hit |= wanted(s, t);
    }
    if (hit) due.push_back(at);
    if (now > highest) highest = now;
  }
  return due;
}

/// Random expressions in one zone over [from, from + n steps).
void compare(const LibcZone& zone, std::mt19937& random, int64_t from, int n, int step, int expressions) {
  std::vector<std::tm> wall;
  for (int i = 0; i < n; i++) wall.push_back(zone.local(from + static_cast<int64_t>(i) * step));
  for (int k = 0; k < expressions; k++) {
    Sets s;
    bool none = false;
    std::string text;
    if (step == 1) text = random_field(random, 0, 59, &s.second, &none) + " ";
    if (step != 1) s.second = {0};
    text += random_field(random, 0, 59, &s.minute, &none) + " ";
    text += random_field(random, 0, 23, &s.hour, &s.any_hour) + " ";
    text += (random() % 4 == 0 ? random_special_day(random, &s) : random_field(random, 1, 31, &s.day, &s.any_day)) + " ";
    // Months that are looked at, mostly: others make no run in the window.
    const bool all = random() % 4 != 0;
    if (all) text += "* ";
    for (int i = 1; all && i <= 12; i++) s.month.insert(i);
    if (!all) text += random_field(random, 1, 12, &s.month, &none) + " ";
    text += random() % 4 == 0 ? random_special_weekday(random, &s) : random_field(random, 0, 6, &s.weekday, &s.any_weekday);
    s.both = random() % 8 == 0;
    Timing t;
    ParseError e;
    const bool taken = parse_timing(text.c_str(), &t, &e);
    if (!taken && std::string(e.message) == "this date never comes") continue;
    ASSERT_TRUE(taken) << text << ": " << e.message;
    t.cron.both = s.both;
    WallClock clock(zone);
    Rule r;
    r.timing = &t;
    r.clock = &clock;
    int64_t at = from * kUsPerSecond;
    const int64_t end = (from + static_cast<int64_t>(n - 1) * step) * kUsPerSecond;
    for (const int64_t want : oracle(s, wall, from, step)) {
      at = next_due(r, at);
      ASSERT_EQ(utc_text(at / kUsPerSecond), utc_text(want)) << text << " in " << zone.name();
    }
    at = next_due(r, at);
    ASSERT_GT(at, end) << text << " in " << zone.name() << ": one too many, " << utc_text(at / kUsPerSecond);
  }
}

}  // namespace

TEST(Next, AgreesWithTheOracleInAllZones) {
  std::mt19937 random(20261121);
  int zones = 0;
  for (const std::string& name : LibcZone::all()) {
    const LibcZone zone(name.c_str());
    zones++;
    // Two days around the changes of one random year, and a week elsewhere: every minute. Offsets of part minutes are history.
    const std::vector<int64_t> changes = zone.changes(days_of(1972 + static_cast<int>(random() % 68), 1, 1) * kSecondsPerDay, 366);
    for (const int64_t change : changes) {
      if (change % 60 != 0 || zone.segment(change).offset % 60 != 0 || zone.segment(change - 1).offset % 60 != 0) continue;
      compare(zone, random, change - 2 * kSecondsPerDay, 4 * 1440, 60, 2);
      if (HasFatalFailure()) return;
    }
    const int64_t week = (days_of(2000, 1, 1) + static_cast<int64_t>(random() % 14000)) * kSecondsPerDay;
    if (zone.segment(week).offset % 60 == 0) {
      compare(zone, random, week, 7 * 1440, 60, 1);
    }
    if (HasFatalFailure()) return;
  }
  EXPECT_GT(zones, 300);
}

TEST(Next, AgreesWithTheOracleAtEverySecond) {
  // DTS_LONG=all: at every change of every zone since 1972, for hours; DTS_LONG=n: at n of them. DTS_SEED: other expressions.
  const char* const wanted = std::getenv("DTS_LONG");
  const char* const seed = std::getenv("DTS_SEED");
  std::mt19937 random(seed == nullptr ? 4U : static_cast<unsigned>(std::atoi(seed)));
  const std::vector<std::string> names = LibcZone::all();
  const bool all = wanted != nullptr && std::string(wanted) == "all";
  int left = wanted == nullptr ? 12 : std::atoi(wanted);
  for (size_t i = 0; all ? i < names.size() : left > 0; i++) {
    const LibcZone zone(names[all ? i : random() % names.size()].c_str());
    std::vector<int64_t> changes = zone.changes(days_of(1972, 1, 1) * kSecondsPerDay, 68 * 366);
    if (!all && !changes.empty()) changes = {changes[random() % changes.size()]};
    for (const int64_t change : changes) {
      compare(zone, random, change - 2 * kSecondsPerDay, 4 * 86400, 1, 2);
      if (HasFatalFailure()) return;
      left--;
    }
  }
}

TEST(Next, YearsInMilliseconds) {
  const LibcZone zone("Europe/Berlin");
  WallClock clock(zone);
  Timing t;
  ParseError e;
  ASSERT_TRUE(parse_timing("30 2 * * *", &t, &e));
  Rule r;
  r.timing = &t;
  r.clock = &clock;
  const auto begin = std::chrono::steady_clock::now();
  int64_t at = utc("2010-01-01 00:00:00") * kUsPerSecond;
  int runs = 0;
  while (at < utc("2030-01-01 00:00:00") * kUsPerSecond) {
    at = next_due(r, at);
    runs++;
  }
  EXPECT_EQ(runs, 20 * 365 + 5 + 1);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(2));
}

namespace {

/// The zone as another edition of its database has it: without a change of clocks.
class Fixed final : public Zone {
 public:
  explicit Fixed(int32_t offset) : offset_(offset) {}
  [[nodiscard]] Segment segment(int64_t) const override { return {-kNever / 2, kNever / 2, offset_}; }

 private:
  int32_t offset_;
};

}  // namespace

TEST(Next, AnotherEditionOfTheZoneDatabase) {
  // Whatever the mark is when the zone changes: each later time of the new zone comes once, and none at or before the mark.
  const Fixed winter(3600), summer(7200);
  Timing t;
  ParseError e;
  ASSERT_TRUE(parse_timing("30 2 * * *", &t, &e));
  for (int64_t mark = utc("2026-07-01 00:00:00"); mark < utc("2026-07-03 00:00:00"); mark += 600) {
    WallClock before(summer), after(winter);
    Rule r;
    r.timing = &t;
    r.clock = &before;
    const int64_t planned = next_due(r, mark * kUsPerSecond);
    r.clock = &after;
    const int64_t first = next_due(r, mark * kUsPerSecond);
    EXPECT_GT(first, mark * kUsPerSecond);
    EXPECT_LE(first - mark * kUsPerSecond, kSecondsPerDay * kUsPerSecond);
    EXPECT_EQ(next_due(r, first) - first, kSecondsPerDay * kUsPerSecond);
    // Fired by the old edition: the new one has the same wall time an hour later, and that is a run of its own.
    EXPECT_EQ(next_due(r, planned), planned + 3600 * kUsPerSecond);
  }
}
