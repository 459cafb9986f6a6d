// Cron's fields: values, ranges, steps, names and the special days L, W and #.
#pragma once

#include "core/timing.hpp"
#include "core/timing_reader.hpp"

namespace dts::core {

struct CronField {
  const char* name;
  int lowest, highest;
  const char* const* words;  // three letters each, from `lowest` on
  int n_words;
};

inline constexpr const char* kMonthWords[] = {"jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"};
inline constexpr const char* kDayWords[] = {"sun", "mon", "tue", "wed", "thu", "fri", "sat"};
enum CronIndex { kSecond, kMinute, kHour, kDay, kMonth, kWeekday };
inline constexpr CronField kCronFields[] = {{"second", 0, 59, nullptr, 0},     {"minute", 0, 59, nullptr, 0},
                                            {"hour", 0, 23, nullptr, 0},       {"day of month", 1, 31, nullptr, 0},
                                            {"month", 1, 12, kMonthWords, 12}, {"day of week", 0, 7, kDayWords, 7}};

/// Reads one field after the other into a Cron.
class CronParser {
 public:
  CronParser(Reader& reader, Cron* out) : r_(reader), cron_(out) {}

  /// One field, up to the reader's end.
  bool field(CronIndex index) {
    index_ = index;
    f_ = &kCronFields[index];
    const char* const first = r_.at();
    const char c = r_.peek();
    if (c == '*' || c == '?') {
      if (index == kDay) cron_->any_day = true;
      if (index == kWeekday) cron_->any_weekday = true;
      if (index == kHour) cron_->any_hour = c == '*';
    }
    if (c == '?' && index != kDay && index != kWeekday)
      return r_.failf(first, "Write * for every value.", "\"?\" is not allowed as %s", f_->name);
    for (;;) {
      if (r_.done() || r_.peek() == ',')
        return r_.failf(r_.at(), "Take away the extra comma.", "empty item in the list of field \"%s\"", f_->name);
      if (!item()) return false;
      if (r_.done()) break;
      if (r_.peek() != ',') return unexpected();
      r_.skip();
    }
    store();
    return true;
  }

 private:
  bool unexpected() {
    const char c = r_.peek();
    if (c == '+') return r_.failf(r_.at(), "Write the number without a sign.", "sign in field \"%s\"", f_->name);
    if (c == '.')
      return r_.failf(r_.at(), "For intervals below a minute use six fields, or \"every n seconds\".", "fraction in field \"%s\"",
                      f_->name);
    if (c == '~') return r_.failf(r_.at(), "For a spread of starts use the option \"jitter\".", "random ranges (\"~\") are not supported");
    if (c == '-') return r_.failf(r_.at(), "A range is written 1-5.", "unexpected \"-\" in field \"%s\"", f_->name);
    if (c == '/') return r_.failf(r_.at(), "A step follows * or a range: */5, 10-40/5.", "unexpected \"/\" in field \"%s\"", f_->name);
    if (c == '#')
      return r_.failf(r_.at(), "For the second Monday write MON#2 as day of week.", "\"#\" is not allowed here in field \"%s\"", f_->name);
    if (Reader::lower(c) == 'l')
      return r_.failf(r_.at(), "L is for days: L or L-3 as day of month, FRIL as day of week.", "\"L\" is not allowed here in field \"%s\"",
                      f_->name);
    if (Reader::lower(c) == 'w')
      return r_.failf(r_.at(), "W is for days of the month: 15W, LW.", "\"W\" is not allowed here in field \"%s\"", f_->name);
    if (static_cast<unsigned char>(c) >= 0x80)
      return r_.failf(r_.at(), "Only ASCII digits, letters and * , - / # are used.", "unexpected character in field \"%s\"", f_->name);
    return r_.failf(r_.at(), "Values, ranges (1-5), lists (1,2) and steps (*/5) are known.", "unexpected character \"%c\" in field \"%s\"",
                    c, f_->name);
  }

  int value(bool after_dash = false) {
    if (Reader::is_digit(r_.peek())) return number_in_range();
    if (r_.done() || r_.peek() == ',' || r_.peek() == '/') {
      r_.failf(r_.at(), "A range is written 1-5.", after_dash ? "range without an end in field \"%s\"" : "missing value in field \"%s\"",
               f_->name);
      return -1;
    }
    if (!Reader::is_letter(r_.peek())) {
      unexpected();
      return -1;
    }
    return name();
  }

  int number_in_range() {
    const char* const first = r_.at();
    const int64_t v = r_.number();
    if (v < 0) return -1;
    if (v < f_->lowest || v > f_->highest) {
      r_.failf(first,
               index_ == kHour && v == 24 ? "Midnight is hour 0 of the next day."
               : index_ == kWeekday && v >= 1900
                   ? "There is no field for years: use the options starts_at and ends_at. Six fields begin with seconds."
               : index_ == kWeekday ? "Sunday is 0 or 7, Saturday is 6."
                                    : "",
               "%s %lld is out of range %d to %d", f_->name, static_cast<long long>(v), f_->lowest, f_->highest);
      return -1;
    }
    return static_cast<int>(v);
  }

  int name() {
    const char* const first = r_.at();
    int length = 0;
    while (Reader::is_letter(r_.peek(length))) length++;
    for (int i = 0; i < f_->n_words; i++) {
      const char* const w = f_->words[i];
      const bool same = Reader::lower(r_.peek(0)) == w[0] && Reader::lower(r_.peek(1)) == w[1] && Reader::lower(r_.peek(2)) == w[2];
      // "FRIL": the last Friday.
      if (same && (length == 3 || (length == 4 && index_ == kWeekday && Reader::lower(r_.peek(3)) == 'l'))) {
        r_.skip(3);
        return i + f_->lowest;
      }
    }
    if (Reader::lower(r_.peek()) == 'h' && (length == 1 || f_->words == nullptr))
      r_.fail(first, "\"H\" is not supported", "For a spread of starts use the option \"jitter\".");
    else if (f_->words == nullptr)
      unexpected();
    else
      r_.failf(first,
               index_ == kMonth ? "Months are JAN, FEB, MAR, APR, MAY, JUN, JUL, AUG, SEP, OCT, NOV, DEC."
                                : "Days are SUN, MON, TUE, WED, THU, FRI, SAT.",
               "unknown name \"%.*s\" in field \"%s\"", length > 20 ? 20 : length, first, f_->name);
    return -1;
  }

