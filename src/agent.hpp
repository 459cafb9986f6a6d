// Who calls the functions for agents, and what it may take.
#pragma once

#include "store/agents.hpp"

namespace dts {

struct Agent {
  const char* name = nullptr;
  store::Offer offer{};
  Datum queues = 0;  // ids and labels, for dts.agent; 0: not said in this call
  Datum labels = 0;
};

/// From the arguments (agent, queues, labels): what it names must be granted to it. `call` names the function in messages.
Agent read_agent(FunctionCallInfo fcinfo, const char* call);
/// From the argument agent only.
Agent read_name(FunctionCallInfo fcinfo, const char* call);

/// Notes that the agent was here, at most once in five seconds.
void show_presence(const Agent& agent);

/// The pool of agents' lanes of this database, -1 if there is none yet.
int agent_pool();

}  // namespace dts
