// The next due time after an instant, in a zone, by the written policy for clock changes, and through calendars. A pure function:
// the caller brings the zone, the calendars and the instant.
#pragma once

#include "core/calendar.hpp"
#include "core/timing.hpp"

namespace dts::core {

/// Clock changes. A fixed hour: times that fall into the gap become one run at the first instant after it, times that come twice run at
/// their first occurrence. A wildcard hour: the gap's times are left out, and those that come twice run in both.
inline int64_t next_cron(const Cron& c, WallClock& clock, int64_t after_us) {
  const int64_t after = floor_div(after_us, kUsPerSecond);
  if (!c.any_hour) {
    // Wall times before this one are at or before `after` too: first occurrences come in the order of the wall times.
    for (int64_t wall = clock.wall(after) + 1;; wall++) {
      wall = next_wall(c, wall);
      if (wall == kNever) return kNever;
      const int64_t second = clock.instant(wall);
      if (second > after) return second * kUsPerSecond;
    }
  }
  Segment s = clock.at(after);
  int64_t wall = after + 1 + s.offset;
  for (;;) {
    if (wall - s.offset < s.end) {
      wall = next_wall(c, wall);
      if (wall == kNever) return kNever;
      if (wall - s.offset < s.end) return (wall - s.offset) * kUsPerSecond;
    }
    const int64_t begin = s.end;
    const int64_t shown = begin + s.offset;  // what the wall would have shown then
    s = clock.at(begin);
    // Put back: times of the last hour come again. Else nothing is on the wall before the one that was found.
    if (begin + s.offset < shown || begin + s.offset > wall) wall = begin + s.offset;
  }
}

/// The n-th point of an interval: months and days on the wall of the zone (31 January and a month: the last day of February), then the
/// rest by the clock. Never earlier than the one before.
inline int64_t nth_of(const Span& span, int64_t anchor, int64_t n, WallClock& clock) {
  if (span.months == 0 && span.days == 0) return anchor + n * span.us;
  const int64_t second = floor_div(anchor, kUsPerSecond);
  const int64_t wall = clock.wall(second);
  int64_t day = floor_div(wall, kSecondsPerDay);
  const int64_t time = wall - day * kSecondsPerDay;
  if (span.months != 0) {
    const Civil d = civil_of(day);
    const int64_t month = static_cast<int64_t>(d.year) * 12 + d.month - 1 + n * span.months;
    const int year = static_cast<int>(floor_div(month, 12));
    const int m = static_cast<int>(month - floor_div(month, 12) * 12) + 1;
    const int length = days_in_month(year, m);
    day = days_of(year, m, d.day < length ? d.day : length);
  }
  day += n * span.days;
  return clock.instant(day * kSecondsPerDay + time) * kUsPerSecond + (anchor - second * kUsPerSecond) + n * span.us;
}

inline int64_t next_every(const Span& span, int64_t anchor, int64_t after, WallClock& clock) {
  if (after < anchor) return anchor;
  if (span.months == 0 && span.days == 0) return anchor + ((after - anchor) / span.us + 1) * span.us;
  // A lower bound of n from the longest months; then up to the first that is later.
  const double longest = (span.months * 31.0 + span.days) * 86400e6 + static_cast<double>(span.us) + 7200e6;
  auto low = static_cast<int64_t>(static_cast<double>(after - anchor) / longest);
  int64_t step = 1;
  while (nth_of(span, anchor, low + step, clock) <= after) {
    low += step;
    step *= 2;
  }
  while (step > 1) {
    step /= 2;
    if (nth_of(span, anchor, low + step, clock) <= after) low += step;
  }
  for (;; low++) {
    const int64_t at = nth_of(span, anchor, low, clock);
    if (at > after) return at;
  }
}

inline int64_t resolve(const Point& p, WallClock& clock) {
  if (!p.wall) return p.us;
  const int64_t second = floor_div(p.us, kUsPerSecond);
  return clock.instant(second) * kUsPerSecond + (p.us - second * kUsPerSecond);
}

enum class Shift : uint8_t { None, Next, Previous };

/// All that decides when a schedule is due.
struct Rule {
  const Timing* timing = nullptr;
  WallClock* clock = nullptr;
  int64_t made_at = 0;     // what "after 10 minutes" counts from
  bool has_start = false;  // else no bound
  int64_t starts_at = 0;
  int64_t ends_at = kNever;  // no due time at or after it
  const Calendar* only_in = nullptr;
  const Calendar* not_in = nullptr;
  Shift shift = Shift::None;
};

/// The next time of the timing alone, before bounds and calendars.
inline int64_t next_nominal(const Rule& r, int64_t after) {
  const Timing& t = *r.timing;
  switch (t.kind) {
    case TimingKind::Cron: return next_cron(t.cron, *r.clock, after);
    case TimingKind::Every: {
      const int64_t anchor = t.anchored ? resolve(t.points[0], *r.clock) : r.has_start ? r.starts_at : r.clock->instant(0) * kUsPerSecond;
      return next_every(t.span, anchor, after, *r.clock);
    }
    case TimingKind::At: {
      int64_t best = kNever;
      for (int i = 0; i < t.n_points; i++) {
        const int64_t at = resolve(t.points[i], *r.clock);
        if (at > after && at < best) best = at;
      }
      return best;
    }
    case TimingKind::After: {
      const int64_t at = nth_of(t.span, r.made_at, 1, *r.clock);
      return at > after ? at : kNever;
    }
    case TimingKind::AfterEnd:
    case TimingKind::Reboot: break;
  }
  return kNever;  // these follow events, which the caller knows
}

inline bool allowed(const Rule& r, int64_t wall) {
  return (r.only_in == nullptr || contains(*r.only_in, wall)) && (r.not_in == nullptr || !contains(*r.not_in, wall));
}

inline bool has_calendar(const Rule& r) { return r.only_in != nullptr || r.not_in != nullptr; }

/// A run on a day that the calendars rule out, moved to the same time of the next or previous day that they allow; kNever if there is
/// none within a month.
inline int64_t shifted(const Rule& r, int64_t at) {
  const int64_t second = floor_div(at, kUsPerSecond);
  int64_t wall = r.clock->wall(second);
  if (allowed(r, wall)) return at;
  for (int i = 0; i < 31; i++) {
    wall += r.shift == Shift::Next ? kSecondsPerDay : -kSecondsPerDay;
    if (allowed(r, wall)) return r.clock->instant(wall) * kUsPerSecond + (at - second * kUsPerSecond);
  }
  return kNever;
}

inline int64_t next_shifted(const Rule& r, int64_t after) {
  // A shifted run is at most a month from its own time: look at all that could come to lie behind `after`, take the first.
  constexpr int64_t kMonth = 32 * kSecondsPerDay * kUsPerSecond;
  int64_t best = kNever;
  int64_t at = r.shift == Shift::Next ? after - kMonth : after;
  for (int turn = 0; turn < 200000; turn++) {
    at = next_nominal(r, at);
    if (at == kNever || (best != kNever && at - (r.shift == Shift::Next ? 0 : kMonth) > best)) break;
    const int64_t moved = shifted(r, at);
    if (moved > after && moved < best) best = moved;
  }
  return best;
}

/// The next due time after an instant; kNever if there is none.
inline int64_t next_due(const Rule& r, int64_t after) {
  if (r.has_start && after < r.starts_at) after = r.starts_at - 1;
  if (!has_calendar(r)) {
    const int64_t at = next_nominal(r, after);
    return at < r.ends_at ? at : kNever;
  }
  if (r.shift != Shift::None) {
    const int64_t at = next_shifted(r, after);
    return at < r.ends_at ? at : kNever;
  }
  const int64_t horizon = after + kHorizon;
  for (;;) {
    const int64_t at = next_nominal(r, after);
    if (at >= r.ends_at || at > horizon) return kNever;
    const int64_t wall = r.clock->wall(floor_div(at, kUsPerSecond));
    if (allowed(r, wall)) return at;
    const int64_t day = floor_div(wall, kSecondsPerDay);
    const bool whole_day = (r.only_in != nullptr && !any_time(*r.only_in, day)) || (r.not_in != nullptr && all_day(*r.not_in, day));
    const int64_t jump = whole_day ? r.clock->instant((day + 1) * kSecondsPerDay) * kUsPerSecond - 1 : at;
    after = jump > at ? jump : at;
  }
}

/// The due time before another one; kNever if there is none within the horizon.
inline int64_t previous_due(const Rule& r, int64_t due) {
  for (int64_t back = kUsPerSecond; back < kHorizon; back *= 4) {
    int64_t at = next_due(r, due - back - 1);
    if (at >= due) continue;
    for (int64_t next = next_due(r, at); next < due; next = next_due(r, at)) at = next;
    return at;
  }
  return kNever;
}

/// What calendars ruled out between two instants: the timing's own times in (from, to), at most `limit` of them.
struct Excluded {
  int64_t first = 0, last = 0, count = 0;
  bool all = true;  // not cut at the limit
};

inline Excluded excluded_between(const Rule& r, int64_t from, int64_t to, int64_t limit) {
  Excluded e;
  if (!has_calendar(r) || r.shift != Shift::None) return e;
  if (r.has_start && from < r.starts_at) from = r.starts_at - 1;
  for (int64_t at = next_nominal(r, from); at < to && at < r.ends_at; at = next_nominal(r, at)) {
    if (allowed(r, r.clock->wall(floor_div(at, kUsPerSecond)))) continue;
    if (e.count == limit) {
      e.all = false;
      break;
    }
    if (e.count++ == 0) e.first = at;
    e.last = at;
  }
  return e;
}

}  // namespace dts::core
