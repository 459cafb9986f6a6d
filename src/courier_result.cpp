// Results: recorded in batches, each fenced by the token of its attempt. One that cannot be recorded never holds the others up.
#include "courier.hpp"
#include "pg/guard.hpp"
#include "pg/point.hpp"
#include "store/board.hpp"

namespace dts {

namespace {

using core::State;
using store::Outcome;
using store::Task;
using store::TaskTable;

constexpr int kAtOnce = 256;

/// A response that waits to be recorded; its texts are libcurl's side's until release().
struct Done {
  http::Response r;
  TimestampTz again;  // not before: somebody holds the row
  int wait_ms;
  bool recorded;
};
Done* done = nullptr;
bool lost = false;  // a lease is left that nobody holds: the scheduler takes it back
int done_count = 0, done_room = 0;

void collect() {
  http::Response r;
  while (courier.client->next(&r)) {
    if (done_count == done_room) {
      done_room = done_room == 0 ? kAtOnce : done_room * 2;
      const Size size = sizeof(Done) * static_cast<Size>(done_room);
      done = static_cast<Done*>(done == nullptr ? MemoryContextAllocHuge(TopMemoryContext, size) : repalloc_huge(done, size));
    }
    done[done_count++] = Done{r, 0, 1, false};
  }
}

/// False if somebody holds the row in an open transaction.
bool record_one(TaskTable& table, const http::Response& r) {
  const store::TransferSlot& slot = store::transfers[r.ticket];
  Task t;
  const TaskTable::Found found = table.lock(slot.task, &t);
  if (found == TaskTable::Found::Busy) return false;
  const bool ours = found == TaskTable::Found::Locked && t.state == State::Leased && t.has_token &&
                    memcmp(&t.token, &courier.held[r.ticket].token, sizeof(t.token)) == 0;
  const store::Lane* const lane = ours ? store::lane_by_id(t.lane) : nullptr;
  if (lane == nullptr) return true;  // it was cancelled, or is somebody else's attempt by now
  Outcome o;
  o.started_at = slot.since;
  o.ended_at = GetCurrentTimestamp();
  o.worker_pid = MyProcPid;
  Jsonb* payload = nullptr;
  Jsonb* request = request_of(t, &payload);
  if (request == nullptr) request = t.args;
  judge_response(r, t.kind, request, &o);
  if (store::board_has(MyDatabaseId, t.id)) o.state = State::Cancelled;
  if (o.state == State::Failed) {
    t.attempt--;  // it was counted when it was leased
    store::fail_task(table, t, lane->info, o, true);
  } else {
    store::end_task(table, t, lane->info, o);
  }
  return true;
}

/// One transaction for done[from, to).
ErrorData* record(int from, int to) {
  return pg::attempt(courier.memory, [&] {
    const TimestampTz now = GetCurrentTimestamp();
    courier_begin();
    MemoryContextSwitchTo(courier.memory);
    TaskTable table = TaskTable::open();
    for (int i = from; i < to; i++) {
      Done& d = done[i];
      if (d.again > now) continue;
      d.recorded = record_one(table, d.r);
      if (d.recorded) continue;
      d.again = now + d.wait_ms * 1000LL;
      d.wait_ms = Min(d.wait_ms * 2, 1000);
    }
    table.close();
    DTS_POINT("courier.recorded");
    courier_commit(false);
  });
}

/// The transaction of many failed: each has one of its own. What cannot be recorded at all is left to its lease.
void record_singly(int n) {
  for (int i = 0; i < n; i++) {
    done[i].recorded = false;
    ErrorData* const error = record(i, i + 1);
    if (error == nullptr) continue;
    AbortOutOfAnyTransaction();
    ereport(LOG, (errmsg("dts courier: the result of task %lld could not be recorded: %s",
                         static_cast<long long>(store::transfers[done[i].r.ticket].task), error->message)));
    done[i].recorded = lost = true;
  }
}

void release(const http::Response& r) {
  host_ended(r.ticket, r, GetCurrentTimestamp() - store::transfers[r.ticket].since);
  courier.client->release(r.ticket);
  store::transfer_free(r.ticket);
}

}  // namespace

bool courier_record(TimestampTz* later) {
  collect();
  *later = 0;
  if (done_count == 0) return false;
  const TimestampTz now = GetCurrentTimestamp();
  int n = 0, due = 0;
  for (; n < done_count && due < kAtOnce; n++) due += done[n].again <= now ? 1 : 0;
  if (due > 0) {
    MemoryContextReset(courier.memory);
    MemoryContextSwitchTo(courier.memory);
    if (ErrorData* const error = record(0, n)) {
      AbortOutOfAnyTransaction();
      ereport(LOG, (errmsg("dts courier: recording results failed: %s", error->message)));
      record_singly(n);
    }
    MemoryContextSwitchTo(courier.memory);
  }
  int kept = 0;
  for (int i = 0; i < done_count; i++) {
    if (done[i].recorded) {
      release(done[i].r);
      continue;
    }
    if (done[i].again != 0 && (*later == 0 || done[i].again < *later)) *later = done[i].again;
    done[kept++] = done[i];
  }
  if (lost) store::tell_scheduler(MyDatabaseId, store::kLease);
  lost = false;
  const bool more = kept > 0 && done_count > n;
  done_count = kept;
  return due > 0 || more;
}

}  // namespace dts
