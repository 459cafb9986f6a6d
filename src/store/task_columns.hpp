// Inside store/: columns and indexes of dts.task, as rows are read and written.
#pragma once

#include "store/tasks.hpp"

namespace dts::store {

enum TaskColumn {
  kId,
  kRunAt,
  kSubmittedAt,
  kLane,
  kTimeout,
  kHandler,
  kFlags,
  kState,
  kKind,
  kAttempt,
  kMaxAttempts,
  kCrashes,
  kExpiresAt,
  kLeaseUntil,
  kToken,
  kNeed,
  kEdges,
  kCkey,
  kBatch,
  kSql,
  kArgs,
  kExtra,
  kColumns
};

/// Oids of our indexes, found by name when the table is opened (store/task_table.cpp).
struct TaskIndexes {
  Oid task;
  int n;
  Oid all[8];
  Oid pkey, claim, lease, expires, blocked, ckey, batch;
};
extern TaskIndexes task_indexes;

/// Opens an index when it is needed first.
inline Relation need(Relation& r, Oid oid, LOCKMODE mode = RowExclusiveLock) {
  if (r == nullptr) r = index_open(oid, mode);
  return r;
}

}  // namespace dts::store
