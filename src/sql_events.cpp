// Changes of watched tables: the trigger of dts.on_change, once for each statement.
#include "pg/as_owner.hpp"
#include "pg/guard.hpp"
#include "store/definitions.hpp"

namespace dts {

namespace {

pg::Statement change{"SELECT dts._change($1, $2, $3, $4)", 4, {INT4OID, TEXTOID, INT8OID, JSONBOID}};

/// Rows become JSON as the one who changes them: casts of types may be anybody's code. In slices, so that no statement is too large. By his
/// search_path too, so that operators are qualified.
constexpr const char* kRows =
    "SELECT pg_catalog.count(*), pg_catalog.jsonb_agg(pg_catalog.to_jsonb(x.c)) FROM (SELECT c, (pg_catalog.row_number() OVER () "
    "OPERATOR(pg_catalog.-) 1) OPERATOR(pg_catalog./) 10000 AS slice FROM changed c) x GROUP BY x.slice ORDER BY x.slice";
constexpr const char* kCount = "SELECT pg_catalog.count(*), NULL::pg_catalog.jsonb FROM changed";

struct Slice {
  int64 rows;
  Datum items;
  bool without;
};

void tell(int32 subscription, const char* operation, const Slice& s) {
  const Datum values[] = {Int32GetDatum(subscription), CStringGetTextDatum(operation), Int64GetDatum(s.rows), s.items};
  const char nulls[] = {' ', ' ', ' ', s.without ? 'n' : ' ', '\0'};
  const pg::AsOwner as(store::catalog().owner);
  SPI_connect();
  (void)change.run(values, nulls);
  SPI_finish();
  as.end();
}

}  // namespace

}  // namespace dts

using namespace dts;

DTS_FUNCTION(dts_changed_rows) {
  if (!CALLED_AS_TRIGGER(fcinfo)) elog(ERROR, "dts._changed_rows must be called as a trigger");
  auto* const data = reinterpret_cast<TriggerData*>(fcinfo->context);
  const Trigger* const trigger = data->tg_trigger;
  if (trigger->tgnargs != 2 || !TRIGGER_FIRED_FOR_STATEMENT(data->tg_event))
    elog(ERROR, "trigger \"%s\" was not made by dts.on_change", trigger->tgname);
  const char* const operation = TRIGGER_FIRED_BY_INSERT(data->tg_event)   ? "insert"
                                : TRIGGER_FIRED_BY_UPDATE(data->tg_event) ? "update"
                                                                          : "delete";
  MemoryContext const memory = CurrentMemoryContext;
  SPI_connect();
  if (SPI_register_trigger_data(data) != SPI_OK_TD_REGISTER) elog(ERROR, "trigger \"%s\" has no transition table", trigger->tgname);
  if (SPI_execute(strcmp(trigger->tgargs[1], "rows") == 0 ? kRows : kCount, true, 0) != SPI_OK_SELECT)
    elog(ERROR, "could not read the changed rows");
  const auto n = static_cast<int>(SPI_processed);
  MemoryContext const spi = MemoryContextSwitchTo(memory);
  auto* const slices = static_cast<Slice*>(palloc(sizeof(Slice) * (n + 1)));
  for (int i = 0; i < n; i++) {
    bool null = false;
    slices[i].rows = DatumGetInt64(pg::column(i, 1, &null));
    slices[i].items = pg::column_copy(memory, i, 2, &slices[i].without);
  }
  MemoryContextSwitchTo(spi);
  SPI_finish();
  for (int i = 0; i < n; i++)
    if (slices[i].rows > 0) tell(static_cast<int32>(strtol(trigger->tgargs[0], nullptr, 10)), operation, slices[i]);
  return PointerGetDatum(nullptr);
}
