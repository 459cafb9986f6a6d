// The timing language: how what it takes reads in English, and that no text breaks it.
#include <gtest/gtest.h>

#include <random>
#include <string>

#include "core/timing_words.hpp"

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
