// The option depends_on: read from JSON, checked against the parents, written as edges.
#pragma once

#include "store/dependencies.hpp"
#include "submit.hpp"

namespace dts {

/// One parent as the caller named it: by id, or by the name of another element of the same call.
struct ParentRef {
  int64 id = 0;
  const char* name = nullptr;
  core::Accept accept = 0;
  bool member = false;  // of a batch that is named: if it has ended, the batch's counts say how
  bool fresh = false;   // submitted by the same call: nobody else can have ended it
};

struct Depends {
  ParentRef* parents = nullptr;
  int n = 0;
  int32 need = core::kNeedAll;
  int32 flags = 0;  // core::kUnmetFails or core::kUnmetCancels
  int64* batches = nullptr;
  int batch_n = 0;
  core::Accept accept = 0;  // ends of the batches' tasks
};

/// Reads the syntax; no parents if `json` is null. Names are for elements of dts.submit_many(jsonb) only.
Depends read_depends(Jsonb* json, bool names);

/// Dependencies of one or more tasks, after a look at the parents. The order of steps is that of docs/architecture.md, "Dependencies":
/// enter the parents' cells, look at them, insert.
class Links {
 public:
  /// Looks at the parents; sets state, rule and flags of the task. Raises 42704 for a parent that the caller cannot see.
  void look(store::TaskTable& tasks, const Depends& depends, store::Task* task);
  /// After the task was inserted: its edges; or its end, if its dependencies can no longer be satisfied.
  void connect(store::TaskTable& tasks, store::EdgeTable& edges, const store::Task& task, const store::LaneInfo& lane);

 private:
  store::Edge* edges_ = nullptr;  // without the child
  int n_ = 0;
  core::Verdict verdict_ = core::Verdict::Ready;
  int64 culprit_ = 0;
  int outcome_ = 0;
};

/// What a running task of a batch submits to that batch is waited for, too: its new tasks take over its edges to whatever waits for the
/// batch.
class BatchGrowth {
 public:
  /// A task of a batch was inserted.
  void inserted(store::TaskTable& tasks, store::EdgeTable& edges, const store::Task& task);

 private:
  bool looked_ = false;
  int64 batch_ = 0;
  store::Edge* edges_ = nullptr;
  int n_ = 0;
};

/// Whether an element of an array of tasks has a name.
bool has_names(Jsonb* tasks);
/// dts.submit_many(jsonb) for tasks that refer to each other by name, in any order. Gives the ids in the order of the elements.
void submit_graph(Jsonb* tasks, int64* ids);

}  // namespace dts
