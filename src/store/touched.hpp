// Inside store/: what this transaction did, as it is recorded (touch.cpp) and told at its end (touch_end.cpp).
#pragma once

#include "store/list.hpp"
#include "store/touch.hpp"

namespace dts::store {

struct TouchedLane {
  int slot;
  int32 lane;
  int32 inserted;
  int64 bytes;
  SubTransactionId undo_subid;
  core::RangeSet<6> commit, undo;
};

extern TransactionList<TouchedLane> touched_lanes;
extern TransactionList<Ended> ended_tasks;
extern TransactionList<QueueSettings> queue_changes;
extern TransactionList<LimitSettings> limit_changes;
extern HTAB* lane_positions;  // lane -> place in touched_lanes, when there are many

/// What else a commit tells.
struct AtCommit {
  uint32 events = 0;
  TimestampTz first_expiry = core::kMax;
  bool launcher = false;
  bool definitions = false;
};
extern AtCommit at_commit;

/// Once in each process: the callbacks of the end of its transactions.
void register_callbacks();

}  // namespace dts::store
