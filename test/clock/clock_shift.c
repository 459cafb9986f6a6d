/*
 * Preloaded into a server under test: its wall clock is off by the number of microseconds in the file that CLOCK_SHIFT_FILE names, from the
 * moment when it is written there. Timers and the monotonic clock are left alone, as when somebody sets a machine's clock.
 * The kernel would tell those who asked for it (TFD_TIMER_CANCEL_ON_SET): here their timer is a pipe named like the file with ".set"
 * behind, and becomes readable when eight bytes are written there.
 *
 * libfaketime does not do here: it also wraps select(), within which the postmaster of PostgreSQL 15 starts background workers, and these
 * then have the true time for ever.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

static const volatile long long *shift;

static void __attribute__((constructor)) find_shift(void) {
  const char *name = getenv("CLOCK_SHIFT_FILE");
  int file = name == NULL ? -1 : open(name, O_RDONLY | O_CLOEXEC);
  void *map = file < 0 ? MAP_FAILED : mmap(NULL, sizeof(*shift), PROT_READ, MAP_SHARED, file, 0);
  if (map != MAP_FAILED) shift = map;
  if (file >= 0) close(file);
}

int clock_gettime(clockid_t clock, struct timespec *out) {
  int result = (int)syscall(SYS_clock_gettime, clock, out);
  if (result == 0 && shift != NULL && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
    long long us = out->tv_sec * 1000000LL + out->tv_nsec / 1000 + *shift;
    out->tv_sec = us / 1000000;
    out->tv_nsec = us % 1000000 * 1000;
  }
  return result;
}

int gettimeofday(struct timeval *restrict out, void *restrict zone) {
  struct timespec now;
  (void)zone;
  clock_gettime(CLOCK_REALTIME, &now);
  out->tv_sec = now.tv_sec;
  out->tv_usec = now.tv_nsec / 1000;
  return 0;
}

time_t time(time_t *out) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (out != NULL) *out = now.tv_sec;
  return now.tv_sec;
}

static int told = -1;

int timerfd_create(int clock, int flags) {
  const char *name = getenv("CLOCK_SHIFT_FILE");
  char pipe_name[4096];
  if (name == NULL || clock != CLOCK_REALTIME) return (int)syscall(SYS_timerfd_create, clock, flags);
  (void)snprintf(pipe_name, sizeof(pipe_name), "%s.set", name);
  return told = open(pipe_name, O_RDWR | O_NONBLOCK | O_CLOEXEC);
}

int timerfd_settime(int fd, int flags, const struct itimerspec *new_value, struct itimerspec *old_value) {
  if (fd >= 0 && fd == told) return 0;
  return (int)syscall(SYS_timerfd_settime, fd, flags, new_value, old_value);
}
