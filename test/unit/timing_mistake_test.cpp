// What the timing language refuses: every kind of mistake has its message and its place.
#include <gtest/gtest.h>

#include <initializer_list>
#include <string>

#include "core/timing_parse.hpp"

using namespace dts::core;

namespace {

struct Mistake {
  const char* text;
  int position;
  const char* message;
};

void expect_mistakes(std::initializer_list<Mistake> mistakes) {
  for (const Mistake& m : mistakes) {
    Timing t;
    ParseError e;
    EXPECT_FALSE(parse_timing(m.text, &t, &e)) << m.text;
    EXPECT_EQ(std::string(e.message), m.message) << m.text;
    EXPECT_EQ(e.position, m.position) << m.text;
  }
}

}  // namespace

TEST(TimingMistake, CronCountsRangesAndSteps) {
  expect_mistakes({
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
  });
}

TEST(TimingMistake, CronSignsNamesAndSpecialDays) {
  expect_mistakes({
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
      {"5x * * * *", 2, "unexpected character \"x\" in field \"minute\""},
      {"% * * * *", 1, "unexpected character \"%\" in field \"minute\""},
      {"\xef\xbc\x95 * * * *", 1, "unexpected character in field \"minute\""},
      {"*5 * * * *", 2, "unexpected character \"5\" in field \"minute\""},
      {"0 0 30 2 *", 5, "this date never comes"},
      {"0 0 31 4,6,9,11 *", 5, "this date never comes"},
      {"0 0 30W 2 *", 5, "this date never comes"},
      {"0 0 1 1 * 2030", 11, "day of week 2030 is out of range 0 to 7"},
  });
}

TEST(TimingMistake, WordsAndIntervals) {
  expect_mistakes({
      {"", 1, "timing is empty"},
      {"   ", 4, "timing is empty"},
      {"mon * * * *", 1, "a timing must be cron fields or begin with \"every\", \"at\", \"after\" or \"@\""},
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
      {"after", 6, "interval is missing"},
      {"90 seconds", 1, "an interval must begin with \"every\" or \"after\""},
      {"5m", 1, "an interval must begin with \"every\" or \"after\""},
      {"every day at 10:00", 11, "unexpected text after the interval"},
      {"every monday", 7, "unknown unit of time"},
      {"after 5 minutes from now", 17, "unexpected text after the interval"},
  });
}

TEST(TimingMistake, Instants) {
  expect_mistakes({
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
      {"2030-01-31 18:00", 1, "an instant must begin with \"at\""},
  });
}
