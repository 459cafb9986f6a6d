#include "schedule_rule.hpp"

#include "core/timing_parse.hpp"

namespace dts {

namespace {

constexpr int64 kUnixOffset = static_cast<int64>(POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * SECS_PER_DAY;

[[noreturn]] void no_zone(const char* name, const char* hint) {
  ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("time zone \"%s\" is not known", name), errhint("%s", hint)));
}

/// Names of files of the zone database; what the server would take for a POSIX rule is none.
bool is_region(const char* name) {
  if (pg_strcasecmp(name, "UTC") == 0 || pg_strcasecmp(name, "GMT") == 0) return true;
  const char* const slash = strchr(name, '/');
  if (slash == nullptr || pg_strncasecmp(name, "posix/", 6) == 0 || pg_strncasecmp(name, "right/", 6) == 0) return false;
  for (const char* c = name; *c != '\0'; c++)
    if (!isalpha(static_cast<unsigned char>(*c)) && strchr("/_-", *c) == nullptr)
      return pg_strncasecmp(name, "Etc/GMT", 7) == 0 && strlen(name) <= 10;
  return true;
}

}  // namespace

core::Segment ServerZone::segment(int64_t second) const {
  const pg_time_t t = second + kUnixOffset;
  long before = 0, after = 0;
  int before_dst = 0, after_dst = 0;
  pg_time_t boundary = 0;
  const int found = pg_next_dst_boundary(&t, &before, &before_dst, &boundary, &after, &after_dst, zone_);
  if (found > 0) return {second, boundary - kUnixOffset, static_cast<int32_t>(before)};
  if (found < 0) before = 0;
  return {second, core::kNever / 2, static_cast<int32_t>(before)};
}

pg_tz* zone_by_name(const char* name) {
  if (name == nullptr)
    ereport(ERROR,
            (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("argument \"zone\" must not be null"), errhint("Example: 'Europe/Berlin'.")));
  if (strlen(name) > TZ_STRLEN_MAX || !is_region(name))
    no_zone(name,
            "Give a region such as 'Europe/Berlin', or 'UTC'; abbreviations and offsets do not know when clocks change. The view "
            "pg_timezone_names lists them.");
  pg_tz* const zone = pg_tzset(name);
  if (zone == nullptr || !pg_tz_acceptable(zone)) no_zone(name, "The view pg_timezone_names lists the regions that this server knows.");
  return zone;
}

void raise_parse_error(const char* what, const char* text, const core::ParseError& e) {
  char mark[81];
  const int column = Min(e.position, 80);
  memset(mark, ' ', sizeof(mark));
  mark[column - 1] = '^';
  mark[column] = '\0';
  ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid %s: %s, at character %d", what, e.message, e.position),
                  strlen(text) < 80 ? errdetail("%s\n         %s", text, mark) : 0, e.hint[0] != '\0' ? errhint("%s", e.hint) : 0));
}

void compile_timing(const char* text, bool both_days, core::Timing* out) {
  if (text == nullptr)
    ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("argument \"timing\" must not be null"),
                    errhint("Examples: '30 2 * * *', 'every 90 seconds', 'at 2030-01-31 18:00'.")));
  core::ParseError e;
  if (!core::parse_timing(text, out, &e)) raise_parse_error("timing", text, e);
  out->cron.both = both_days;
  if (both_days && out->kind == core::TimingKind::Cron && core::next_wall(out->cron, 0) == core::kNever)
    ereport(ERROR,
            (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid timing: the day of month and the day of week never come together"),
             errhint("With both_days => false either of them makes the day.")));
}

namespace {

core::Calendar* make_calendar(ArrayType* texts) {
  if (texts == nullptr) return nullptr;
  Datum* values = nullptr;
  bool* nulls = nullptr;
  int n = 0;
  deconstruct_array(texts, TEXTOID, -1, false, TYPALIGN_INT, &values, &nulls, &n);
  auto* const entries = static_cast<core::CalendarEntry*>(palloc0(sizeof(core::CalendarEntry) * (n + 1)));
  for (int i = 0; i < n; i++) {
    if (nulls[i])
      ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("argument \"entries\" must not contain null"),
                      errhint("Leave the entry out.")));
    core::ParseError e;
    const char* const line = TextDatumGetCString(values[i]);
    if (!core::parse_calendar_entry(line, &entries[i], &e)) raise_parse_error("calendar entry", line, e);
  }
  auto* const c = static_cast<core::Calendar*>(palloc(sizeof(core::Calendar)));
  return new (c) core::Calendar{entries, n};
}

}  // namespace

core::Rule* make_rule(const RuleText& text) {
  auto* const timing = new (palloc(sizeof(core::Timing))) core::Timing();
  compile_timing(text.timing, text.both_days, timing);
  auto* const zone = new (palloc(sizeof(ServerZone))) ServerZone(zone_by_name(text.zone));
  auto* const r = new (palloc(sizeof(core::Rule))) core::Rule();
  r->timing = timing;
  r->clock = new (palloc(sizeof(core::WallClock))) core::WallClock(*zone);
  r->made_at = text.made_at;
  r->has_start = text.has_start;
  r->starts_at = text.starts_at;
  if (text.has_end) r->ends_at = text.ends_at;
  r->only_in = make_calendar(text.only_in);
  r->not_in = make_calendar(text.not_in);
  if (text.shift != nullptr) {
    const core::Cron& c = timing->cron;
    const bool often = timing->kind == core::TimingKind::Cron
                           ? __builtin_popcountll(c.seconds) * __builtin_popcountll(c.minutes) * __builtin_popcount(c.hours) > 24 * 60
                           : timing->kind == core::TimingKind::Every && timing->span.months == 0 && timing->span.days == 0 &&
                                 timing->span.us < SECS_PER_MINUTE * USECS_PER_SEC;
    if (often)
      ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("argument \"shift\" is not for runs more often than once a minute"),
                      errhint("Leave it out: such runs are skipped on the days that the calendars rule out.")));
  }
  if (text.shift != nullptr) r->shift = text.shift[0] == 'n' ? core::Shift::Next : core::Shift::Previous;
  return r;
}

}  // namespace dts
