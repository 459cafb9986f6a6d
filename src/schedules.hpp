// Firing of schedules, shared by the scheduler and by the calls that fire by hand.
#pragma once

#include "schedule_rule.hpp"
#include "submit.hpp"

namespace dts {

/// The clock of schedules: the server's, unless a test moves it (dts.debug_schedule_clock).
TimestampTz schedule_now();

/// A schedule as the scheduler reads it.
struct Schedule {
  int32 id = 0;
  Oid owner = InvalidOid;
  char* name = nullptr;
  Jsonb* what = nullptr;
  bool may_submit = false;
  RuleText rule;
  core::Policy policy;
  int64 jitter_us = 0;
  // where it stands
  TimestampTz fired_until = 0, next_fire = 0;
  TimestampTz passed_until = 0;  // by a clock that was set back since
  int64 runs = 0, max_runs = 0;  // 0: no bound
  int running = 0;
  ArrayType* waiting = nullptr;
  bool has_last_due = false, has_success = false, has_end = false;
  TimestampTz last_due = 0, last_success = 0, last_end = 0;
};

/// Submits the schedule's task for a due time, as the owner, with the rights he has now; raises what dts.submit would.
int64 submit_due(const Schedule& s, TimestampTz due, TimestampTz run_at);

/// Whether the schedule has to look again when one of its runs ends.
bool waits_for_ends(const Schedule& s);

// ---- scheduler_schedules.cpp

/// Fires what is due, counts what ended. Returns when to look again; core::kNever: when told.
TimestampTz fire_schedules();
/// Schedules changed, or the scheduler starts: whatever is known of the next due time is forgotten. `start`: also fires @reboot.
void schedules_changed(bool start);
/// A run ended for whose end its schedule waits.
void schedule_runs_ended();

// ---- scheduler_clock.cpp

/// The clock was set back, from `was`: what was due is due.
void clock_set_back(TimestampTz was, TimestampTz now);
/// The same for tasks that somebody had locked.
void clock_set_back_rest();
/// The clock was set forward: leases of agents are as long as they were.
void clock_set_forward(TimestampTz was, TimestampTz now);
/// Whether the clock was set far forward within the last hour.
bool clock_leapt();
/// Marks of schedules that lie ahead of the clock: what is due after now is decided when it is due. Who fired it already, is known.
void marks_set_back();

// ---- scheduler_backfills.cpp

/// Submits the next runs of all backfills, as many as may run at once.
void fire_backfills();

}  // namespace dts
