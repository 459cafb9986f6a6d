// The calendar of days and a zone's wall clock, as plain arithmetic. Instants are microseconds, days and seconds are counted from
// 2000-01-01, like the server's timestamps; "wall" seconds are what a clock on the wall of the zone shows.
#pragma once

#include <cstdint>
#include <limits>

namespace dts::core {

constexpr int64_t kUsPerSecond = 1000000;
constexpr int64_t kSecondsPerDay = 86400;
/// No instant: never again.
constexpr int64_t kNever = std::numeric_limits<int64_t>::max();

struct Civil {
  int year, month, day;
};

constexpr int64_t floor_div(int64_t a, int64_t b) { return a / b - (a % b != 0 && (a < 0) != (b < 0) ? 1 : 0); }

/// Days since 2000-01-01 of a date of the proleptic Gregorian calendar.
constexpr int64_t days_of(int year, int month, int day) {
  const int64_t y = static_cast<int64_t>(year) - (month <= 2 ? 1 : 0);
  const int64_t era = floor_div(y, 400);
  const int64_t yoe = y - era * 400;
  const int64_t doy = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
  return era * 146097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 730425;
}

constexpr Civil civil_of(int64_t days) {
  const int64_t z = days + 730425;
  const int64_t era = floor_div(z, 146097);
  const int64_t doe = z - era * 146097;
  const int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
  const int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
  const int64_t mp = (5 * doy + 2) / 153;
  const int month = static_cast<int>(mp < 10 ? mp + 3 : mp - 9);
  return {static_cast<int>(yoe + era * 400 + (month <= 2 ? 1 : 0)), month, static_cast<int>(doy - (153 * mp + 2) / 5 + 1)};
}

/// 0 = Sunday.
constexpr int weekday_of(int64_t days) { return static_cast<int>(((days + 6) % 7 + 7) % 7); }

constexpr int days_in_month(int year, int month) {
  if (month == 2) return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) ? 29 : 28;
  return month == 4 || month == 6 || month == 9 || month == 11 ? 30 : 31;
}

/// A stretch of time with one offset from UTC: [begin, end), in seconds.
struct Segment {
  int64_t begin, end;
  int32_t offset;
};

/// A time zone. The server's own tables stand behind it in the product, the C library's in the unit tests.
class Zone {
 public:
  /// The stretch that a second lies in. Neighbours may have the same offset.
  [[nodiscard]] virtual Segment segment(int64_t second) const = 0;

 protected:
  ~Zone() = default;
};

/// A zone's wall clock; remembers the last stretch, since who asks goes forward in small steps.
class WallClock {
 public:
  explicit WallClock(const Zone& zone) : zone_(&zone) {}

  const Segment& at(int64_t second) {
    if (second < now_.begin || second >= now_.end) now_ = zone_->segment(second);
    return now_;
  }
  int64_t wall(int64_t second) { return second + at(second).offset; }

  /// The instant of a wall time: its first occurrence if it comes twice, the first instant after the gap if it never comes.
  int64_t instant(int64_t wall_second) {
    // No zone is more than 16 hours from UTC, so this is before it in any of them.
    Segment s = at(wall_second - kSecondsPerDay);
    while (wall_second - s.offset >= s.end) s = at(s.end);
    const int64_t second = wall_second - s.offset;
    return second < s.begin ? s.begin : second;
  }

 private:
  const Zone* zone_;
  Segment now_{0, 0, 0};
};

}  // namespace dts::core
