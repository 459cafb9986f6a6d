// When a timing is due next: special days, clock changes, intervals, and the due time before.
#include <gtest/gtest.h>

#include <string>

#include "core/timing_next.hpp"
#include "core/timing_parse.hpp"
#include "libc_zone.hpp"

using namespace dts::core;

namespace {

/// The next n due times as UTC text.
std::string runs(const char* text, const char* zone_name, const char* after, int n, const Calendar* only = nullptr,
                 const Calendar* never = nullptr, Shift shift = Shift::None) {
  Timing t;
  ParseError e;
  if (!parse_timing(text, &t, &e)) return std::string("error: ") + e.message;
  const LibcZone zone(zone_name);
  WallClock clock(zone);
  Rule r;
  r.timing = &t;
  r.clock = &clock;
  r.only_in = only;
  r.not_in = never;
  r.shift = shift;
  int64_t at = utc(after) * kUsPerSecond;
  std::string out;
  for (int i = 0; i < n; i++) {
    at = next_due(r, at);
    if (at == kNever) return out + (out.empty() ? "" : ", ") + "never";
    out += (i > 0 ? ", " : "") + utc_text(at / kUsPerSecond);
  }
  return out;
}

}  // namespace

TEST(Next, SpecialDays) {
  EXPECT_EQ(runs("0 0 LW * *", "UTC", "2026-01-01 00:00:00", 5),
            "2026-01-30 00:00:00, 2026-02-27 00:00:00, 2026-03-31 00:00:00, 2026-04-30 00:00:00, 2026-05-29 00:00:00");
  EXPECT_EQ(runs("0 0 15W * *", "UTC", "2026-01-01 00:00:00", 4),
            "2026-01-15 00:00:00, 2026-02-16 00:00:00, 2026-03-16 00:00:00, 2026-04-15 00:00:00");
  EXPECT_EQ(runs("0 0 1W * *", "UTC", "2026-07-02 00:00:00", 2), "2026-08-03 00:00:00, 2026-09-01 00:00:00");
  EXPECT_EQ(runs("0 0 31W 5 *", "UTC", "2026-01-01 00:00:00", 1), "2026-05-29 00:00:00");
  EXPECT_EQ(runs("0 0 * * 5#5", "UTC", "2026-01-01 00:00:00", 2), "2026-01-30 00:00:00, 2026-05-29 00:00:00");
  EXPECT_EQ(runs("0 0 * * SUNL", "UTC", "2026-01-01 00:00:00", 2), "2026-01-25 00:00:00, 2026-02-22 00:00:00");
  EXPECT_EQ(runs("0 0 L * *", "UTC", "2028-02-01 00:00:00", 2), "2028-02-29 00:00:00, 2028-03-31 00:00:00");
  EXPECT_EQ(runs("0 0 29 2 *", "UTC", "2096-03-01 00:00:00", 1), "2104-02-29 00:00:00");
  EXPECT_EQ(runs("0 0 13 * 5", "UTC", "2026-01-01 00:00:00", 3), "2026-01-02 00:00:00, 2026-01-09 00:00:00, 2026-01-13 00:00:00")
      << "Vixie: either";
  EXPECT_EQ(runs("0 0 */2 * 5", "UTC", "2026-01-01 00:00:00", 2), "2026-01-09 00:00:00, 2026-01-23 00:00:00")
      << "Vixie: a star asks for both";
}

