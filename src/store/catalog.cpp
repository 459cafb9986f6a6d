#include "store/catalog.hpp"

#include "pg/as_owner.hpp"
#include "store/shared.hpp"

namespace dts::store {

namespace {

Catalog known{};
bool known_valid = false;
bool hooked = false;
Oid admin_marker = InvalidOid, monitor_marker = InvalidOid;

void on_schema_change(Datum, int, uint32) { known_valid = false; }

Oid marker(const char* name, Oid schema) {
  oidvector* const none = buildoidvector(nullptr, 0);
  return GetSysCacheOid3(PROCNAMEARGSNSP, Anum_pg_proc_oid, CStringGetDatum(name), PointerGetDatum(none), ObjectIdGetDatum(schema));
}

}  // namespace

bool installed() {
  if (known_valid) return true;
  if (!hooked) {
    CacheRegisterSyscacheCallback(NAMESPACEOID, on_schema_change, Datum{0});
    CacheRegisterSyscacheCallback(PROCOID, on_schema_change, Datum{0});
    hooked = true;
  }
  known.schema = get_namespace_oid("dts", true);
  if (!OidIsValid(known.schema)) return false;
  known.task = get_relname_relid("task", known.schema);
  known.run = get_relname_relid("run", known.schema);
  known.dependency = get_relname_relid("dependency", known.schema);
  known.task_sequence = get_relname_relid("task_id_seq", known.schema);
  if (!OidIsValid(known.task) || !OidIsValid(known.run) || !OidIsValid(known.dependency) || !OidIsValid(known.task_sequence)) return false;
  HeapTuple const tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(known.task));
  if (!HeapTupleIsValid(tuple)) return false;
  known.owner = reinterpret_cast<Form_pg_class>(GETSTRUCT(tuple))->relowner;
  ReleaseSysCache(tuple);
  admin_marker = marker("_admin_marker", known.schema);
  monitor_marker = marker("_monitor_marker", known.schema);
  known_valid = true;
  return true;
}

bool installation_known() {
  const DatabaseSlot* const d = shared == nullptr ? nullptr : database_slot(MyDatabaseId, false);
  return d != nullptr && installed() && d->task_table == known.task;
}

const Catalog& catalog() {
  if (!installed())
    ereport(ERROR, (errcode(ERRCODE_INVALID_SCHEMA_NAME), errmsg("extension \"dts\" is not installed in this database"),
                    errhint("Use CREATE EXTENSION dts.")));
  return known;
}

Relation open_table(Oid table, LOCKMODE mode, int columns) {
  Relation const rel = table_open(table, mode);
  if (RelationGetNumberOfAttributes(rel) != columns)
    ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                    errmsg("table dts.%s is not that of the library's version, which is %s", RelationGetRelationName(rel), DTS_VERSION),
                    errhint("Use ALTER EXTENSION dts UPDATE, or restart the server with the library of the extension's version.")));
  return rel;
}

bool is_admin(Oid role) {
  if (superuser_arg(role)) return true;
  return role == catalog().owner || (OidIsValid(admin_marker) && pg::may_execute(role, admin_marker));
}

bool is_monitor(Oid role) { return is_admin(role) || (catalog(), OidIsValid(monitor_marker) && pg::may_execute(role, monitor_marker)); }

bool role_may(Oid role, Oid owner) { return role == owner || has_privs_of_role(role, owner) || is_admin(role); }

}  // namespace dts::store
