// Dependencies: which end of a parent an edge accepts, and what the edges of a task say about it.
#pragma once

#include <cstdint>

#include "core/task_state.hpp"

namespace dts::core {

/// Bits of dts.dependency.accept: one for each end, in the order of the states.
using Accept = int16_t;
constexpr Accept accept_bit(State end) { return static_cast<Accept>(1 << (static_cast<int>(end) - static_cast<int>(State::Succeeded))); }
inline constexpr Accept kAcceptAny = 31 | 32;       // every end, also one that nobody remembers
inline constexpr Accept kAcceptUnknown = 32;        // the parent has ended, how is not known any more
inline constexpr Accept kParentKeepsFailures = 64;  // its queue keeps failures only: no history means that it succeeded
inline constexpr Accept kOfBatch = 128;             // the child waits for the batch of the parent
inline constexpr int kUnknownOutcome = 15;          // stored as outcome when the history of the parent is gone

/// Whether an edge accepts this outcome (a State, or kUnknownOutcome).
constexpr bool accepts(Accept accept, int outcome) {
  const int bit = outcome == kUnknownOutcome ? kAcceptUnknown : accept_bit(static_cast<State>(outcome));
  return (accept & bit) != 0;
}

/// The rule "all".
inline constexpr int32_t kNeedAll = -1;

enum class Verdict { Open, Ready, Dead };

/// What a task's edges say: all, or at least `need`, must be accepted. Final once it is not Open: counts only grow, `open` only shrinks.
constexpr Verdict verdict(int32_t need, int64_t accepted, int64_t refused, int64_t open) {
  if (need == kNeedAll) return refused > 0 ? Verdict::Dead : open > 0 ? Verdict::Open : Verdict::Ready;
  if (accepted >= need) return Verdict::Ready;
  return accepted + open < need ? Verdict::Dead : Verdict::Open;
}

}  // namespace dts::core
