// Agents that wait for work in shared memory, and what they take (docs/architecture.md, "Agents").
#pragma once

#include "store/lanes.hpp"

namespace dts::store {

/// What an agent takes: tasks of these queues whose required labels it offers.
struct Offer {
  int queues;
  int32 queue[kOfferQueues];
  int labels;
  uint64 label[kOfferLabels];
};
/// For choose_lane; `what` is an Offer.
bool suits(const LaneSlot& lane, const void* what);

/// Registers this process as one that waits; -1 if all places are taken.
int agent_wait_begin(Oid role, const char* name, const Offer& offer);
/// It is about to sleep: whoever makes work from now on wakes it, or another one that suits.
void agent_asleep(int place);
void agent_wait_end(int place);

/// Wakes one agent that waits for work of this lane; false if there is none. `rested`: not within a second of the last one. May run in
/// callbacks.
bool wake_agent(LaneSlot& lane, bool rested);
/// Wakes one for each due lane that somebody could take from and nobody does: a wake-up may have been lost with the agent that got it.
/// True if it should look again in a second.
bool wake_agents_again(Oid db, int64 now);

}  // namespace dts::store
