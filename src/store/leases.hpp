// Leases of agents: a task that a program outside the server works on, for a while that it renews. The row of dts.task is the truth
// (state leased, token); dts.lease holds what changes often, and who (docs/architecture.md, "Agents").
#pragma once

#include "store/runs.hpp"

namespace dts::store {

/// Takes places in the limits of a lane for up to n tasks, until the leases end that this transaction makes of them; what it does not
/// use goes back at its end. Returns for how many.
int lease_reserve(int lane_slot, int n);
/// A claimed task becomes leased, with a token of its own; one place of the last reservation is its.
Task lease_task(TaskTable& tasks, const Task& task, const LaneInfo& lane);
/// Leases of this transaction end at `until`: at its commit the scheduler hears of it if that is before it looks.
void lease_until(TimestampTz until);
/// A leased task of an agent ends, or waits for its next attempt: its place goes with the commit, and so does its row in dts.lease. The run
/// hears who had it, and since when.
void lease_left(const Task& task, const LaneInfo& lane, Outcome* outcome);

/// By the scheduler: n leases outlived the shared memory.
void leases_found(const LaneInfo& lane, int n);

/// Inside the callbacks of transaction ends.
void leases_end(bool committed);
void leases_subabort(SubTransactionId subid);

/// What dts.lease says of a lease. False if there is none.
struct Lease {
  int64 task;
  TimestampTz started_at, until, deadline;  // deadline 0: none
  Oid role;
  char agent[NAMEDATALEN];
};
bool read_lease(const pg_uuid_t& token, Lease* out);

/// A name as an agent may call itself; raises 22xxx.
void check_agent(const char* name);

}  // namespace dts::store
