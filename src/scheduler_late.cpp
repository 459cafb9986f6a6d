// Tells of attempts that run longer than somebody wants (dts.notification, event "late").
#include "scheduler_transaction.hpp"
#include "store/notifications.hpp"
#include "store/transfers.hpp"

namespace dts {

namespace {

constexpr int64 kSecond = 1000000;

/// When the oldest of the attempts that run now began; 0 if nothing runs.
TimestampTz oldest_start() {
  TimestampTz oldest = 0;
  for (int i = 0; i < store::kMaxSlots; i++) {
    store::ExecutorSlot& s = store::slots[i];
    if (s.kind != store::ExecutorSlot::Kind::Live || s.db != MyDatabaseId) continue;
    LWLockAcquire(&s.lock, LW_SHARED);
    if (s.n > 0 && pg_atomic_read_u64(&s.current) != 0 && (oldest == 0 || s.task_since < oldest)) oldest = s.task_since;
    LWLockRelease(&s.lock);
  }
  for (int i = 0; i < store::transfer_head->top; i++) {
    const store::TransferSlot& t = store::transfers[i];
    if (t.used && t.db == MyDatabaseId && t.sent && (oldest == 0 || t.since < oldest)) oldest = t.since;
  }
  return oldest;
}

}  // namespace

TimestampTz tell_late() {
  int64 after = 0;
  if (!in_transaction("reading notifications", [&] { after = store::late_after_ms() * 1000; })) return GetCurrentTimestamp() + 10 * kSecond;
  if (after == 0) return 0;
  const TimestampTz oldest = oldest_start();
  const TimestampTz now = GetCurrentTimestamp();
  if (oldest != 0 && oldest + after <= now) {
    in_transaction("telling of late tasks", [] {
      static pg::Statement tell{"SELECT dts._announce_late()", 0, {}};
      each_row(tell, nullptr, [](uint64) {});
    });
  }
  // No process says when it starts a task: one that has started since is noticed within a quarter of what it may take.
  const TimestampTz next = now + Max(kSecond, Min(after / 4, 60 * kSecond));
  return oldest != 0 && oldest + after > now ? Min(next, oldest + after + 1000) : next;
}

}  // namespace dts
