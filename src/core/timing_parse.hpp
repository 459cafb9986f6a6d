// The timing language: cron, intervals, instants. Every kind of mistake has a message of its own and the place of the character.
#pragma once

#include <cstdarg>
#include <cstdio>
#include <cstring>

#include "core/timing.hpp"

namespace dts::core {

/// What is wrong with a text; position counts characters (bytes) from 1, 0: nothing is wrong.
struct ParseError {
  int position = 0;
  char message[160] = "";
  char hint[160] = "";
};

constexpr int kLongestTiming = 8000;

/// Reads a text from left to right. The first complaint counts.
class Reader {
 public:
  Reader(const char* line, ParseError* error) : begin_(line), at_(line), end_(line + strlen(line)), error_(error) {}

  [[nodiscard]] bool failed() const { return error_->position != 0; }
  [[nodiscard]] const char* at() const { return at_; }
  [[nodiscard]] bool done() const { return at_ >= end_; }
  [[nodiscard]] char peek(int ahead = 0) const { return at_ + ahead < end_ ? at_[ahead] : '\0'; }
  void move(const char* to) { at_ = to; }
  void skip(int n = 1) { at_ += n; }
  void limit(const char* end) { end_ = end; }
  [[nodiscard]] const char* end() const { return end_; }

  static constexpr bool is_blank(char c) { return c == ' ' || c == '\t'; }
  static constexpr bool is_digit(char c) { return c >= '0' && c <= '9'; }
  static constexpr char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; }
  static constexpr bool is_letter(char c) { return lower(c) >= 'a' && lower(c) <= 'z'; }

  void blanks() {
    while (is_blank(peek())) at_++;
  }
  /// Takes a word of letters if it is this one, whatever its case.
  bool word(const char* w) {
    const size_t n = strlen(w);
    for (size_t i = 0; i < n; i++)
      if (lower(peek(static_cast<int>(i))) != w[i]) return false;
    if (is_letter(peek(static_cast<int>(n)))) return false;
    at_ += n;
    return true;
  }
  /// A number of at most nine digits; -1 and no complaint if there is none here.
  int64_t number() {
    if (!is_digit(peek())) return -1;
    int64_t v = 0;
    const char* const first = at_;
    while (is_digit(peek())) {
      if (at_ - first >= 9) {
        fail(first, "number is too large", "");
        return -1;
      }
      v = v * 10 + (*at_++ - '0');
    }
    return v;
  }

  bool fail(const char* where, const char* message, const char* hint) {
    if (failed()) return false;
    error_->position = static_cast<int>(where - begin_) + 1;
    snprintf(error_->message, sizeof(error_->message), "%s", message);
    snprintf(error_->hint, sizeof(error_->hint), "%s", hint);
    return false;
  }
  __attribute__((format(printf, 4, 5))) bool failf(const char* where, const char* hint, const char* format, ...) {
    if (failed()) return false;
    char text[sizeof(error_->message)];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    return fail(where, text, hint);
  }

 private:
  const char* begin_;
  const char* at_;
  const char* end_;
  ParseError* error_;
};

