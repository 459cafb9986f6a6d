// Limits as rows of dts.limit_entry.
#include "pg/as_owner.hpp"
#include "store/definitions.hpp"
#include "store/touch.hpp"

namespace dts::store {

namespace {

enum Column {
  kId = 1,
  kScope,
  kObject,
  kTenant,
  kPaused,
  kConcurrency,
  kRate,
  kPer,
  kBurst,
  kWeight,
  kKeyMost,
  kKeyFifo,
  kMaxWaiting,
  kMaxBytes,
  kReserved,
  kGone
};

pg::Statement rows{
    "SELECT e.id, array_position('{queue,handler,owner,tenant,priority}'::text[], e.scope) - 1, "
    "CASE e.scope WHEN 'queue' THEN e.queue WHEN 'handler' THEN e.handler WHEN 'priority' THEN e.priority ELSE e.owner::oid::int8 "
    "END::int8, e.tenant, e.paused, "
    "e.concurrency, e.rate, (extract(epoch FROM e.per) * 1000)::int8, e.burst, e.weight, e.key_concurrency, e.key_fifo, e.max_waiting, "
    "e.max_bytes, e.reserved, COALESCE(q.dropped_at, h.dropped_at) IS NOT NULL FROM dts.limit_entry e "
    "LEFT JOIN dts.queue q ON e.scope = 'queue' AND q.id = e.queue LEFT JOIN dts.handler h ON e.scope = 'handler' AND h.id = e.handler "
    "WHERE $1 IN (0, e.id) AND (e.scope <> 'owner' OR EXISTS (SELECT FROM pg_roles r WHERE r.oid = e.owner)) ORDER BY e.id",
    1,
    {INT4OID}};

/// A number, or what stands for NULL.
int64 number(uint64 row, Column column, bool wide, int64 otherwise) {
  bool null = false;
  const Datum d = pg::column(row, column, &null);
  return null ? otherwise : wide ? DatumGetInt64(d) : DatumGetInt32(d);
}

}  // namespace

void each_limit(int32 entry, void (*use)(const LimitSettings&)) {
  const pg::AsOwner as(catalog().owner);
  SPI_connect();
  const Datum values[] = {Int32GetDatum(entry)};
  const uint64 n = rows.run(values);
  for (uint64 i = 0; i < n; i++) {
    bool null = false;
    LimitSettings l{};
    l.entry = static_cast<int32>(number(i, kId, false, 0));
    l.scope = static_cast<Scope>(number(i, kScope, false, 0));
    l.object = l.scope == Scope::Tenant ? tenant_hash(TextDatumGetCString(pg::column(i, kTenant, &null)))
                                        : static_cast<uint64>(number(i, kObject, true, 0));
    l.paused = DatumGetBool(pg::column(i, kPaused, &null));
    l.concurrency = static_cast<int32>(number(i, kConcurrency, false, -1));
    l.rate = core::make_rate(number(i, kRate, false, 0), number(i, kPer, true, 1000) * 1000000, number(i, kBurst, false, 0));
    l.weight = static_cast<int32>(number(i, kWeight, false, 1));
    l.key_most = static_cast<int32>(number(i, kKeyMost, false, 1));
    l.key_fifo = DatumGetBool(pg::column(i, kKeyFifo, &null));
    l.most_waiting = number(i, kMaxWaiting, true, -1);
    l.most_bytes = number(i, kMaxBytes, true, -1);
    l.reserved = static_cast<int32>(number(i, kReserved, false, 0));
    l.gone = DatumGetBool(pg::column(i, kGone, &null));
    use(l);
  }
  SPI_finish();
  as.end();
}

}  // namespace dts::store
