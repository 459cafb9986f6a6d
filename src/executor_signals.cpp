// Signals of an executor. SIGUSR2 means "look whether your task was cancelled"; SIGINT is an administrator's pg_cancel_backend or the
// timeout; both strike only while a task runs. SIGTERM remembers its sender: a shutdown is no fault of the task.
#include <csignal>
#include <unistd.h>

#include "executor.hpp"
#include "store/journal.hpp"

namespace dts {

namespace {

void interrupt_now() {
  InterruptPending = true;
  QueryCancelPending = true;
}

void on_usr2(int) {
  const int saved = errno;
  const store::ExecutorSlot& s = store::slots[self.slot];
  const uint64 current = pg_atomic_read_u64(const_cast<pg_atomic_uint64*>(&s.current));
  if (current != 0 && pg_atomic_read_u64(const_cast<pg_atomic_uint64*>(&s.interrupt)) == current) interrupt_now();
  SetLatch(MyLatch);
  errno = saved;
}

void on_int(int) {
  const int saved = errno;
  if (pg_atomic_read_u64(&store::slots[self.slot].current) != 0) interrupt_now();
  // It may be the timeout of a task that swallows it: the scheduler, which may sleep for a minute, looks when to end this process.
  store::tell_scheduler(store::slots[self.slot].db, 0);
  SetLatch(MyLatch);
  errno = saved;
}

void on_term(int signal, siginfo_t* info, void*) {
  const int saved = errno;
  if (info == nullptr || info->si_pid != PostmasterPid) self.terminated_by_other = true;
  die(signal);
  errno = saved;
}

void on_quit(int signal) {
  store::journal_innocent(self.slot);
  SignalHandlerForCrashExit(signal);
}

}  // namespace

void install_signals() {
  pqsignal(SIGHUP, SignalHandlerForConfigReload);
  pqsignal(SIGINT, on_int);
  pqsignal(SIGUSR2, on_usr2);
  pqsignal(SIGQUIT, on_quit);
  pqsignal(SIGTERM, die);
  struct sigaction action {};
  action.sa_sigaction = on_term;
  action.sa_flags = SA_SIGINFO | SA_RESTART;
  sigemptyset(&action.sa_mask);
  sigaction(SIGTERM, &action, nullptr);
}

}  // namespace dts