TEST(Next, TheDaysOnWhichClocksChange) {
  // Forward at 02:00 on 2026-03-29, back at 03:00 on 2026-10-25.
  EXPECT_EQ(runs("30 2 * * *", "Europe/Berlin", "2026-03-27 22:00:00", 3), "2026-03-28 01:30:00, 2026-03-29 01:00:00, 2026-03-30 00:30:00");
  EXPECT_EQ(runs("0,15,30 2 * * *", "Europe/Berlin", "2026-03-28 23:00:00", 2), "2026-03-29 01:00:00, 2026-03-30 00:00:00")
      << "one run for the gap";
  EXPECT_EQ(runs("0 2,3 * * *", "Europe/Berlin", "2026-03-28 23:00:00", 2), "2026-03-29 01:00:00, 2026-03-30 00:00:00")
      << "also with one at its end";
  EXPECT_EQ(runs("30 2 * * *", "Europe/Berlin", "2026-10-24 22:00:00", 2), "2026-10-25 00:30:00, 2026-10-26 01:30:00")
      << "first occurrence";
  EXPECT_EQ(runs("30 * * * *", "Europe/Berlin", "2026-03-29 00:00:00", 3), "2026-03-29 00:30:00, 2026-03-29 01:30:00, 2026-03-29 02:30:00");
  EXPECT_EQ(runs("30 * * * *", "Europe/Berlin", "2026-10-24 23:40:00", 3), "2026-10-25 00:30:00, 2026-10-25 01:30:00, 2026-10-25 02:30:00");
  EXPECT_EQ(runs("30 * * * 6", "America/Sao_Paulo", "2018-02-18 01:00:00", 3),
            "2018-02-18 01:30:00, 2018-02-18 02:30:00, 2018-02-24 03:30:00")
      << "the last hour of a Saturday comes twice, whatever the next Saturday is";
  EXPECT_EQ(runs("15 2 * * *", "Australia/Lord_Howe", "2026-10-03 00:00:00", 2), "2026-10-03 15:30:00, 2026-10-04 15:15:00")
      << "half an hour";
  EXPECT_EQ(runs("0 12 30 12 *", "Pacific/Apia", "2011-12-01 00:00:00", 2), "2011-12-30 10:00:00, 2012-12-29 22:00:00")
      << "a day that was left out";
}

TEST(Next, Intervals) {
  EXPECT_EQ(runs("every 90 seconds", "UTC", "2026-01-01 00:00:00", 2), "2026-01-01 00:01:30, 2026-01-01 00:03:00");
  EXPECT_EQ(runs("every 90 seconds from 2026-01-01 00:00:10", "UTC", "2026-01-01 00:00:00", 2), "2026-01-01 00:00:10, 2026-01-01 00:01:40");
  EXPECT_EQ(runs("every month from 2026-01-31 12:00", "UTC", "2026-02-01 00:00:00", 3),
            "2026-02-28 12:00:00, 2026-03-31 12:00:00, 2026-04-30 12:00:00");
  EXPECT_EQ(runs("every day from 2026-03-27 02:30", "Europe/Berlin", "2026-03-27 12:00:00", 3),
            "2026-03-28 01:30:00, 2026-03-29 01:00:00, 2026-03-30 00:30:00");
  EXPECT_EQ(runs("every 24 hours from 2026-03-27 02:30", "Europe/Berlin", "2026-03-27 12:00:00", 3),
            "2026-03-28 01:30:00, 2026-03-29 01:30:00, 2026-03-30 01:30:00");
  EXPECT_EQ(runs("every week", "UTC", "2026-01-01 00:00:00", 1), "2026-01-03 00:00:00");
  EXPECT_EQ(runs("at 2026-05-01 10:00, 2026-04-01 10:00", "Asia/Tokyo", "2026-01-01 00:00:00", 3),
            "2026-04-01 01:00:00, 2026-05-01 01:00:00, never");
}

TEST(Next, TheDueTimeBefore) {
  const LibcZone zone("Europe/Berlin");
  for (const char* text :
       {"30 2 * * *", "* * * * * *", "0 0 29 2 *", "every month from 2019-01-31 12:00", "at 2026-05-01 10:00, 2026-04-01 10:00"}) {
    Timing t;
    ParseError e;
    ASSERT_TRUE(parse_timing(text, &t, &e));
    WallClock clock(zone);
    Rule r;
    r.timing = &t;
    r.clock = &clock;
    int64_t before = next_due(r, utc("2020-01-01 00:00:00") * kUsPerSecond);
    for (int i = 0; i < 20; i++) {
      const int64_t due = next_due(r, before);
      if (due == kNever) break;
      EXPECT_EQ(previous_due(r, due), before) << text << " " << utc_text(due / kUsPerSecond);
      before = due;
    }
  }
}
