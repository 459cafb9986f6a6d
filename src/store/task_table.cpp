// dts.task is opened, with its indexes, and closed.
#include "pg/as_owner.hpp"
#include "store/definitions.hpp"
#include "store/task_columns.hpp"

namespace dts::store {

TaskIndexes task_indexes{};

namespace {

bool same_list(const List* list) {
  if (list_length(list) != task_indexes.n) return false;
  for (int i = 0; i < task_indexes.n; i++)
    if (list_nth_oid(list, i) != task_indexes.all[i]) return false;
  return true;
}

}  // namespace

TaskTable TaskTable::open(const char* what) {
  PreventCommandIfReadOnly(what);
  PreventCommandDuringRecovery(what);
  TaskTable t = open_to_claim();
  if (!HaveRegisteredOrActiveSnapshot()) t.held_ = RegisterSnapshot(GetTransactionSnapshot());
  return t;
}

TaskTable TaskTable::open_to_claim() {
  TaskTable t;
  t.heap_ = open_table(catalog().task, RowExclusiveLock, kColumns);
  t.classify();
  return t;
}

TaskTable TaskTable::open_to_read() {
  TaskTable t;
  t.mode_ = AccessShareLock;
  t.heap_ = open_table(catalog().task, AccessShareLock, kColumns);
  t.classify();
  return t;
}

/// Finds our indexes by name, and again whenever the table's list of indexes changes (REINDEX CONCURRENTLY swaps them).
void TaskTable::classify() {
  List* const list = RelationGetIndexList(heap_);
  if (task_indexes.task != RelationGetRelid(heap_) || task_indexes.n == 0 || !same_list(list)) {
    task_indexes = TaskIndexes{};
    int others = 0;
    ListCell* cell = nullptr;
    foreach (cell, list) {
      const Oid oid = lfirst_oid(cell);
      const char* const name = get_rel_name(oid);
      Oid* place = nullptr;
      if (name == nullptr)
        others++;
      else if (strcmp(name, "task_pkey") == 0)
        place = &task_indexes.pkey;
      else if (strcmp(name, "task_claim") == 0)
        place = &task_indexes.claim;
      else if (strcmp(name, "task_lease") == 0)
        place = &task_indexes.lease;
      else if (strcmp(name, "task_expires") == 0)
        place = &task_indexes.expires;
      else if (strcmp(name, "task_blocked") == 0)
        place = &task_indexes.blocked;
      else if (strcmp(name, "task_ckey") == 0)
        place = &task_indexes.ckey;
      else if (strcmp(name, "task_batch") == 0)
        place = &task_indexes.batch;
      else
        others++;
      if (place != nullptr) *place = oid;
      if (task_indexes.n < static_cast<int>(lengthof(task_indexes.all))) task_indexes.all[task_indexes.n++] = oid;
    }
    if (!OidIsValid(task_indexes.pkey) || !OidIsValid(task_indexes.claim))
      ereport(ERROR,
              (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("an index of dts.task is missing"),
               errdetail("dts needs the indexes dts.task_pkey and dts.task_claim."), errhint("Make them again under their old names.")));
    // Stays 0 if anything is unusual, so that the next open looks again and inserts go the general way.
    if (others == 0 && list_length(list) == 7) task_indexes.task = RelationGetRelid(heap_);
  }
  plain_ = task_indexes.task == RelationGetRelid(heap_);
  pkey_ = claim_ = lease_ = expires_ = blocked_ = ckey_ = batch_ = nullptr;
  list_free(list);
}

void TaskTable::close() {
  for (Relation r : {pkey_, claim_, lease_, expires_, blocked_, ckey_, batch_})
    if (r != nullptr) index_close(r, NoLock);
  table_close(heap_, NoLock);
  heap_ = nullptr;
  if (held_ != nullptr) UnregisterSnapshot(held_);
  held_ = nullptr;
}

Relation TaskTable::claim_index() { return need(claim_, task_indexes.claim); }
Relation TaskTable::id_index() { return need(pkey_, task_indexes.pkey, mode_); }
Relation TaskTable::blocked_index() { return need(blocked_, task_indexes.blocked, mode_); }

}  // namespace dts::store
