// Batches that grow: a running task of a batch submits more tasks to it, and what waits for the batch waits for them, too.
#include "depends.hpp"

namespace dts {

void BatchGrowth::inserted(store::TaskTable& tasks, store::EdgeTable& edges, const store::Task& task) {
  if (task.batch == 0 || store::own_slot < 0) return;
  if (!looked_) {
    looked_ = true;
    const auto self = static_cast<int64>(pg_atomic_read_u64(&store::slots[store::own_slot].current));
    store::Task t;
    if (self == 0 || !tasks.read(self, &t) || t.batch == 0) return;
    batch_ = t.batch;
    const Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
    store::EdgeTable::Scan scan;
    store::Edge e;
    int room = 0;
    scan.begin(edges, store::EdgeTable::By::Parent, snapshot);
    scan.of(self);
    while (scan.next(&e)) {
      if ((e.accept & core::kOfBatch) == 0) continue;
      if (n_ == room) {
        room = room == 0 ? 4 : room * 2;
        edges_ = static_cast<store::Edge*>(edges_ == nullptr ? palloc(sizeof(store::Edge) * room)
                                                             : repalloc(edges_, sizeof(store::Edge) * room));
      }
      edges_[n_++] = e;
    }
    scan.end();
    UnregisterSnapshot(snapshot);
    if (n_ > 0) store::edges_raise();
  }
  // The edge of the running task itself keeps whatever waits from being decided until this transaction is visible.
  if (task.batch != batch_) return;
  for (int i = 0; i < n_; i++) {
    edges_[i].parent = task.id;
    edges.insert(edges_[i]);
  }
}

}  // namespace dts
