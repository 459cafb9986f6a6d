#include "scheduler_timers.hpp"

#include "clock_watch.hpp"
#include "schedules.hpp"
#include "settings.hpp"
#include "store/agenda.hpp"
#include "store/agents.hpp"

namespace dts {

using store::DatabaseSlot;

void expire(DatabaseSlot* database) {
  const TimestampTz now = even_now();
  const auto from = static_cast<TimestampTz>(pg_atomic_exchange_u64(&database->next_expiry, static_cast<uint64>(core::kMax)));
  if (from <= now) end_expired(from);
  const auto next = static_cast<uint64>(next_expiry(from <= now ? now : now - 60 * kSecond));
  uint64 set = pg_atomic_read_u64(&database->next_expiry);
  while (next < set && !pg_atomic_compare_exchange_u64(&database->next_expiry, &set, next)) {
  }
}

void handle_events(DatabaseSlot* database, Timers& timers, TimestampTz now) {
  const uint32 events = pg_atomic_exchange_u32(&database->events, 0);
  if ((events & store::kDefinitions) != 0) {
    start_up(database);
    timers.late = now;
    timers.history = Min(timers.history, now + 60 * kSecond);
  }
  if (!database->gate) return;
  if ((events & store::kLate) != 0) timers.late = now;
  if ((events & store::kSchedules) != 0) schedules_changed(false);
  if ((events & store::kScheduleRun) != 0) schedule_runs_ended();
  if ((events & (store::kSchedules | store::kScheduleRun)) != 0) {
    fire_backfills();
    timers.schedules = now;
  }
  if ((events & store::kPartition) != 0) timers.history = now;
  if ((events & store::kRescan) != 0) {
    list_lanes();
    store::rescan_database(MyDatabaseId);
    store::agenda_everything(MyDatabaseId);
  }
  if ((events & store::kRequests) != 0) {
    timers.requests = now;
    timers.request_wait = 1;
  }
  // Told again and again while the table is full: not before the pace that list_lanes set.
  if ((events & store::kUnlisted) != 0 && (timers.lanes == 0 || timers.lanes > now + kSecond)) timers.lanes = Max(now, timers.lanes_rest);
  if ((events & store::kSignals) != 0) timers.signals = Max(now, timers.signals_rest);
  if ((events & store::kGates) != 0) timers.gates = Max(now, timers.gates_rest);
  if ((events & store::kChanges) != 0) timers.changes = Max(now, timers.changes_rest);
  if ((events & store::kLease) != 0) lapse_leases();
  if ((events & store::kAgentLease) != 0) timers.leases = now;
  if ((events & store::kAgentCalled) != 0 && timers.agents == 0) timers.agents = now + kSecond;
  if ((events & store::kWaiting) != 0) count_waiting();
  if ((events & store::kKeys) != 0 && timers.keys == 0) timers.keys = now;
}

namespace {

/// When to do again at the earliest what was begun at this time.
TimestampTz rest(TimestampTz begun) { return begun + Max(kSecond / 20, 20 * (even_now() - begun)); }

void apply_noted(DatabaseSlot* database, Timers& timers, TimestampTz now) {
  // Back to 0 only if nobody noted anything since before the look (test/models/requests_model.py).
  uint32 before = pg_atomic_read_u32(&database->notes);
  timers.requests = apply_requests() ? 0 : now + timers.request_wait * 1000;
  if (timers.requests == 0) pg_atomic_compare_exchange_u32(&database->notes, &before, 0);
  timers.request_wait = Min(timers.request_wait * 2, 1000L);
}

/// Looks for what nobody else will: what was lost with a process that died, or told to somebody who was not there.
void sweep(DatabaseSlot* database, Timers& timers, TimestampTz now) {
  timers.sweep = now + settings::sweep_interval_s * kSecond;
  // Not even a query while nothing happens and nothing is unfinished.
  const bool active = pg_atomic_exchange_u32(&database->activity, 0) != 0;
  if (active) tidy_dependencies();
  if (active) compact_batches();
  if (active) clock_set_back_rest();
  if (active && any_task()) {
    pg_atomic_write_u32(&database->activity, 1);
    end_expired();
    count_waiting();
    lapse_leases();
    tidy_agents();
    timers.leases = lapse_agents(true);
    wake_waiting();
    timers.gates = now;
    if (timers.requests == 0) timers.requests = now;
    const bool rows = sweep_look();
    if (sweep_keys() || rows) timers.second_look = even_now() + kSecond;
    timers.sweep_rest = now + 100 * (even_now() - now);
  }
}

}  // namespace

void handle_timers(DatabaseSlot* database, Timers& timers, TimestampTz now) {
  if (!database->gate) return;
  if (timers.schedules <= now) timers.schedules = fire_schedules();
  timers.agenda = resolve_agenda();
  if (timers.late != 0 && timers.late <= now) timers.late = tell_late();
  if (next_alarm(database) <= now) expire(database);
  if (timers.signals != 0 && timers.signals <= now) {
    timers.signals = 0;
    wake_waiting();
    timers.signals_rest = rest(now);
  }
  if (timers.gates != 0 && timers.gates <= now) {
    timers.gates = open_gates() ? 0 : now + kSecond / 20;
    timers.gates_rest = rest(now);
  }
  if (timers.changes != 0 && timers.changes <= now) {
    timers.changes = look_at_changes();
    timers.changes_rest = now + Max(kSecond / 5, 20 * (even_now() - now));
  }
  if (timers.history <= now) {
    timers.history = now + maintain_history() * kSecond;
  }
  if (timers.requests != 0 && timers.requests <= now) apply_noted(database, timers, now);
  if (timers.leases != 0 && timers.leases <= now) timers.leases = lapse_agents(false);
  if (timers.agents != 0 && timers.agents <= now) timers.agents = store::wake_agents_again(MyDatabaseId, now) ? now + kSecond : 0;
  if (timers.keys != 0 && timers.keys <= now) timers.keys = look_at_keys() ? 0 : now + kSecond;
  if (timers.lanes != 0 && timers.lanes <= now) {
    const TimestampTz begin = even_now();
    timers.lanes = list_lanes();
    const TimestampTz end = even_now();
    timers.lanes_rest = end + 4 * (end - begin);
  }
  if (timers.second_look != 0 && timers.second_look <= now) {
    sweep_offer();
    sweep_keys_again();
    timers.second_look = 0;
  }
  if (Max(timers.sweep, timers.sweep_rest) <= now) sweep(database, timers, now);
}

void follow_clock(DatabaseSlot* database, Timers& timers) {
  const int64 step = clock_step();
  if (step > -kSecond && step < kSecond) return;
  for (TimestampTz* const t : {&timers.history, &timers.sweep, &timers.sweep_rest, &timers.second_look, &timers.requests, &timers.keys,
                               &timers.lanes, &timers.agenda, &timers.lanes_rest, &timers.signals, &timers.signals_rest, &timers.gates,
                               &timers.gates_rest, &timers.agents, &timers.changes, &timers.changes_rest})
    if (*t != 0 && *t != core::kMax) *t += step;
  slots_follow_clock(step);
  store::lanes_follow_clock(MyDatabaseId, step);
  const TimestampTz now = even_now();
  timers.schedules = now;
  if (timers.late != 0) timers.late = now;
  if (!database->gate) return;
  if (step < 0)
    clock_set_back(now - step, now);
  else
    clock_set_forward(now - step, now);
  timers.leases = lapse_agents(true);
}

}  // namespace dts
