// What the waiting procedure needs from steering.
#pragma once

#include "store/tasks.hpp"

namespace dts {

/// State of a task that the current role may see; 42704 if there is none.
core::State state_of(int64 id);

}  // namespace dts
