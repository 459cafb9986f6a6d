#include "workers.hpp"

namespace dts {

namespace {

BackgroundWorker describe(const char* function, const char* type, const char* name) {
  BackgroundWorker w{};
  w.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
  w.bgw_start_time = BgWorkerStart_RecoveryFinished;
  w.bgw_restart_time = BGW_NEVER_RESTART;
  strlcpy(w.bgw_library_name, "dts", sizeof(w.bgw_library_name));
  strlcpy(w.bgw_function_name, function, BGW_MAXLEN);
  strlcpy(w.bgw_name, name, BGW_MAXLEN);
  strlcpy(w.bgw_type, type, BGW_MAXLEN);
  return w;
}

bool start(BackgroundWorker& w, BackgroundWorkerHandle** handle) {
  static TimestampTz told = 0;
  w.bgw_notify_pid = MyProcPid;
  if (RegisterDynamicBackgroundWorker(&w, handle)) return true;
  const TimestampTz now = GetCurrentTimestamp();
  if (now - told > 600 * USECS_PER_SEC)
    ereport(LOG,
            (errcode(ERRCODE_INSUFFICIENT_RESOURCES), errmsg("dts could not start a %s: no background worker slot is free", w.bgw_type),
             errhint("Raise max_worker_processes, or lower dts.max_workers.")));
  told = now;
  return false;
}

}  // namespace

void register_launcher() {
  BackgroundWorker w = describe("dts_launcher_main", "dts launcher", "dts launcher");
  w.bgw_restart_time = 1;
  RegisterBackgroundWorker(&w);
}

bool start_scheduler(Oid db, BackgroundWorkerHandle** handle) {
  char name[BGW_MAXLEN];
  snprintf(name, sizeof(name), "dts scheduler for database %u", db);
  BackgroundWorker w = describe("dts_scheduler_main", "dts scheduler", name);
  w.bgw_main_arg = ObjectIdGetDatum(db);
  return start(w, handle);
}

bool start_executor(int slot, bool courier, uint64 generation, BackgroundWorkerHandle** handle) {
  char name[BGW_MAXLEN];
  snprintf(name, sizeof(name), "dts %s %d", courier ? "courier" : "executor", slot);
  BackgroundWorker w = courier ? describe("dts_courier_main", "dts courier", name) : describe("dts_executor_main", "dts executor", name);
  w.bgw_main_arg = Int32GetDatum(slot);
  memcpy(w.bgw_extra, &generation, sizeof(generation));
  return start(w, handle);
}

}  // namespace dts
