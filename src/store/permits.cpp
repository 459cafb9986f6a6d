#include "store/permits.hpp"

#include <chrono>

#include "settings.hpp"
#include "store/touch.hpp"
#include "store/transfers.hpp"

extern "C" {
#include "common/hashfn.h"
}

namespace dts::store {

namespace {

/// Nanoseconds that no step of the clock disturbs.
int64 steady() { return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

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

int64 spent(const LimitSlot& l) { return static_cast<int64>(pg_atomic_read_u64(const_cast<pg_atomic_uint64*>(&l.spent_until))); }

bool full(const LimitSlot& l) {
  const int32 most = l.concurrency;
  return most >= 0 && static_cast<int64>(pg_atomic_read_u32(const_cast<pg_atomic_uint32*>(&l.running))) >= most;
}

/// Whether it is full, having said so: who says it first and looks second cannot miss a place that is given back meanwhile.
bool refuses(LimitSlot& l) {
  if (!full(l)) return false;
  if (pg_atomic_read_u32(&l.refused) == 0) pg_atomic_write_u32(&l.refused, 1);
  pg_memory_barrier();
  return full(l);
}

/// Takes up to n places; returns how many.
int take_places(LimitSlot& l, int n) {
  uint32 running = pg_atomic_read_u32(&l.running);
  for (;;) {
    const int32 most = l.concurrency;
    if (most >= 0 && static_cast<int64>(running) >= most) {
      if (refuses(l)) return 0;
      running = pg_atomic_read_u32(&l.running);
      continue;
    }
    const int got = most < 0 ? n : static_cast<int>(Min(static_cast<int64>(n), most - static_cast<int64>(running)));
    if (pg_atomic_compare_exchange_u32(&l.running, &running, running + static_cast<uint32>(got))) return got;
  }
}

bool take_place(LimitSlot& l) { return take_places(l, 1) == 1; }

int take_tokens(LimitSlot& l, int n) {
  uint64 until = pg_atomic_read_u64(&l.spent_until);
  for (;;) {
    const core::Rate rate = l.rate;
    if (rate.step == 0) return n;
    const int64 now = steady();
    const int64 there = core::tokens(rate, static_cast<int64>(until), now);
    const int got = static_cast<int>(Min(there, static_cast<int64>(n)));
    if (got == 0) return 0;
    const auto then = static_cast<uint64>(core::spend(rate, static_cast<int64>(until), now, got));
    if (pg_atomic_compare_exchange_u64(&l.spent_until, &until, then)) return got;
  }
}

void give_tokens(LimitSlot& l, int n) {
  if (l.rate.step > 0 && n > 0) pg_atomic_fetch_sub_u64(&l.spent_until, static_cast<int64>(n * l.rate.step));
}

void give_place(int limit, int places) {
  if (limit < 0) return;
  LimitSlot& l = limits[limit];
  pg_atomic_fetch_sub_u32(&l.running, places);
  if (pg_atomic_read_u32(&l.refused) == 0 || pg_atomic_exchange_u32(&l.refused, 0) == 0) return;
  notify_limit(limit);
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

namespace {
bool is_lane(int slot, int32 lane) { return slot >= 0 && lanes[slot].used && lanes[slot].db == MyDatabaseId && lanes[slot].lane == lane; }
}  // namespace

int places_take(int slot, int32 lane, int n) {
  LWLockAcquire(&shared->directory, LW_SHARED);
  if (!is_lane(slot, lane)) n = 0;
  LaneSlot& l = lanes[slot];
  int32 excess[kScopes];
  int32 got[kScopes];
  for (int s = 0; s < kScopes; s++) {
    got[s] = 0;
    if (n == 0 || l.limit[s] < 0) continue;
    LimitSlot& limit = limits[l.limit[s]];
    got[s] = limit.paused ? 0 : take_places(limit, n);
    const int tokens = take_tokens(limit, got[s]);
    for (int k = 0; k < s; k++)
      if (got[k] > 0) give_tokens(limits[l.limit[k]], n - tokens);
    n = tokens;
  }
  for (int s = 0; s < kScopes; s++) excess[s] = got[s] > n ? l.limit[s] : -1;
  if (n > 0) pg_atomic_fetch_add_u32(&l.leased, static_cast<uint32>(n));
  LWLockRelease(&shared->directory);
  for (int s = 0; s < kScopes; s++) give_place(excess[s], got[s] - n);
  return n;
}

void places_give(int slot, int32 lane, int n) {
  if (n == 0) return;
  int32 limit[kScopes];
  LWLockAcquire(&shared->directory, LW_SHARED);
  bool ours = is_lane(slot, lane);
  if (ours) {
    LaneSlot& l = lanes[slot];
    uint32 there = pg_atomic_read_u32(&l.leased);
    while ((ours = there >= static_cast<uint32>(n)) && !pg_atomic_compare_exchange_u32(&l.leased, &there, there - static_cast<uint32>(n))) {
    }
    memcpy(limit, l.limit, sizeof(limit));
  }
  LWLockRelease(&shared->directory);
  if (!ours) return;
  for (const int32 i : limit) give_place(i, n);
}

void places_found(int slot, int32 lane, int n) {
  LWLockAcquire(&shared->directory, LW_SHARED);
  if (is_lane(slot, lane)) {
    pg_atomic_fetch_add_u32(&lanes[slot].leased, static_cast<uint32>(n));
    for (const int32 i : lanes[slot].limit)
      if (i >= 0) pg_atomic_fetch_add_u32(&limits[i].running, static_cast<uint32>(n));
  }
  LWLockRelease(&shared->directory);
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

bool limit_full(const LimitSlot& limit) { return full(limit); }

TimestampTz next_start(const LimitSlot& limit) {
  if (limit.rate.step == 0) return 0;
  const int64 clock = steady();
  return core::tokens(limit.rate, spent(limit), clock) > 0
             ? 0
             : GetCurrentTimestamp() + (core::next_token(limit.rate, spent(limit)) - clock) / 1000;
}

int64 permit_at(const LaneSlot& lane, int64 now) {
  int64 at = core::kMin;
  if (withheld(const_cast<LaneSlot&>(lane))) return core::kMax;
  for (const int32 i : lane.limit) {
    if (i < 0) continue;
    LimitSlot& l = limits[i];
    if (l.paused || refuses(l)) return core::kMax;
    if (l.rate.step == 0) continue;
    const int64 clock = steady();
    if (core::tokens(l.rate, spent(l), clock) == 0) at = Max(at, now + 1 + (core::next_token(l.rate, spent(l)) - clock) / 1000);
  }
  return at;
}

int permits_take(int lane_slot, int n, LWLock* lock, Permits* out) {
  LWLockAcquire(lock, LW_EXCLUSIVE);
  const bool reserved = shared->reservation_count > 0;
  if (reserved) LWLockAcquire(&shared->reserve_lock, LW_EXCLUSIVE);  // one decides at a time whether there is a worker for him
  if (withheld(lanes[lane_slot])) n = 0;
  out->lane = lane_slot;
  out->places = 1;
  out->worker = takes_worker(lanes[lane_slot]);
  if (out->worker) pg_atomic_fetch_add_u32(&shared->places, 1);
  int32 got[kScopes];
  for (int s = 0; s < kScopes; s++) {
    got[s] = n > 0 ? lanes[lane_slot].limit[s] : -1;
    out->limit[s] = -1;
    if (got[s] < 0) continue;
    LimitSlot& l = limits[got[s]];
    if (l.paused || !take_place(l)) {
      n = 0;
      continue;
    }
    out->limit[s] = got[s];
    const int tokens = take_tokens(l, n);
    for (int k = 0; k < s; k++)
      if (out->limit[k] >= 0) give_tokens(limits[out->limit[k]], n - tokens);
    n = tokens;
  }
  if (reserved) LWLockRelease(&shared->reserve_lock);
  LWLockRelease(lock);
  if (n == 0) permits_give(lock, out);
  return n;
}

void permits_unused(LWLock* lock, const Permits* permits, int n) {
  LWLockAcquire(lock, LW_SHARED);
  for (const int32 i : permits->limit)
    if (i >= 0) give_tokens(limits[i], n);
  LWLockRelease(lock);
}

void permits_give(LWLock* lock, Permits* permits) {
  if (permits->places == 0) return;
  LWLockAcquire(lock, LW_EXCLUSIVE);
  const Permits mine = *permits;
  permits->places = 0;
  for (int32& i : permits->limit) i = -1;
  LWLockRelease(lock);
  for (const int32 i : mine.limit) give_place(i, mine.places);
  if (!mine.worker) return;
  pg_atomic_fetch_sub_u32(&shared->places, mine.places);
  tell_withheld();
}

}  // namespace dts::store
