#include "submit.hpp"

#include "pg/as_owner.hpp"
#include "run_sql.hpp"
#include "settings.hpp"
#include "store/batches.hpp"
#include "store/keys.hpp"
#include "store/policy.hpp"

namespace dts {

namespace {

using store::Defaults;

constexpr int64 kCentury = 100LL * 366 * USECS_PER_DAY;

[[noreturn]] void bad(const char* argument, const char* wants, const char* hint) {
  ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("argument \"%s\" %s", argument, wants), errhint("%s", hint)));
}

/// Microseconds of an interval; a month counts 30 days.
double span(const Interval* i) { return static_cast<double>(i->time) + (i->day + i->month * 30.0) * static_cast<double>(USECS_PER_DAY); }

void check_interval(const Interval* i, const char* argument, double lowest) {
  if (i == nullptr) return;
  if (span(i) < lowest || i->time < -static_cast<int64>(kCentury))
    bad(argument, lowest > 0 ? "must be a positive interval" : "must not be negative", "Example: '5 minutes'.");
  if (span(i) > static_cast<double>(kCentury)) bad(argument, "must be at most 100 years", "Check the unit: a plain number counts seconds.");
}

TimestampTz plus(TimestampTz at, const Interval* i) {
  return DatumGetTimestampTz(DirectFunctionCall2(timestamptz_pl_interval, TimestampTzGetDatum(at), IntervalPGetDatum(i)));
}

void check_instant(TimestampTz at, const char* argument, TimestampTz now) {
  if (TIMESTAMP_NOT_FINITE(at)) bad(argument, "must be finite", "To hold tasks back without an end, pause their queue.");
  if (at > now + kCentury)
    ereport(ERROR, (errcode(ERRCODE_DATETIME_FIELD_OVERFLOW), errmsg("argument \"%s\" is more than 100 years ahead", argument),
                    errhint("Check the unit: it is an instant, not a number of milliseconds.")));
}

}  // namespace

TimestampTz due_time(const Options& o, TimestampTz now) {
  if (o.run_at.given && o.delay != nullptr) bad("delay", "cannot be given together with \"run_at\"", "Give one of the two.");
  if (o.run_at.given) {
    check_instant(o.run_at.value, "run_at", now);
    return o.run_at.value;
  }
  if (o.delay == nullptr) return now;
  check_interval(o.delay, "delay", 0);
  const TimestampTz at = plus(now, o.delay);
  if (at > now + kCentury) bad("delay", "must be at most 100 years", "Check the unit: a plain number counts seconds.");
  return at;
}

namespace {

int32 milliseconds(const Interval* i) {
  const double ms = span(i) / 1000;
  return ms < 1 ? 1 : static_cast<int32>(ms);
}

int in_range(const char* argument, int value, int lowest, int highest) {
  if (value < lowest || value > highest)
    ereport(ERROR,
            (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("argument \"%s\" must be between %d and %d", argument, lowest, highest),
             errdetail("Got %d.", value), errhint("Leave it out for the default of the handler or queue.")));
  return value;
}

int choose(int given, int handler, int queue) { return given >= 0 ? given : handler >= 0 ? handler : queue; }

/// Whose task it is: the caller's, or a role's that the caller is a member of. It must be able to run.
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

const store::Queue& queue_of(const char* name) {
  const store::Queue* const q = store::queue_by_name(name);
  if (q == nullptr)
    ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("queue \"%s\" does not exist", name),
                    errhint("Create it with dts.create_queue, or see dts.queues.")));
  return *q;
}

void push_member(JsonbParseState** state, const char* key, Jsonb* value) {
  if (value == nullptr) return;
  JsonbValue k, v;
  k.type = jbvString;
  k.val.string.val = const_cast<char*>(key);
  k.val.string.len = static_cast<int>(strlen(key));
  pushJsonbValue(state, WJB_KEY, &k);
  v.type = jbvBinary;
  v.val.binary.data = &value->root;
  v.val.binary.len = static_cast<int>(VARSIZE(value)) - VARHDRSZ;
  pushJsonbValue(state, WJB_VALUE, &v);
}

