#include "store/batches.hpp"

#include "pg/as_owner.hpp"
#include "store/definitions.hpp"
#include "store/index_entries.hpp"
#include "store/list.hpp"
#include "store/touch.hpp"

namespace dts::store {

namespace {

struct Tally {
  int64 batch, n;
  int what;
  SubTransactionId subid;
};
TransactionList<Tally> tallies;

/// The batch named last, while the subtransaction that looked it up goes on: what it began may be rolled back.
struct Known {
  TransactionId xid;
  SubTransactionId subid;
  Oid owner;
  int64 batch;
  char name[201];
};
Known last{};

/// A batch that goes on for days gets a row each day: retention then never removes one that somebody is about to use.
pg::Statement lookup{"SELECT min(id) FROM dts.batch WHERE name = $2 AND owner = $1 AND created_at > clock_timestamp() - '1 day'::interval",
                     2,
                     {OIDOID, TEXTOID}};
pg::Statement begin_batch{"INSERT INTO dts.batch (owner, name) VALUES ($1, $2) RETURNING id", 2, {OIDOID, TEXTOID}};
pg::Statement named{"SELECT id, owner::oid FROM dts.batch WHERE name = $1 ORDER BY owner <> $2, owner, id", 2, {TEXTOID, OIDOID}};
pg::Statement members{"SELECT id FROM dts.task WHERE batch = $1", 1, {INT8OID}};
pg::Statement refused{
    "SELECT COALESCE(sum(n), 0)::int8 FROM dts.batch_tally WHERE batch = $1 AND what >= 10 AND (1 << (what - 10)) & $2 = 0",
    2,
    {INT8OID, INT4OID}};

enum Column { kBatch, kAt, kN, kWhat, kColumns };

void write(Relation rel, const Tally& t, TimestampTz at) {
  Datum values[kColumns];
  bool nulls[kColumns] = {};
  values[kBatch] = Int64GetDatum(t.batch);
  values[kAt] = TimestampTzGetDatum(at);
  values[kN] = Int64GetDatum(t.n);
  values[kWhat] = Int16GetDatum(static_cast<int16>(t.what));
  HeapTuple const tuple = heap_form_tuple(RelationGetDescr(rel), values, nulls);
  heap_insert(rel, tuple, GetCurrentCommandId(true), 0, nullptr);
  List* const list = RelationGetIndexList(rel);
  Relation const index = list_length(list) == 1 ? index_open(linitial_oid(list), RowExclusiveLock) : nullptr;
  if (index != nullptr && index->rd_index->indnatts == 1 && index->rd_index->indkey.values[0] == kBatch + 1 &&
      index->rd_rel->relam == BTREE_AM_OID && heap_attisnull(index->rd_indextuple, Anum_pg_index_indpred, nullptr))
    insert_entry(index, rel, tuple, values, false);
  else
    insert_entries_generic(rel, tuple);
  if (index != nullptr) index_close(index, NoLock);
  list_free(list);
  heap_freetuple(tuple);
}

}  // namespace

int64 batch_for(Oid owner, const char* name) {
  const TransactionId xid = GetTopTransactionId();
  const SubTransactionId subid = GetCurrentSubTransactionId();
  if (last.batch != 0 && last.xid == xid && last.subid == subid && last.owner == owner && strcmp(last.name, name) == 0) return last.batch;
  const Datum values[] = {ObjectIdGetDatum(owner), CStringGetTextDatum(name)};
  const pg::AsOwner as(catalog().owner);
  SPI_connect();
  bool null = true;
  lookup.run(values, nullptr, true);
  int64 batch = DatumGetInt64(pg::column(0, 1, &null));
  if (null) {
    begin_batch.run(values);
    batch = DatumGetInt64(pg::column(0, 1, &null));
  }
  SPI_finish();
  as.end();
  last = Known{xid, subid, owner, batch, {}};
  strlcpy(last.name, name, sizeof(last.name));
  return batch;
}

int batches_named(const char* name, int64** ids) {
  MemoryContext const memory = CurrentMemoryContext;
  const Oid user = GetUserId();
  const Datum values[] = {CStringGetTextDatum(name), ObjectIdGetDatum(user)};
  const pg::AsOwner as(catalog().owner);
  SPI_connect();
  const uint64 n = named.run(values, nullptr, true);
  *ids = static_cast<int64*>(MemoryContextAllocHuge(memory, sizeof(int64) * (n + 1)));
  int got = 0;
  Oid whose = InvalidOid;
  for (uint64 i = 0; i < n; i++) {
    bool null = false;
    const Oid owner = DatumGetObjectId(pg::column(i, 2, &null));
    if (OidIsValid(whose) ? owner != whose : !role_may(user, owner)) continue;
    whose = owner;
    (*ids)[got++] = DatumGetInt64(pg::column(i, 1, &null));
  }
  SPI_finish();
  as.end();
  return got;
}

int64 batch_members(int64 batch, int64** tasks) {
  MemoryContext const memory = CurrentMemoryContext;
  const Datum values[] = {Int64GetDatum(batch)};
  const pg::AsOwner as(catalog().owner);
  SPI_connect();
  const uint64 n = members.run(values, nullptr, true);
  *tasks = static_cast<int64*>(MemoryContextAllocHuge(memory, sizeof(int64) * (n + 1)));
  bool null = false;
  for (uint64 i = 0; i < n; i++) (*tasks)[i] = DatumGetInt64(pg::column(i, 1, &null));
  SPI_finish();
  as.end();
  return static_cast<int64>(n);
}

void tally(int64 batch, int what, int64 n) {
  touch_register();
  const SubTransactionId subid = GetCurrentSubTransactionId();
  // Most transactions do one or two things to one batch: a short look back finds the entry to add to.
  for (int i = tallies.n - 1; i >= 0 && i >= tallies.n - 4; i--) {
    Tally& t = tallies.items[i];
    if (t.subid != subid) break;
    if (t.batch != batch || t.what != what) continue;
    t.n += n;
    return;
  }
  tallies.push() = Tally{batch, n, what, subid};
}

int64 refused_ends(int64 batch, core::Accept accept) {
  int64 n = 0;
  for (int i = 0; i < tallies.n; i++) {
    const Tally& t = tallies.items[i];
    if (t.batch == batch && t.what >= static_cast<int>(core::State::Succeeded) && !core::accepts(accept, t.what)) n += t.n;
  }
  const Datum values[] = {Int64GetDatum(batch), Int32GetDatum(accept)};
  const pg::AsOwner as(catalog().owner);
  SPI_connect();
  refused.run(values, nullptr, true);
  bool null = false;
  n += DatumGetInt64(pg::column(0, 1, &null));
  SPI_finish();
  as.end();
  return n;
}

void tallies_write() {
  if (tallies.n == 0 || !installed()) return;
  const Oid table = get_relname_relid("batch_tally", catalog().schema);
  if (!OidIsValid(table)) return;
  Relation const rel = open_table(table, RowExclusiveLock, kColumns);
  const TimestampTz now = GetCurrentTimestamp();
  for (int i = 0; i < tallies.n; i++)
    if (tallies.items[i].n != 0) write(rel, tallies.items[i], now);
  table_close(rel, NoLock);
}

void tallies_forget() { tallies.drop(); }

void tallies_subabort(SubTransactionId subid) {
  while (tallies.n > 0 && tallies.items[tallies.n - 1].subid >= subid) tallies.n--;
}

}  // namespace dts::store