// ---- cron

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

  /// Only the day-of-month field (calendars have it too).
  bool month_days() { return field(kDay); }

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

  /// A number or a name; -1 after a complaint.
  int value(bool after_dash = false) {
    const char* const first = r_.at();
    if (Reader::is_digit(r_.peek())) {
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
    if (r_.done() || r_.peek() == ',' || r_.peek() == '/') {
      r_.failf(r_.at(), "A range is written 1-5.", after_dash ? "range without an end in field \"%s\"" : "missing value in field \"%s\"",
               f_->name);
      return -1;
    }
    if (!Reader::is_letter(r_.peek())) {
      unexpected();
      return -1;
    }
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
    if (c == '*' || c == '?') {
      r_.skip();
      int by = 1;
      if (r_.peek() == '/') {
        r_.skip();
        if ((by = step()) < 0) return false;
      }
      add(f_->lowest, index_ == kWeekday ? 6 : f_->highest, by);
      return true;
    }
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
    int to = from;
    const bool range = r_.peek() == '-';
    if (range) {
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
      if (!range) to = index_ == kWeekday ? 6 : f_->highest;  // 5/15: from 5 on
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

// ---- intervals and instants

struct Unit {
  const char* name;
  Span one;
};
inline constexpr Unit kUnits[] = {{"seconds", {0, 0, kUsPerSecond}},
                                  {"second", {0, 0, kUsPerSecond}},
                                  {"secs", {0, 0, kUsPerSecond}},
                                  {"sec", {0, 0, kUsPerSecond}},
                                  {"s", {0, 0, kUsPerSecond}},
                                  {"minutes", {0, 0, 60000000}},
                                  {"minute", {0, 0, 60000000}},
                                  {"mins", {0, 0, 60000000}},
                                  {"min", {0, 0, 60000000}},
                                  {"m", {0, 0, 60000000}},
                                  {"hours", {0, 0, 3600000000}},
                                  {"hour", {0, 0, 3600000000}},
                                  {"h", {0, 0, 3600000000}},
                                  {"days", {0, 1, 0}},
                                  {"day", {0, 1, 0}},
                                  {"d", {0, 1, 0}},
                                  {"weeks", {0, 7, 0}},
                                  {"week", {0, 7, 0}},
                                  {"w", {0, 7, 0}},
                                  {"months", {1, 0, 0}},
                                  {"month", {1, 0, 0}},
                                  {"years", {12, 0, 0}},
                                  {"year", {12, 0, 0}}};

class TimingParser {
 public:
  TimingParser(const char* line, Timing* out, ParseError* error) : text_(line), r_(line, error), t_(out) {}

  bool parse() {
    const size_t length = strlen(text_);
    if (length > kLongestTiming)
      return r_.failf(text_ + kLongestTiming, "A list of instants may go into several schedules.", "timing is longer than %d bytes",
                      kLongestTiming);
    for (const char* c = text_; *c != '\0'; c++)
      if (static_cast<unsigned char>(*c) < ' ' && *c != '\t') return r_.fail(c, "control character in timing", "A timing is one line.");
    r_.blanks();
    const char* end = r_.end();
    while (end > r_.at() && Reader::is_blank(end[-1])) end--;
    r_.limit(end);
    if (r_.done()) return r_.fail(r_.at(), "timing is empty", "Examples: \"30 2 * * *\", \"every 90 seconds\", \"at 2030-01-31 18:00\".");
    if (r_.peek() == '@') return macro();
    if (r_.word("every")) return every();
    if (r_.word("at")) return instants();
    if (r_.word("after")) return after();
    if (Reader::is_letter(r_.peek()) && looks_like_words())
      return r_.fail(r_.at(), "a timing must be cron fields or begin with \"every\", \"at\", \"after\" or \"@\"",
                     "Examples: \"30 2 * * *\", \"every 90 seconds\", \"at 2030-01-31 18:00\".");
    if (Reader::is_digit(r_.peek()) && begins_bare()) return false;
    return fields();
  }

 private:
  /// Complains of "90 seconds" and "2030-01-31 18:00", which lack their first word.
  bool begins_bare() {
    const char* const first = r_.at();
    while (Reader::is_digit(r_.peek())) r_.skip();
    const int64_t digits = r_.at() - first;
    if (digits == 4 && r_.peek() == '-') r_.fail(first, "an instant must begin with \"at\"", "Example: \"at 2030-01-31 18:00\".");
    r_.blanks();
    for (const Unit& u : kUnits)
      if (!r_.failed() && unit(u.name))
        r_.fail(first, "an interval must begin with \"every\" or \"after\"", "Examples: \"every 90 seconds\", once: \"after 10 minutes\".");
    r_.move(first);
    return r_.failed();
  }

  [[nodiscard]] bool looks_like_words() const {
    int n = 0;
    while (Reader::is_letter(r_.peek(n))) n++;
    return n >= 2;
  }

  bool end_of_text(const char* after_what, const char* hint = "") {
    r_.blanks();
    return r_.done() || r_.failf(r_.at(), hint, "unexpected text after %s", after_what);
  }

  bool macro() {
    struct Macro {
      const char* name;
      const char* fields;
    };
    static constexpr Macro kMacros[] = {{"hourly", "0 * * * *"},  {"daily", "0 0 * * *"},   {"midnight", "0 0 * * *"},
                                        {"weekly", "0 0 * * 0"},  {"monthly", "0 0 1 * *"}, {"yearly", "0 0 1 1 *"},
                                        {"annually", "0 0 1 1 *"}};
    const char* const first = r_.at();
    r_.skip();
    if (r_.word("every")) return every();
    if (r_.word("after")) return after();
    if (r_.word("reboot")) {
      t_->kind = TimingKind::Reboot;
      return end_of_text("\"@reboot\"");
    }
    for (const Macro& m : kMacros) {
      if (!r_.word(m.name)) continue;
      if (!end_of_text("the name")) return false;
      ParseError none;
      return TimingParser(m.fields, t_, &none).parse();
    }
    return r_.fail(first, "unknown name after \"@\"",
                   "Known are @hourly, @daily, @midnight, @weekly, @monthly, @yearly, @annually, @reboot, @every.");
  }

  bool fields() {
    const char* begin[8];
    const char* end[8];
    int n = 0;
    while (!r_.done()) {
      const char* const first = r_.at();
      while (!r_.done() && !Reader::is_blank(r_.peek())) r_.skip();
      if (n == 7)
        return r_.fail(first, "too many fields", "Five: minute hour day-of-month month day-of-week; a sixth in front is seconds.");
      begin[n] = first;
      end[n++] = r_.at();
      r_.blanks();
    }
    if (n == 0) return r_.fail(r_.at(), "no fields", "Five: minute hour day-of-month month day-of-week; a sixth in front is seconds.");
    if (n < 5)
      return r_.failf(end[n - 1], "Five: minute hour day-of-month month day-of-week; a sixth in front is seconds.",
                      "%d field%s found, 5 or 6 are needed", n, n == 1 ? "" : "s");
    if (n > 6)
      return r_.fail(begin[6], "7 fields found, 5 or 6 are needed", "There is no field for years: use the options starts_at and ends_at.");
    t_->kind = TimingKind::Cron;
    Cron& c = t_->cron;
    c.has_seconds = n == 6;
    for (int i = 0; i < n; i++) {
      r_.move(begin[i]);
      r_.limit(end[i]);
      CronParser parser(r_, &c);
      if (!parser.field(static_cast<CronIndex>(i + (n == 6 ? 0 : 1)))) return false;
    }
    // Any 28 years hold each leap day's weekday but around 2100; 50 years from 2000 on hold all that there is.
    if (next_wall(c, 0) == kNever) return r_.fail(begin[n == 6 ? 3 : 2], "this date never comes", "No such month has this day.");
    return true;
  }

  /// "1 hour 30 minutes", "90s"; a unit alone is one of it.
  bool span(Span* out) {
    r_.blanks();
    const char* const start = r_.at();
    bool any = false;
    for (;;) {
      r_.blanks();
      const char* const first = r_.at();
      int64_t n = 1;
      const bool counted = Reader::is_digit(r_.peek());
      if (counted) {
        if ((n = r_.number()) < 0) return false;
        if (r_.peek() == '.') return r_.fail(r_.at(), "fraction in an interval", "Use a smaller unit.");
        r_.blanks();
      } else if (any || !Reader::is_letter(r_.peek())) {
        break;
      }
      const Unit* found = nullptr;
      const char* const where = r_.at();
      for (const Unit& u : kUnits)
        if (found == nullptr && unit(u.name)) found = &u;
      if (found == nullptr) {
        if (r_.done()) return r_.fail(first, "number without a unit", "Units are seconds, minutes, hours, days, weeks, months, years.");
        return r_.fail(where, "unknown unit of time",
                       "Units are seconds, minutes, hours, days, weeks, months, years. For days of the week use cron: \"0 9 * * MON\".");
      }
      if (n > 1000000000) return r_.fail(first, "number is too large", "");
      out->months += static_cast<int32_t>(n * found->one.months > 24000 ? 24000 : n * found->one.months);
      out->days += static_cast<int32_t>(n * found->one.days > 730000 ? 730000 : n * found->one.days);
      out->us += found->one.us * n;
      any = true;
    }
    if (!any) {
      if (r_.peek() == '-') return r_.fail(r_.at(), "negative interval", "Give a positive one.");
      return r_.fail(r_.at(), "interval is missing", "Example: \"every 90 seconds\".");
    }
    if (out->months == 0 && out->days == 0 && out->us == 0) return r_.fail(start, "interval is zero", "The shortest is 1 second.");
    if (out->months >= 1200 || out->days >= 36600 || out->us >= int64_t{36600} * kSecondsPerDay * kUsPerSecond)
      return r_.fail(start, "interval is longer than 100 years", "");
    return true;
  }

  /// A unit may be followed by a digit ("1h30m"), not by a letter.
  bool unit(const char* name) {
    const size_t n = strlen(name);
    for (size_t i = 0; i < n; i++)
      if (Reader::lower(r_.peek(static_cast<int>(i))) != name[i]) return false;
    if (Reader::is_letter(r_.peek(static_cast<int>(n)))) return false;
    r_.skip(static_cast<int>(n));
    return true;
  }

  bool every() {
    t_->kind = TimingKind::Every;
    if (!span(&t_->span)) return false;
    r_.blanks();
    if (r_.word("after")) {
      r_.blanks();
      if (!r_.word("end"))
        return r_.fail(r_.at(), "\"after\" must be followed by \"end\"",
                       "\"every 5 minutes after end\" counts from the end of the last run.");
      t_->kind = TimingKind::AfterEnd;
      return end_of_text("\"after end\"");
    }
    if (r_.word("from")) {
      t_->anchored = true;
      t_->n_points = 1;
      if (!point(&t_->points[0])) return false;
      return end_of_text("the instant");
    }
    return end_of_text("the interval", "For a time of day: \"0 10 * * *\", or \"every 2 days from 2030-01-01 10:00\".");
  }

  bool after() {
    t_->kind = TimingKind::After;
    return span(&t_->span) && end_of_text("the interval");
  }

  bool instants() {
    t_->kind = TimingKind::At;
    for (;;) {
      r_.blanks();
      if (t_->n_points == kMaxPoints) return r_.failf(r_.at(), "Make several schedules.", "more than %d instants", kMaxPoints);
      if (!point(&t_->points[t_->n_points])) return false;
      t_->n_points++;
      r_.blanks();
      if (r_.done()) return true;
      if (r_.peek() != ',') return r_.fail(r_.at(), "unexpected text after an instant", "Instants are separated by commas.");
      r_.skip();
    }
  }

  bool digits(int n, int lowest, int highest, const char* what, int* out) {
    const char* const first = r_.at();
    int v = 0;
    for (int i = 0; i < n; i++) {
      if (!Reader::is_digit(r_.peek()))
        return r_.failf(r_.at(), "An instant is written 2030-01-31 18:00 or 2030-01-31 18:00:00+01.", "%s needs %d digits", what, n);
      v = v * 10 + (r_.peek() - '0');
      r_.skip();
    }
    if (v < lowest || v > highest) return r_.failf(first, "", "%s %d is out of range %d to %d", what, v, lowest, highest);
    *out = v;
    return true;
  }
  bool sign(char c, const char* after_what) {
    if (r_.peek() != c)
      return r_.failf(r_.at(), "An instant is written 2030-01-31 18:00 or 2030-01-31 18:00:00+01.", "\"%c\" expected after %s", c,
                      after_what);
    r_.skip();
    return true;
  }

  /// 2030-01-31, 2030-01-31 18:00[:00[.5]][Z|+01[:00]]
  bool point(Point* out) {
    r_.blanks();
    const char* const first = r_.at();
    int y = 0, mo = 0, d = 0, h = 0, mi = 0, s = 0;
    int64_t fraction = 0;
    if (!digits(4, 1900, 2200, "year", &y) || !sign('-', "the year") || !digits(2, 1, 12, "month", &mo) || !sign('-', "the month") ||
        !digits(2, 1, 31, "day", &d))
      return false;
    if (d > days_in_month(y, mo)) return r_.failf(first, "", "%04d-%02d has no day %d", y, mo, d);
    const bool letter = r_.peek() == 'T' || r_.peek() == 't';
    if (letter || (Reader::is_blank(r_.peek()) && Reader::is_digit(r_.peek(1)))) {
      r_.skip();
      if (!digits(2, 0, 23, "hour", &h) || !sign(':', "the hour") || !digits(2, 0, 59, "minute", &mi)) return false;
      if (r_.peek() == ':') {
        r_.skip();
        if (!digits(2, 0, 59, "second", &s)) return false;
        if (r_.peek() == '.') {
          r_.skip();
          int64_t unit = 100000;
          if (!Reader::is_digit(r_.peek())) return r_.fail(r_.at(), "digits expected after the point", "");
          for (; Reader::is_digit(r_.peek()); unit /= 10) {
            fraction += (r_.peek() - '0') * unit;
            r_.skip();
          }
        }
      }
    }
    out->us = ((days_of(y, mo, d) * 24 + h) * 60 + mi) * 60 * kUsPerSecond + s * kUsPerSecond + fraction;
    return offset(out);
  }

  bool offset(Point* out) {
    int ahead = 0;
    while (Reader::is_blank(r_.peek(ahead))) ahead++;
    if (r_.peek(ahead) == '+' || r_.peek(ahead) == '-' || r_.peek(ahead) == 'Z') r_.skip(ahead);
    const char c = r_.peek();
    out->wall = false;
    if (c == 'Z' || c == 'z') {
      r_.skip();
    } else if (c == '+' || c == '-') {
      r_.skip();
      int h = 0, m = 0;
      if (!digits(2, 0, 15, "offset", &h)) return false;
      if (r_.peek() == ':') r_.skip();
      if (Reader::is_digit(r_.peek()) && !digits(2, 0, 59, "offset", &m)) return false;
      out->us -= int64_t{c == '+' ? 1 : -1} * (h * 60 + m) * 60 * kUsPerSecond;
    } else {
      out->wall = true;
    }
    return true;
  }

  const char* text_;
  Reader r_;
  Timing* t_;
};

/// Compiles a text; false, with what is wrong and where, if it is not one of the language.
inline bool parse_timing(const char* text, Timing* out, ParseError* error) {
  *out = Timing{};
  *error = ParseError{};
  return TimingParser(text, out, error).parse();
}

}  // namespace dts::core