void push_text(JsonbParseState** state, const char* key, const char* value) {
  if (value == nullptr) return;
  JsonbValue k, v;
  k.type = v.type = jbvString;
  k.val.string.val = const_cast<char*>(key);
  k.val.string.len = static_cast<int>(strlen(key));
  v.val.string.val = const_cast<char*>(value);
  v.val.string.len = static_cast<int>(strlen(value));
  pushJsonbValue(state, WJB_KEY, &k);
  pushJsonbValue(state, WJB_VALUE, &v);
}

/// The same for all attempts of a task; random, since sequences may give out the same ids again after a failover.
const char* random_key() {
  pg_uuid_t uuid;
  if (!pg_strong_random(&uuid, sizeof(uuid))) ereport(ERROR, (errmsg("could not make a random key")));
  uuid.data[6] = static_cast<unsigned char>((uuid.data[6] & 0x0f) | 0x40);
  uuid.data[8] = static_cast<unsigned char>((uuid.data[8] & 0x3f) | 0x80);
  return DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(&uuid)));
}

Jsonb* extra_of(Jsonb* retry, Jsonb* labels, const char* concurrency_key, const char* idempotency_key) {
  if (retry == nullptr && labels == nullptr && concurrency_key == nullptr && idempotency_key == nullptr) return nullptr;
  JsonbParseState* state = nullptr;
  pushJsonbValue(&state, WJB_BEGIN_OBJECT, nullptr);
  push_member(&state, "retry", retry);
  push_member(&state, "labels", labels);
  push_text(&state, "concurrency_key", concurrency_key);
  push_text(&state, "idempotency_key", idempotency_key);
  return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, nullptr));
}

void warn_if_not_loaded() {
  static bool told = false;
  const store::DatabaseSlot* const d = store::shared == nullptr ? nullptr : store::database_slot(MyDatabaseId, false);
  if (d != nullptr && !told &&
      (!settings::enabled || (d->pid != 0 && !d->gate && d->fence[0] != '\0' && strcmp(d->fence, store::kNothingYet) != 0))) {
    told = true;
    ereport(NOTICE, (errmsg("the task is kept but will not run yet: %s", store::why_closed(MyDatabaseId))));
  }
  if (store::shared != nullptr || told) return;
  told = true;
  ereport(WARNING, (errmsg("the task is kept but will not run: dts is not loaded at server start"),
                    errhint("Add this line to postgresql.conf and restart the server: shared_preload_libraries = 'dts'")));
}

}  // namespace

void settle_site() {
  static Oid settled = InvalidOid;  // the dts.task for which a committed row was seen
  static TransactionId inserted_by = InvalidTransactionId;
  if (settled == store::catalog().task) return;
  static pg::Statement first{
      "INSERT INTO dts.site (system_identifier, database, site) SELECT p.system_identifier, p.database, p.site FROM dts._place() p "
      "WHERE NOT EXISTS (SELECT FROM dts.site)",
      0,
      {}};
  const pg::AsOwner as(store::catalog().owner);
  SPI_connect();
  const bool inserted = first.run(nullptr) > 0;
  SPI_finish();
  as.end();
  if (inserted) {
    inserted_by = GetTopTransactionId();
    store::touch_events(store::kDefinitions);
  } else if (!TransactionIdIsValid(inserted_by) || inserted_by != GetTopTransactionIdIfAny()) {
    settled = store::catalog().task;
  }
}

