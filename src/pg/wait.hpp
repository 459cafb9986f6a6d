// Waiting for a descriptor beside the latch. One set, made once; a private epoll behind one descriptor stands for any number of sockets.
#pragma once

#include "pg/postgres.hpp"

namespace dts::pg {

inline WaitEventSet* make_wait_set(int fd) {
#if PG_VERSION_NUM >= 170000
  WaitEventSet* const set = CreateWaitEventSet(nullptr, 3);
#else
  WaitEventSet* const set = CreateWaitEventSet(TopMemoryContext, 3);
#endif
  AddWaitEventToSet(set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, nullptr);
  AddWaitEventToSet(set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, nullptr, nullptr);
  AddWaitEventToSet(set, WL_SOCKET_READABLE, fd, nullptr, nullptr);
  return set;
}

/// Until the latch is set, the descriptor is readable, or so many milliseconds have passed (-1: never).
inline void wait_on(WaitEventSet* set, long ms) {
  WaitEvent event;
  (void)WaitEventSetWait(set, ms, &event, 1, PG_WAIT_EXTENSION);
  ResetLatch(MyLatch);
}

}  // namespace dts::pg
