// Intervals: "1 hour 30 minutes", "90s".
#pragma once

#include "core/timing.hpp"
#include "core/timing_reader.hpp"

namespace dts::core {

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

/// Reads an interval where the reader stands.
class SpanParser {
 public:
  explicit SpanParser(Reader& reader) : r_(reader) {}

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

 private:
  Reader& r_;
};

}  // namespace dts::core
