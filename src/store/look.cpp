#include "store/look.hpp"

#include "pg/as_owner.hpp"

namespace dts::store {

namespace {

using core::State;
using core::Verdict;

int by_id(const void* a, const void* b) {
  const auto* const x = static_cast<const Candidate*>(a);
  const auto* const y = static_cast<const Candidate*>(b);
  return x->id != y->id ? (x->id < y->id ? -1 : 1) : static_cast<int>(y->depth) - static_cast<int>(x->depth);
}

/// What the edges of a child say, and the first that was refused.
struct Finding {
  Verdict verdict;
  int64 culprit;
  int outcome;
};

pg::Statement final_run{
    "SELECT r.outcome, l.owner::oid FROM dts.run r LEFT JOIN dts.lane l ON l.id = r.lane WHERE r.task = $1 AND r.outcome <> 20 "
    "ORDER BY r.ended_at DESC LIMIT 1",
    1,
    {INT8OID}};
pg::Statement dead{
    "SELECT 11::int2, l.owner::oid FROM dts.dead_letter d LEFT JOIN dts.lane l ON l.id = d.lane WHERE d.id = $1", 1, {INT8OID}};

/// A look at blocked tasks under one snapshot.
class Look {
 public:
  Look(TaskTable& tasks, EdgeTable& edges) : tasks_(tasks), edges_(edges) {
    CommandCounterIncrement();
    snapshot_ = RegisterSnapshot(GetLatestSnapshot());
    decided_.begin(edges, EdgeTable::By::DecidedChild, snapshot_);
    children_.begin(edges, EdgeTable::By::Child, snapshot_);
    slot_ = table_slot_create(tasks.heap(), nullptr);
    parent_ = table_slot_create(tasks.heap(), nullptr);
    scan_ = DTS_INDEX_BEGINSCAN(tasks.heap(), tasks.id_index(), snapshot_, 1);
  }
  void end() {
    index_endscan(scan_);
    ExecDropSingleTupleTableSlot(slot_);
    ExecDropSingleTupleTableSlot(parent_);
    decided_.end();
    children_.end();
    UnregisterSnapshot(snapshot_);
  }

  /// Where a child stands; row() is its row then.
  Standing standing(int64 child) { return fetch(child, slot_); }
  TupleTableSlot* row() { return slot_; }

  /// What the last edge of a child that needs all of its parents says: none is left, that one has no outcome yet, or more has to be read.
  enum class Glance { Nothing, Waits, Unclear };
  Glance glance(int64 child) {
    Edge e;
    children_.of(child, true);
    while (children_.next(&e))
      if (!e.counted) return e.outcome == kOpen ? Glance::Waits : Glance::Unclear;
    return Glance::Nothing;
  }

  Finding find(int64 child, const Standing& s, Depth depth) {
    if (depth == Depth::Deep) return find_deep(child, s);
    Finding f{Verdict::Open, 0, 0};
    Edge e;
    int64 accepted = 0, refused = 0;
    decided_.of(child);
    while (decided_.next(&e)) {
      if (!matters(e, s)) continue;
      count(e, &accepted, &refused, &f);
      if (s.need == core::kNeedAll && refused > 0) break;
    }
    if (s.need != core::kNeedAll) {
      f.verdict = core::verdict(s.need, accepted, refused, s.edges - accepted - refused);
      return f;
    }
    if (refused > 0) {
      f.verdict = Verdict::Dead;
      return f;
    }
    // Parents end in about the order of their ids, so the last one tells soonest that something is still open.
    children_.of(child, true);
    while (children_.next(&e))
      if (matters(e, s)) return fetch(e.parent, parent_).found ? f : find_deep(child, s);
    f.verdict = Verdict::Ready;
    return f;
  }

  /// Forgets what the edges of a decided child have to say. Open ones go with their own parents.
  void clean(int64 child) {
    if (!recorded_) {
      remove_all(decided_, child);
      return;
    }
    // Edges that this look recorded have versions that its snapshot does not see.
    CommandCounterIncrement();
    const Snapshot now = RegisterSnapshot(GetLatestSnapshot());
    EdgeTable::Scan scan;
    scan.begin(edges_, EdgeTable::By::DecidedChild, now);
    remove_all(scan, child);
    scan.end();
    UnregisterSnapshot(now);
  }

 private:
  Standing fetch(int64 id, TupleTableSlot* into) {
    ScanKeyData key;
    ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(id));
    index_rescan(scan_, &key, 1, nullptr, 0);
    return index_getnext_slot(scan_, ForwardScanDirection, into) ? standing_of(into) : Standing{};
  }

  void remove_all(EdgeTable::Scan& scan, int64 child) {
    Edge e;
    scan.of(child);
    while (scan.next(&e)) edges_.remove(e);
  }

  /// A node of a workflow that needed some of its parents, ran, and waits for tasks of its own, has edges of both rules.
  static bool matters(const Edge& e, const Standing& s) { return e.counted == (s.need != core::kNeedAll); }

