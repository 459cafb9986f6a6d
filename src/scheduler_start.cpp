// Before tasks may be claimed: whether dts is here and fits, what shared memory must know of the tables, the gate.
#include "pg/as_owner.hpp"
#include "pg/point.hpp"
#include "scheduler.hpp"
#include "schedules.hpp"
#include "store/agenda.hpp"

namespace dts {

namespace {

using store::DatabaseSlot;

/// dts.task of the installation that was looked at last. Another one, made in the transaction that dropped the first, has lanes and queues
/// of the same ids that mean something else.
Oid task_table = InvalidOid;

/// Whether this database has dts, in the version of the library.
bool extension_fits(char* why, size_t size) {
  StartTransactionCommand();
  PushActiveSnapshot(GetTransactionSnapshot());
  bool there = store::installed();
  if (there) {
    static pg::Statement version{"SELECT extversion FROM pg_catalog.pg_extension WHERE extname = 'dts'", 0, {}};
    SPI_connect();
    bool null = false;
    // The catalog decides: what we remember of the schema may be older than the DROP EXTENSION that woke us.
    const bool row = version.run(nullptr) == 1;
    const char* const found = row ? TextDatumGetCString(pg::column(0, 1, &null)) : "";
    there = row;
    if (row && strcmp(found, DTS_VERSION) != 0 && strncmp(found, DTS_VERSION, strlen(DTS_VERSION)) != 0)
      snprintf(why, size, "the extension's version is %s but the library's is %s: use ALTER EXTENSION dts UPDATE, or restart the server",
               found, DTS_VERSION);
    SPI_finish();
    if (there) task_table = store::catalog().task;
  }
  PopActiveSnapshot();
  CommitTransactionCommand();
  return there;
}

void close_gate(DatabaseSlot* database, const char* why) {
  if (strcmp(database->fence, why) != 0) ereport(LOG, (errmsg("dts runs nothing in this database: %s", why)));
  database->gate = false;
  strlcpy(database->fence, why, sizeof(database->fence));
}

/// The extension is not here: leave, and be started again only by CREATE EXTENSION. One that committed since our look has found us
/// still alive, or will not find `absent` set before it clears it: then it stays clear, and the launcher starts the next scheduler.
[[noreturn]] void leave_absent(DatabaseSlot* database, uint32 installs_before) {
  database->absent = true;
  pg_memory_barrier();
  if (pg_atomic_read_u32(&database->installs) != installs_before) database->absent = false;
  database->gate = false;
  retire_all();
  store::forget_database(MyDatabaseId);
  proc_exit(0);
}

}  // namespace

void start_up(DatabaseSlot* database) {
  char why[256] = "";
  const uint32 installs = pg_atomic_read_u32(&database->installs);
  pg_memory_barrier();
  const bool fits = extension_fits(why, sizeof(why));
  DTS_POINT("scheduler.probed");
  if (!fits) leave_absent(database, installs);
  if (database->task_table != task_table) {
    database->gate = database->keys_counted = false;
    store::forget_database(MyDatabaseId);
    database->task_table = task_table;
  }
  if (why[0] != '\0' || !check_site(why, sizeof(why))) {
    close_gate(database, why);
    return;
  }
  load_queues();
  load_limits();
  count_waiting();
  (void)maintain_history();
  (void)apply_requests();
  count_keys();
  expire(database);
  lapse_leases();
  pg_atomic_fetch_or_u32(&database->events, store::kAgentLease);
  if (list_lanes() != 0) pg_atomic_fetch_or_u32(&database->events, store::kUnlisted);
  store::agenda_everything(MyDatabaseId);
  tidy_dependencies();
  schedules_changed(true);
  pg_atomic_fetch_or_u32(&database->events, store::kSchedules | store::kChanges);
  const bool was_open = database->gate;
  database->fence[0] = '\0';
  database->gate = true;
  if (!was_open) ereport(LOG, (errmsg("dts runs tasks in this database")));
  store::notify_database(MyDatabaseId);
}

}  // namespace dts
