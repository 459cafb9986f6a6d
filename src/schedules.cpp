#include "schedules.hpp"

#include "pg/as_owner.hpp"
#include "settings.hpp"

extern "C" {
#include "common/hashfn.h"
}

namespace dts {

TimestampTz schedule_now() { return GetCurrentTimestamp() + settings::schedule_clock_offset_s * USECS_PER_SEC; }

bool waits_for_ends(const Schedule& s) {
  return s.policy.overlap == core::Overlap::QueueOne || s.policy.overlap == core::Overlap::QueueAll ||
         s.policy.overlap == core::Overlap::Replace;
}

namespace {

void push_text(JsonbParseState** state, const char* key, const char* value) {
  JsonbValue k, v;
  k.type = jbvString;
  k.val.string.val = const_cast<char*>(key);
  k.val.string.len = static_cast<int>(strlen(key));
  pushJsonbValue(state, WJB_KEY, &k);
  v.type = value == nullptr ? jbvNull : jbvString;
  if (value != nullptr) {
    v.val.string.val = const_cast<char*>(value);
    v.val.string.len = static_cast<int>(strlen(value));
  }
  pushJsonbValue(state, WJB_VALUE, &v);
}

/// Independent of the session's settings: read back by dts._scheduled.
char* iso(TimestampTz t) {
  pg_tm tm{};
  fsec_t fraction = 0;
  char text[MAXDATELEN + 1];
  int zone = 0;
  if (timestamp2tm(t, nullptr, &tm, &fraction, nullptr, nullptr) != 0) elog(ERROR, "timestamp out of range");
  EncodeDateTime(&tm, fraction, true, zone, "UTC", USE_ISO_DATES, text);
  return pstrdup(text);
}

/// What a task knows of its schedule.
Jsonb* tag_of(const Schedule& s, TimestampTz due) {
  JsonbParseState* state = nullptr;
  pushJsonbValue(&state, WJB_BEGIN_OBJECT, nullptr);
  push_text(&state, "name", s.name);
  push_text(&state, "due", iso(due));
  push_text(&state, "previous", s.has_last_due ? iso(s.last_due) : nullptr);
  push_text(&state, "success", s.has_success ? iso(s.last_success) : nullptr);
  return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, nullptr));
}

/// The same beside what else a task carries.
Jsonb* with_tag(Jsonb* extra, Jsonb* schedule) {
  JsonbParseState* state = nullptr;
  JsonbValue key, value;
  key.type = jbvString;
  key.val.string.val = const_cast<char*>("schedule");
  key.val.string.len = 8;
  value.type = jbvBinary;
  value.val.binary.data = &schedule->root;
  value.val.binary.len = static_cast<int>(VARSIZE(schedule)) - VARHDRSZ;
  pushJsonbValue(&state, WJB_BEGIN_OBJECT, nullptr);
  pushJsonbValue(&state, WJB_KEY, &key);
  pushJsonbValue(&state, WJB_VALUE, &value);
  Jsonb* const tag = JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, nullptr));
  return extra == nullptr ? tag : DatumGetJsonbP(DirectFunctionCall2(jsonb_concat, JsonbPGetDatum(extra), JsonbPGetDatum(tag)));
}

/// Stable for each run: whoever fires it again gets the same, also where the schedule was made anew under its name.
int64 jitter_of(const Schedule& s, TimestampTz due) {
  if (s.jitter_us <= 0) return 0;
  const uint64 name = hash_bytes_extended(reinterpret_cast<const unsigned char*>(s.name), static_cast<int>(strlen(s.name)), 0);
  const uint64 hash = hash_bytes_extended(reinterpret_cast<const unsigned char*>(&due), sizeof(due), name);
  return static_cast<int64>(hash % static_cast<uint64>(s.jitter_us));
}

constexpr const char* kPlace = "the schedule's task";

}  // namespace

int64 submit_due(const Schedule& s, TimestampTz due, TimestampTz run_at) {
  if (!s.may_submit)
    ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("the owner of schedule \"%s\" may not submit tasks", s.name),
                    errhint("Grant it with dts.grant_usage.")));
  Oid user = InvalidOid;
  int context = 0;
  GetUserIdAndSecContext(&user, &context);
  SetUserIdAndSecContext(s.owner, context | SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
  JsonbValue object;
  object.type = jbvBinary;
  object.val.binary.data = &s.what->root;
  object.val.binary.len = static_cast<int>(VARSIZE(s.what)) - VARHDRSZ;
  run_at += jitter_of(s, due);
  int64 id = 0;
  if (names_workflow(object)) {
    id = submit_workflow(object, kPlace, tag_of(s, due), run_at);
  } else {
    Options o;
    o.run_at = {true, run_at};
    Prepared p = prepare_json(object, kPlace, &o, false);
    p.task.extra = with_tag(p.task.extra, tag_of(s, due));
    p.task.flags |= core::kHasExtra | core::kScheduled;
    id = submit_prepared(p, o);
  }
  SetUserIdAndSecContext(user, context);
  return id;
}

}  // namespace dts
