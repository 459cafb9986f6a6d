// The client of couriers, all of whose transfers run in one thread.
#pragma once

#include "http/client.hpp"

namespace dts::http {

/// After libcurl was set up; nullptr for want of memory or descriptors.
Client* open_reactor() noexcept;

}  // namespace dts::http
