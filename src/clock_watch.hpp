// Waiting that ends when somebody sets the clock: sleeps are measured by a clock that does not notice.
#pragma once

namespace dts {

/// Sleeps on the latch, at most `wait` ms (-1: without end). True if the system's clock was set meanwhile, or the machine slept.
bool wait_watching_clock(long wait);

/// By how many microseconds the system's clock was set since the last call, as far as the clock that never steps can tell.
long long clock_step();

/// The system's time in microseconds as it was understood at the last clock_step(), running evenly since then: between two calls of that
/// nothing leaps forward. Never later than the system's time, by which others decide what is due: what the scheduler takes for due, and
/// tells them of, must be due for them as well.
long long even_now();

}  // namespace dts
