// Places of queues in shared memory. A queue has one while it has work; where there are more queues than dts.max_queues, those that have
// nothing to do, or nothing yet, make room.
#include "settings.hpp"
#include "store/lanes.hpp"
#include "store/touch.hpp"

namespace dts::store {

int queue_slot(Oid db, int32 queue) {
  // A hint for each process: with a thousand queues the walk costs more than the task.
  static int hint[1024];
  int& h = hint[static_cast<uint32>(queue) % lengthof(hint)];
  if (queues[h].used && queues[h].queue == queue && queues[h].db == db) return h;
  for (int i = 0; i < settings::max_queues; i++)
    if (queues[i].used && queues[i].queue == queue && queues[i].db == db) return h = i;
  return -1;
}

namespace {

int unused() {
  for (int i = 0; i < settings::max_queues; i++)
    if (!queues[i].used) return i;
  return -1;
}

/// The slot of the queue whose next task is due last, if that is later than `due`: its lanes lose theirs and are listed again in good time.
/// -1 if all have work. Needs the directory lock.
int of_later(int64 due) {
  for (int i = 0; i < settings::max_queues; i++) queues[i].first_due = core::kMax;
  for (int i = 0; i < shared->lane_count; i++)
    if (lanes[i].used && lanes[i].queue_slot >= 0)
      queues[lanes[i].queue_slot].first_due = Min(queues[lanes[i].queue_slot].first_due, leaves_at(lanes[i]));
  int last = 0;
  for (int i = 1; i < settings::max_queues; i++)
    if (queues[i].first_due > queues[last].first_due) last = i;
  if (queues[last].first_due <= Max(due, GetCurrentTimestamp())) return -1;
  for (int i = 0; i < shared->lane_count; i++)
    if (lanes[i].used && lanes[i].queue_slot == last && !unlist(i, due)) return -1;
  queues[last].used = false;
  return last;
}

void clear(QueueSlot& s) {
  for (pg_atomic_uint64* a :
       {&s.submitted, &s.succeeded, &s.failed, &s.retried, &s.expired, &s.cancelled, &s.started, &s.run_us, &s.wait_us})
    pg_atomic_write_u64(a, 0);
  for (pg_atomic_uint64& cell : s.ended) pg_atomic_write_u64(&cell, 0);
  for (int b = 0; b < core::kBuckets; b++) {
    pg_atomic_write_u64(&s.run_histogram[b], 0);
    pg_atomic_write_u64(&s.wait_histogram[b], 0);
  }
  s.last_error[0] = '\0';
  s.last_error_at = 0;
}

}  // namespace

int apply_queue(Oid db, const QueueSettings& q, int64 due) {
  LWLockAcquire(&shared->directory, LW_EXCLUSIVE);
  int i = queue_slot(db, q.queue);
  const bool fresh = i < 0;
  if (fresh) i = unused();
  if (i < 0 && due != core::kMax) i = of_later(due);
  if (i >= 0) {
    QueueSlot& s = queues[i];
    if (fresh) clear(s);
    s.db = db;
    s.queue = q.queue;
    s.paused = q.paused;
    s.durable = q.durable;
    s.history = q.history;
    s.batch_size = q.batch_size;
    strlcpy(s.name, q.name, sizeof(s.name));
    s.used = true;
  }
  LWLockRelease(&shared->directory);
  return i;
}

}  // namespace dts::store
