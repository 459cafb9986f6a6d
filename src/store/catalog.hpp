// The extension's own objects in this database, and what a role may do with those of others.
#pragma once

#include "pg/postgres.hpp"

namespace dts::store {

/// Object ids of the extension in this database.
struct Catalog {
  Oid schema, task, run, dependency, task_sequence;
  Oid owner;  // of the extension
};

/// Looks them up; raises 3F000 if the extension is not installed here.
const Catalog& catalog();
/// Opens a table that is read and written without SQL. Refused (55000) if it has another number of columns than the library knows: then the
/// library is older or newer than the script that made it, and a change of such a table always changes that number.
Relation open_table(Oid table, LOCKMODE mode, int columns);
/// Whether shared memory is about the extension as it is installed here now. Nobody may claim before the scheduler has seen to that.
bool installation_known();
/// The same without an error: whether the extension is installed here.
bool installed();

/// Whether `role` may see and steer what belongs to `owner`: a member of it, or an administrator.
bool role_may(Oid role, Oid owner);
bool is_admin(Oid role);
bool is_monitor(Oid role);
/// Whether the current role may see what belongs to `owner`: as above, or as a monitor.
inline bool caller_sees(Oid owner) { return role_may(GetUserId(), owner) || is_monitor(GetUserId()); }

}  // namespace dts::store