namespace {

void check_options(const Options& o) {
  check_interval(o.timeout, "timeout", 1000);
  if (o.timeout != nullptr && span(o.timeout) > 20.0 * USECS_PER_DAY)
    bad("timeout", "must be at most 20 days", "Leave it out for no limit.");
  check_interval(o.key_ttl, "key_ttl", 0);
  store::check_retry(o.retry);
  if (o.labels != nullptr && (!JB_ROOT_IS_OBJECT(o.labels) || VARSIZE(o.labels) > 8192))
    bad("labels", "must be a JSON object of at most 8 kB", "Labels are for finding tasks; data goes into args or payload.");
  if (o.tenant != nullptr && strlen(o.tenant) > 200)
    bad("tenant", "must be at most 200 bytes long", "A short id serves; the name can go into labels.");
  if (o.key != nullptr && (o.key[0] == '\0' || strlen(o.key) > 1000))
    bad("key", "must be 1 to 1000 bytes long", "Use a hash of what is longer.");
  if (o.concurrency_key != nullptr && (o.concurrency_key[0] == '\0' || strlen(o.concurrency_key) > 1000))
    bad("concurrency_key", "must be 1 to 1000 bytes long", "Use a hash of what is longer.");
  if (o.batch != nullptr && (o.batch[0] == '\0' || strlen(o.batch) > 200))
    bad("batch", "must be 1 to 200 bytes long", "It names the batch, for example by what it loads and the day.");
  if (o.key == nullptr && (o.on_conflict != nullptr || o.key_ttl != nullptr))
    bad(o.on_conflict != nullptr ? "on_conflict" : "key_ttl", "needs \"key\"", "It says what becomes of a task with the same key.");
  if (o.batch != nullptr && o.on_conflict != nullptr && (strcmp(o.on_conflict, "replace") == 0 || strcmp(o.on_conflict, "push") == 0))
    bad("on_conflict", "must be return or error together with \"batch\"", "A task stays in the batch that it was submitted to.");
  if (o.depends_on != nullptr && o.on_conflict != nullptr && (strcmp(o.on_conflict, "replace") == 0 || strcmp(o.on_conflict, "push") == 0))
    bad("on_conflict", "must be return or error together with \"depends_on\"",
        "What replaces a task starts anew; submit the new one under another key.");
  if (o.on_conflict != nullptr && strcmp(o.on_conflict, "return") != 0 && strcmp(o.on_conflict, "replace") != 0 &&
      strcmp(o.on_conflict, "push") != 0 && strcmp(o.on_conflict, "error") != 0)
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid value for argument \"on_conflict\": \"%s\"", o.on_conflict),
                    errhint("Use return, replace, push or error.")));
}

/// Everything but the payload. `h`: the defaults of handler `handler`, if it has one.
Prepared prepare(const Options& o, const Defaults& h, int32 handler, const char* queue, bool transactional, bool capture,
                 core::Kind kind = core::Kind::Sql, const char* labels = "") {
  PreventCommandIfReadOnly("dts.submit()");
  PreventCommandDuringRecovery("dts.submit()");
  check_options(o);
  Prepared p;
  const TimestampTz now = GetCurrentTimestamp();
  const Oid owner = owner_of(o);
  const store::Queue& q = queue_of(queue);
  store::Task& t = p.task;
  t.submitted_at = now;
  t.run_at = due_time(o, now);
  if (o.priority.given) (void)in_range("priority", o.priority.value, 0, 9);
  if (o.max_attempts.given) (void)in_range("max_attempts", o.max_attempts.value, 1, 1000);
  const int priority = choose(o.priority.given ? o.priority.value : -1, h.priority, q.defaults.priority);
  t.max_attempts = static_cast<int16>(choose(o.max_attempts.given ? o.max_attempts.value : -1, h.max_attempts, q.defaults.max_attempts));
  t.timeout_ms = o.timeout != nullptr ? milliseconds(o.timeout) : Max(0, choose(-1, h.timeout_ms, q.defaults.timeout_ms));
  Interval* const expires = h.expires != nullptr ? h.expires : q.defaults.expires;
  if (o.expires.given) {
    check_instant(o.expires.value, "expires", now);
    t.expires_at = o.expires.value;
  } else if (expires != nullptr) {
    t.expires_at = plus(t.run_at, expires);
  }
  t.has_expires = o.expires.given || expires != nullptr;
  t.extra = extra_of(o.retry != nullptr   ? o.retry
                     : h.retry != nullptr ? h.retry
                                          : q.defaults.retry,
                     o.labels, o.concurrency_key, core::runner_of(kind) == core::Runner::Agent ? random_key() : nullptr);
  t.flags = (transactional ? core::kTransactional : 0) | (capture ? core::kCapture : 0) | (o.key != nullptr ? core::kHasKey : 0) |
            (t.extra != nullptr ? core::kHasExtra : 0);
  p.lane = store::lane_for(owner, q.id, o.tenant == nullptr ? "" : o.tenant, priority, handler, core::runner_of(kind), labels);
  t.kind = kind;
  t.handler = handler;
  t.lane = p.lane.lane;
  t.ckey = store::key_of(q.id, o.concurrency_key);
  if (o.batch != nullptr) t.batch = store::batch_for(owner, o.batch);
  // What would only be parked at its claim starts parked. Not a task due later: no place is kept for it.
  if (t.ckey != 0 && t.run_at <= now && store::key_busy(t.ckey, store::key_policy(p.lane))) t.state = core::State::Parked;
  settle_site();
  warn_if_not_loaded();
  return p;
}

