#include "store/permits.hpp"

#include <chrono>

namespace dts::store {

int64 steady() { return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

namespace {

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
