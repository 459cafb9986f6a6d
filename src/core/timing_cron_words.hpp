// Cron's fields in plain English: "at 02:30 on the last weekday of each month".
#pragma once

#include "core/words.hpp"

namespace dts::core {

inline constexpr const char* kMonthNames[] = {"January", "February", "March",     "April",   "May",      "June",
                                              "July",    "August",   "September", "October", "November", "December"};
inline constexpr const char* kDayNames[] = {"Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"};
inline constexpr const char* kOrdinals[] = {"", "first", "second", "third", "fourth", "fifth"};

namespace words {

constexpr int count(uint64_t set) { return __builtin_popcountll(set); }
constexpr uint64_t all_up_to(int highest) { return (uint64_t{2} << highest) - 1; }
constexpr uint64_t kAllMinutes = all_up_to(59), kAllHours = all_up_to(23);

/// The step of a set that begins at `lowest` and goes on evenly to the end; 0 if it does not.
inline int step_of(uint64_t set, int lowest, int highest) {
  if (count(set) < 3 || (set >> lowest & 1U) == 0) return 0;
  const int by = next_bit(set, lowest + 1) - lowest;
  for (int i = lowest; i <= highest; i++)
    if (((set >> i & 1U) != 0) != ((i - lowest) % by == 0)) return 0;
  return by;
}

/// Whether all its values follow one another.
constexpr bool one_range(uint64_t set) { return set != 0 && ((set >> __builtin_ctzll(set)) & ((set >> __builtin_ctzll(set)) + 1)) == 0; }

/// A few times, each by its clock time.
inline void clock_times(Words& out, const Cron& c, int per_day) {
  int i = 0;
  out.add("at ");
  for (int t = next_time(c, 0); t >= 0; t = t + 1 < kSecondsPerDay ? next_time(c, t + 1) : -1) {
    out.between(i++, per_day);
    out.add("%02d:%02d", t / 3600, t / 60 % 60);
    if (t % 60 != 0) out.add(":%02d", t % 60);
  }
}

/// True: there is nothing to say of minutes and hours.
inline bool seconds(Words& out, const Cron& c) {
  const bool all_minutes = c.minutes == kAllMinutes;
  const int by = step_of(c.seconds, 0, 59);
  if (by == 1)
    out.add("every second");
  else if (by > 1)
    out.add(60 % by == 0 ? "every %d seconds" : "every %d seconds from the start of each minute", by);
  else {
    out.add("at second ");
    numbers(out, c.seconds);
  }
  if (all_minutes && c.hours == kAllHours) {
    if (by == 0) out.add(" of every minute");
    return true;
  }
  out.add(all_minutes ? "" : by == 0 ? " of " : " in ");
  return false;
}

/// True: the hours are told, too.
inline bool minutes(Words& out, const Cron& c) {
  const bool all_hours = c.hours == kAllHours;
  const int minutes_by = step_of(c.minutes, 0, 59);
  const int hours_by = step_of(c.hours, 0, 23);
  if (c.minutes == kAllMinutes) {
    if (c.seconds == 1) out.add("every minute");
  } else if (minutes_by > 1) {
    out.add(60 % minutes_by == 0 ? "every %d minutes" : "every %d minutes from the start of each hour", minutes_by);
  } else if (c.minutes == 1 && c.seconds == 1 && (hours_by > 1 || all_hours)) {
    out.add(hours_by > 1 ? "every %d hours" : "every hour", hours_by);
    return true;
  } else if (c.minutes == 1 && c.seconds == 1 && one_range(c.hours)) {
    const int first = next_bit(c.hours, 0);
    out.add("every hour from %02d:00 to %02d:00", first, first + count(c.hours) - 1);
    return true;
  } else {
    out.add(c.seconds == 1 ? "at minute " : "minute ");
    numbers(out, c.minutes);
    if (all_hours) out.add(" of every hour");
  }
  return false;
}

inline void hours(Words& out, const Cron& c) {
  if (c.hours == kAllHours) return;
  const int hours_by = step_of(c.hours, 0, 23);
  if (hours_by > 1) {
    if (hours_by <= 5)
      out.add(" of every %s hour, from 00:00 on", kOrdinals[hours_by]);
    else
      out.add(" of every %d%s hour, from 00:00 on", hours_by, suffix(hours_by));
    return;
  }
  out.add(" of hour%s ", count(c.hours) > 1 ? "s" : "");
  numbers(out, c.hours);
}

inline void times(Words& out, const Cron& c) {
  const int per_day = count(c.hours) * count(c.minutes) * count(c.seconds);
  if (per_day <= 6) {
    clock_times(out, c, per_day);
    return;
  }
  if (c.has_seconds && c.seconds != 1 && seconds(out, c)) return;
  if (!minutes(out, c)) hours(out, c);
}

inline void month_days(Words& out, const Cron& c) {
  const bool each = c.months == all_up_to(12) - 1;
  uint64_t days = c.days;
  const int n = (days != 0 ? 1 : 0) + count(c.last_days) + count(c.near_days) + (c.last_weekday ? 1 : 0);
  int i = 0;
  const int by = step_of(days, 1, 31);
  if (by > 1) {
    out.add("every %d days from the 1st", by);
    i++;
  } else if (days != 0) {
    out.add("the ");
    ranges(
        out, days, [&](int a) { out.add("%d%s", a, suffix(a)); },
        [&](int a, int b) { out.add("%d%s to %d%s", a, suffix(a), b, suffix(b)); });
    i++;
  }
  for (int d = 1; d <= 31; d++)
    if ((c.near_days >> d & 1U) != 0) {
      out.between(i++, n);
      out.add("the weekday nearest to the %d%s", d, suffix(d));
    }
  for (int k = 30; k >= 0; k--)
    if ((c.last_days >> k & 1U) != 0) {
      out.between(i++, n);
      if (k == 0)
        out.add("the last day");
      else if (k == 1)
        out.add("the day before the last");
      else
        out.add("the %d%s day before the last", k, suffix(k));
    }
  if (c.last_weekday) {
    out.between(i++, n);
    out.add("the last weekday");
  }
  if (each) out.add(" of each month");
}

/// `after_days`: they go with days of the month, as what a day may be.
inline void weekdays(Words& out, const Cron& c, bool after_days) {
  const char* const last = after_days ? "or" : "and";
  // The week of a reader begins on Monday.
  const uint64_t week = (c.weekdays & 0x7eU) | (c.weekdays & 1U) << 7;
  int n = week != 0 ? 1 : 0, i = 0;
  for (int w = 0; w < 7; w++) {
    n += c.last_of >> w & 1;
    for (int k = 1; k <= 5; k++) n += c.nth_of[k] >> w & 1;
  }
  if (c.weekdays == 0x3e) {
    out.add(after_days ? "a weekday" : "weekdays");
    i++;
  } else if (week != 0) {
    ranges(
        out, week, [&](int a) { out.add("%s%s", after_days ? "a " : "", kDayNames[a % 7]); },
        [&](int a, int b) { out.add("%s to %s", kDayNames[a % 7], kDayNames[b % 7]); }, n > 1 ? "," : last);
    i++;
  }
  for (int w = 0; w < 7; w++) {
    for (int k = 1; k <= 5; k++)
      if ((c.nth_of[k] >> w & 1) != 0) {
        out.between(i++, n, last);
        out.add("the %s %s", kOrdinals[k], kDayNames[w]);
      }
    if ((c.last_of >> w & 1) != 0) {
      out.between(i++, n, last);
      out.add("the last %s", kDayNames[w]);
    }
  }
  if (n > (week != 0 ? 1 : 0) && c.months == all_up_to(12) - 1) out.add(" of each month");
}

inline void cron(Words& out, const Cron& c) {
  times(out, c);
  bool days = c.days != all_up_to(31) - 1;
  bool week = c.weekdays != 0x7f;
  const bool either = !c.both && !c.any_day && !c.any_weekday;
  if (either && !(days && week)) days = week = false;  // one of the two is every day
  const bool months = c.months != all_up_to(12) - 1;
  if (days) {
    out.add(step_of(c.days, 1, 31) > 1 ? " " : " on ");
    month_days(out, c);
  }
  if (week) {
    out.add(days ? (either ? " or on " : " if it is ") : " on ");
    weekdays(out, c, days);
  }
  const int per_day = count(c.hours) * count(c.minutes) * count(c.seconds);
  if (months) {
    out.add(days ? " of " : week || per_day > 6 ? " in " : " every day in ");
    ranges(
        out, c.months, [&](int a) { out.add("%s", kMonthNames[(a + 11) % 12]); },
        [&](int a, int b) { out.add("%s to %s", kMonthNames[(a + 11) % 12], kMonthNames[(b + 11) % 12]); });
  }
  if (!days && !week && !months && per_day <= 6) out.add(" every day");
}

}  // namespace words

}  // namespace dts::core