  int step() {
    const char* const first = r_.at();
    if (!Reader::is_digit(r_.peek())) {
      r_.failf(first, "A step is a number: */5.", "step without a number in field \"%s\"", f_->name);
      return -1;
    }
    const int64_t v = r_.number();
    if (v < 0) return -1;
    if (v == 0) {
      r_.failf(first, "The smallest step is 1.", "step of 0 in field \"%s\"", f_->name);
      return -1;
    }
    if (v > f_->highest - f_->lowest + 1) {
      r_.failf(first, "Such a step would name the first value only: write that.", "step %lld is larger than field \"%s\"",
               static_cast<long long>(v), f_->name);
      return -1;
    }
    return static_cast<int>(v);
  }

  void add(int from, int to, int by) {
    for (int i = from; i <= to; i += by) set_ |= uint64_t{1} << i;
  }

  bool last_day() {
    r_.skip();
    if (Reader::lower(r_.peek()) == 'w') {
      r_.skip();
      cron_->last_weekday = true;
      return true;
    }
    int before = 0;
    if (r_.peek() == '-') {
      r_.skip();
      const char* const first = r_.at();
      const int64_t v = r_.number();
      if (v < 0) return r_.fail(first, "\"L-\" needs a number of days", "L-3 is three days before the last day of the month.");
      if (v > 30) return r_.failf(first, "L-30 is the earliest.", "L-%lld is before any month begins", static_cast<long long>(v));
      before = static_cast<int>(v);
    }
    cron_->last_days |= uint32_t{1} << before;
    return true;
  }

  bool item() {
    const char* const first = r_.at();
    const char c = r_.peek();
    const char low = Reader::lower(c);
    if (c == '*' || c == '?') return every_value();
    if (index_ == kDay && low == 'l') return last_day();
    if (index_ == kDay && low == 'w')
      return r_.fail(first, "\"W\" needs a day", "15W is the weekday nearest to the 15th, LW the last weekday.");
    if (index_ == kWeekday && low == 'l' && !Reader::is_letter(r_.peek(1)))
      return r_.fail(first, "\"L\" as day of week needs a day",
                     "FRIL or 5L is the last Friday of the month; the last day of the month is L as day of month.");
    const int from = value();
    if (from < 0) return false;
    if (index_ == kDay && Reader::lower(r_.peek()) == 'w') {
      r_.skip();
      cron_->near_days |= uint32_t{1} << from;
      return true;
    }
    if (index_ == kWeekday && Reader::lower(r_.peek()) == 'l') {
      r_.skip();
      cron_->last_of = static_cast<uint8_t>(cron_->last_of | 1U << (from % 7));
      return true;
    }
    if (index_ == kWeekday && r_.peek() == '#') {
      r_.skip();
      const char* const where = r_.at();
      const int64_t n = r_.number();
      if (n < 1 || n > 5)
        return r_.fail(where, "\"#\" needs a number from 1 to 5", "MON#2 is the second Monday of the month; the last one is MONL.");
      cron_->nth_of[n] = static_cast<uint8_t>(cron_->nth_of[n] | 1U << (from % 7));
      return true;
    }
    return range(from, first);
  }

  /// A star: every value, or each so many.
  bool every_value() {
    r_.skip();
    int by = 1;
    if (r_.peek() == '/') {
      r_.skip();
      if ((by = step()) < 0) return false;
    }
    add(f_->lowest, index_ == kWeekday ? 6 : f_->highest, by);
    return true;
  }

  /// What follows the value `from`, which began at `first`: the end of a range, a step.
  bool range(int from, const char* first) {
    int to = from;
    const bool has_end = r_.peek() == '-';
    if (has_end) {
      r_.skip();
      if ((to = value(true)) < 0) return false;
      if (to < from && !(index_ == kWeekday && to == 0)) {
        return r_.failf(
            first, index_ == kWeekday ? "A range goes upwards; write two: FRI-SUN,MON." : "A range goes upwards; write two: 22-23,0-5.",
            "range from %d to %d goes backwards", from, to);
      }
      if (index_ == kWeekday && to == 0 && from > 0) to = 7;
    }
    int by = 1;
    if (r_.peek() == '/') {
      r_.skip();
      if ((by = step()) < 0) return false;
      if (!has_end) to = index_ == kWeekday ? 6 : f_->highest;  // 5/15: from 5 on
    }
    add(from, to, by);
    return true;
  }

  void store() {
    switch (index_) {
      case kSecond: cron_->seconds = set_; break;
      case kMinute: cron_->minutes = set_; break;
      case kHour: cron_->hours = static_cast<uint32_t>(set_); break;
      case kDay: cron_->days = static_cast<uint32_t>(set_); break;
      case kMonth: cron_->months = static_cast<uint16_t>(set_); break;
      case kWeekday: cron_->weekdays = static_cast<uint8_t>((set_ | set_ >> 7) & 0x7f); break;
    }
    set_ = 0;
  }

  Reader& r_;
  Cron* cron_;
  CronIndex index_ = kMinute;
  const CronField* f_ = nullptr;
  uint64_t set_ = 0;
};

}  // namespace dts::core
