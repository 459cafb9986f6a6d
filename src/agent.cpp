#include "agent.hpp"

#include "pg/as_owner.hpp"
#include "store/definitions.hpp"
#include "store/leases.hpp"
#include "submit_command.hpp"

namespace dts {

namespace {

struct Granted {
  int n;
  Datum* id;
};

/// The queues that the caller may take from.
Granted granted() {
  static pg::Statement all{
      "SELECT DISTINCT q.id FROM dts.agent_grant g JOIN dts.queue q ON q.id = g.queue AND q.dropped_at IS NULL "
      "WHERE pg_catalog.pg_has_role($1, g.role::oid, 'USAGE') ORDER BY q.id",
      1,
      {OIDOID}};
  const Datum values[] = {ObjectIdGetDatum(GetUserId())};
  MemoryContext const memory = CurrentMemoryContext;
  Granted g{};
  const pg::AsOwner as(store::catalog().owner, pg::Plans::ByKey);
  SPI_connect();
  g.n = static_cast<int>(all.run(values, nullptr, true));
  g.id = static_cast<Datum*>(MemoryContextAlloc(memory, sizeof(Datum) * (g.n + 1)));
  bool null = false;
  for (int i = 0; i < g.n; i++) g.id[i] = pg::column(i, 1, &null);
  SPI_finish();
  as.end();
  return g;
}

bool contains(const Granted& g, int32 id) {
  for (int i = 0; i < g.n; i++)
    if (DatumGetInt32(g.id[i]) == id) return true;
  return false;
}

[[noreturn]] void refuse(const char* queue) {
  ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("permission denied to claim from queue \"%s\"", queue),
                  errhint("Grant it: dts.grant_agent(role, ARRAY[queue]).")));
}

/// Queues that were named, as ids; each must be granted. A superuser may take from any.
int named(FunctionCallInfo fcinfo, const Granted& g, Datum* out) {
  int n = 0;
  char** const name = label_texts(PG_GETARG_ARRAYTYPE_P(1), "queues", &n);
  if (n == 0 || n > store::kOfferQueues)
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("argument \"queues\" must name 1 to %d queues", store::kOfferQueues),
                    errhint("Leave it out for all that are granted to the caller.")));
  for (int i = 0; i < n; i++) {
    const store::Queue* const q = store::queue_by_name(name[i]);
    // Whether a queue exists is no secret: dts.queues shows them all.
    if (q == nullptr)
      ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("queue \"%s\" does not exist", name[i]), errhint("See dts.queues.")));
    if (!contains(g, q->id) && !superuser()) refuse(name[i]);
    out[i] = Int32GetDatum(q->id);
  }
  return n;
}

}  // namespace

Agent read_name(FunctionCallInfo fcinfo, const char* call) {
  PreventCommandIfReadOnly(call);
  PreventCommandDuringRecovery(call);
  Agent a;
  a.name = PG_ARGISNULL(0) ? nullptr : text_to_cstring(PG_GETARG_TEXT_PP(0));
  store::check_agent(a.name);
  if (store::shared == nullptr)
    ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE), errmsg("dts is not loaded at server start"),
                    errhint("Add this line to postgresql.conf and restart the server: shared_preload_libraries = 'dts'")));
  return a;
}

Agent read_agent(FunctionCallInfo fcinfo, const char* call) {
  Agent a = read_name(fcinfo, call);
  const Granted g = granted();
  Datum ids[store::kOfferQueues];
  if (PG_ARGISNULL(1)) {
    if (g.n == 0)
      ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
                      errmsg("permission denied to claim: no queue is granted to role \"%s\"", GetUserNameFromId(GetUserId(), false)),
                      errhint("Grant it: dts.grant_agent(role, ARRAY[queue]).")));
    a.offer.queues = Min(g.n, store::kOfferQueues);
    memcpy(ids, g.id, sizeof(Datum) * a.offer.queues);
  } else {
    a.offer.queues = named(fcinfo, g, ids);
  }
  for (int i = 0; i < a.offer.queues; i++) a.offer.queue[i] = DatumGetInt32(ids[i]);
  a.queues = PointerGetDatum(construct_array(ids, a.offer.queues, INT4OID, 4, true, TYPALIGN_INT));
  int n = 0;
  char** label = nullptr;
  if (!PG_ARGISNULL(2)) label = label_texts(PG_GETARG_ARRAYTYPE_P(2), "labels", &n);
  (void)canonical_labels(label, n, "labels", store::kOfferLabels);  // checks and sorts
  a.offer.labels = n;
  Datum texts[store::kOfferLabels];
  for (int i = 0; i < n; i++) {
    a.offer.label[i] = store::label_hash(label[i], static_cast<int>(strlen(label[i])));
    texts[i] = CStringGetTextDatum(label[i]);
  }
  a.labels = PointerGetDatum(construct_array(texts, n, TEXTOID, -1, false, TYPALIGN_INT));
  return a;
}

void show_presence(const Agent& a) {
  static pg::Statement seen{
      "WITH there AS MATERIALIZED (SELECT FROM dts.agent a WHERE (a.role, a.name) = ($1::oid::regrole, $2)), "
      "stale AS MATERIALIZED (SELECT a.role, a.name FROM dts.agent a WHERE (a.role, a.name) = ($1::oid::regrole, $2) "
      "AND (a.seen_at < pg_catalog.clock_timestamp() - '5 seconds'::interval OR a.queues <> $3 OR a.labels <> $4) FOR UPDATE SKIP LOCKED), "
      "u AS (UPDATE dts.agent a SET seen_at = pg_catalog.clock_timestamp(), queues = COALESCE($3, a.queues), labels = COALESCE($4, "
      "a.labels), "
      "since = CASE WHEN a.seen_at < pg_catalog.clock_timestamp() - '1 hour'::interval THEN pg_catalog.clock_timestamp() ELSE a.since END "
      "FROM stale s WHERE (a.role, a.name) = (s.role, s.name)) "
      "INSERT INTO dts.agent (role, name, queues, labels) SELECT $1::oid::regrole, $2, COALESCE($3, '{}'), COALESCE($4, '{}') "
      "WHERE NOT EXISTS (SELECT FROM there) ON CONFLICT DO NOTHING",
      4,
      {OIDOID, TEXTOID, INT4ARRAYOID, TEXTARRAYOID}};
  const Datum values[] = {ObjectIdGetDatum(GetUserId()), CStringGetTextDatum(a.name), a.queues, a.labels};
  const char nulls[] = {' ', ' ', a.queues == 0 ? 'n' : ' ', a.labels == 0 ? 'n' : ' ', '\0'};
  const pg::AsOwner as(store::catalog().owner, pg::Plans::ByKey);
  SPI_connect();
  seen.run(values, nulls, true);
  SPI_finish();
  as.end();
}

int agent_pool() {
  LWLockAcquire(&store::shared->directory, LW_SHARED);
  const int pool = store::pool_of(MyDatabaseId, InvalidOid, core::Runner::Agent, false);
  LWLockRelease(&store::shared->directory);
  return pool;
}

}  // namespace dts
