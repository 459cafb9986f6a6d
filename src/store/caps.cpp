// Caps: how many tasks, and how many bytes of them, may be unfinished under a limit. Counted by commits, looked at by submits.
#include "store/definitions.hpp"
#include "store/permits.hpp"
#include "store/touch.hpp"

namespace dts::store {

void unfinished_add(int lane_slot, int n, int64 bytes) {
  if (lane_slot < 0 || n == 0) return;
  for (const int32 i : lanes[lane_slot].limit) {
    if (i < 0) continue;
    if (limits[i].most_waiting >= 0) pg_atomic_fetch_add_u64(&limits[i].unfinished, n);
    if (limits[i].most_bytes >= 0) pg_atomic_fetch_add_u64(&limits[i].bytes, bytes);
  }
}

namespace {

/// What the limit is for, as the one who submits knows it.
const char* name_of(const LimitSlot& l, const LaneInfo& lane) {
  const Queue* const queue = queue_by_id(lane.queue);
  const Handler* const handler = lane.handler == 0 ? nullptr : handler_by_id(lane.handler);
  const Lane* const row = lane_by_id(lane.lane);
  switch (l.scope) {
    case Scope::Queue: return psprintf("queue \"%s\"", queue == nullptr ? "" : queue->name);
    case Scope::Handler: return psprintf("handler \"%s\"", handler == nullptr ? "" : handler->name);
    case Scope::Owner: return psprintf("owner \"%s\"", GetUserNameFromId(lane.owner, false));
    case Scope::Tenant: return psprintf("tenant \"%s\"", row == nullptr ? "" : row->tenant);
    case Scope::Priority: return psprintf("priority %d", static_cast<int>(l.object));
  }
  return "";
}

void check_cap(const LimitSlot& l, const LaneInfo& lane, const char* what, const char* argument, int64 there, int64 more, int64 most) {
  if (most < 0 || there + more <= most) return;
  ereport(ERROR, (errcode(MAKE_SQLSTATE('T', 'Q', '0', '0', '1')), errmsg("%s has reached its cap on %s", name_of(l, lane), what),
                  errdetail("There are %lld, at most %lld are allowed.", static_cast<long long>(there), static_cast<long long>(most)),
                  errhint("Try again later; an administrator can raise \"%s\" with dts.set_limit.", argument)));
}

int64 value(const pg_atomic_uint64& a) { return static_cast<int64>(pg_atomic_read_u64(const_cast<pg_atomic_uint64*>(&a))); }

}  // namespace

void check_room(const LaneInfo& lane, int n, int64 bytes) {
  const int slot = shared == nullptr ? -1 : lane_slot(MyDatabaseId, lane);
  if (slot < 0) return;
  for (const int32 i : lanes[slot].limit) {
    if (i < 0 || (limits[i].most_waiting < 0 && limits[i].most_bytes < 0)) continue;
    const LimitSlot& l = limits[i];
    const Submitted own = submitted_under(i);
    check_cap(l, lane, "unfinished tasks", "max_waiting", value(l.unfinished) + own.n, n, l.most_waiting);
    check_cap(l, lane, "bytes of unfinished tasks", "max_bytes", value(l.bytes) + own.bytes, bytes, l.most_bytes);
  }
}

}  // namespace dts::store