bool choose_bool(const Maybe<bool>& given, bool otherwise) { return given.given ? given.value : otherwise; }

}  // namespace

void check_payload_size(Jsonb* payload, const char* argument) {
  if (payload != nullptr && VARSIZE(payload) > static_cast<Size>(settings::max_payload_kb) * 1024)
    ereport(ERROR,
            (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("argument \"%s\" is too large", argument),
             errdetail("It has %zu bytes, at most %d kB are allowed.", static_cast<size_t>(VARSIZE(payload)), settings::max_payload_kb),
             errhint("Keep large data in a table and pass its key, or raise dts.max_payload.")));
}

void check_sql(const char* sql, bool transactional, int placeholders, bool has_args) {
  if (sql == nullptr)
    ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("argument \"sql\" must not be null"),
                    errhint("Give the statement to run, with $1, $2, ... for values of args.")));
  if (strlen(sql) > static_cast<size_t>(settings::max_payload_kb) * 1024)
    ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("argument \"sql\" is too large"),
                    errdetail("It has %zu bytes, at most %d kB are allowed.", strlen(sql), settings::max_payload_kb),
                    errhint("Raise dts.max_payload, or put the data into a table or into args.")));
  const SqlShape shape = shape_of(sql);
  if (shape.statements == 0) bad("sql", "is empty", "Give a statement to run.");
  if (shape.transaction_control)
    ereport(ERROR, (errcode(ERRCODE_INVALID_TRANSACTION_TERMINATION), errmsg("argument \"sql\" must not control transactions"),
                    errhint("dts runs each task in a transaction; a procedure that commits can be called with transactional => false.")));
  if (shape.copy_stream != nullptr)
    ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("%s is not possible in a task", shape.copy_stream),
                    errhint("Load with INSERT, or with COPY from a file or program on the server.")));
  if (shape.statements > 1 && (has_args || (placeholders > 0 && shape.placeholders > 0)))
    bad("sql", "must hold a single statement when it takes arguments",
        "Put the statements into a function, or submit them as several tasks.");
  if (shape.statements > 1 && !transactional)
    bad("sql", "must hold a single statement with transactional => false", "Submit them as several tasks.");
  if (!transactional && shape.placeholders > 0)
    bad("sql", "must not have placeholders with transactional => false", "Such statements take no parameters.");
  if (!has_args && shape.placeholders > placeholders)
    ereport(ERROR, (errcode(ERRCODE_UNDEFINED_PARAMETER), errmsg("there is no argument for $%d", shape.placeholders),
                    errdetail("The SQL has placeholders up to $%d but %d argument(s).", shape.placeholders, placeholders),
                    errhint("Pass a JSON array of arguments.")));
}

