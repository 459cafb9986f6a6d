// States of a task and outcomes of a run, with the legal moves. The numbers are stored; src/sql/60_views.sql names them.
#pragma once

#include <cstdint>

namespace dts::core {

enum class State : int16_t {
  Ready = 0,    // claimable; due at run_at ("scheduled" while that is in the future)
  Blocked = 1,  // waits for dependencies
  Leased = 2,   // runs outside a transaction of its own (not transactional, later: HTTP, mail, agents)
  Waiting = 3,  // waits for a signal, an approval, a child
  Parked = 4,   // due, and behind a held concurrency key; users see ready
  Succeeded = 10,
  Failed = 11,  // attempts used up: a dead letter
  Expired = 12,
  Cancelled = 13,
  Skipped = 14,
  Retry = 20,  // outcome of a run only: it failed, the task is ready again
};

enum class Kind : int16_t { Sql = 0, Http = 1, Mail = 2, Command = 3, External = 4 };

/// Who runs tasks of a kind; a lane has one. Processes of one never claim from lanes of another.
enum class Runner : int16_t { Executor = 0, Courier = 1, Agent = 2 };
constexpr Runner runner_of(Kind k) {
  switch (k) {
    case Kind::Http:
    case Kind::Mail: return Runner::Courier;
    case Kind::Command:
    case Kind::External: return Runner::Agent;
    default: return Runner::Executor;
  }
}

/// Whether a task in this state has ended.
constexpr bool is_end(State s) { return s >= State::Succeeded && s <= State::Skipped; }

/// Whether this number is a state that a row of dts.task may have.
constexpr bool is_stored(int s) { return s >= 0 && s <= 4; }

constexpr const char* name(State s) {
  switch (s) {
    case State::Ready: return "ready";
    case State::Parked: return "parked";
    case State::Blocked: return "blocked";
    case State::Leased: return "running";
    case State::Waiting: return "waiting";
    case State::Succeeded: return "succeeded";
    case State::Failed: return "failed";
    case State::Expired: return "expired";
    case State::Cancelled: return "cancelled";
    case State::Skipped: return "skipped";
    case State::Retry: return "retry";
  }
  return "unknown";
}

/// The one table of legal moves. A SQL task runs inside the transaction that holds its row, so "ready" moves to its end directly.
/// Failed -> Ready is a redrive. Everything else that has ended stays so.
constexpr bool may_move(State from, State to) {
  switch (from) {
    case State::Parked: return to == State::Ready || to == State::Parked || to == State::Blocked || (is_end(to) && to != State::Succeeded);
    case State::Ready:
      return to == State::Ready || to == State::Parked || to == State::Blocked || to == State::Leased || to == State::Waiting || is_end(to);
    case State::Blocked: return to == State::Ready || is_end(to);
    case State::Leased: return to == State::Ready || (is_end(to) && to != State::Expired && to != State::Skipped);
    case State::Waiting: return to == State::Ready || is_end(to);
    case State::Failed: return to == State::Ready;
    default: return false;
  }
}

/// Bits of dts.task.flags.
enum Flag : int32_t {
  kTransactional = 1,    // effect and completion are one commit
  kCapture = 2,          // keep the result of the last statement
  kHasKey = 4,           // has a row in dts.key
  kSuspect = 8,          // crashed the server once: never shares a transaction
  kHasExtra = 16,        // retry policy, labels in dts.task.extra
  kRedriven = 32,        // had ended as a dead letter before
  kScheduled = 1 << 28,  // a schedule fired it: has a row in dts.schedule_run, and its due time in dts.task.extra
  // What becomes of it when its dependencies can no longer be satisfied; neither: it is skipped.
  kUnmetFails = 1 << 20,
  kUnmetCancels = 1 << 21,
  kNode = 1 << 23,     // a node of a workflow that is asked what to do before it runs
  kPutOff = 1 << 24,   // its host took no more requests for now: due again at run_at, with no attempt used up
  kDepends = 1 << 22,  // was submitted with dependencies: its parents are in dts.task.extra
};

/// Bits of dts.run.flags.
enum RunFlag : int32_t { kTruncated = 1 };

}  // namespace dts::core
