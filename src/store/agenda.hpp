// Who overlaps whom at the end of a task, and which tasks must be looked at again (docs/architecture.md, "Dependencies").
//
// Cells: a count and a flag for each hash of a task id. Whoever ends a task, looks at one, or names it as a parent enters its cell
// before the snapshot that this rests on, and leaves when its transaction is over. The second one in sets the flag; it tells both that
// they may have seen too little of each other.
// Agenda: for each database sets of id ranges to look at again.
#pragma once

#include "store/shared.hpp"

namespace dts::store {

/// Why an id is on the agenda.
enum class Note : uint8 {
  Look,     // a blocked task: the edges with an outcome, and the last open one, decide
  Deep,     // the same, but all of its edges are read: a parent may have ended while it was submitted
  Parents,  // a task that ended: its children get a deep look
  Held,     // a decided task whose row somebody held: in a moment
};
inline constexpr int kNotes = 4;

/// Bytes, and start: called by shared_size and shared_startup.
Size agenda_size();
void agenda_startup(int tranche);

// ---- in a transaction

/// Enters the cell of an id. If it turns out that somebody else was there, the callback notes the id.
void cell_enter(int64 id, Note on_overlap);
/// The same for the parent of tasks that this transaction submits: on overlap they get a deep look. See agenda_submitted.
void cell_enter_parent(int64 id);
/// ... and this is one of those tasks.
void agenda_submitted(int64 child);
/// Enters without a note: who only looks leaves no trace, or two would wake each other for ever.
void cell_enter_to_look(int64 id);
/// The id is put on the agenda when this transaction commits.
void agenda_note(Note note, int64 lo, int64 hi);

/// Before the first edge of a transaction is written or its parents are read: there may be edges from now on.
void edges_raise();
/// Whether there may be edges. False lets the end of a task skip them; read after its cell was entered.
bool edges_exist();
/// For the scheduler: whether the look at the table that follows may be the proof that there are none; then edges_none.
bool edges_quiet(uint64* proof);
void edges_none(uint64 proof);

/// Whether this transaction has entered or noted anything.
bool agenda_active();
/// At the end of the transaction. Neither allocates nor raises.
void agenda_end(bool committed);

// ---- resolving

/// Ranges taken off the agenda. They go back at an abort, and what `put_back` says at a commit.
/// Ids come from all over a graph: with few ranges, merged ones would cover blocked tasks that nobody has to look at.
struct Agenda {
  core::RangeSet<128> set[kNotes];
};
/// Takes all that is due. False if there is nothing.
bool agenda_take(Agenda* out);
/// Whether something is due; if it only has to wait, `*at` says until when (0: nothing at all). Cheap.
bool agenda_due(Oid db, TimestampTz now, TimestampTz* at);
/// After a round: how it went, for the pace of the next one.
enum class Round { Decided, Nothing, Failed };
void agenda_pace(Round round);
/// How many ids a round may look at: fewer after failures, until the one that fails is alone.
int agenda_slice();
/// Start-up, restore: everything is to be looked at.
void agenda_everything(Oid db);

}  // namespace dts::store
