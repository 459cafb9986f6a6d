#include "node_step.hpp"

#include "pg/as_owner.hpp"
#include "pg/guard.hpp"
#include "store/definitions.hpp"
#include "store/dependencies.hpp"
#include "store/slots.hpp"

extern "C" {
#include "common/hashfn.h"
}

namespace dts {

namespace {

using core::State;

pg::Statement step_of{"SELECT s.action, s.args, s.result::text, s.message, s.tasks, s.at FROM dts._step($1) s", 1, {INT8OID}};

Step::Action action_of(const char* name) {
  constexpr const char* kNames[] = {"run", "skip", "fail", "done", "block", "wait", "later", "end failed", "end cancelled"};
  for (size_t i = 0; i < lengthof(kNames); i++)
    if (strcmp(name, kNames[i]) == 0) return static_cast<Step::Action>(i);
  elog(ERROR, "unknown step \"%s\"", name);
}

/// A blocked task waits for those that it has just submitted: nobody else can have ended them.
void block_on(const store::Task& t, const Step& step) {
  store::edges_raise();
  store::agenda_submitted(t.id);
  store::EdgeTable edges = store::EdgeTable::open();
  for (int i = 0; i < step.n; i++) {
    store::Edge e{};
    e.parent = step.tasks[i];
    e.child = t.id;
    e.accept = core::kAcceptAny;
    e.outcome = store::kOpen;
    edges.insert(e);
  }
  edges.close();
}

}  // namespace

Step next_step(const store::Task& task) {
  MemoryContext const memory = CurrentMemoryContext;
  const Datum values[] = {Int64GetDatum(task.id)};
  Step s;
  const pg::AsOwner as(store::catalog().owner);
  SPI_connect();
  if (step_of.run(values) != 1) elog(ERROR, "task is not a node of a workflow");
  bool null = false;
  s.action = action_of(TextDatumGetCString(pg::column(0, 1, &null)));
  Datum d = pg::column_copy(memory, 0, 2, &null);
  s.args = null ? nullptr : DatumGetJsonbP(d);
  d = pg::column(0, 3, &null);
  s.result = null ? nullptr : MemoryContextStrdup(memory, TextDatumGetCString(d));
  d = pg::column(0, 4, &null);
  s.message = null ? nullptr : MemoryContextStrdup(memory, TextDatumGetCString(d));
  d = pg::column_copy(memory, 0, 5, &null);
  if (!null) {
    Datum* ids = nullptr;
    deconstruct_array(DatumGetArrayTypeP(d), INT8OID, 8, true, TYPALIGN_DOUBLE, &ids, nullptr, &s.n);
    s.tasks = static_cast<int64*>(MemoryContextAllocHuge(memory, sizeof(int64) * (s.n + 1)));
    for (int i = 0; i < s.n; i++) s.tasks[i] = DatumGetInt64(ids[i]);
  }
  s.at = DatumGetTimestampTz(pg::column(0, 6, &null));
  s.has_at = !null;
  SPI_finish();
  as.end();
  return s;
}

State record_step(store::TaskTable& tasks, const store::Task& t, const store::LaneInfo& lane, const Step& step, store::Outcome& o) {
  store::Task now = t;
  switch (step.action) {
    case Step::Action::Run:
    case Step::Action::Done:
      o.state = State::Succeeded;
      o.result = step.result;
      o.result_length = step.result == nullptr ? 0 : static_cast<int>(strlen(step.result));
      break;
    case Step::Action::Skip:
      o.state = State::Skipped;
      o.error = store::error_json(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, step.message, nullptr);
      break;
    case Step::Action::Fail:
      o.state = State::Failed;
      o.error = store::error_json(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, step.message, nullptr);
      break;
    case Step::Action::EndFailed:
    case Step::Action::EndCancelled:
      o.state = step.action == Step::Action::EndFailed ? State::Failed : State::Cancelled;
      o.error = store::error_json(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, step.message, nullptr);
      o.dead_letter = false;
      break;
    case Step::Action::Block:
      now.state = State::Blocked;
      now.need = core::kNeedAll;
      now.edges = 0;
      if (step.n > 0) block_on(t, step);
      break;
    case Step::Action::Wait:
      now.state = State::Waiting;
      now.has_expires = t.has_expires || step.has_at;
      if (step.has_at) now.expires_at = t.has_expires ? Min(t.expires_at, step.at) : step.at;
      break;
    case Step::Action::Later: now.run_at = step.at; break;
  }
  if (step.action >= Step::Action::Block && step.action <= Step::Action::Later) {
    if (step.action == Step::Action::Block && step.n == 0) now.state = State::Ready;
    tasks.update(t, now, lane, lane);
    return now.state;
  }
  now.attempt = static_cast<int16>(t.attempt + 1);
  store::end_task(tasks, now, lane, o);
  return o.state;
}

}  // namespace dts

