// Checks of options at submit: times, ranges, lengths, what goes together, and whose task it may be.
#include "submit_check.hpp"

#include "settings.hpp"
#include "store/policy.hpp"

namespace dts {

namespace {

constexpr int64 kCentury = 100LL * 366 * USECS_PER_DAY;

/// Microseconds of an interval; a month counts 30 days.
double span(const Interval* i) { return static_cast<double>(i->time) + (i->day + i->month * 30.0) * static_cast<double>(USECS_PER_DAY); }

void check_interval(const Interval* i, const char* argument, double lowest) {
  if (i == nullptr) return;
  if (span(i) < lowest || i->time < -static_cast<int64>(kCentury))
    bad_argument(argument, lowest > 0 ? "must be a positive interval" : "must not be negative", "Example: '5 minutes'.");
  if (span(i) > static_cast<double>(kCentury))
    bad_argument(argument, "must be at most 100 years", "Check the unit: a plain number counts seconds.");
}

}  // namespace

[[noreturn]] void bad_argument(const char* argument, const char* wants, const char* hint) {
  ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("argument \"%s\" %s", argument, wants), errhint("%s", hint)));
}

TimestampTz plus(TimestampTz at, const Interval* i) {
  return DatumGetTimestampTz(DirectFunctionCall2(timestamptz_pl_interval, TimestampTzGetDatum(at), IntervalPGetDatum(i)));
}

void check_instant(TimestampTz at, const char* argument, TimestampTz now) {
  if (TIMESTAMP_NOT_FINITE(at)) bad_argument(argument, "must be finite", "To hold tasks back without an end, pause their queue.");
  if (at > now + kCentury)
    ereport(ERROR, (errcode(ERRCODE_DATETIME_FIELD_OVERFLOW), errmsg("argument \"%s\" is more than 100 years ahead", argument),
                    errhint("Check the unit: it is an instant, not a number of milliseconds.")));
}

TimestampTz due_time(const Options& o, TimestampTz now) {
  if (o.run_at.given && o.delay != nullptr) bad_argument("delay", "cannot be given together with \"run_at\"", "Give one of the two.");
  if (o.run_at.given) {
    check_instant(o.run_at.value, "run_at", now);
    return o.run_at.value;
  }
  if (o.delay == nullptr) return now;
  check_interval(o.delay, "delay", 0);
  const TimestampTz at = plus(now, o.delay);
  if (at > now + kCentury) bad_argument("delay", "must be at most 100 years", "Check the unit: a plain number counts seconds.");
  return at;
}

int32 milliseconds(const Interval* i) {
  const double ms = span(i) / 1000;
  return ms < 1 ? 1 : static_cast<int32>(ms);
}

void check_range(const char* argument, const Maybe<int32>& given, int lowest, int highest) {
  if (given.given && (given.value < lowest || given.value > highest))
    ereport(ERROR,
            (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("argument \"%s\" must be between %d and %d", argument, lowest, highest),
             errdetail("Got %d.", given.value), errhint("Leave it out for the default of the handler or queue.")));
}

void check_options(const Options& o) {
  check_interval(o.timeout, "timeout", 1000);
  if (o.timeout != nullptr && span(o.timeout) > 20.0 * USECS_PER_DAY)
    bad_argument("timeout", "must be at most 20 days", "Leave it out for no limit.");
  check_interval(o.key_ttl, "key_ttl", 0);
  store::check_retry(o.retry);
  if (o.labels != nullptr && (!JB_ROOT_IS_OBJECT(o.labels) || VARSIZE(o.labels) > 8192))
    bad_argument("labels", "must be a JSON object of at most 8 kB", "Labels are for finding tasks; data goes into args or payload.");
  if (o.tenant != nullptr && strlen(o.tenant) > 200)
    bad_argument("tenant", "must be at most 200 bytes long", "A short id serves; the name can go into labels.");
  if (o.key != nullptr && (o.key[0] == '\0' || strlen(o.key) > 1000))
    bad_argument("key", "must be 1 to 1000 bytes long", "Use a hash of what is longer.");
  if (o.concurrency_key != nullptr && (o.concurrency_key[0] == '\0' || strlen(o.concurrency_key) > 1000))
    bad_argument("concurrency_key", "must be 1 to 1000 bytes long", "Use a hash of what is longer.");
  if (o.batch != nullptr && (o.batch[0] == '\0' || strlen(o.batch) > 200))
    bad_argument("batch", "must be 1 to 200 bytes long", "It names the batch, for example by what it loads and the day.");
  if (o.key == nullptr && (o.on_conflict != nullptr || o.key_ttl != nullptr))
    bad_argument(o.on_conflict != nullptr ? "on_conflict" : "key_ttl", "needs \"key\"",
                 "It says what becomes of a task with the same key.");
  if (o.batch != nullptr && o.on_conflict != nullptr && (strcmp(o.on_conflict, "replace") == 0 || strcmp(o.on_conflict, "push") == 0))
    bad_argument("on_conflict", "must be return or error together with \"batch\"", "A task stays in the batch that it was submitted to.");
  if (o.depends_on != nullptr && o.on_conflict != nullptr && (strcmp(o.on_conflict, "replace") == 0 || strcmp(o.on_conflict, "push") == 0))
    bad_argument("on_conflict", "must be return or error together with \"depends_on\"",
                 "What replaces a task starts anew; submit the new one under another key.");
  if (o.on_conflict != nullptr && strcmp(o.on_conflict, "return") != 0 && strcmp(o.on_conflict, "replace") != 0 &&
      strcmp(o.on_conflict, "push") != 0 && strcmp(o.on_conflict, "error") != 0)
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid value for argument \"on_conflict\": \"%s\"", o.on_conflict),
                    errhint("Use return, replace, push or error.")));
}

Oid owner_of(const Options& o) {
  const Oid caller = GetUserId();
  Oid owner = caller;
  if (o.owner != nullptr) {
    owner = get_role_oid(o.owner, true);
    if (!OidIsValid(owner))
      ereport(ERROR,
              (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("role \"%s\" does not exist", o.owner), errdetail("Given as argument \"owner\"."),
               errhint("Leave it out to submit for yourself; role names are case-sensitive here.")));
    if (!is_member_of_role(caller, owner))
      ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("permission denied to submit a task for role \"%s\"", o.owner),
                      errdetail("Argument \"owner\" must name a role that you are a member of."),
                      errhint("Ask for membership: GRANT role TO user.")));
  }
  HeapTuple const tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(owner));
  if (!HeapTupleIsValid(tuple)) ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("role with OID %u does not exist", owner)));
  const auto* const role = reinterpret_cast<Form_pg_authid>(GETSTRUCT(tuple));
  const bool login = role->rolcanlogin;
  const bool super = role->rolsuper;
  ReleaseSysCache(tuple);
  if (!login)
    ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
                    errmsg("role \"%s\" cannot own tasks because it may not log in", GetUserNameFromId(owner, false)),
                    errhint("Tasks run in a session of their owner: give the role LOGIN, or name another one in argument \"owner\".")));
  if (super && !settings::allow_superuser_tasks)
    ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("tasks of superusers are not allowed"),
                    errhint("See the setting dts.allow_superuser_tasks.")));
  if (!pg::may_connect(owner, MyDatabaseId))
    ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
                    errmsg("role \"%s\" cannot own tasks because it may not connect to this database", GetUserNameFromId(owner, false)),
                    errhint("Grant it CONNECT on this database.")));
  return owner;
}

}  // namespace dts
