// English text: lists with commas and "and", ordinals, sets of numbers as ranges.
#pragma once

#include <cstdarg>
#include <cstdint>
#include <cstdio>

#include "core/timing.hpp"

namespace dts::core {

/// Text of bounded length; what does not fit is cut.
class Words {
 public:
  __attribute__((format(printf, 2, 3))) void add(const char* format, ...) {
    va_list args;
    va_start(args, format);
    const int n = vsnprintf(text_ + used_, sizeof(text_) - used_, format, args);
    va_end(args);
    if (n > 0) used_ += static_cast<size_t>(n) < sizeof(text_) - used_ ? static_cast<size_t>(n) : sizeof(text_) - used_ - 1;
  }
  [[nodiscard]] const char* text() const { return text_; }
  /// ", " or " and " before item i of n.
  void between(int i, int n, const char* last = "and") {
    if (i == 0) return;
    if (i == n - 1 && last[0] != ',')
      add(" %s ", last);
    else
      add(", ");
  }

 private:
  char text_[1024] = "";
  size_t used_ = 0;
};

namespace words {

inline const char* suffix(int n) { return n / 10 == 1 ? "th" : n % 10 == 1 ? "st" : n % 10 == 2 ? "nd" : n % 10 == 3 ? "rd" : "th"; }

/// Calls one(i) for single values and range(a, b) for three and more in a row.
template <class One, class Range>
void ranges(Words& out, uint64_t set, One one, Range range, const char* last = "and") {
  int parts = 0;
  for (int pass = 0; pass < 2; pass++) {
    const int n = parts;
    int i = 0;
    for (int a = next_bit(set, 0); a >= 0;) {
      int b = a;
      while (b < 63 && (set >> (b + 1) & 1U) != 0) b++;
      if (b - a < 2) b = a;
      if (pass == 1) {
        out.between(i, n, last);
        a == b ? one(a) : range(a, b);
      } else {
        parts++;
      }
      i++;
      a = next_bit(set, b + 1);
    }
  }
}

inline void numbers(Words& out, uint64_t set) {
  ranges(
      out, set, [&](int a) { out.add("%d", a); }, [&](int a, int b) { out.add("%d to %d", a, b); });
}

}  // namespace words

}  // namespace dts::core