using namespace dts;

namespace {

/// Locks a task for a function that steers it as the owner of the extension.
store::TaskTable::Found lock_for(store::TaskTable& table, int64 id, store::Task* t) {
  if (store::shared != nullptr && store::slots_mine(id)) return store::TaskTable::Found::Busy;
  return table.lock(id, t);
}

}  // namespace

/// dts._wake(task): a waiting task is ready again. False if it is not waiting, or somebody holds it: then the scheduler looks again.
DTS_FUNCTION(dts_wake) {
  store::TaskTable table = store::TaskTable::open();
  store::Task t;
  const auto found = lock_for(table, PG_GETARG_INT64(0), &t);
  bool woken = false;
  if (found == store::TaskTable::Found::Locked) {
    const store::Lane* const l = store::lane_by_id(t.lane);
    const store::LaneInfo lane = l->info;
    if (t.state == core::State::Waiting) {
      store::Task now = t;
      now.state = core::State::Ready;
      now.run_at = GetCurrentTimestamp();  // it was due before it waited
      table.update(t, now, lane, lane);
      woken = true;
    } else {
      table.keep(t, lane);
    }
  } else if (found == store::TaskTable::Found::Busy) {
    store::touch_events(store::kSignals);
  }
  table.close();
  PG_RETURN_BOOL(woken);
}

/// dts._lock_gate(workflow, gate): an advisory lock of a class that no SQL function reaches. Never waited for; freed by the end of the
/// transaction. Two keys with one hash would be decided one after the other, no more.
DTS_FUNCTION(dts_lock_gate) {
  const text* const gate = PG_GETARG_TEXT_PP(1);
  const uint32 hash = hash_bytes(reinterpret_cast<const unsigned char*>(VARDATA_ANY(gate)), static_cast<int>(VARSIZE_ANY_EXHDR(gate)));
  LOCKTAG tag;
  SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, PG_GETARG_UINT32(0), hash, 7);
  PG_RETURN_BOOL(LockAcquire(&tag, ExclusiveLock, false, true) != LOCKACQUIRE_NOT_AVAIL);
}

/// dts._end(task, state, result, message): ends an unfinished task that nobody holds, by hand. False if somebody holds it or it is gone.
DTS_FUNCTION(dts_end) {
  store::TaskTable table = store::TaskTable::open();
  store::Task t;
  const bool locked = lock_for(table, PG_GETARG_INT64(0), &t) == store::TaskTable::Found::Locked;
  const store::Lane* const l = locked ? store::lane_by_id(t.lane) : nullptr;
  const auto state = static_cast<core::State>(PG_GETARG_INT16(1));
  if (l != nullptr && core::may_move(t.state, state)) {
    store::Outcome o;
    o.state = state;
    o.ended_at = GetCurrentTimestamp();
    if (!PG_ARGISNULL(2)) {
      o.result = JsonbToCString(nullptr, &PG_GETARG_JSONB_P(2)->root, 0);
      o.result_length = static_cast<int>(strlen(o.result));
    }
    if (!PG_ARGISNULL(3))
      o.error = store::error_json(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, text_to_cstring(PG_GETARG_TEXT_PP(3)), nullptr);
    const store::LaneInfo lane = l->info;
    store::end_task(table, t, lane, o);
    table.close();
    PG_RETURN_BOOL(true);
  }
  if (l != nullptr) table.keep(t, l->info);
  table.close();
  PG_RETURN_BOOL(false);
}
