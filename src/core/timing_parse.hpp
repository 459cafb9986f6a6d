// The timing language: cron, intervals, instants. Every kind of mistake has a message of its own and the place of the character.
#pragma once

#include "core/timing_cron.hpp"
#include "core/timing_point.hpp"
#include "core/timing_span.hpp"

namespace dts::core {

constexpr int kLongestTiming = 8000;

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
      if (!r_.failed() && SpanParser(r_).unit(u.name))
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

  bool every() {
    t_->kind = TimingKind::Every;
    if (!SpanParser(r_).span(&t_->span)) return false;
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
      if (!PointParser(r_).point(&t_->points[0])) return false;
      return end_of_text("the instant");
    }
    return end_of_text("the interval", "For a time of day: \"0 10 * * *\", or \"every 2 days from 2030-01-01 10:00\".");
  }

  bool after() {
    t_->kind = TimingKind::After;
    return SpanParser(r_).span(&t_->span) && end_of_text("the interval");
  }

  bool instants() {
    t_->kind = TimingKind::At;
    for (;;) {
      r_.blanks();
      if (t_->n_points == kMaxPoints) return r_.failf(r_.at(), "Make several schedules.", "more than %d instants", kMaxPoints);
      if (!PointParser(r_).point(&t_->points[t_->n_points])) return false;
      t_->n_points++;
      r_.blanks();
      if (r_.done()) return true;
      if (r_.peek() != ',') return r_.fail(r_.at(), "unexpected text after an instant", "Instants are separated by commas.");
      r_.skip();
    }
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
