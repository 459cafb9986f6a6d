// Starting the processes of dts.
#pragma once

#include "pg/postgres.hpp"

namespace dts {

/// Registers the launcher; in the postmaster, at load time.
void register_launcher();

/// Starts a scheduler, or an executor or courier. False if no worker slot is free (told once in the log, with the setting to raise).
bool start_scheduler(Oid db, BackgroundWorkerHandle** handle);
bool start_executor(int slot, bool courier, uint64 generation, BackgroundWorkerHandle** handle);

}  // namespace dts
