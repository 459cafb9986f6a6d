// Named sets of days and hours: holidays, business hours, month ends. An entry names days and, if it likes, hours of them.
#pragma once

#include "core/timing.hpp"

namespace dts::core {

struct CalendarEntry {
  enum class Days : uint8_t { All, Weekdays, Dates, Yearly, Monthly };
  Days days = Days::All;
  uint8_t weekdays = 0;         // Weekdays: bit 0 is Sunday
  uint8_t month = 0, day = 0;   // Yearly
  int64_t first = 0, last = 0;  // Dates
  Cron monthly;                 // Monthly: the day-of-month part
  int from = 0, to = 24 * 60;   // minutes of the day, [from, to)
};

/// Entries in memory of the caller.
struct Calendar {
  const CalendarEntry* entries = nullptr;
  int n = 0;
};

inline bool on_day(const CalendarEntry& e, int64_t day) {
  switch (e.days) {
    case CalendarEntry::Days::All: return true;
    case CalendarEntry::Days::Weekdays: return (e.weekdays >> weekday_of(day) & 1U) != 0;
    case CalendarEntry::Days::Dates: return day >= e.first && day <= e.last;
    case CalendarEntry::Days::Yearly: {
      const Civil d = civil_of(day);
      return d.month == e.month && d.day == e.day;
    }
    case CalendarEntry::Days::Monthly: return matches_month_day(e.monthly, civil_of(day), day);
  }
  return false;
}

/// Whether a wall second is in the calendar.
inline bool contains(const Calendar& c, int64_t wall) {
  const int64_t day = floor_div(wall, kSecondsPerDay);
  const int64_t minute = (wall - day * kSecondsPerDay) / 60;
  for (int i = 0; i < c.n; i++)
    if (minute >= c.entries[i].from && minute < c.entries[i].to && on_day(c.entries[i], day)) return true;
  return false;
}

/// Whether any time of a day may be in it.
inline bool any_time(const Calendar& c, int64_t day) {
  for (int i = 0; i < c.n; i++)
    if (on_day(c.entries[i], day)) return true;
  return false;
}

/// Whether one entry covers the whole day.
inline bool all_day(const Calendar& c, int64_t day) {
  for (int i = 0; i < c.n; i++)
    if (c.entries[i].from == 0 && c.entries[i].to == 24 * 60 && on_day(c.entries[i], day)) return true;
  return false;
}

}  // namespace dts::core
