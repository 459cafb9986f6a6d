#include "store/edges.hpp"

#include "store/definitions.hpp"
#include "store/index_entries.hpp"

namespace dts::store {

namespace {

enum Column { kParent, kChild, kAccept, kCounted, kOutcome, kColumns };
constexpr const char* kNames[] = {"dependency_pkey", "dependency_child", "dependency_decided"};

struct Known {
  Oid table;
  int n;
  Oid all[4];
  Oid index[3];
};
Known known{};

bool same(const List* list) {
  if (list_length(list) != known.n) return false;
  for (int i = 0; i < known.n; i++)
    if (list_nth_oid(list, i) != known.all[i]) return false;
  return true;
}

Edge read_edge(TupleTableSlot* slot) {
  slot_getallattrs(slot);
  const Datum* const v = slot->tts_values;
  Edge e{};
  e.parent = DatumGetInt64(v[kParent]);
  e.child = DatumGetInt64(v[kChild]);
  e.accept = DatumGetInt16(v[kAccept]);
  e.counted = DatumGetBool(v[kCounted]);
  e.outcome = slot->tts_isnull[kOutcome] ? kOpen : DatumGetInt16(v[kOutcome]);
  e.tid = slot->tts_tid;
  return e;
}

}  // namespace

EdgeTable EdgeTable::open() {
  EdgeTable t;
  t.heap_ = open_table(catalog().dependency, RowExclusiveLock, kColumns);
  t.classify();
  return t;
}

/// Finds our indexes by name, again whenever the table's list of indexes changes.
void EdgeTable::classify() {
  List* const list = RelationGetIndexList(heap_);
  if (known.table != RelationGetRelid(heap_) || !same(list)) {
    known = Known{};
    int others = 0;
    ListCell* cell = nullptr;
    foreach (cell, list) {
      const Oid oid = lfirst_oid(cell);
      const char* const name = get_rel_name(oid);
      bool ours = false;
      for (int i = 0; i < 3 && name != nullptr; i++)
        if (strcmp(name, kNames[i]) == 0) {
          known.index[i] = oid;
          ours = true;
        }
      others += ours ? 0 : 1;
      if (known.n < static_cast<int>(lengthof(known.all))) known.all[known.n++] = oid;
    }
    for (int i = 0; i < 3; i++)
      if (!OidIsValid(known.index[i]))
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("index \"dts.%s\" is missing", kNames[i]),
                        errhint("Make it again under its old name.")));
    if (others == 0 && known.n == 3) known.table = RelationGetRelid(heap_);
  }
  plain_ = known.table == RelationGetRelid(heap_);
  list_free(list);
}

void EdgeTable::close() {
  insert_late();
  for (Relation r : index_)
    if (r != nullptr) index_close(r, NoLock);
  table_close(heap_, NoLock);
  heap_ = nullptr;
}

Relation EdgeTable::index(By by) {
  Relation& r = index_[static_cast<int>(by)];
  if (r == nullptr) r = index_open(known.index[static_cast<int>(by)], RowExclusiveLock);
  return r;
}

void EdgeTable::index_entries(HeapTuple tuple, const Edge& e) {
  if (!plain_) {
    insert_entries_generic(heap_, tuple);
    return;
  }
  const Datum by_parent[] = {Int64GetDatum(e.parent), Int64GetDatum(e.child)};
  const Datum by_child[] = {Int64GetDatum(e.child), Int64GetDatum(e.parent)};
  if (late_ == nullptr) {
    insert_entry(index(By::Parent), heap_, tuple, by_parent, true);
  } else {
    if (late_n_ == late_room_) late_ = static_cast<Late*>(repalloc_huge(late_, sizeof(Late) * (late_room_ *= 2)));
    late_[late_n_++] = Late{e.parent, e.child, tuple->t_self};
  }
  insert_entry(index(By::Child), heap_, tuple, by_child, false);
  if (e.outcome != kOpen) insert_entry(index(By::DecidedChild), heap_, tuple, by_child, false);
}

void EdgeTable::insert_many() {
  if (!plain_ || late_ != nullptr) return;
  late_room_ = 1024;
  late_ = static_cast<Late*>(palloc(sizeof(Late) * late_room_));
}

