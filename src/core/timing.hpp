// When a schedule is due: the compiled form of the timing language, and cron's fields. Plain data. docs/schedules.md is the grammar.
#pragma once

#include "core/civil.hpp"

namespace dts::core {

enum class TimingKind : uint8_t {
  Cron,      // five fields, six with seconds, @daily and friends
  Every,     // a fixed interval from an anchor
  AfterEnd,  // an interval after the end of the last run
  At,        // instants
  After,     // once, an interval after the schedule was made
  Reboot,    // at each start of the server
};

/// A set of values per field, one bit each.
struct Cron {
  uint64_t seconds = 1, minutes = 0;
  uint32_t hours = 0, days = 0;
  uint16_t months = 0;
  uint8_t weekdays = 0;
  uint32_t last_days = 0;     // bit k: k days before the last day of the month
  uint32_t near_days = 0;     // bit d: the weekday (Monday to Friday) nearest to day d of the month
  bool last_weekday = false;  // LW: the last Monday to Friday of the month
  uint8_t last_of = 0;        // bit w: the last such weekday of the month
  uint8_t nth_of[6] = {};     // [n], bit w: the n-th such weekday of the month
  bool any_day = false;       // the field begins with a star
  bool any_weekday = false;
  bool any_hour = false;  // decides how clock changes are met
  bool both = false;      // day of month and day of week must both match
  bool has_seconds = false;
};

/// Like the server's interval: months and days go by the calendar, the rest by the clock.
struct Span {
  int32_t months = 0, days = 0;
  int64_t us = 0;
};

/// A point in time as written: with an offset from UTC it is absolute, else on the wall of the schedule's zone.
struct Point {
  int64_t us = 0;
  bool wall = false;
};

constexpr int kMaxPoints = 256;

struct Timing {
  TimingKind kind = TimingKind::Cron;
  Cron cron;
  Span span;
  bool anchored = false;  // "from" was given: points[0]
  int n_points = 0;
  Point points[kMaxPoints];
};

/// Whether a day belongs to the day-of-month part of the fields.
constexpr bool matches_month_day(const Cron& c, const Civil& d, int64_t days) {
  const int length = days_in_month(d.year, d.month);
  if ((c.days >> d.day & 1U) != 0 || (c.last_days >> (length - d.day) & 1U) != 0) return true;
  if (c.near_days == 0 && !c.last_weekday) return false;
  const int w = weekday_of(days);
  if (w == 0 || w == 6) return false;
  if (c.last_weekday && (d.day == length || (w == 5 && length - d.day <= 2))) return true;
  // "15W": that day, or Friday for a Saturday, Monday for a Sunday, but never in another month.
  if ((c.near_days >> d.day & 1U) != 0) return true;
  if (w == 5 && d.day < length && (c.near_days >> (d.day + 1) & 1U) != 0) return true;       // Saturday is the day
  if (w == 1 && d.day > 1 && (c.near_days >> (d.day - 1) & 1U) != 0) return true;            // Sunday is the day
  if (w == 1 && d.day == 3 && (c.near_days >> 1 & 1U) != 0) return true;                     // Saturday the 1st
  return w == 5 && d.day == length - 2 && length < 32 && (c.near_days >> length & 1U) != 0;  // Sunday the last
}

constexpr bool matches_weekday(const Cron& c, const Civil& d, int64_t days) {
  const int w = weekday_of(days);
  if ((c.weekdays >> w & 1U) != 0) return true;
  if ((c.last_of >> w & 1U) != 0 && d.day + 7 > days_in_month(d.year, d.month)) return true;
  return (c.nth_of[(d.day - 1) / 7 + 1] >> w & 1U) != 0;
}

/// The day rule of Vixie cron: if both day fields are restricted, either one makes the day; `both` asks for both.
constexpr bool matches_day(const Cron& c, const Civil& d, int64_t days) {
  if ((c.months >> d.month & 1U) == 0) return false;
  const bool by_day = matches_month_day(c, d, days);
  const bool by_weekday = matches_weekday(c, d, days);
  return c.both || c.any_day || c.any_weekday ? by_day && by_weekday : by_day || by_weekday;
}

/// Lowest bit at or above `from`; -1 if there is none.
constexpr int next_bit(uint64_t set, int from) {
  if (from > 63) return -1;
  set &= ~uint64_t{0} << (from < 0 ? 0 : from);
  return set == 0 ? -1 : __builtin_ctzll(set);
}

/// The first time of a day at or after `time`, in seconds; -1 if there is none.
constexpr int next_time(const Cron& c, int time) {
  int h = time / 3600;
  int m = time / 60 % 60;
  int s = next_bit(c.seconds, time % 60);
  if (s < 0) {
    m++;
    s = next_bit(c.seconds, 0);
  }
  if ((c.hours >> h & 1U) != 0) {
    const int minute = next_bit(c.minutes, m);
    if (minute >= 0) return h * 3600 + minute * 60 + (minute == m ? s : next_bit(c.seconds, 0));
  }
  h = next_bit(c.hours, h + 1);
  return h < 0 ? -1 : h * 3600 + next_bit(c.minutes, 0) * 60 + next_bit(c.seconds, 0);
}

/// A leap day on a given weekday may take 40 years; what does not come in this time never does.
constexpr int kHorizonYears = 50;
constexpr int64_t kHorizon = int64_t{kHorizonYears} * 366 * kSecondsPerDay * kUsPerSecond;

/// The first wall second at or after `wall` that the fields name; kNever if there is none within the horizon.
constexpr int64_t next_wall(const Cron& c, int64_t wall) {
  int64_t day = floor_div(wall, kSecondsPerDay);
  int time = static_cast<int>(wall - day * kSecondsPerDay);
  Civil d = civil_of(day);
  const int last_year = d.year + kHorizonYears;
  while (d.year <= last_year) {
    if ((c.months >> d.month & 1U) == 0) {
      d = d.month == 12 ? Civil{d.year + 1, 1, 1} : Civil{d.year, d.month + 1, 1};
      day = days_of(d.year, d.month, d.day);
      time = 0;
      continue;
    }
    if (matches_day(c, d, day)) {
      const int t = next_time(c, time);
      if (t >= 0) return day * kSecondsPerDay + t;
    }
    day++;
    time = 0;
    if (++d.day > days_in_month(d.year, d.month)) d = civil_of(day);
  }
  return kNever;
}

}  // namespace dts::core
