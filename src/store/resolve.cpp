// The agenda's turn: blocked tasks that somebody has to look at again.
#include "store/look.hpp"

namespace dts::store {

namespace {

/// Blocked tasks in a range of the agenda. Stops when `room` are listed; the rest of the range stays on the agenda.
void list_blocked(TaskTable& tasks, Snapshot snapshot, const core::Range& r, Note note, int room, Candidates* out) {
  TupleTableSlot* const slot = table_slot_create(tasks.heap(), nullptr);
  IndexScanDesc const scan = DTS_INDEX_BEGINSCAN(tasks.heap(), tasks.blocked_index(), snapshot, 2);
  ScanKeyData keys[2];
  ScanKeyInit(&keys[0], 1, BTGreaterEqualStrategyNumber, F_INT8GE, Int64GetDatum(r.lo.run_at));
  ScanKeyInit(&keys[1], 1, BTLessEqualStrategyNumber, F_INT8LE, Int64GetDatum(r.hi.run_at));
  index_rescan(scan, keys, 2, nullptr, 0);
  while (index_getnext_slot(scan, ForwardScanDirection, slot)) {
    bool null = false;
    const int64 id = DatumGetInt64(slot_getattr(slot, 1, &null));
    if (out->n >= room) {
      agenda_note(note == Note::Held ? Note::Look : note, id, r.hi.run_at);
      break;
    }
    out->push(id, note == Note::Deep ? Depth::Deep : Depth::Edges);
  }
  index_endscan(scan);
  ExecDropSingleTupleTableSlot(slot);
}

/// Children of ended tasks in a range of the agenda.
void list_children(TaskTable& tasks, EdgeTable& edges, Snapshot snapshot, const core::Range& r, int room, Candidates* out) {
  EdgeTable::Scan scan;
  scan.begin(edges, EdgeTable::By::Parent, snapshot);
  scan.range(r.lo.run_at, r.hi.run_at);
  Edge e;
  int64 last = 0;
  bool alive = false;
  while (scan.next(&e)) {
    if (e.outcome != kOpen) continue;
    if (out->n >= room) {
      agenda_note(Note::Parents, e.parent, r.hi.run_at);
      break;
    }
    if (e.parent != last) alive = tasks.standing(e.parent).found;
    last = e.parent;
    if (!alive) out->push(e.child, Depth::Deep);
  }
  scan.end();
}

}  // namespace

Round resolve() {
  Agenda agenda;
  if (!agenda_take(&agenda)) return Round::Decided;
  PushActiveSnapshot(GetTransactionSnapshot());
  EdgeTable edges = EdgeTable::open();
  TaskTable tasks = TaskTable::open();
  const int room = agenda_slice();
  Candidates candidates;
  // Taken first, the snapshot second: what came in between is on the agenda again.
  const Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
  for (const Note note : {Note::Deep, Note::Look, Note::Held, Note::Parents}) {
    const auto& set = agenda.set[static_cast<int>(note)];
    for (int i = 0; i < set.size(); i++) {
      if (candidates.n >= room)
        agenda_note(note == Note::Held ? Note::Look : note, set[i].lo.run_at, set[i].hi.run_at);
      else if (note == Note::Parents)
        list_children(tasks, edges, snapshot, set[i], room, &candidates);
      else
        list_blocked(tasks, snapshot, set[i], note, room, &candidates);
    }
  }
  UnregisterSnapshot(snapshot);
  candidates.sort();
  // It enters cells although it records nothing: a finisher that looked too early then learns of it.
  for (int i = 0; i < candidates.n; i++) cell_enter_to_look(candidates.items[i].id);
  const int moved = candidates.n == 0 ? 0 : look_and_move(tasks, edges, candidates.items, candidates.n);
  tasks.close();
  edges.close();
  PopActiveSnapshot();
  return moved > 0 || candidates.n == 0 || candidates.n >= room ? Round::Decided : Round::Nothing;
}

}  // namespace dts::store
