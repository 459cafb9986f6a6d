#include "clock_watch.hpp"

#include "pg/postgres.hpp"
#include "store/permits.hpp"

#ifdef __linux__
#include <sys/timerfd.h>
#include <unistd.h>
#endif

namespace dts {

namespace {

#ifdef __linux__
/// A timer that never ends by itself, and is cancelled when the clock jumps; -1 if the system has none.
int watch = -2;

void arm() {
  itimerspec never{};
  never.it_value.tv_sec = 4102444800;  // the year 2100
  if (timerfd_settime(watch, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &never, nullptr) == 0) return;
  (void)close(watch);
  watch = -1;
}
#endif

bool known = false;
long long ahead = 0;  // of the clock that never steps

}  // namespace

bool wait_watching_clock(long wait) {
  const int events = WL_LATCH_SET | WL_EXIT_ON_PM_DEATH | (wait >= 0 ? WL_TIMEOUT : 0);
#ifdef __linux__
  if (watch == -2) {
    watch = timerfd_create(CLOCK_REALTIME, TFD_NONBLOCK | TFD_CLOEXEC);
    if (watch >= 0) arm();
  }
  if (watch >= 0) {
    const int what = WaitLatchOrSocket(MyLatch, events | WL_SOCKET_READABLE, watch, wait, PG_WAIT_EXTENSION);
    if ((what & WL_SOCKET_READABLE) == 0) return false;
    uint64 expirations = 0;
    (void)!read(watch, &expirations, sizeof(expirations));  // ECANCELED: the clock was set
    arm();
    return true;
  }
#endif
  (void)WaitLatch(MyLatch, events, wait, PG_WAIT_EXTENSION);
  return false;
}

long long clock_step() {
  // Stopped between the two readings, it would see a step that there was not.
  long long steady = 0, difference = 0;
  for (int tries = 0; tries < 100; tries++) {
    steady = store::steady_us();
    difference = GetCurrentTimestamp() - steady;
    if (store::steady_us() - steady < 1000) break;
  }
  const long long step = known ? difference - ahead : 0;
  known = true;
  ahead = difference;
  return step;
}

long long even_now() {
  if (!known) (void)clock_step();
  const long long even = store::steady_us() + ahead, now = GetCurrentTimestamp();
  return Min(even, now);
}

}  // namespace dts
