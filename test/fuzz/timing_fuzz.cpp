// A fuzz target for the timing language and the entries of calendars. With clang:
//   cmake -S . -B build-fuzz -DCMAKE_CXX_COMPILER=clang++ -DDTS_FUZZ=ON && cmake --build build-fuzz --target dts_fuzz &&
//   build-fuzz/dts_fuzz
// Whatever text comes, the parser either takes it, and then it can be read out and asked for its next times, or it says where it is wrong.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "core/calendar_parse.hpp"
#include "core/timing_next.hpp"
#include "core/timing_words.hpp"

using namespace dts::core;

namespace {

void require(bool good) {
  if (!good) std::abort();
}

/// A zone with a change of clocks every half year, by an hour forward and back.
class Seasons final : public Zone {
 public:
  [[nodiscard]] Segment segment(int64_t second) const override {
    const int64_t half = 183 * kSecondsPerDay;
    const int64_t n = floor_div(second, half);
    return {n * half, (n + 1) * half, (n & 1) == 0 ? 3600 : 7200};
  }
};

void check_error(const ParseError& e, const std::string& text) {
  require(e.message[0] != '\0' && e.position >= 1 && e.position <= static_cast<int>(text.size()) + 1);
}

void try_timing(const std::string& text) {
  Timing t;
  ParseError e;
  if (!parse_timing(text.c_str(), &t, &e)) {
    check_error(e, text);
    return;
  }
  Words words;
  describe(t, "Europe/Berlin", words);
  require(words.text()[0] != '\0');
  const Seasons zone;
  WallClock clock(zone);
  Rule r;
  r.timing = &t;
  r.clock = &clock;
  int64_t at = 0;
  for (int i = 0; i < 20; i++) {
    const int64_t next = next_due(r, at);
    require(next > at);
    if (next == kNever) break;
    // Nothing between the two: asked from just before it, the answer is the same.
    require(next_due(r, next - 1) == next);
    at = next;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  // As the server hands it over: no NUL within.
  std::string text(reinterpret_cast<const char*>(data), size);
  if (const size_t end = text.find('\0'); end != std::string::npos) text.resize(end);
  try_timing(text);
  CalendarEntry entry;
  ParseError e;
  if (!parse_calendar_entry(text.c_str(), &entry, &e)) check_error(e, text);
  return 0;
}

#ifndef DTS_LIBFUZZER
#include <random>

#include <gtest/gtest.h>

// Without libFuzzer the same target gets random changes of good texts: part of the unit tests, and so of the run under ASAN and UBSAN.
TEST(Fuzz, TimingsAndCalendars) {
  const char* const rounds = std::getenv("DTS_FUZZ_ROUNDS");
  std::mt19937 random(11);
  const std::string letters = "0123456789*/,-#?LWlw @:.+ZT\tabcdefghijklmnopqrstuvwxyz\xc3\xff\n%";
  const char* const seeds[] = {"30 2 LW * *",
                               "*/5 9-17 1,15 JAN-MAR MON#2",
                               "every 1h30m from 2030-01-01 12:00",
                               "at 2030-01-31 18:00:00.5+01:00, 2031-01-01",
                               "@every 5 days after end",
                               "mon-fri 09:00-17:00",
                               "2030-04-19..2030-04-22",
                               "monthly L-3 10:00-11:30"};
  for (int i = rounds == nullptr ? 20000 : std::atoi(rounds); i > 0; i--) {
    std::string s = seeds[random() % 8];
    for (unsigned n = random() % 6; n > 0; n--) {
      const size_t at = random() % (s.size() + 1);
      const char c = letters[random() % letters.size()];
      switch (random() % 4) {
        case 0: s.insert(at, 1, c); break;
        case 1: s.erase(at, random() % 4); break;
        case 2: s.insert(at, seeds[random() % 8], random() % 8); break;
        default:
          if (at < s.size()) s[at] = c;
      }
    }
    (void)LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(s.data()), s.size());
  }
}
#endif
