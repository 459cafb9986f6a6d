// Instants: "2030-01-31 18:00", with an offset or in the schedule's zone.
#pragma once

#include "core/timing.hpp"
#include "core/timing_reader.hpp"

namespace dts::core {

/// Reads an instant where the reader stands.
class PointParser {
 public:
  explicit PointParser(Reader& reader) : r_(reader) {}

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

 private:
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

  Reader& r_;
};

}  // namespace dts::core
