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

/// Makes the index entries of a row the executor's way.
inline void insert_index_entries(ResultRelInfo* result, TupleTableSlot* slot, EState* estate) {
#if PG_VERSION_NUM >= 160000
  list_free(ExecInsertIndexTuples(result, slot, estate, false, false, nullptr, NIL, false));
#else
  list_free(ExecInsertIndexTuples(result, slot, estate, false, false, nullptr, NIL));
#endif
}

/// Privilege checks, by the names of 16.
inline bool may_execute(Oid role, Oid function) {
#if PG_VERSION_NUM >= 160000
  return object_aclcheck(ProcedureRelationId, function, role, ACL_EXECUTE) == ACLCHECK_OK;
#else
  return pg_proc_aclcheck(function, role, ACL_EXECUTE) == ACLCHECK_OK;
#endif
}
inline bool may_connect(Oid role, Oid database) {
#if PG_VERSION_NUM >= 160000
  return object_aclcheck(DatabaseRelationId, database, role, ACL_CONNECT) == ACLCHECK_OK;
#else
  return pg_database_aclcheck(database, role, ACL_CONNECT) == ACLCHECK_OK;
#endif
}
inline bool owns_database(Oid role, Oid database) {
#if PG_VERSION_NUM >= 160000
  return object_ownercheck(DatabaseRelationId, database, role);
#else
  return pg_database_ownercheck(database, role);
#endif
}

/// Settings that would end a process of ours, or hold it up, whatever its role says (transaction_timeout is of 17). Not as an override:
/// that would make a later SET LOCAL lock_timeout of ours a silent no-op.
inline void neutralise_timeouts() {
  for (const char* name : {"statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"})
    SetConfigOption(name, "0", PGC_SUSET, PGC_S_SESSION);
#if PG_VERSION_NUM >= 170000
  SetConfigOption("transaction_timeout", "0", PGC_SUSET, PGC_S_SESSION);
#endif
}
inline void neutralise_transaction_timeout() {
#if PG_VERSION_NUM >= 170000
  SetConfigOption("transaction_timeout", "0", PGC_SUSET, PGC_S_SESSION);
#endif
}

/// Position of this process for latches and slots (17 renamed it).
inline Latch* latch_of(PGPROC* proc) { return &proc->procLatch; }

/// Bytes as pg_b64_encode takes them (18 made them unsigned).
#if PG_VERSION_NUM >= 180000
inline const uint8* base64_source(const char* bytes) { return reinterpret_cast<const uint8*>(bytes); }
#else
inline const char* base64_source(const char* bytes) { return bytes; }
#endif

#if PG_VERSION_NUM >= 180000
#define DTS_INDEX_BEGINSCAN(heap, index, snapshot, nkeys) index_beginscan(heap, index, snapshot, nullptr, nkeys, 0)
#define DTS_PORTAL_RUN(portal, top, dest, qc) PortalRun(portal, FETCH_ALL, top, dest, dest, qc)
#else
#define DTS_INDEX_BEGINSCAN(heap, index, snapshot, nkeys) index_beginscan(heap, index, snapshot, nkeys, 0)
#define DTS_PORTAL_RUN(portal, top, dest, qc) PortalRun(portal, FETCH_ALL, top, true, dest, dest, qc)
#endif

}  // namespace dts::pg

// The module's magic block carries name and version from 18 on.
#if PG_VERSION_NUM >= 180000
#define DTS_MODULE_MAGIC PG_MODULE_MAGIC_EXT(.name = "dts", .version = DTS_VERSION)
#else
#define DTS_MODULE_MAGIC PG_MODULE_MAGIC
#endif
