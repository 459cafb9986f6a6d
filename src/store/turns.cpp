// Turns of the tenants of a pool: the one that had least of the workers' time, by its weight, is next.
#include "settings.hpp"
#include "store/lanes.hpp"

namespace dts::store {

void turn_join(int slot) {
  LaneSlot& l = lanes[slot];
  int turn = -1;
  for (int i = pools[l.pool].lane_head; i != -1 && turn < 0; i = lanes[i].next)
    if (i != slot && lanes[i].tenant == l.tenant && lanes[i].owner == l.owner) turn = lanes[i].turn;
  for (int i = slot; turn < 0; i = (i + 1) % settings::max_lanes)  // there is one for each lane
    if (turns[i].lanes == 0) turn = i;
  TurnSlot& t = turns[turn];
  if (t.lanes++ == 0) {
    t.pool = l.pool;
    t.tenant = l.tenant;
    t.head = -1;
    pg_atomic_write_u64(&t.had, pg_atomic_read_u64(&pools[l.pool].had));
  }
  l.turn_next = t.head;
  t.head = slot;
  l.turn = turn;
}

void turn_leave(int slot) {
  TurnSlot& t = turns[lanes[slot].turn];
  int32* p = &t.head;
  while (*p != -1 && *p != slot) p = &lanes[*p].turn_next;
  if (*p == slot) *p = lanes[slot].turn_next;
  t.lanes--;
}

void turn_begin(int slot) {
  const LaneSlot& l = lanes[slot];
  TurnSlot& t = turns[l.turn];
  PoolSlot& p = pools[l.pool];
  // Who comes back after a pause starts where the others are: turns are not saved up.
  uint64 had = pg_atomic_read_u64(&t.had);
  const uint64 least = pg_atomic_read_u64(&p.had);
  while (had < least && !pg_atomic_compare_exchange_u64(&t.had, &had, least)) {
  }
  if (had > least) pg_atomic_write_u64(&p.had, had);
}

namespace {

int weight_of(const LaneSlot& l, Scope scope) {
  const int limit = l.limit[static_cast<int>(scope)];
  return limit < 0 ? 1 : Max(1, limits[limit].weight);
}

}  // namespace

void turn_charge(int slot, int64 us) {
  const LaneSlot& l = lanes[slot];
  int weight = weight_of(l, Scope::Tenant);
  if (pools[l.pool].runner != static_cast<int16>(core::Runner::Executor)) weight *= weight_of(l, Scope::Owner);
  pg_atomic_fetch_add_u64(&turns[l.turn].had, us / weight);
}

}  // namespace dts::store
