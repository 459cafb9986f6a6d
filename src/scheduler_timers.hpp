// The scheduler's timers: what is to be done when, and what moves them.
#pragma once

#include "core/civil.hpp"
#include "scheduler.hpp"

namespace dts {

constexpr int64 kSecond = 1000000;

/// Times of the wall clock; 0: not set.
struct Timers {
  TimestampTz history = 0;     // when to look after partitions next
  TimestampTz sweep = 0;       // when to sweep next
  TimestampTz sweep_rest = 0;  // not before: sweeps may take a hundredth of the time
  TimestampTz second_look = 0;
  TimestampTz requests = 0;
  TimestampTz keys = 0;
  TimestampTz lanes = 0;
  TimestampTz agenda = 0;
  TimestampTz leases = 0;  // of agents
  TimestampTz agents = 0;  // to look whether agents that were called came
  TimestampTz schedules = core::kNever;
  TimestampTz late = 0;
  TimestampTz signals = 0, gates = 0;
  TimestampTz signals_rest = 0, gates_rest = 0;  // a row that somebody holds open tells again at each look
  TimestampTz changes = 0;
  TimestampTz changes_rest = 0;  // a busy table tells with each statement
  TimestampTz lanes_rest = 0;    // not before, whatever we are told
  long request_wait = 1;
};

/// Anything that was told since the last turn.
void handle_events(store::DatabaseSlot* database, Timers& timers, TimestampTz now);
/// When something expires next.
inline TimestampTz next_alarm(store::DatabaseSlot* database) {
  return static_cast<TimestampTz>(pg_atomic_read_u64(&database->next_expiry));
}
/// Does what is due.
void handle_timers(store::DatabaseSlot* database, Timers& timers, TimestampTz now);
/// Timers are intervals on a clock that never steps: what was set to a wall clock moves along with it.
void follow_clock(store::DatabaseSlot* database, Timers& timers);

}  // namespace dts
