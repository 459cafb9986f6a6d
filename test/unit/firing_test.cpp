// What becomes of due times: policies for missed ones, for overlap, for late ones, and calendars.
#include "core/firing.hpp"

#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "core/calendar_parse.hpp"
#include "core/timing_parse.hpp"
#include "libc_zone.hpp"

using namespace dts::core;

namespace {

/// One decision as text: F fired, W waiting, S skipped, with hour:minute and reason.
struct Case {
  Policy policy;
  const char* timing = "0 * * * *";
  const char* mark = "2026-01-01 00:00:00";
  const char* now = "2026-01-01 05:00:01";
  int running = 0, waiting = 0;
  int64_t mark_after = 0;
  bool replace = false;

  std::string decide() {
    static const LibcZone zone("UTC");
    Timing t;
    ParseError e;
    if (!parse_timing(timing, &t, &e)) return e.message;
    WallClock clock(zone);
    Rule r;
    r.timing = &t;
    r.clock = &clock;
    const auto d = std::make_unique<Decision>();
    std::string out;
    int64_t from = utc(mark) * kUsPerSecond;
    do {
      d->make(r, policy, from, utc(now) * kUsPerSecond, running, waiting);
      from = d->mark();
      for (int i = 0; i < d->size(); i++) {
        const Choice& c = (*d)[i];
        static const char* const kReasons[] = {"", "catch-up", "missed", "late", "overlap", "replaced", "end"};
        out += (out.empty() ? "" : " ") + std::string(1, "FWS"[static_cast<int>(c.fate)]) + utc_text(c.first / kUsPerSecond).substr(11, 5);
        if (c.count > 1) out += "-" + utc_text(c.last / kUsPerSecond).substr(11, 5) + "x" + std::to_string(c.count);
        if (c.reason != Reason::Due) out += std::string(":") + kReasons[static_cast<int>(c.reason)];
      }
    } while (!d->complete());
    mark_after = d->mark() / kUsPerSecond;
    replace = d->replace();
    return out;
  }
};

}  // namespace

TEST(Firing, WhatWasMissed) {
  Case c;
  EXPECT_EQ(c.decide(), "S01:00-04:00x4:missed F05:00") << "once: the one that is due now covers them";
  EXPECT_EQ(utc_text(c.mark_after), "2026-01-01 05:00:00");
  c.now = "2026-01-01 05:30:00";
  EXPECT_EQ(c.decide(), "S01:00-04:00x4:missed F05:00:catch-up");
  c.policy.missed = Missed::Skip;
  EXPECT_EQ(c.decide(), "S01:00-05:00x5:missed");
  c.policy.missed = Missed::All;
  c.policy.overlap = Overlap::Allow;
  c.policy.overlap_max = 100;
  EXPECT_EQ(c.decide(), "F01:00:catch-up F02:00:catch-up F03:00:catch-up F04:00:catch-up F05:00:catch-up");
  c.policy.missed_max = 2;
  EXPECT_EQ(c.decide(), "S01:00-03:00x3:missed F04:00:catch-up F05:00:catch-up");
  c.policy.missed_max = 100;
  c.policy.missed = Missed::Within;
  c.policy.within = 7200 * kUsPerSecond;
  EXPECT_EQ(c.decide(), "S01:00-03:00x3:missed F04:00:catch-up F05:00:catch-up");
  c.policy.late = 3600 * kUsPerSecond;
  EXPECT_EQ(c.decide(), "S01:00-04:00x4:late F05:00:catch-up");
}

TEST(Firing, ABusyMomentLosesNothing) {
  Case c;
  c.timing = "* * * * * *";
  c.now = "2026-01-01 00:00:30";
  c.policy.missed = Missed::Skip;
  c.policy.overlap = Overlap::Allow;
  c.policy.overlap_max = 1000;
  const std::string out = c.decide();
  EXPECT_EQ(std::count(out.begin(), out.end(), 'F'), 30);
  EXPECT_EQ(std::count(out.begin(), out.end(), 'S'), 0);
}

TEST(Firing, Overlap) {
  Case c;
  c.now = "2026-01-01 01:00:01";
  c.running = 1;
  EXPECT_EQ(c.decide(), "S01:00:overlap");
  c.policy.overlap = Overlap::QueueOne;
  EXPECT_EQ(c.decide(), "W01:00");
  c.waiting = 1;
  EXPECT_EQ(c.decide(), "S01:00:overlap");
  c.policy.overlap = Overlap::QueueAll;
  c.policy.overlap_max = 2;
  EXPECT_EQ(c.decide(), "W01:00");
  c.waiting = 2;
  EXPECT_EQ(c.decide(), "S01:00:overlap");
  c.waiting = 0;
  c.policy.overlap = Overlap::Replace;
  EXPECT_EQ(c.decide(), "W01:00");
  EXPECT_TRUE(c.replace);
  c.running = 0;
  EXPECT_EQ(c.decide(), "F01:00");
  EXPECT_FALSE(c.replace);
  c.policy.overlap = Overlap::Allow;
  c.policy.overlap_max = 2;
  c.running = 1;
  EXPECT_EQ(c.decide(), "F01:00");
  c.running = 2;
  EXPECT_EQ(c.decide(), "S01:00:overlap");
}

