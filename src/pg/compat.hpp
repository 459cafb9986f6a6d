// Differences between the servers 15 to 18. The newest spelling is used in the code; a shim says when it may go.
#pragma once

#if PG_VERSION_NUM < 150000 || PG_VERSION_NUM >= 190000
#error "dts supports PostgreSQL 15 to 18"
#endif

// Before 16 PGDLLEXPORT is empty on ELF, while we build with hidden visibility (drop with 15).
#if PG_VERSION_NUM < 160000
#undef PGDLLEXPORT
#define PGDLLEXPORT __attribute__((visibility("default")))
#endif

#if PG_VERSION_NUM >= 160000
#include <nodes/miscnodes.h>
#endif

namespace dts::pg {

/// Updates a row that this transaction has locked. Returns whether new index entries are needed.
inline bool heap_update_locked(Relation rel, ItemPointer tid, HeapTuple tuple) {
#if PG_VERSION_NUM >= 160000
  TU_UpdateIndexes update_indexes;
  simple_heap_update(rel, tid, tuple, &update_indexes);
  return update_indexes != TU_None;
#else
  simple_heap_update(rel, tid, tuple);
  return !HeapTupleIsHeapOnly(tuple);
#endif
}

/// Position of this process for latches and slots (17 renamed it).
inline Latch* latch_of(PGPROC* proc) { return &proc->procLatch; }

#if PG_VERSION_NUM >= 180000
#define DTS_INDEX_BEGINSCAN(heap, index, snapshot, nkeys) index_beginscan(heap, index, snapshot, nullptr, nkeys, 0)
#define DTS_PORTAL_RUN(portal, top, dest, qc) PortalRun(portal, FETCH_ALL, top, dest, dest, qc)
#else
#define DTS_INDEX_BEGINSCAN(heap, index, snapshot, nkeys) index_beginscan(heap, index, snapshot, nkeys, 0)
#define DTS_PORTAL_RUN(portal, top, dest, qc) PortalRun(portal, FETCH_ALL, top, true, dest, dest, qc)
#endif

}  // namespace dts::pg
