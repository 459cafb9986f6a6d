// Checks of what the submit functions are given.
#pragma once

#include "submit.hpp"

namespace dts {

/// Raises 22023: argument "..." `wants`.
[[noreturn]] void bad_argument(const char* argument, const char* wants, const char* hint);

/// Refuses what is infinite or more than 100 years ahead.
void check_instant(TimestampTz at, const char* argument, TimestampTz now);
void check_range(const char* argument, const Maybe<int32>& given, int lowest, int highest);
/// Options that are wrong whatever the handler and the queue say; not the times.
void check_options(const Options& o);

/// An instant an interval later, by the calendar of the session.
TimestampTz plus(TimestampTz at, const Interval* i);
/// At least 1; a month counts 30 days.
int32 milliseconds(const Interval* i);

/// Whose task it is: the caller's, or a role's that the caller is a member of. It must be able to run.
Oid owner_of(const Options& o);

}  // namespace dts
