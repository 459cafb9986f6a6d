// Time zones of the C library, as the unit tests' stand-in for the server's.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "core/civil.hpp"

namespace dts::core {

constexpr int64_t kUnixOffset = 946684800;  // 2000-01-01

inline int64_t utc(const char* text) {
  int y = 0, mo = 0, d = 0, h = 0, mi = 0, s = 0;
  (void)std::sscanf(text, "%d-%d-%d %d:%d:%d", &y, &mo, &d, &h, &mi, &s);
  return ((days_of(y, mo, d) * 24 + h) * 60 + mi) * 60 + s;
}

inline std::string utc_text(int64_t second) {
  const int64_t day = floor_div(second, kSecondsPerDay);
  const Civil d = civil_of(day);
  const auto t = static_cast<int>(second - day * kSecondsPerDay);
  char text[80];
  std::snprintf(text, sizeof(text), "%04d-%02d-%02d %02d:%02d:%02d", d.year, d.month, d.day, t / 3600, t / 60 % 60, t % 60);
  return text;
}

/// One at a time is current: the C library has one zone for the process.
class LibcZone final : public Zone {
 public:
  explicit LibcZone(const char* name) : name_(name) {
    setenv("TZ", name, 1);
    tzset();
    // Transitions by daily probes and bisection: slow, and nothing of the code under test.
    const int64_t first = days_of(1971, 1, 1) * kSecondsPerDay, last = days_of(2045, 1, 1) * kSecondsPerDay;
    begins_.push_back(first);
    offsets_.push_back(offset(first));
    for (int64_t t = first; t < last; t += kSecondsPerDay) {
      int64_t from = t;
      while (offset(from) != offset(t + kSecondsPerDay)) {
        int64_t low = from, high = t + kSecondsPerDay;
        while (high - low > 1) {
          const int64_t middle = low + (high - low) / 2;
          (offset(middle) == offset(from) ? low : high) = middle;
        }
        begins_.push_back(high);
        offsets_.push_back(offset(high));
        from = high;
      }
    }
  }

  [[nodiscard]] Segment segment(int64_t second) const override {
    const auto next = std::upper_bound(begins_.begin(), begins_.end(), second);
    const size_t i = next == begins_.begin() ? 0 : static_cast<size_t>(next - begins_.begin()) - 1;
    const bool first = i == 0, last = i + 1 == begins_.size();
    return {first ? -kNever / 2 : begins_[i], last ? kNever / 2 : begins_[i + 1], offsets_[i]};
  }

  [[nodiscard]] std::tm local(int64_t second) const {
    const std::time_t t = static_cast<std::time_t>(second + kUnixOffset);
    std::tm out{};
    localtime_r(&t, &out);
    return out;
  }
  [[nodiscard]] const std::string& name() const { return name_; }

  /// Transitions within some days.
  [[nodiscard]] std::vector<int64_t> changes(int64_t from, int days) const {
    std::vector<int64_t> out;
    for (size_t i = 1; i < begins_.size(); i++)
      if (begins_[i] >= from && begins_[i] < from + days * kSecondsPerDay) out.push_back(begins_[i]);
    return out;
  }

  /// The names of all zones of this machine.
  static std::vector<std::string> all() {
    std::vector<std::string> out;
    for (const char* file : {"/usr/share/zoneinfo/tzdata.zi"}) {
      std::ifstream in(file);
      std::string line;
      while (std::getline(in, line))
        if (line.rfind("Z ", 0) == 0) out.push_back(line.substr(2, line.find(' ', 2) - 2));
    }
    return out;
  }

 private:
  [[nodiscard]] int32_t offset(int64_t second) const { return static_cast<int32_t>(local(second).tm_gmtoff); }

  std::string name_;
  std::vector<int64_t> begins_;
  std::vector<int32_t> offsets_;
};

}  // namespace dts::core