  static void count(const Edge& e, int64* accepted, int64* refused, Finding* f) {
    if (e.accepted()) {
      ++*accepted;
      return;
    }
    if (++*refused > 1) return;
    f->culprit = e.parent;
    f->outcome = e.outcome;
  }

  /// Reads all edges. An open one whose parent is gone was written while the parent ended: it is recorded now, from history.
  Finding find_deep(int64 child, const Standing& s) {
    Finding f{Verdict::Open, 0, 0};
    int64 accepted = 0, refused = 0, open = 0;
    Edge e;
    children_.of(child);
    while (children_.next(&e)) {
      if (!matters(e, s)) continue;
      if (e.outcome == kOpen && !fetch(e.parent, parent_).found) {
        Oid owner = InvalidOid;
        int outcome = ended_outcome(e.parent, &owner);
        if (outcome == core::kUnknownOutcome && (e.accept & core::kParentKeepsFailures) != 0) outcome = static_cast<int>(State::Succeeded);
        edges_.record(e, outcome);
        e.outcome = outcome;
        recorded_ = true;
      }
      if (e.outcome == kOpen)
        open++;
      else
        count(e, &accepted, &refused, &f);
    }
    // Fewer edges than were made: somebody removed some by hand. What is left decides.
    f.verdict = core::verdict(s.need, accepted, refused, open);
    return f;
  }

  TaskTable& tasks_;
  EdgeTable& edges_;
  Snapshot snapshot_ = nullptr;
  EdgeTable::Scan decided_, children_;
  TupleTableSlot* slot_ = nullptr;
  TupleTableSlot* parent_ = nullptr;
  IndexScanDesc scan_ = nullptr;
  bool recorded_ = false;
};

/// Moves a decided child, whose row was just read. Returns whether it was moved here.
bool move(TaskTable& tasks, int64 child, TupleTableSlot* row, const Finding& f) {
  Task t;
  switch (tasks.lock_seen(child, row, &t)) {
    case TaskTable::Found::Missing: return false;
    case TaskTable::Found::Busy: agenda_note(Note::Held, child, child); return false;
    case TaskTable::Found::Locked: break;
  }
  const Lane* const l = lane_by_id(t.lane);
  if (l == nullptr) return false;
  const LaneInfo lane = l->info;
  if (t.state != State::Blocked) {
    tasks.keep(t, lane);
    return false;
  }
  if (f.verdict == Verdict::Dead) {
    end_unmet(tasks, t, lane, f.culprit, f.outcome);
    return true;
  }
  Task now = t;
  now.state = State::Ready;
  now.run_at = t.due_at_release();
  tasks.update(t, now, lane, lane);
  return true;
}

}  // namespace

void Candidates::push(int64 id, Depth depth) {
  if (n == room) {
    room = room == 0 ? 64 : room * 2;
    items = static_cast<Candidate*>(items == nullptr ? palloc(sizeof(Candidate) * room) : repalloc_huge(items, sizeof(Candidate) * room));
  }
  items[n++] = Candidate{id, depth};
}

void Candidates::sort() {
  if (n < 2) return;
  qsort(items, n, sizeof(Candidate), by_id);
  int k = 0;
  for (int i = 1; i < n; i++)
    if (items[i].id != items[k].id) items[++k] = items[i];
  n = k + 1;
}

int look_and_move(TaskTable& tasks, EdgeTable& edges, const Candidate* c, int n) {
  Look look(tasks, edges);
  int moved = 0;
  for (int i = 0; i < n; i++) {
    const Look::Glance glance = c[i].depth == Depth::Last ? look.glance(c[i].id) : Look::Glance::Unclear;
    if (glance == Look::Glance::Waits) continue;
    const Standing s = look.standing(c[i].id);
    if (!s.found || s.state != State::Blocked) {
      look.clean(c[i].id);
      continue;
    }
    const bool satisfied = glance == Look::Glance::Nothing && s.need == core::kNeedAll;
    const Finding f = satisfied ? Finding{Verdict::Ready, 0, 0} : look.find(c[i].id, s, c[i].depth);
    if (f.verdict == Verdict::Open) continue;
    if (move(tasks, c[i].id, look.row(), f)) {
      moved++;
      // Of the rule "all" nothing is left when it is satisfied.
      if (s.need != core::kNeedAll || f.verdict == Verdict::Dead) look.clean(c[i].id);
    }
    CHECK_FOR_INTERRUPTS();
  }
  look.end();
  return moved;
}

int ended_outcome(int64 task, Oid* owner) {
  const Datum values[] = {Int64GetDatum(task)};
  int outcome = core::kUnknownOutcome;
  const pg::AsOwner as(catalog().owner);
  SPI_connect();
  for (pg::Statement* s : {&dead, &final_run}) {
    if (outcome != core::kUnknownOutcome || s->run(values, nullptr, true) == 0) continue;
    bool null = false;
    outcome = DatumGetInt16(pg::column(0, 1, &null));
    *owner = DatumGetObjectId(pg::column(0, 2, &null));
  }
  SPI_finish();
  as.end();
  return outcome;
}

}  // namespace dts::store
