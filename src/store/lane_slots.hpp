// Which lanes have slots: inside store/, for what is told of a lane and for what gives it a slot.
#pragma once

#include "store/lanes.hpp"

namespace dts::store {

/// Says what there is to claim. Needs the lane's lock.
void publish_lane(int slot);
/// Gives a lane a slot, -1 if there is none. Needs the directory lock.
int make_lane_slot(Oid db, const LaneInfo& info, int64 due);

}  // namespace dts::store
