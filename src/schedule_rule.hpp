// A schedule's rule as the core wants it: compiled timing, the server's time zone, compiled calendars.
#pragma once

#include "core/calendar_parse.hpp"
#include "core/firing.hpp"
#include "pg/postgres.hpp"

namespace dts {

/// A zone of the server's database.
class ServerZone final : public core::Zone {
 public:
  explicit ServerZone(pg_tz* zone) : zone_(zone) {}
  [[nodiscard]] core::Segment segment(int64_t second) const override;

 private:
  pg_tz* zone_;
};

/// A region of the zone database by name; raises 22023 for what is none (abbreviations, POSIX rules).
pg_tz* zone_by_name(const char* name);

/// What a rule is made of, in SQL's terms. Absent ones are nullptr or 0.
struct RuleText {
  const char* timing = nullptr;
  const char* zone = "UTC";
  bool both_days = false;
  ArrayType* only_in = nullptr;  // entries of a calendar
  ArrayType* not_in = nullptr;
  const char* shift = nullptr;
  TimestampTz made_at = 0;
  bool has_start = false, has_end = false;
  TimestampTz starts_at = 0, ends_at = 0;
};

/// A rule and all that it points to, in the current memory context.
core::Rule* make_rule(const RuleText& text);

/// Compiles a timing; raises 22023 with the place of the mistake.
void compile_timing(const char* text, bool both_days, core::Timing* out);

/// Raises 22023 with the text and a mark below the character.
[[noreturn]] void raise_parse_error(const char* what, const char* text, const core::ParseError& e);

}  // namespace dts