void EdgeTable::insert_late() {
  if (late_ == nullptr) return;
  qsort(late_, late_n_, sizeof(Late), [](const void* a, const void* b) {
    const auto* const x = static_cast<const Late*>(a);
    const auto* const y = static_cast<const Late*>(b);
    return x->parent != y->parent ? (x->parent < y->parent ? -1 : 1) : x->child < y->child ? -1 : 1;
  });
  HeapTupleData tuple;
  for (int64 i = 0; i < late_n_; i++) {
    const Datum values[] = {Int64GetDatum(late_[i].parent), Int64GetDatum(late_[i].child)};
    tuple.t_self = late_[i].tid;
    insert_entry(index(By::Parent), heap_, &tuple, values, false);  // the children are new, so nobody else has such an edge
    if (i % 4096 == 0) CHECK_FOR_INTERRUPTS();
  }
  pfree(late_);
  late_ = nullptr;
  late_n_ = late_room_ = 0;
}

namespace {
HeapTuple form(Relation heap, const Edge& e) {
  Datum values[kColumns] = {Int64GetDatum(e.parent), Int64GetDatum(e.child), Int16GetDatum(e.accept), BoolGetDatum(e.counted),
                            Int16GetDatum(static_cast<int16>(e.outcome))};
  bool nulls[kColumns] = {false, false, false, false, e.outcome == kOpen};
  return heap_form_tuple(RelationGetDescr(heap), values, nulls);
}
}  // namespace

void EdgeTable::insert(const Edge& edge) {
  HeapTuple const tuple = form(heap_, edge);
  heap_insert(heap_, tuple, GetCurrentCommandId(true), 0, nullptr);
  index_entries(tuple, edge);
  heap_freetuple(tuple);
}

bool EdgeTable::lock(const Edge& edge) {
  HeapTupleData locked;
  locked.t_self = edge.tid;
  Buffer buffer = InvalidBuffer;
  TM_FailureData failure;
  const TM_Result r =
      heap_lock_tuple(heap_, &locked, GetCurrentCommandId(true), LockTupleExclusive, LockWaitSkip, false, &buffer, &failure);
  if (BufferIsValid(buffer)) ReleaseBuffer(buffer);
  return r == TM_Ok;
}

void EdgeTable::remove(const Edge& edge) {
  ItemPointerData tid = edge.tid;
  TM_FailureData failure;
  const TM_Result r = heap_delete(heap_, &tid, GetCurrentCommandId(true), InvalidSnapshot, false, &failure, false);
  // Our own lock counts as somebody's when it must not be waited for.
  if (r == TM_BeingModified && lock(edge)) simple_heap_delete(heap_, &tid);
}

void EdgeTable::record(const Edge& edge, int outcome) {
  if (!edge.counted && core::accepts(edge.accept, outcome)) {
    remove(edge);
    return;
  }
  if (!lock(edge)) return;
  Edge now = edge;
  now.outcome = outcome;
  HeapTuple const tuple = form(heap_, now);
  ItemPointerData tid = edge.tid;
  if (pg::heap_update_locked(heap_, &tid, tuple)) index_entries(tuple, now);
  heap_freetuple(tuple);
}

void EdgeTable::Scan::begin(EdgeTable& table, By by, Snapshot snapshot) {
  by_ = by;
  slot_ = table_slot_create(table.heap_, nullptr);
  scan_ = DTS_INDEX_BEGINSCAN(table.heap_, table.index(by), snapshot, 2);
}

void EdgeTable::Scan::range(int64 lo, int64 hi, bool last_first) {
  ScanKeyData keys[2];
  ScanKeyInit(&keys[0], 1, BTGreaterEqualStrategyNumber, F_INT8GE, Int64GetDatum(lo));
  ScanKeyInit(&keys[1], 1, BTLessEqualStrategyNumber, F_INT8LE, Int64GetDatum(hi));
  direction_ = last_first ? BackwardScanDirection : ForwardScanDirection;
  index_rescan(scan_, keys, 2, nullptr, 0);
}

bool EdgeTable::Scan::next(Edge* out) {
  if (!index_getnext_slot(scan_, direction_, slot_)) return false;
  *out = read_edge(slot_);
  return true;
}

void EdgeTable::Scan::end() {
  index_endscan(scan_);
  ExecDropSingleTupleTableSlot(slot_);
}

}  // namespace dts::store
