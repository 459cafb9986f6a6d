#include "store/agents.hpp"

#include "store/permits.hpp"

namespace dts::store {

bool suits(const LaneSlot& l, const void* what) {
  const Offer& o = *static_cast<const Offer*>(what);
  const int32 queue = l.queue_slot < 0 ? 0 : queues[l.queue_slot].queue;
  bool found = false;
  for (int i = 0; i < o.queues && !found; i++) found = o.queue[i] == queue;
  if (!found) return false;
  for (const uint64 wanted : l.labels) {
    if (wanted == 0) break;
    found = false;
    for (int i = 0; i < o.labels && !found; i++) found = o.label[i] == wanted;
    if (!found) return false;
  }
  return true;
}

int agent_wait_begin(Oid role, const char* name, const Offer& offer) {
  int place = -1;
  LWLockAcquire(&shared->agent_lock, LW_EXCLUSIVE);
  for (int i = 0; i < kAgentWaiters && place < 0; i++)
    if (!agent_waiters[i].used) place = i;
  if (place >= 0) {
    AgentWaiter& w = agent_waiters[place];
    w.used = true;
    w.asleep = false;
    w.db = MyDatabaseId;
    w.role = role;
    w.since = GetCurrentTimestamp();
    strlcpy(w.name, name, sizeof(w.name));
    w.proc = MyProc;
    w.queues = offer.queues;
    w.labels = offer.labels;
    memcpy(w.queue, offer.queue, sizeof(w.queue));
    memcpy(w.label, offer.label, sizeof(w.label));
    pg_atomic_fetch_add_u32(&shared->agents_waiting, 1);
  }
  LWLockRelease(&shared->agent_lock);
  return place;
}

void agent_asleep(int place) {
  if (place < 0) return;
  LWLockAcquire(&shared->agent_lock, LW_EXCLUSIVE);
  agent_waiters[place].asleep = true;
  LWLockRelease(&shared->agent_lock);
}

void agent_wait_end(int place) {
  if (place < 0) return;
  LWLockAcquire(&shared->agent_lock, LW_EXCLUSIVE);
  agent_waiters[place].used = false;
  pg_atomic_fetch_sub_u32(&shared->agents_waiting, 1);
  LWLockRelease(&shared->agent_lock);
}

bool wake_agent(LaneSlot& l, bool rested) {
  if (pg_atomic_read_u32(&shared->agents_waiting) == 0) return false;
  const TimestampTz now = GetCurrentTimestamp();
  if (rested && now - l.called_at < USECS_PER_SEC && now >= l.called_at) return false;
  PGPROC* target = nullptr;
  LWLockAcquire(&shared->agent_lock, LW_EXCLUSIVE);
  for (int i = 0; i < kAgentWaiters && target == nullptr; i++) {
    AgentWaiter& w = agent_waiters[i];
    if (!w.used || !w.asleep || w.db != l.db) continue;
    Offer offer;
    offer.queues = w.queues;
    offer.labels = w.labels;
    memcpy(offer.queue, w.queue, sizeof(w.queue));
    memcpy(offer.label, w.label, sizeof(w.label));
    if (!suits(l, &offer)) continue;
    w.asleep = false;
    target = w.proc;
  }
  LWLockRelease(&shared->agent_lock);
  if (target != nullptr) l.called_at = now;
  wake(target);
  return target != nullptr;
}

bool wake_agents_again(Oid db, int64 now) {
  if (pg_atomic_read_u32(&shared->agents_waiting) == 0) return false;
  bool any = false;
  LWLockAcquire(&shared->directory, LW_SHARED);
  const int pool = pool_of(db, InvalidOid, core::Runner::Agent, false);
  for (int i = pool < 0 ? -1 : pools[pool].lane_head; i != -1; i = lanes[i].next) {
    LaneSlot& l = lanes[i];
    if (wanted_at(l) > now || paused(l) || due_at(l, now) > now) continue;
    any |= wake_agent(l, true) || now - l.called_at < USECS_PER_SEC;
  }
  LWLockRelease(&shared->directory);
  return any;
}

}  // namespace dts::store
