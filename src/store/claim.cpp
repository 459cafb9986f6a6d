// The claim: ranges are taken from the lane first, the snapshot comes second, what was not examined is put back. The order is what
// makes it correct (docs/architecture.md, "Claiming").
#include "pg/point.hpp"
#include "store/keys.hpp"

namespace dts::store {

namespace {

/// Scan keys for lane = l and lo <= (run_at, id) <= hi. The row comparisons leave out the lane: with it the B-tree would start at the
/// lane's first entry and filter (measured: 280 against 14 us).
class LaneKeys {
 public:
  void set(int32 lane, core::Key lo, core::Key hi) {
    ScanKeyInit(&keys_[0], 1, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(lane));
    row(&keys_[1], low_, BTGreaterEqualStrategyNumber, lo);
    row(&keys_[2], high_, BTLessEqualStrategyNumber, hi);
  }
  ScanKey keys() { return keys_; }

 private:
  static void row(ScanKey head, ScanKeyData* members, StrategyNumber strategy, core::Key k) {
    member(&members[0], 2, strategy, F_TIMESTAMPTZ_CMP, TimestampTzGetDatum(k.run_at));
    member(&members[1], 3, strategy, F_BTINT8CMP, Int64GetDatum(k.id));
    members[1].sk_flags |= SK_ROW_END;
    memset(head, 0, sizeof(*head));
    head->sk_flags = SK_ROW_HEADER;
    head->sk_attno = 2;
    head->sk_strategy = strategy;
    head->sk_argument = PointerGetDatum(members);
  }
  static void member(ScanKey key, AttrNumber attno, StrategyNumber strategy, Oid function, Datum argument) {
    ScanKeyEntryInitialize(key, SK_ROW_MEMBER, attno, strategy, InvalidOid, InvalidOid, function, argument);
  }
  ScanKeyData keys_[3], low_[2], high_[2];
};

/// Columns of dts.task: id, run_at.
constexpr AttrNumber kId = 1, kRunAt = 2;

core::Key key_of(TupleTableSlot* slot) {
  bool null = false;
  const int64 run_at = DatumGetTimestampTz(slot_getattr(slot, kRunAt, &null));
  return {run_at, DatumGetInt64(slot_getattr(slot, kId, &null))};
}

/// One scan over taken ranges, with one snapshot.
class RangeScan {
 public:
  RangeScan(TaskTable& tasks, Relation heap, Relation index, int32 lane)
      : tasks_(tasks),
        heap_(heap),
        lane_(lane),
        now_(GetCurrentTimestamp()),
        snapshot_(RegisterSnapshot(GetLatestSnapshot())),
        row_(table_slot_create(heap, nullptr)),
        scan_(DTS_INDEX_BEGINSCAN(heap, index, snapshot_, 3)) {}
  /// Gives the snapshot, still registered.
  Snapshot end() {
    index_endscan(scan_);
    ExecDropSingleTupleTableSlot(row_);
    return snapshot_;
  }

  /// Locks up to max due rows of a range. Returns how many; `position`: where it stopped.
  int lock_due(const core::Range& r, int slot, const LaneInfo& lane, int max, Task* out, core::Key* position) {
    int n = 0;
    *position = r.lo;
    begin(r.lo, due_end(r));
    while (n < max && !tired() && index_getnext_slot(scan_, ForwardScanDirection, row_)) {
      *position = next(key_of(row_));
      // A version that is not current is passed by: whoever moved the row offers its new key.
      if (!lock_row()) continue;
      read_task(row_, &out[n]);
      touch_claimed(slot, lane, out[n].key());
      if (out[n].ckey != 0 && !admitted(out[n], lane)) {
        out[n] = Task();
        continue;
      }
      n++;
    }
    return n;
  }

  /// Some row had to be left for want of room.
  [[nodiscard]] bool later() const { return later_; }
  /// Enough was parked for one transaction.
  [[nodiscard]] bool tired() const { return parked_ >= kParkedMax; }

  /// What is left of a range that was scanned to its due end: from the first row that is there on. False if nothing is.
  bool rest_of(const core::Range& r, core::Range* rest) {
    if (due_end(r) == r.hi) return false;
    const core::Key beyond = next(core::Key{now_, core::kMax});
    begin(r.lo <= beyond ? beyond : r.lo, r.hi);
    if (!index_getnext_slot(scan_, ForwardScanDirection, row_)) return false;
    *rest = core::Range{key_of(row_), r.hi};
    return true;
  }

 private:
  bool admitted(const Task& task, const LaneInfo& lane) {
    const Admitted a = admit(tasks_, task, lane);
    if (a == Admitted::Parked) parked_++;
    if (a == Admitted::Later) touch_kept(lane, task.key());
    later_ |= a == Admitted::Later;
    return a == Admitted::Yes;
  }
  [[nodiscard]] core::Key due_end(const core::Range& r) const { return r.hi.run_at <= now_ ? r.hi : core::Key{now_, core::kMax}; }
  void begin(core::Key lo, core::Key hi) {
    keys_.set(lane_, lo, hi);
    index_rescan(scan_, keys_.keys(), 3, nullptr, 0);
  }
  bool lock_row() {
    HeapTupleData tuple;
    tuple.t_self = row_->tts_tid;
    Buffer buffer = InvalidBuffer;
    TM_FailureData failure;
    const TM_Result r =
        heap_lock_tuple(heap_, &tuple, GetCurrentCommandId(true), LockTupleExclusive, LockWaitSkip, false, &buffer, &failure);
    if (BufferIsValid(buffer)) ReleaseBuffer(buffer);
    return r == TM_Ok;
  }

  static constexpr int kParkedMax = 500;
  TaskTable& tasks_;
  Relation heap_;
  int32 lane_;
  int parked_ = 0;
  bool later_ = false;
  TimestampTz now_;
  Snapshot snapshot_;
  TupleTableSlot* row_;
  IndexScanDesc scan_;
  LaneKeys keys_;
};

}  // namespace

int TaskTable::claim(int slot, const LaneInfo& lane, int max, Task* out) {
  touch_register();  // the first claim of a process may fail before it has touched any row
  taken.lane = lane.lane;
  taken.n = take(slot, MyDatabaseId, lane.lane, GetCurrentTimestamp(), lengthof(taken.range), taken.range);
  if (taken.n == 0) return 0;
  taken.slot = slot;  // from here on an abort offers the ranges whole
  DTS_POINT("claim.taken");
  RangeScan scan(*this, heap_, claim_index(), lane.lane);
  DTS_POINT("claim.snapshot");
  CHECK_FOR_INTERRUPTS();  // the ranges are safe: an abort offers them
  core::Range rest[lengthof(taken.range)];
  int n = 0, rests = 0;
  for (int i = 0; i < taken.n; i++) {
    const core::Range& r = taken.range[i];
    core::Key position = r.lo;
    if (n < max && !scan.tired()) n += scan.lock_due(r, slot, lane, max - n, out + n, &position);
    if (n < max && !scan.tired())
      rests += scan.rest_of(r, &rest[rests]) ? 1 : 0;
    else if (position <= r.hi)
      rest[rests++] = core::Range{position, r.hi};
  }
  Snapshot const snapshot = scan.end();
  if (held_ != nullptr) UnregisterSnapshot(held_);
  held_ = snapshot;
  DTS_POINT("claim.scanned");
  // No room for one more key in shared memory: whoever ends makes some.
  if (scan.later()) back_off(slot);
  offer_ranges(slot, MyDatabaseId, lane.lane, rest, rests);
  claim_done(slot);
  taken.slot = -1;
  taken.n = 0;
  return n;
}

}  // namespace dts::store
