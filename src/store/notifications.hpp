// Who wants to be told that an attempt has ended: dts.notification, cached until definitions change.
#pragma once

#include "store/runs.hpp"

namespace dts::store {

/// Submits the notifications of the end of an attempt, in its transaction. Costs one look at memory where nobody wants any, and never
/// fails the task. Tasks that are notifications themselves are passed over.
void announce(const Task& task, const LaneInfo& lane, const Outcome& outcome);

/// After how many milliseconds of running somebody wants to be told, the shortest of them; 0 if nobody does.
int64 late_after_ms();

}  // namespace dts::store
