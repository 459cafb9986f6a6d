// Limits in shared memory: which there are, which lanes are under them, and how a new one counts what runs already.
#include "settings.hpp"
#include "store/permits.hpp"
#include "store/transfers.hpp"

extern "C" {
#include "common/hashfn.h"
}

namespace dts::store {

namespace {

uint64 object_of(const LaneSlot& l, Scope scope) {
  switch (scope) {
    case Scope::Queue: return l.queue_slot < 0 ? 0 : static_cast<uint64>(queues[l.queue_slot].queue);
    case Scope::Handler: return static_cast<uint64>(l.handler);
    case Scope::Owner: return l.owner;
    case Scope::Tenant: return l.tenant;
    case Scope::Priority: return static_cast<uint64>(l.priority);
  }
  return 0;
}

/// A limit for a priority is for those above, too, up to the next one that has a limit.
bool is_for_priority(const LimitSlot& limit, const LaneSlot& l) {
  const auto its = static_cast<uint64>(l.priority);
  if (limit.object > its) return false;
  for (int i = 0; i < shared->limit_count; i++)
    if (limits[i].used && limits[i].db == l.db && limits[i].scope == Scope::Priority && limits[i].object > limit.object &&
        limits[i].object <= its)
      return false;
  return true;
}

bool is_for(const LimitSlot& limit, const LaneSlot& l) {
  if (limit.scope == Scope::Priority) return limit.used && limit.db == l.db && is_for_priority(limit, l);
  return limit.used && limit.db == l.db && limit.object == object_of(l, limit.scope);
}

void detach(int lane, int s) {
  int32& limit = lanes[lane].limit[s];
  if (limit < 0) return;
  int32* p = &limits[limit].lane_head;
  while (*p != -1 && *p != lane) p = &lanes[*p].limit_next[s];
  if (*p == lane) {
    *p = lanes[lane].limit_next[s];
    limits[limit].lane_count--;
  }
  limit = -1;
}

void attach(int limit, int lane) {
  const int s = static_cast<int>(limits[limit].scope);
  detach(lane, s);  // from the limit of a lower priority
  lanes[lane].limit_next[s] = limits[limit].lane_head;
  limits[limit].lane_head = lane;
  limits[limit].lane_count++;
  pg_write_barrier();
  lanes[lane].limit[s] = limit;
}

/// Calls f(permits) for all that processes of a database hold, each under its lock.
template <class F>
void each_permits(Oid db, LWLockMode mode, F&& f) {
  for (int k = 0; k < kMaxSlots; k++) {
    ExecutorSlot& e = slots[k];
    if (e.kind != ExecutorSlot::Kind::Live || e.db != db) continue;
    LWLockAcquire(&e.lock, mode);
    f(e.permits);
    LWLockRelease(&e.lock);
  }
  for (int i = 0; i < transfer_head->top; i++) {
    TransferSlot& t = transfers[i];
    if (!t.used || t.db != db) continue;
    LWLock* const lock = &slots[t.courier].lock;
    LWLockAcquire(lock, mode);
    if (t.used && t.db == db) f(t.permits);
    LWLockRelease(lock);
  }
}

/// Who runs tasks of a limit's lanes already, and took nothing from it since it did not exist.
void count_running(int limit) {
  LimitSlot& l = limits[limit];
  const int s = static_cast<int>(l.scope);
  each_permits(l.db, LW_EXCLUSIVE, [&](Permits& p) {
    if (p.places == 0 || p.limit[s] == limit || !is_for(l, lanes[p.lane])) return;
    if (p.limit[s] >= 0) pg_atomic_fetch_sub_u32(&limits[p.limit[s]].running, p.places);
    p.limit[s] = limit;
    pg_atomic_fetch_add_u32(&l.running, p.places);
  });
}

int new_limit(Oid db, Scope scope, uint64 object) {
  int got = -1;
  for (int i = 0; i < shared->limit_count && got < 0; i++)
    if (!limits[i].used && pg_atomic_read_u32(&limits[i].running) == 0) got = i;
  if (got < 0 && shared->limit_count < settings::max_limits) got = shared->limit_count++;
  if (got < 0) return -1;
  LimitSlot& l = limits[got];
  l.db = db;
  l.scope = scope;
  l.object = object;
  l.lane_head = -1;
  l.lane_count = 0;
  l.rate = {};
  pg_atomic_write_u32(&l.refused, 0);
  pg_atomic_write_u64(&l.spent_until, 0);
  pg_atomic_write_u64(&l.unfinished, 0);
  pg_atomic_write_u64(&l.bytes, 0);
  l.most_waiting = l.most_bytes = -1;
  l.reserved = 0;
  return got;
}

}  // namespace

uint64 tenant_hash(const char* tenant) {
  if (tenant == nullptr || tenant[0] == '\0') return 0;
  return hash_bytes_extended(reinterpret_cast<const unsigned char*>(tenant), static_cast<int>(strlen(tenant)), 0) | 1;
}

int limit_slot(Oid db, Scope scope, uint64 object) {
  for (int i = 0; i < shared->limit_count; i++)
    if (limits[i].used && limits[i].db == db && limits[i].scope == scope && limits[i].object == object) return i;
  return -1;
}

bool apply_limit(Oid db, const LimitSettings& s) {
  if (s.gone) {
    forget_limit(db, s.scope, s.object);
    return true;
  }
  LWLockAcquire(&shared->directory, LW_EXCLUSIVE);
  int i = limit_slot(db, s.scope, s.object);
  const bool fresh = i < 0;
  if (fresh) i = new_limit(db, s.scope, s.object);
  if (i >= 0) {
    LimitSlot& l = limits[i];
    // A bucket that is new, or is filled otherwise from now on, starts empty: no burst above the limit by changing it.
    if (s.rate.step != l.rate.step || s.rate.depth != l.rate.depth)
      pg_atomic_write_u64(&l.spent_until, s.rate.step == 0 ? 0 : static_cast<uint64>(core::drained(s.rate, steady())));
    l.entry = s.entry;
    l.rate = s.rate;
    l.concurrency = s.concurrency;
    l.weight = s.weight;
    l.key_most = s.key_most;
    l.most_waiting = s.most_waiting;
    l.most_bytes = s.most_bytes;
    l.reserved = s.reserved;
    l.key_fifo = s.key_fifo;
    l.paused = s.paused;
    l.used = true;
    if (fresh) {
      for (int k = 0; k < shared->lane_count; k++)
        if (lanes[k].used && is_for(l, lanes[k])) {
          attach(i, k);
          pg_atomic_fetch_add_u32(&l.running, pg_atomic_read_u32(&lanes[k].leased));
        }
      count_running(i);
    }
    list_reservations();
  }
  LWLockRelease(&shared->directory);
  return i >= 0;
}

void forget_limit(Oid db, Scope scope, uint64 object) {
  LWLockAcquire(&shared->directory, LW_EXCLUSIVE);
  const int i = limit_slot(db, scope, object);
  if (i >= 0) {
    for (int k = 0; k < shared->lane_count; k++)
      if (lanes[k].limit[static_cast<int>(scope)] == i) detach(k, static_cast<int>(scope));
    limits[i].used = false;  // and free for another one as soon as nobody has a place of it
    list_reservations();
  }
  LWLockRelease(&shared->directory);
}

int places_taken(Oid db, Scope scope, uint64 object) {
  int n = 0;
  each_permits(db, LW_SHARED, [&](const Permits& p) {
    if (p.places > 0 && object_of(lanes[p.lane], scope) == object) n += p.places;
  });
  LWLockAcquire(&shared->directory, LW_SHARED);
  for (int i = 0; i < shared->lane_count; i++)
    if (lanes[i].used && lanes[i].db == db && object_of(lanes[i], scope) == object)
      n += static_cast<int>(pg_atomic_read_u32(&lanes[i].leased));
  LWLockRelease(&shared->directory);
  return n;
}

void limits_attach(int lane) {
  for (int s = 0; s < kScopes; s++) lanes[lane].limit[s] = -1;
  for (int i = 0; i < shared->limit_count; i++)
    if (is_for(limits[i], lanes[lane])) attach(i, lane);
}

void limits_detach(int lane) {
  for (int s = 0; s < kScopes; s++) detach(lane, s);
}

void limits_forget(Oid db) {
  for (int i = 0; i < shared->limit_count; i++)
    if (limits[i].db == db) limits[i].used = false;
  list_reservations();
}

}  // namespace dts::store
