// The timing language: what it takes and refuses, and when it is due next.
#include <gtest/gtest.h>

#include <cstdlib>
#include <ctime>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "core/timing_next.hpp"
#include "core/timing_words.hpp"
#include "libc_zone.hpp"

using namespace dts::core;

namespace {

std::string reading(const char* text) {
  Timing t;
  ParseError e;
  if (!parse_timing(text, &t, &e)) return "error " + std::to_string(e.position) + ": " + e.message;
  Words w;
  describe(t, nullptr, w);
  return w.text();
}

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

TEST(Civil, DaysAndDatesAgreeOverCenturies) {
  int64_t day = days_of(1890, 1, 1);
  for (int y = 1890; y < 2210; y++)
    for (int m = 1; m <= 12; m++)
      for (int d = 1; d <= days_in_month(y, m); d++, day++) {
        ASSERT_EQ(days_of(y, m, d), day);
        const Civil c = civil_of(day);
        ASSERT_TRUE(c.year == y && c.month == m && c.day == d);
      }
  EXPECT_EQ(weekday_of(0), 6);
  EXPECT_EQ(weekday_of(days_of(2026, 11, 21)), 6);
  EXPECT_EQ(weekday_of(days_of(1999, 12, 26)), 0);
}

TEST(Timing, Readings) {
  EXPECT_EQ(reading("30 2 LW * *"), "at 02:30 on the last weekday of each month");
  EXPECT_EQ(reading("* * * * *"), "every minute");
  EXPECT_EQ(reading("*/5 9-17 * * 1-5"), "every 5 minutes of hours 9 to 17 on weekdays");
  EXPECT_EQ(reading("0 0 1,15 * 5"), "at 00:00 on the 1st and 15th of each month or on a Friday");
  EXPECT_EQ(reading("0 0 * * MON#1"), "at 00:00 on the first Monday of each month");
  EXPECT_EQ(reading("0 0 * * 5L"), "at 00:00 on the last Friday of each month");
  EXPECT_EQ(reading("0 0 L-3 * *"), "at 00:00 on the 3rd day before the last of each month");
  EXPECT_EQ(reading("@daily"), "at 00:00 every day");
  EXPECT_EQ(reading("*/10 * * * * *"), "every 10 seconds");
  EXPECT_EQ(reading("every 90 seconds"), "every 1 minute and 30 seconds");
  EXPECT_EQ(reading("every day from 2030-01-01 06:00"), "every day from 2030-01-01 06:00");
  EXPECT_EQ(reading("@every 1h30m"), "every 1 hour and 30 minutes");
  EXPECT_EQ(reading("every 5 minutes after end"), "5 minutes after the end of the last run");
  EXPECT_EQ(reading("at 2030-01-31 18:00, 2030-02-01T09:00:30Z"), "at each of 2 instants: 2030-01-31 18:00, 2030-02-01 09:00:30 UTC");
  EXPECT_EQ(reading("after 10 minutes"), "once, 10 minutes after it was scheduled");
  EXPECT_EQ(reading("@reboot"), "at each start of the server");
  EXPECT_EQ(reading("0 0 L-1 * *"), "at 00:00 on the day before the last of each month");
  EXPECT_EQ(reading("0 9-17 * * 1-5"), "every hour from 09:00 to 17:00 on weekdays");
  EXPECT_EQ(reading("0 1-7,12 * * *"), "at minute 0 of hours 1 to 7 and 12");
  EXPECT_EQ(reading("* * * jan-mar,DEC *"), "every minute in January to March and December");
  EXPECT_EQ(reading("0 12 * 6 *"), "at 12:00 every day in June");
  EXPECT_EQ(reading("0 0 * * 5-7"), "at 00:00 on Friday to Sunday");
  EXPECT_EQ(reading("0 0 * * sat,sun"), "at 00:00 on Saturday and Sunday");
  EXPECT_EQ(reading("0 0 * * 1,MON#2,FRIL"), "at 00:00 on Monday, the second Monday and the last Friday of each month");
  EXPECT_EQ(reading("0 0 * * 1,3,MON#2"), "at 00:00 on Monday, Wednesday and the second Monday of each month");
  EXPECT_EQ(reading("*/7 * * * *"), "every 7 minutes from the start of each hour");
  EXPECT_EQ(reading("*/7 * * * * *"), "every 7 seconds from the start of each minute");
  EXPECT_EQ(reading("*/5 */2 * * *"), "every 5 minutes of every second hour, from 00:00 on");
  EXPECT_EQ(reading("*/5 */7 * * *"), "every 5 minutes of every 7th hour, from 00:00 on");
  EXPECT_EQ(reading("0 0 1 * */2"), "at 00:00 on the 1st of each month if it is a Tuesday, a Thursday, a Saturday or a Sunday");
  EXPECT_EQ(reading("0 0 1 * 1,5"), "at 00:00 on the 1st of each month or on a Monday or a Friday");
  EXPECT_EQ(reading("0 0 1-31 * 1"), "at 00:00 every day") << "Vixie: no star, so either makes the day, and each is one";
  EXPECT_EQ(reading("0 0 5 * 0-7"), "at 00:00 every day");
  EXPECT_EQ(reading("0 0 5 * *"), "at 00:00 on the 5th of each month");
  EXPECT_EQ(reading("at 2030-01-31 18:00 +01"), "once at 2030-01-31 17:00 UTC");
}

TEST(Timing, EveryMistakeHasItsMessageAndPlace) {
  struct Case {
    const char* text;
    int position;
    const char* message;
  };
  const Case cases[] = {
      {"", 1, "timing is empty"},
      {"   ", 4, "timing is empty"},
      {"* * *", 6, "3 fields found, 5 or 6 are needed"},
      {"*", 2, "1 field found, 5 or 6 are needed"},
      {"* * * * * * *", 13, "7 fields found, 5 or 6 are needed"},
      {"* * * * * * * *", 15, "too many fields"},
      {"60 * * * *", 1, "minute 60 is out of range 0 to 59"},
      {"* 24 * * *", 3, "hour 24 is out of range 0 to 23"},
      {"* * 0 * *", 5, "day of month 0 is out of range 1 to 31"},
      {"* * 32 * *", 5, "day of month 32 is out of range 1 to 31"},
      {"* * * 0 *", 7, "month 0 is out of range 1 to 12"},
      {"* * * 13 *", 7, "month 13 is out of range 1 to 12"},
      {"* * * * 8", 9, "day of week 8 is out of range 0 to 7"},
      {"61 * * * * *", 1, "second 61 is out of range 0 to 59"},
      {"99999999999999 * * * *", 1, "number is too large"},
      {"*/0 * * * *", 3, "step of 0 in field \"minute\""},
      {"*/61 * * * *", 3, "step 61 is larger than field \"minute\""},
      {"*/ * * * *", 3, "step without a number in field \"minute\""},
      {"*/x * * * *", 3, "step without a number in field \"minute\""},
      {"5/ * * * *", 3, "step without a number in field \"minute\""},
      {"/5 * * * *", 1, "missing value in field \"minute\""},
      {"1- * * * *", 3, "range without an end in field \"minute\""},
      {"-1 * * * *", 1, "unexpected \"-\" in field \"minute\""},
      {"1--2 * * * *", 3, "unexpected \"-\" in field \"minute\""},
      {"1-2-3 * * * *", 4, "unexpected \"-\" in field \"minute\""},
      {"1/2/3 * * * *", 4, "unexpected \"/\" in field \"minute\""},
      {",1 * * * *", 1, "empty item in the list of field \"minute\""},
      {"1,,2 * * * *", 3, "empty item in the list of field \"minute\""},
      {"1, * * * *", 3, "empty item in the list of field \"minute\""},
      {"5-1 * * * *", 1, "range from 5 to 1 goes backwards"},
      {"* * * * 5-1", 9, "range from 5 to 1 goes backwards"},
      {"+5 * * * *", 1, "sign in field \"minute\""},
      {"1.5 * * * *", 2, "fraction in field \"minute\""},
      {"0~10 * * * *", 2, "random ranges (\"~\") are not supported"},
      {"H * * * *", 1, "\"H\" is not supported"},
      {"? * * * *", 1, "\"?\" is not allowed as minute"},
      {"L * * * *", 1, "\"L\" is not allowed here in field \"minute\""},
      {"* * W * *", 5, "\"W\" needs a day"},
      {"* * * * L", 9, "\"L\" as day of week needs a day"},
      {"* * * * 5W", 10, "\"W\" is not allowed here in field \"day of week\""},
      {"* * 5#2 * *", 6, "\"#\" is not allowed here in field \"day of month\""},
      {"* * * * 5#6", 11, "\"#\" needs a number from 1 to 5"},
      {"* * * * 5#", 11, "\"#\" needs a number from 1 to 5"},
      {"* * L- * *", 7, "\"L-\" needs a number of days"},
      {"* * L-31 * *", 7, "L-31 is before any month begins"},
      {"* * * JANUAR *", 7, "unknown name \"JANUAR\" in field \"month\""},
      {"* * * * lun", 9, "unknown name \"lun\" in field \"day of week\""},
      {"mon * * * *", 1, "a timing must be cron fields or begin with \"every\", \"at\", \"after\" or \"@\""},
      {"5x * * * *", 2, "unexpected character \"x\" in field \"minute\""},
      {"% * * * *", 1, "unexpected character \"%\" in field \"minute\""},
      {"\xef\xbc\x95 * * * *", 1, "unexpected character in field \"minute\""},
      {"*5 * * * *", 2, "unexpected character \"5\" in field \"minute\""},
      {"0 0 30 2 *", 5, "this date never comes"},
      {"0 0 31 4,6,9,11 *", 5, "this date never comes"},
      {"0 0 30W 2 *", 5, "this date never comes"},
      {"0\n0 * * *", 2, "control character in timing"},
      {"@foo", 1, "unknown name after \"@\""},
      {"@", 1, "unknown name after \"@\""},
      {"@daily x", 8, "unexpected text after the name"},
      {"@reboot 5", 9, "unexpected text after \"@reboot\""},
      {"tomorrow", 1, "a timing must be cron fields or begin with \"every\", \"at\", \"after\" or \"@\""},
      {"every", 6, "interval is missing"},
      {"every 5", 7, "number without a unit"},
      {"every 5 fortnights", 9, "unknown unit of time"},
      {"every 0 seconds", 7, "interval is zero"},
      {"every -5 seconds", 7, "negative interval"},
      {"every 1.5 hours", 8, "fraction in an interval"},
      {"every 101 years", 7, "interval is longer than 100 years"},
      {"every 5 minutes after", 22, "\"after\" must be followed by \"end\""},
      {"every 5 minutes after lunch", 23, "\"after\" must be followed by \"end\""},
      {"every 5 minutes after end x", 27, "unexpected text after \"after end\""},
      {"every 5 minutes!", 16, "unexpected text after the interval"},
      {"at", 3, "year needs 4 digits"},
      {"at noon", 4, "year needs 4 digits"},
      {"at 2030-13-01", 9, "month 13 is out of range 1 to 12"},
      {"at 2030-02-30", 4, "2030-02 has no day 30"},
      {"at 2030/02/03", 8, "\"-\" expected after the year"},
      {"at 2030-02-03 25:00", 15, "hour 25 is out of range 0 to 23"},
      {"at 2030-02-03 12", 17, "\":\" expected after the hour"},
      {"at 2030-02-03 12:60", 18, "minute 60 is out of range 0 to 59"},
      {"at 2030-02-03 12:00,", 21, "year needs 4 digits"},
      {"at 2030-02-03 12:00 CET", 21, "unexpected text after an instant"},
      {"at 2030-02-03 12:00+99", 21, "offset 99 is out of range 0 to 15"},
      {"after", 6, "interval is missing"},
      {"90 seconds", 1, "an interval must begin with \"every\" or \"after\""},
      {"5m", 1, "an interval must begin with \"every\" or \"after\""},
      {"2030-01-31 18:00", 1, "an instant must begin with \"at\""},
      {"0 0 1 1 * 2030", 11, "day of week 2030 is out of range 0 to 7"},
      {"every day at 10:00", 11, "unexpected text after the interval"},
      {"every monday", 7, "unknown unit of time"},
      {"after 5 minutes from now", 17, "unexpected text after the interval"},
  };
  std::set<std::string> kinds;
  for (const Case& c : cases) {
    Timing t;
    ParseError e;
    EXPECT_FALSE(parse_timing(c.text, &t, &e)) << c.text;
    EXPECT_EQ(std::string(e.message), c.message) << c.text;
    EXPECT_EQ(e.position, c.position) << c.text;
    kinds.insert(e.message);
  }
  EXPECT_GE(std::size(cases), 60U);
}

TEST(Timing, NoTextBreaksTheParser) {
  std::mt19937 random(7);
  const std::string letters = "0123456789*/,-#?LWlw @:.+ZT\tabcdefghijklmnopqrstuvwxyz\xc3";
  const char* const seeds[] = {"30 2 LW * *", "*/5 9-17 1,15 JAN-MAR MON#2", "every 1h30m from 2030-01-01 12:00",
                               "at 2030-01-31 18:00:00.5+01:00, 2031-01-01", "@every 5 days after end"};
  for (int i = 0; i < 300000; i++) {
    std::string s = i % 3 == 0 ? "" : seeds[random() % 5];
    for (unsigned n = random() % 12; n > 0; n--) {
      const char c = letters[random() % letters.size()];
      const size_t at = s.empty() ? 0 : random() % (s.size() + 1);
      if (random() % 2 == 0 || at == s.size())
        s.insert(at, 1, c);
      else
        s[at] = c;
    }
    Timing t;
    ParseError e;
    if (parse_timing(s.c_str(), &t, &e)) {
      Words w;
      describe(t, "UTC", w);
      ASSERT_NE(w.text()[0], '\0') << s;
      if (t.kind == TimingKind::Cron) ASSERT_NE(next_wall(t.cron, 0), kNever) << s;
    } else {
      ASSERT_GE(e.position, 1) << s;
      ASSERT_LE(e.position, static_cast<int>(s.size()) + 1) << s;
      ASSERT_NE(e.message[0], '\0') << s;
    }
  }
}

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
