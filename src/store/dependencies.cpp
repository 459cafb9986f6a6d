#include "store/look.hpp"

namespace dts::store {

namespace {

using core::State;

/// Rows that one transaction moves at most, and for how long; the rest goes on the agenda.
constexpr int kMoves = 1000;
constexpr int64 kTime = 5000;

State end_of(const Task& t) {
  if ((t.flags & core::kUnmetFails) != 0) return State::Failed;
  return (t.flags & core::kUnmetCancels) != 0 ? State::Cancelled : State::Skipped;
}

/// Records the ends from..to of this transaction on their edges, and lists the children.
void record_ends(EdgeTable& edges, int from, int to, Candidates* children) {
  CommandCounterIncrement();
  const Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
  EdgeTable::Scan scan;
  scan.begin(edges, EdgeTable::By::Parent, snapshot);
  for (int i = from; i < to; i++) {
    const Ended& e = ended(i);
    if (!core::is_end(e.outcome)) continue;
    Edge edge;
    scan.of(e.task);
    while (scan.next(&edge)) {
      const int outcome = static_cast<int>(e.outcome);
      if (edge.outcome == kOpen) edges.record(edge, outcome);
      children->push(edge.child, !edge.counted && core::accepts(edge.accept, outcome) ? Depth::Last : Depth::Edges);
    }
  }
  scan.end();
  UnregisterSnapshot(snapshot);
}

void release(TaskTable& tasks, EdgeTable& edges) {
  const TimestampTz begin = GetCurrentTimestamp();
  int moved = 0;
  for (int from = 0; from < ended_count();) {
    const int to = ended_count();
    Candidates children;
    record_ends(edges, from, to, &children);
    from = to;
    if (children.items == nullptr) continue;
    children.sort();
    const bool late = moved > 0 && GetCurrentTimestamp() - begin > kTime;
    const int here = late ? 0 : Min(children.n, kMoves - moved);
    for (int i = here; i < children.n; i++) agenda_note(Note::Look, children.items[i].id, children.items[i].id);
    if (here <= 0) continue;
    for (int i = 0; i < here; i++) cell_enter(children.items[i].id, Note::Look);
    moved += look_and_move(tasks, edges, children.items, here);
    // Those that ended just now are in a cell already; should somebody have been there, their own children are looked at.
    for (int i = to; i < ended_count(); i++) cell_enter(ended(i).task, Note::Parents);
  }
}

}  // namespace

void end_unmet(TaskTable& tasks, const Task& t, const LaneInfo& lane, int64 culprit, int outcome) {
  Outcome o;
  o.state = end_of(t);
  o.ended_at = GetCurrentTimestamp();
  const char* const how = outcome == core::kUnknownOutcome ? "ended, and how is not known any more"
                                                           : psprintf("ended as %s", core::name(static_cast<State>(outcome)));
  o.error =
      error_json(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                 culprit == 0 ? psprintf("its dependencies can no longer be satisfied")
                              : psprintf("its dependencies can no longer be satisfied: task %lld %s", static_cast<long long>(culprit), how),
                 nullptr);
  end_task(tasks, t, lane, o);
}

void release_dependents() {
  bool any = false;
  for (int i = 0; i < ended_count(); i++) {
    if (!core::is_end(ended(i).outcome)) continue;
    cell_enter(ended(i).task, Note::Parents);
    any = true;
  }
  // The order matters: whoever writes edges has raised the count before he enters the cells and reads the parents.
  if (!any || !edges_exist() || !installed()) return;
  MemoryContext const memory = AllocSetContextCreate(TopTransactionContext, "dts dependents", ALLOCSET_DEFAULT_SIZES);
  MemoryContext const old = MemoryContextSwitchTo(memory);
  PushActiveSnapshot(GetTransactionSnapshot());
  EdgeTable edges = EdgeTable::open();
  TaskTable tasks = TaskTable::open();
  release(tasks, edges);
  tasks.close();
  edges.close();
  PopActiveSnapshot();
  MemoryContextSwitchTo(old);
  MemoryContextDelete(memory);
}

}  // namespace dts::store
