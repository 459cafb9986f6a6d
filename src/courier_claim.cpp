// What is due becomes leased, on disk, and only then leaves.
#include "courier.hpp"
#include "executor.hpp"
#include "pg/guard.hpp"
#include "pg/point.hpp"
#include "settings.hpp"
#include "store/board.hpp"
#include "store/journal.hpp"
#include "store/keys.hpp"

namespace dts {

namespace {

using core::State;
using store::LaneInfo;
using store::Outcome;
using store::Task;
using store::TaskTable;

constexpr int kAtOnce = 1024;         // claimed with one flush of the log, which costs as much as some hundred requests
constexpr int kQueued = kAtOnce / 2;  // as many wait for their host, and nothing more is claimed
constexpr int64 kRulesUs = 10000000;  // memberships of roles change without a word: rules are read again after this

/// What the claim of this turn holds. Plain data; its texts are in the memory of the turn.
struct Claim {
  int n = 0;
  int transfer[kAtOnce];
  Rendered* rendered[kAtOnce];
  int lane_slot = -1;  // claimed from last: backs off if the transaction fails
  bool wrote = false, charged = false;
  int tokens = 0;  // left of those below: many random bytes at once cost little more than a few
  pg_uuid_t token[64];
};
Claim claim;

pg_uuid_t next_token() {
  if (claim.tokens == 0) {
    if (!pg_strong_random(claim.token, sizeof(claim.token))) ereport(ERROR, (errmsg("could not make a random token")));
    claim.tokens = lengthof(claim.token);
  }
  return claim.token[--claim.tokens];
}

/// Rules of a role, for the client: read again when definitions have changed.
void refresh_rules(Oid role) {
  static Oid known[256];
  static int count = 0;
  const uint32 now = pg_atomic_read_u32(&store::database_slot(MyDatabaseId, true)->generation);
  if (now != courier.generation || GetCurrentTimestamp() - courier.rules_at > kRulesUs) {
    count = 0;
    courier.generation = now;
    courier.rules_at = GetCurrentTimestamp();
  }
  for (int i = 0; i < count; i++)
    if (known[i] == role) return;
  http::RuleText* rules = nullptr;
  const int n = read_rules(role, &rules);
  courier.client->set_rules(role, rules, n);
  if (count < static_cast<int>(lengthof(known))) known[count++] = role;
}

/// An attempt that ends before anything was sent.
void fail_unsent(TaskTable& table, const Task& t, const LaneInfo& lane, int sqlstate, const char* why) {
  Outcome o;
  o.started_at = o.ended_at = GetCurrentTimestamp();
  o.worker_pid = MyProcPid;
  o.error = store::error_json(sqlstate, why, nullptr);
  o.permanent = sqlstate != ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE;
  store::fail_task(table, t, lane, o, true);
}

/// Puts a task off without using an attempt up.
void put_off(TaskTable& table, const Task& t, const LaneInfo& lane, TimestampTz until) {
  Task later = t;
  later.run_at = until;
  later.flags |= core::kPutOff;
  table.update(t, later, lane, lane);
  if (t.ckey != 0) store::key_left(table, t, lane, true);
}

/// What a task meets before anything is made of it; true if that was its end, or the end of this attempt.
bool ended_before_start(TaskTable& table, const Task& t, const LaneInfo& lane, TimestampTz now) {
  if (store::board_has(MyDatabaseId, t.id) || (t.has_expires && t.expires_at <= now)) {
    Outcome o;
    o.state = t.has_expires && t.expires_at <= now ? State::Expired : State::Cancelled;
    o.ended_at = now;
    store::end_task(table, t, lane, o);
    return true;
  }
  if (!owner_may_run(lane.owner)) {
    fail_unsent(table, t, lane, ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION,
                "the owner of the task may not log in, or does not exist any more");
    return true;
  }
  // What takes this process down while it is made ready must not do so for ever.
  if (const store::Charge charge = store::charge_of(MyDatabaseId, t.id); charge != store::Charge::None) {
    claim.charged = true;
    record_charge(table, t, lane, charge);
    return true;
  }
  return false;
}

/// The transfer of a leased task, as others see it.
void occupy(int transfer, const Task& leased, Oid owner, TimestampTz now) {
  courier.held[transfer].token = leased.token;
  courier.held[transfer].owner = owner;
  store::TransferSlot& s = store::transfers[transfer];
  s.owner = owner;
  s.since = now;
  pg_write_barrier();
  s.task = leased.id;
}

/// One claimed task: leased and rendered, or ended, or put off. True if it is to be sent.
bool take(TaskTable& table, const Task& t, const LaneInfo& lane, int transfer) {
  const TimestampTz now = GetCurrentTimestamp();
  claim.wrote = true;
  if (ended_before_start(table, t, lane, now)) return false;
  store::journal_running(courier.slot, MyDatabaseId, t.id);
  Jsonb* payload = nullptr;
  Jsonb* const request = request_of(t, &payload);
  Task leased = t;
  leased.state = State::Leased;
  leased.attempt = static_cast<int16>(t.attempt + 1);
  if (request == nullptr) {
    fail_unsent(table, t, lane, ERRCODE_UNDEFINED_OBJECT, "the handler of the task does not exist any more");
    return false;
  }
  auto* const r = static_cast<Rendered*>(palloc(sizeof(Rendered)));
  *r = render_request(leased, request, payload, lane.owner);
  if (r->error != nullptr) {
    fail_unsent(table, t, lane, r->sqlstate, r->error);
    return false;
  }
  TimestampTz again = 0;
  if (!host_admits(transfer, r->host, now, &again)) {
    put_off(table, t, lane, again);
    return false;
  }
  leased.has_token = leased.has_lease = true;
  leased.lease_until = DT_NOEND;  // it lives as long as this process
  leased.token = next_token();
  table.update(t, leased, lane, lane);
  if (t.ckey != 0) store::key_leased(t.ckey, t.id);
  refresh_rules(lane.owner);
  occupy(transfer, leased, lane.owner, now);
  r->request.ticket = transfer;
  if (t.kind == core::Kind::Mail) r->request.mail = &r->mail;
  claim.transfer[claim.n] = transfer;
  claim.rendered[claim.n] = r;
  claim.n++;
  return true;
}

/// Places for at most `most` tasks of a lane.
int reserve(int lane_slot, int most, int* transfer) {
  LWLock* const lock = &store::slots[courier.slot].lock;
  int n = 0;
  while (n < most) {
    const int t = store::transfer_take(courier.slot, MyDatabaseId);
    if (t < 0) break;
    if (store::permits_take(lane_slot, 1, lock, &store::transfers[t].permits) == 0) {
      store::transfer_free(t);
      break;
    }
    transfer[n++] = t;
  }
  return n;
}

/// Transfers of a lane that was claimed from without finding a row for each.
void give_back(const int* transfer, int n) {
  LWLock* const lock = &store::slots[courier.slot].lock;
  for (int i = 0; i < n; i++) {
    store::permits_unused(lock, &store::transfers[transfer[i]].permits, 1);
    store::transfer_free(transfer[i]);
  }
}

int reserved[kAtOnce];
int reserved_count = 0;  // not yet the claim's

int claim_lane(TaskTable& table, int lane_slot, int most) {
  const store::LaneSlot& l = store::lanes[lane_slot];
  if (!l.used || l.db != MyDatabaseId || l.pool != courier.pool || l.queue_slot < 0) return 0;
  const LaneInfo lane = store::lane_info(l);
  claim.lane_slot = lane_slot;
  reserved_count = reserve(lane_slot, most, reserved);
  if (reserved_count == 0) return 0;
  store::turn_begin(lane_slot);
  auto* const tasks = static_cast<Task*>(palloc(sizeof(Task) * static_cast<Size>(reserved_count)));
  for (int i = 0; i < reserved_count; i++) tasks[i] = Task();
  const int n = table.claim(lane_slot, lane, reserved_count, tasks);
  store::turn_charge(lane_slot, int64{100} * n);
  give_back(reserved + n, reserved_count - n);
  reserved_count = n;
  for (int i = 0; i < n; i++) {
    courier.reserved = n - i;
    tasks[i].flags &= ~core::kPutOff;
    if (!take(table, tasks[i], lane, reserved[i])) store::transfer_free(reserved[i]);
  }
  courier.reserved = 0;
  store::journal_running(courier.slot, 0, 0);
  reserved_count = 0;
  return n;
}

void run_claim(int room) {
  courier_begin();
  if (!store::installed()) {
    CommitTransactionCommand();
    proc_exit(0);
  }
  MemoryContextSwitchTo(courier.memory);
  TaskTable table = TaskTable::open_to_claim();
  // Small bites first: a lane with one task should not reserve a hundred places.
  for (int bite = 8; claim.n < room; bite = Min(bite * 4, room)) {
    const int lane = store::choose_lane(courier.pool, GetCurrentTimestamp());
    if (lane < 0 || claim_lane(table, lane, Min(bite, room - claim.n)) == 0) break;
  }
  table.close();
  DTS_POINT("courier.claimed");
  courier_commit(claim.n > 0 || claim.charged);
  DTS_POINT("courier.leased");
  if (claim.n > 0 && claim.lane_slot >= 0) store::back_on(claim.lane_slot);
}

/// The transaction failed: nothing was leased, and nothing leaves.
void undo(const ErrorData* error) {
  AbortOutOfAnyTransaction();
  ereport(LOG, (errmsg("dts courier: a claim failed: %s", error->message)));
  for (int i = 0; i < claim.n; i++) store::transfer_free(claim.transfer[i]);
  for (int i = 0; i < reserved_count; i++)
    if (store::transfers[reserved[i]].used && store::transfers[reserved[i]].task == 0) store::transfer_free(reserved[i]);
  if (claim.lane_slot >= 0) store::back_off(claim.lane_slot);
}

}  // namespace

namespace {

/// How many more may be under way now. What is claimed is on its way at once: attempts that a crash takes back were really begun.
int room_for_more() {
  if (courier.client->queued() >= kQueued) return 0;
  return Min(Min(store::transfers_free(), courier.most - courier.client->active()), kAtOnce);
}

}  // namespace

bool courier_has_work() { return room_for_more() > 0 && store::choose_lane(courier.pool, GetCurrentTimestamp()) >= 0; }

bool courier_claim() {
  if (!courier_has_work()) return false;
  const int room = room_for_more();
  store::slot_idle(courier.slot, false);
  claim.n = 0;
  claim.lane_slot = -1;
  claim.wrote = claim.charged = false;
  reserved_count = courier.reserved = 0;
  MemoryContextReset(courier.memory);
  MemoryContextSwitchTo(courier.memory);
  if (ErrorData* const error = pg::attempt(courier.memory, [&] { run_claim(room); })) {
    undo(error);
    MemoryContextSwitchTo(courier.memory);
    return true;
  }
  MemoryContextSwitchTo(courier.memory);
  for (int i = 0; i < claim.n; i++) {
    const int transfer = claim.transfer[i];
    store::transfers[transfer].sent = true;
    // Nobody reports it if it cannot even begin: its lease lapses.
    if (!courier.client->start(claim.rendered[i]->request)) {
      store::transfer_free(transfer);
      store::tell_scheduler(MyDatabaseId, store::kLease);
    }
    pg_atomic_fetch_add_u64(&store::slots[courier.slot].tasks_run, 1);
  }
  return claim.wrote;
}

}  // namespace dts
