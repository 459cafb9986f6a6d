// Loading: settings, shared memory, the launcher, and the hook that keeps dts out of the way of DDL on databases.
#include "pg/guard.hpp"
#include "settings.hpp"
#include "store/lanes.hpp"
#include "store/touch.hpp"
#include "workers.hpp"

extern "C" {
DTS_MODULE_MAGIC;
PGDLLEXPORT void _PG_init(void);
}

namespace dts {

namespace {

shmem_request_hook_type next_request = nullptr;
shmem_startup_hook_type next_startup = nullptr;
ProcessUtility_hook_type next_utility = nullptr;

void on_request() {
  if (next_request != nullptr) next_request();
  RequestAddinShmemSpace(store::shared_size());
}

void on_startup() {
  if (next_startup != nullptr) next_startup();
  store::shared_startup();
}

/// Database whose processes stand in the way of a statement; InvalidOid if none, or if the caller may not run it anyway.
Oid database_in_the_way(const Node* n) {
  const char* name = nullptr;
  if (IsA(n, DropdbStmt)) name = reinterpret_cast<const DropdbStmt*>(n)->dbname;
  if (IsA(n, AlterDatabaseStmt)) {
    const auto* const a = reinterpret_cast<const AlterDatabaseStmt*>(n);
    ListCell* cell = nullptr;
    foreach (cell, a->options)
      if (strcmp(lfirst_node(DefElem, cell)->defname, "tablespace") == 0) name = a->dbname;
  }
  if (IsA(n, RenameStmt) && reinterpret_cast<const RenameStmt*>(n)->renameType == OBJECT_DATABASE)
    name = reinterpret_cast<const RenameStmt*>(n)->subname;
  if (IsA(n, CreatedbStmt)) {
    ListCell* cell = nullptr;
    foreach (cell, reinterpret_cast<const CreatedbStmt*>(n)->options) {
      const DefElem* const d = lfirst_node(DefElem, cell);
      if (strcmp(d->defname, "template") == 0 && d->arg != nullptr && IsA(d->arg, String)) name = strVal(d->arg);
    }
  }
  const Oid db = name == nullptr ? InvalidOid : get_database_oid(name, true);
  if (!OidIsValid(db) || db == MyDatabaseId) return InvalidOid;
  return pg::owns_database(GetUserId(), db) ? db : InvalidOid;
}

bool is_there(Oid db) {
  const store::DatabaseSlot* const d = store::database_slot(db, false);
  bool there = d != nullptr && d->pid != 0;
  for (int k = 0; k < store::kMaxSlots; k++) {
    const store::ExecutorSlot& s = store::slots[k];
    there |= s.kind != store::ExecutorSlot::Kind::Free && s.db == db && pg_atomic_read_u64(const_cast<pg_atomic_uint64*>(&s.current)) == 0;
  }
  return there;
}

/// Asks the processes of a database to leave, and waits up to 3 s for those that run no task.
void evict(Oid db) {
  store::DatabaseSlot* const d = store::database_slot(db, false);
  if (d == nullptr) return;
  d->evicted = true;
  for (int turn = 0; turn < 300 && is_there(db); turn++) {
    store::wake(d->proc);
    for (int k = 0; k < store::kMaxSlots; k++)
      if (store::slots[k].kind == store::ExecutorSlot::Kind::Live && store::slots[k].db == db) store::wake(store::slots[k].proc);
    (void)WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, 10, PG_WAIT_EXTENSION);
    ResetLatch(MyLatch);
    CHECK_FOR_INTERRUPTS();
  }
}

void readmit(int, Datum arg) {
  const Oid db = DatumGetObjectId(arg);
  if (store::DatabaseSlot* const d = store::database_slot(db, false)) d->evicted = false;
  store::tell_launcher();
}

void run_utility(PlannedStmt* stmt, const char* query, bool read_only, ProcessUtilityContext context, ParamListInfo params,
                 QueryEnvironment* environment, DestReceiver* dest, QueryCompletion* qc) {
  if (next_utility != nullptr)
    next_utility(stmt, query, read_only, context, params, environment, dest, qc);
  else
    standard_ProcessUtility(stmt, query, read_only, context, params, environment, dest, qc);
}

void on_utility(PlannedStmt* stmt, const char* query, bool read_only, ProcessUtilityContext context, ParamListInfo params,
                QueryEnvironment* environment, DestReceiver* dest, QueryCompletion* qc) {
  const Node* const n = stmt->utilityStmt;
  const bool created = IsA(n, CreatedbStmt);
  // The processes of dts look whether the extension is still there, and in which version, when this commits.
  if (IsA(n, AlterExtensionStmt) && strcmp(reinterpret_cast<const AlterExtensionStmt*>(n)->extname, "dts") == 0)
    store::touch_events(store::kDefinitions);
  if (IsA(n, DropStmt) || IsA(n, DropOwnedStmt)) {
    const auto kind = IsA(n, DropStmt) ? reinterpret_cast<const DropStmt*>(n)->removeType : OBJECT_EXTENSION;
    if (kind == OBJECT_EXTENSION || kind == OBJECT_SCHEMA) store::touch_events(store::kDefinitions);
  }
  if (!created && !IsA(n, DropdbStmt) && !IsA(n, RenameStmt) && !IsA(n, AlterDatabaseStmt)) {
    run_utility(stmt, query, read_only, context, params, environment, dest, qc);
    return;
  }
  const Oid db = database_in_the_way(n);
  if (!OidIsValid(db)) {
    run_utility(stmt, query, read_only, context, params, environment, dest, qc);
    if (created) store::tell_launcher();
    return;
  }
  // Also when the session is terminated in here: a database that stays evicted would never be served again.
  PG_ENSURE_ERROR_CLEANUP(readmit, ObjectIdGetDatum(db));
  {
    evict(db);
    run_utility(stmt, query, read_only, context, params, environment, dest, qc);
  }
  PG_END_ENSURE_ERROR_CLEANUP(readmit, ObjectIdGetDatum(db));
  readmit(0, ObjectIdGetDatum(db));
}

}  // namespace

}  // namespace dts

extern "C" void _PG_init(void) {
  using namespace dts;
  const bool preloaded = process_shared_preload_libraries_in_progress;
  settings::define(preloaded);
  if (!preloaded || IsBinaryUpgrade) return;
  next_request = shmem_request_hook;
  shmem_request_hook = on_request;
  next_startup = shmem_startup_hook;
  shmem_startup_hook = on_startup;
  next_utility = ProcessUtility_hook;
  ProcessUtility_hook = on_utility;
  register_launcher();
}