void check_args(const Prepared& p, Jsonb* args, bool analyse) {
  const char* const sql = text_to_cstring(p.task.sql);
  if (args != nullptr && (!JB_ROOT_IS_ARRAY(args) || JB_ROOT_IS_SCALAR(args)))
    bad("args", "must be a JSON array", "The elements are bound to $1, $2, ... in order, for example '[1, \"two\"]'.");
  check_payload_size(args, "args");
  const int n = args == nullptr ? 0 : static_cast<int>(JB_ROOT_COUNT(args));
  check_sql(sql, p.task.transactional(), 0, n > 0);
  if (n == 0) return;
  const SqlShape shape = shape_of(sql);
  if (shape.placeholders != n)
    ereport(ERROR, (errcode(shape.placeholders > n ? ERRCODE_UNDEFINED_PARAMETER : ERRCODE_INVALID_PARAMETER_VALUE),
                    errmsg("argument \"args\" has %d element(s) but the SQL has %d placeholder(s)", n, shape.placeholders),
                    errhint("Each element is bound to one of $1, $2, ... .")));
  if (!p.task.transactional()) bad("args", "cannot be given with transactional => false", "Such statements take no parameters.");
  if (analyse) check_arguments(sql, args, false);
}

Prepared prepare_sql(const char* sql, const Options& o) {
  const bool transactional = choose_bool(o.transactional, true);
  if (sql == nullptr)
    ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("argument \"sql\" must not be null"),
                    errhint("Give the statement to run, with $1, $2, ... for values of args.")));
  Prepared p = prepare(o, Defaults{}, 0, o.queue != nullptr ? o.queue : "default", transactional, choose_bool(o.capture, true));
  p.task.sql = cstring_to_text(sql);
  return p;
}

Prepared prepare_outside(core::Kind kind, const Options& o) {
  return prepare(o, Defaults{}, 0, o.queue != nullptr ? o.queue : "default", false, true, kind, o.labels_required);
}

namespace {
/// Who must be allowed to use a handler: the caller; but where dts itself submits for somebody (a subscription, a notification, a node),
/// that role.
Oid user_of_handler(const Options& o) {
  const bool for_somebody = o.owner != nullptr && GetUserId() == store::catalog().owner && InSecurityRestrictedOperation();
  return for_somebody ? owner_of(o) : GetUserId();
}
}  // namespace

Prepared prepare_handler(const char* name, const Options& o) {
  if (name == nullptr)
    ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("argument \"handler\" must not be null"),
                    errhint("The view dts.handlers shows those there are.")));
  const store::Handler* const h = store::handler_by_name(name);
  if (h == nullptr)
    ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("handler \"%s\" does not exist", name),
                    errhint("Create it with dts.create_handler, or see dts.handlers.")));
  if (!h->shared && !store::role_may(user_of_handler(o), h->owner))
    ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("permission denied for handler \"%s\"", name),
                    errdetail("It is not shared, and you are no member of its owner's role."),
                    errhint("Its owner or an administrator can share it: dts.alter_handler(..., shared => true).")));
  const store::Handler handler = *h;
  const char* const queue = o.queue != nullptr ? o.queue : handler.queue != nullptr ? handler.queue : "default";
  if (handler.kind != core::Kind::Sql) {
    if (o.transactional.given && o.transactional.value)
      bad("transactional", "cannot be true: the handler does not run SQL", "Leave it out.");
    return prepare(o, handler.defaults, handler.id, queue, false, true, handler.kind, handler.labels);
  }
  // Its text was checked for its own default only.
  if (o.transactional.given && !o.transactional.value && handler.transactional) check_sql(handler.sql, false, 1, false);
  return prepare(o, handler.defaults, handler.id, queue, choose_bool(o.transactional, handler.transactional),
                 choose_bool(o.capture, handler.capture));
}

}  // namespace dts