TEST(Firing, CatchingUpObeysOverlapToo) {
  Case c;
  c.now = "2026-01-01 05:30:00";
  c.policy.missed = Missed::All;
  EXPECT_EQ(c.decide(), "F01:00:catch-up S02:00-05:00x4:overlap");
  c.policy.overlap = Overlap::QueueAll;
  c.policy.overlap_max = 3;
  EXPECT_EQ(c.decide(), "F01:00:catch-up W02:00:catch-up W03:00:catch-up W04:00:catch-up S05:00:overlap");
  c.policy.overlap = Overlap::Replace;
  EXPECT_EQ(c.decide(), "F01:00:catch-up S02:00:replaced S03:00:replaced S04:00:replaced W05:00:catch-up");
}

TEST(Firing, TheNumberOfRunsIsBounded) {
  Case c;
  c.policy.missed = Missed::All;
  c.policy.overlap = Overlap::Allow;
  c.policy.overlap_max = 100;
  c.policy.runs_left = 2;
  c.now = "2026-01-01 05:30:00";
  EXPECT_EQ(c.decide(), "F01:00:catch-up F02:00:catch-up S03:00-05:00x3:end");
}

TEST(Firing, AYearOfMissedSecondsIsCountedInTurns) {
  Case c;
  c.timing = "* * * * * *";
  c.mark = "2026-01-01 00:00:00";
  c.now = "2026-01-12 00:30:00";
  const std::string out = c.decide();
  EXPECT_EQ(c.mark_after, utc("2026-01-12 00:30:00"));
  // All but those of the last minute, each counted once.
  int64_t total = 0;
  for (size_t at = out.find('x'); at != std::string::npos; at = out.find('x', at + 1)) total += std::atoll(out.c_str() + at + 1);
  EXPECT_EQ(total, 11 * 86400 + 1800 - 61 + 60);
}

TEST(Firing, TheClockGoesBackAndNothingIsFiredTwice) {
  Case c;
  c.now = "2026-01-01 02:00:01";
  c.mark = "2026-01-01 03:00:00";
  EXPECT_EQ(c.decide(), "");
  EXPECT_EQ(utc_text(c.mark_after), "2026-01-01 03:00:00");
}

namespace {

std::string calendar_runs(const char* timing, std::initializer_list<const char*> only, std::initializer_list<const char*> never,
                          Shift shift, const char* after, int n) {
  static const LibcZone zone("UTC");
  CalendarEntry entries[2][8];
  Calendar calendars[2];
  ParseError e;
  for (const char* text : only)
    if (!parse_calendar_entry(text, &entries[0][calendars[0].n++], &e)) return e.message;
  for (const char* text : never)
    if (!parse_calendar_entry(text, &entries[1][calendars[1].n++], &e)) return e.message;
  calendars[0].entries = entries[0];
  calendars[1].entries = entries[1];
  Timing t;
  if (!parse_timing(timing, &t, &e)) return e.message;
  WallClock clock(zone);
  Rule r;
  r.timing = &t;
  r.clock = &clock;
  r.only_in = only.size() > 0 ? &calendars[0] : nullptr;
  r.not_in = never.size() > 0 ? &calendars[1] : nullptr;
  r.shift = shift;
  std::string out;
  int64_t at = utc(after) * kUsPerSecond;
  for (int i = 0; i < n; i++) {
    at = next_due(r, at);
    if (at == kNever) return out + " never";
    out += (i > 0 ? " " : "") + utc_text(at / kUsPerSecond).substr(5, 11);
  }
  return out;
}

}  // namespace

TEST(Calendars, OnlyNeverAndShift) {
  const char* const from = "2026-12-23 12:00:00";  // a Wednesday
  EXPECT_EQ(calendar_runs("0 9 * * *", {"mon-fri"}, {"*-12-25", "2026-12-24"}, Shift::None, from, 2), "12-28 09:00 12-29 09:00");
  EXPECT_EQ(calendar_runs("0 9 * * *", {"mon-fri"}, {"*-12-25", "2026-12-24"}, Shift::Next, from, 2), "12-28 09:00 12-29 09:00");
  EXPECT_EQ(calendar_runs("0 9 25 * *", {"mon-fri"}, {"*-12-25", "2026-12-24"}, Shift::Next, from, 2), "12-28 09:00 01-25 09:00");
  EXPECT_EQ(calendar_runs("0 9 25 * *", {"mon-fri"}, {"*-12-25", "2026-12-24"}, Shift::Previous, "2026-12-20 00:00:00", 1), "12-23 09:00");
  EXPECT_EQ(calendar_runs("0 * * * *", {"mon-fri 09:00-11:00"}, {}, Shift::None, from, 3), "12-24 09:00 12-24 10:00 12-25 09:00");
  EXPECT_EQ(calendar_runs("0 9 * * *", {"monthly L"}, {}, Shift::None, from, 2), "12-31 09:00 01-31 09:00");
  EXPECT_EQ(calendar_runs("0 9 * * *", {"2020-01-01..2020-12-31"}, {}, Shift::None, from, 1), " never");
  EXPECT_EQ(calendar_runs("* * * * * *", {"2027-12-01"}, {}, Shift::None, from, 1), "12-01 00:00");
}

TEST(Calendars, Mistakes) {
  for (const char* text : {"", "2026-02-30", "2026-13-01", "lun", "mon-fri 9-17", "mon-fri 17:00-09:00", "2026-12-31..2026-12-01",
                           "*-02-30", "monthly", "monthly 32", "friL", "* 09:00-24:30", "mon x"}) {
    CalendarEntry entry;
    ParseError e;
    EXPECT_FALSE(parse_calendar_entry(text, &entry, &e)) << text;
    EXPECT_GE(e.position, 1) << text;
  }
}
