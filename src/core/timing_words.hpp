// A timing in plain English: "every 90 seconds", "once at 2030-01-31 18:00".
#pragma once

#include "core/timing_cron_words.hpp"
#include "core/timing_parse.hpp"

namespace dts::core {

namespace words {

inline void span(Words& out, const Span& s) {
  struct Part {
    int64_t n;
    const char* name;
  };
  const int64_t seconds = s.us / kUsPerSecond;
  const Part parts[] = {{s.months / 12, "year"},
                        {s.months % 12, "month"},
                        {s.days % 7 == 0 ? s.days / 7 : 0, "week"},
                        {s.days % 7 == 0 ? 0 : s.days, "day"},
                        {seconds / 3600, "hour"},
                        {seconds / 60 % 60, "minute"},
                        {seconds % 60, "second"}};
  int n = 0, i = 0;
  for (const Part& p : parts) n += p.n != 0 ? 1 : 0;
  for (const Part& p : parts) {
    if (p.n == 0) continue;
    out.between(i++, n);
    if (n == 1 && p.n == 1)
      out.add("%s", p.name);
    else
      out.add("%lld %s%s", static_cast<long long>(p.n), p.name, p.n == 1 ? "" : "s");
  }
}

inline void point(Words& out, const Point& p) {
  const int64_t second = floor_div(p.us, kUsPerSecond);
  const int64_t day = floor_div(second, kSecondsPerDay);
  const Civil d = civil_of(day);
  const auto time = static_cast<int>(second - day * kSecondsPerDay);
  out.add("%04d-%02d-%02d %02d:%02d", d.year, d.month, d.day, time / 3600, time / 60 % 60);
  if (time % 60 != 0) out.add(":%02d", time % 60);
  if (!p.wall) out.add(" UTC");
}

/// With a number also where there is one of it: "1 hour".
inline void counted_span(Words& out, const Span& s) {
  Words w;
  span(w, s);
  const bool bare = w.text()[0] < '0' || w.text()[0] > '9';
  out.add("%s%s", bare ? "1 " : "", w.text());
}

/// True: the zone matters.
inline bool every(Words& out, const Timing& t) {
  out.add("every ");
  span(out, t.span);
  if (t.anchored) {
    out.add(" from ");
    point(out, t.points[0]);
  }
  return t.span.months != 0 || t.span.days != 0 || (t.anchored && t.points[0].wall);
}

/// True: the zone matters.
inline bool instants(Words& out, const Timing& t) {
  if (t.n_points > 1)
    out.add("at each of %d instants: ", t.n_points);
  else
    out.add("once at ");
  bool local = false;
  for (int i = 0; i < t.n_points; i++) {
    if (i == 5 && t.n_points > 6) {
      out.add(", ...");
      break;
    }
    if (i > 0) out.add(", ");
    point(out, t.points[i]);
    local |= t.points[i].wall;
  }
  return local;
}

}  // namespace words

/// Writes the reading of a timing; `zone` (nullptr: leave it out) is named where it matters.
inline void describe(const Timing& t, const char* zone, Words& out) {
  bool local = false;
  switch (t.kind) {
    case TimingKind::Cron:
      words::cron(out, t.cron);
      local = true;
      break;
    case TimingKind::Every: local = words::every(out, t); break;
    case TimingKind::AfterEnd:
      words::counted_span(out, t.span);
      out.add(" after the end of the last run");
      break;
    case TimingKind::At: local = words::instants(out, t); break;
    case TimingKind::After:
      out.add("once, ");
      words::counted_span(out, t.span);
      out.add(" after it was scheduled");
      break;
    case TimingKind::Reboot: out.add("at each start of the server"); break;
  }
  if (local && zone != nullptr) out.add(", %s", zone);
}

}  // namespace dts::core
