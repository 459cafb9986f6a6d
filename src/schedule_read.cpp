// A schedule as it lies in its tables.
#include "schedule_turn.hpp"

namespace dts {

namespace {

core::Missed missed_of(const char* s) {
  return s[0] == 's' ? core::Missed::Skip : s[0] == 'o' ? core::Missed::Once : s[0] == 'a' ? core::Missed::All : core::Missed::Within;
}

core::Overlap overlap_of(const char* s) {
  if (s[0] == 's') return core::Overlap::Skip;
  if (s[0] == 'r') return core::Overlap::Replace;
  if (s[0] == 'a') return core::Overlap::Allow;
  return strcmp(s, "queue one") == 0 ? core::Overlap::QueueOne : core::Overlap::QueueAll;
}

char* text_of(uint64 row, int col, MemoryContext to) {
  bool null = false;
  const Datum d = pg::column(row, col, &null);
  return null ? nullptr : MemoryContextStrdup(to, TextDatumGetCString(d));
}

template <class T>
T* copy_of(uint64 row, int col, MemoryContext to) {
  bool null = false;
  const Datum d = pg::column_copy(to, row, col, &null);
  return null ? nullptr : reinterpret_cast<T*>(DatumGetPointer(d));
}

bool time_of(uint64 row, int col, TimestampTz* out) {
  bool null = false;
  *out = DatumGetTimestampTz(pg::column(row, col, &null));
  if (null) *out = 0;
  return !null;
}

int64 number_of(uint64 row, int col) {
  bool null = false;
  const Datum d = pg::column(row, col, &null);
  return null ? 0 : DatumGetInt64(d);
}

}  // namespace

void read_schedule(uint64 i, MemoryContext to, Schedule* s) {
  bool null = false;
  s->id = DatumGetInt32(pg::column(i, 1, &null));
  s->owner = DatumGetObjectId(pg::column(i, 2, &null));
  s->name = text_of(i, 3, to);
  s->what = copy_of<Jsonb>(i, 4, to);
  s->may_submit = DatumGetBool(pg::column(i, 5, &null)) && !null;
  s->rule.timing = text_of(i, 6, to);
  s->rule.zone = text_of(i, 7, to);
  s->rule.both_days = DatumGetBool(pg::column(i, 8, &null));
  s->rule.only_in = copy_of<ArrayType>(i, 9, to);
  s->rule.not_in = copy_of<ArrayType>(i, 10, to);
  s->rule.shift = text_of(i, 11, to);
  time_of(i, 12, &s->rule.made_at);
  s->rule.has_start = time_of(i, 13, &s->rule.starts_at);
  s->rule.has_end = time_of(i, 14, &s->rule.ends_at);
  s->policy.missed = missed_of(text_of(i, 15, to));
  s->policy.missed_max = DatumGetInt32(pg::column(i, 16, &null));
  s->policy.within = number_of(i, 17);
  s->policy.overlap = overlap_of(text_of(i, 18, to));
  s->policy.overlap_max = DatumGetInt32(pg::column(i, 19, &null));
  s->policy.late = number_of(i, 20);
  s->jitter_us = number_of(i, 21);
  s->max_runs = number_of(i, 22);
  time_of(i, 23, &s->fired_until);
  s->runs = number_of(i, 24);
  s->waiting = copy_of<ArrayType>(i, 25, to);
  s->has_last_due = time_of(i, 26, &s->last_due);
  s->has_success = time_of(i, 27, &s->last_success);
  s->has_end = time_of(i, 28, &s->last_end);
  s->running = DatumGetInt32(pg::column(i, 29, &null));
  time_of(i, 30, &s->next_fire);
  time_of(i, 31, &s->passed_until);
}

}  // namespace dts
