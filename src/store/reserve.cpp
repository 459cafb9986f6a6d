// Reserved workers: of dts.max_workers so many stay free for a queue or a priority, whatever else waits.
#include "settings.hpp"
#include "store/permits.hpp"

namespace dts::store {

namespace {

int running(const LimitSlot& l) { return static_cast<int>(pg_atomic_read_u32(const_cast<pg_atomic_uint32*>(&l.running))); }

/// How many free workers belong to somebody. One at least is left to all.
int set_aside() {
  int n = 0;
  for (int k = 0; k < shared->reservation_count; k++) {
    const LimitSlot& l = limits[shared->reservations[k]];
    n += Max(0, l.reserved - running(l));
  }
  return Min(n, settings::max_workers - 1);
}

bool refused(const LaneSlot& lane) {
  for (const int32 i : lane.limit)
    if (i >= 0 && limits[i].reserved > running(limits[i])) return false;
  return static_cast<int>(pg_atomic_read_u32(&shared->places)) + set_aside() >= settings::max_workers;
}

}  // namespace

bool takes_worker(const LaneSlot& lane) { return lane.pool >= 0 && pools[lane.pool].runner == static_cast<int16>(core::Runner::Executor); }

bool withheld(LaneSlot& lane) {
  if (shared->reservation_count == 0 || !takes_worker(lane) || !refused(lane)) return false;
  // Who says it first and looks second cannot miss a place that is given back meanwhile.
  if (pg_atomic_read_u32(&shared->withheld) == 0) pg_atomic_write_u32(&shared->withheld, 1);
  pg_memory_barrier();
  return refused(lane);
}

void tell_withheld() {
  if (pg_atomic_read_u32(&shared->withheld) == 0 || pg_atomic_exchange_u32(&shared->withheld, 0) == 0) return;
  for (int i = 0; i < shared->pool_count; i++)
    if (pools[i].used) notify_pool(i);
}

void list_reservations() {
  int n = 0;
  for (int i = 0; i < shared->limit_count && n < kReservations; i++)
    if (limits[i].used && limits[i].reserved > 0) shared->reservations[n++] = i;
  shared->reservation_count = n;
}

}  // namespace dts::store
