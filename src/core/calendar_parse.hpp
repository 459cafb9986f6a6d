// An entry of a calendar: days, then hours if it is not the whole day.
//   2030-12-25 | 2030-12-24..2030-12-31 | *-12-25 | mon-fri,sun | monthly L,15 | *      and then      09:00-17:00
#pragma once

#include "core/calendar.hpp"
#include "core/timing_cron.hpp"

namespace dts::core {

class CalendarParser {
 public:
  CalendarParser(const char* line, CalendarEntry* out, ParseError* error) : r_(line, error), e_(out) {}

  bool parse() {
    r_.blanks();
    const char* end = r_.end();
    while (end > r_.at() && Reader::is_blank(end[-1])) end--;
    r_.limit(end);
    if (r_.done()) return r_.fail(r_.at(), "calendar entry is empty", kForms);
    if (!(Reader::is_digit(r_.peek()) && r_.peek(2) == ':') && !days()) return false;
    r_.blanks();
    return r_.done() || (hours() && (r_.done() || r_.fail(r_.at(), "unexpected text after the hours", kForms)));
  }

 private:
  static constexpr const char* kForms =
      "Entries are 2030-12-25, 2030-12-24..2030-12-31, *-12-25, mon-fri, monthly L or *, each with hours if you like: mon-fri 09:00-17:00.";

  bool digits(int n, int lowest, int highest, const char* what, int* out) {
    const char* const first = r_.at();
    int v = 0;
    for (int i = 0; i < n; i++, r_.skip()) {
      if (!Reader::is_digit(r_.peek())) return r_.failf(r_.at(), kForms, "%s needs %d digits", what, n);
      v = v * 10 + (r_.peek() - '0');
    }
    if (v < lowest || v > highest) return r_.failf(first, "", "%s %d is out of range %d to %d", what, v, lowest, highest);
    *out = v;
    return true;
  }
  bool sign(char c) {
    if (r_.peek() != c) return r_.failf(r_.at(), kForms, "\"%c\" expected", c);
    r_.skip();
    return true;
  }

  bool date(int64_t* out) {
    const char* const first = r_.at();
    int y = 0, m = 0, d = 0;
    if (!digits(4, 1900, 2200, "year", &y) || !sign('-') || !digits(2, 1, 12, "month", &m) || !sign('-') || !digits(2, 1, 31, "day", &d))
      return false;
    if (d > days_in_month(y, m)) return r_.failf(first, "", "%04d-%02d has no day %d", y, m, d);
    *out = days_of(y, m, d);
    return true;
  }

  bool days() {
    if (r_.peek() == '*' && r_.peek(1) == '-') {
      r_.skip(2);
      int m = 0, d = 0;
      const char* const first = r_.at();
      if (!digits(2, 1, 12, "month", &m) || !sign('-') || !digits(2, 1, 31, "day", &d)) return false;
      if (d > days_in_month(2000, m)) return r_.failf(first, "", "month %d has no day %d", m, d);
      e_->days = CalendarEntry::Days::Yearly;
      e_->month = static_cast<uint8_t>(m);
      e_->day = static_cast<uint8_t>(d);
      return true;
    }
    if (r_.peek() == '*') {
      r_.skip();
      e_->days = CalendarEntry::Days::All;
      return true;
    }
    if (Reader::is_digit(r_.peek())) {
      e_->days = CalendarEntry::Days::Dates;
      if (!date(&e_->first)) return false;
      e_->last = e_->first;
      if (r_.peek() != '.') return true;
      const char* const first = r_.at();
      if (!sign('.') || !sign('.') || !date(&e_->last)) return false;
      return e_->last >= e_->first || r_.fail(first, "range of dates goes backwards", "The earlier date comes first.");
    }
    const bool monthly = r_.word("monthly");
    if (monthly) r_.blanks();
    const char* end = r_.at();
    while (end < r_.end() && !Reader::is_blank(*end)) end++;
    const char* const all = r_.end();
    r_.limit(end);
    Cron c;
    CronParser parser(r_, &c);
    if (r_.done())
      return r_.fail(r_.at(), "\"monthly\" needs days of the month",
                     "monthly L is the last day, monthly 1,15 two days, monthly LW the last weekday.");
    if (!parser.field(monthly ? kDay : kWeekday)) return false;
    r_.limit(all);
    e_->days = monthly ? CalendarEntry::Days::Monthly : CalendarEntry::Days::Weekdays;
    e_->weekdays = c.weekdays;
    e_->monthly = c;
    return (c.last_of == 0 && c.nth_of[1] == 0 && c.nth_of[2] == 0 && c.nth_of[3] == 0 && c.nth_of[4] == 0 && c.nth_of[5] == 0) ||
           r_.fail(end - 1, "L and # are not for calendars' weekdays", kForms);
  }

  bool time(int* out) {
    const char* const first = r_.at();
    int h = 0, m = 0;
    if (!digits(2, 0, 24, "hour", &h) || !sign(':') || !digits(2, 0, 59, "minute", &m)) return false;
    if (h == 24 && m > 0) return r_.fail(first, "time is after 24:00", "");
    *out = h * 60 + m;
    return true;
  }
  bool hours() {
    const char* const first = r_.at();
    if (!time(&e_->from) || !sign('-') || !time(&e_->to)) return false;
    return e_->to > e_->from ||
           r_.fail(first, "hours must end after they begin", "Over midnight takes two entries: 22:00-24:00 and 00:00-06:00.");
  }

  Reader r_;
  CalendarEntry* e_;
};

inline bool parse_calendar_entry(const char* text, CalendarEntry* out, ParseError* error) {
  *out = CalendarEntry{};
  *error = ParseError{};
  return CalendarParser(text, out, error).parse();
}

}  // namespace dts::core
