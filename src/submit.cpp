// A task from its options, the defaults of its handler and those of its queue.
#include "submit.hpp"

#include "pg/as_owner.hpp"
#include "settings.hpp"
#include "store/batches.hpp"
#include "store/keys.hpp"
#include "store/policy.hpp"
#include "submit_check.hpp"

namespace dts {

namespace {

using store::Defaults;

int choose(int given, int handler, int queue) { return given >= 0 ? given : handler >= 0 ? handler : queue; }

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
  check_range("priority", o.priority, 0, 9);
  check_range("max_attempts", o.max_attempts, 1, 1000);
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
      bad_argument("transactional", "cannot be true: the handler does not run SQL", "Leave it out.");
    return prepare(o, handler.defaults, handler.id, queue, false, true, handler.kind, handler.labels);
  }
  // Its text was checked for its own default only.
  if (o.transactional.given && !o.transactional.value && handler.transactional) check_sql(handler.sql, false, 1, false);
  return prepare(o, handler.defaults, handler.id, queue, choose_bool(o.transactional, handler.transactional),
                 choose_bool(o.capture, handler.capture));
}

}  // namespace dts
