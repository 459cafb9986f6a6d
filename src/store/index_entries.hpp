// Index entries made without the executor.
#pragma once

#include "pg/postgres.hpp"

namespace dts::store {

/// Index entries by hand: our indexes hold plain columns, so forming them needs no executor state.
inline void insert_entry(Relation index, Relation heap, HeapTuple tuple, const Datum* values, bool unique) {
  static IndexInfo* info = nullptr;
  if (info == nullptr) {
    const MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);
    info = makeNode(IndexInfo);
    MemoryContextSwitchTo(old);
  }
  bool nulls[4] = {false, false, false, false};
  info->ii_AmCache = nullptr;
  index_insert(index, const_cast<Datum*>(values), nulls, &tuple->t_self, heap, unique ? UNIQUE_CHECK_YES : UNIQUE_CHECK_NO, false, info);
}

/// The way for a table that somebody gave more indexes: everything the executor does.
inline void insert_entries_generic(Relation heap, HeapTuple tuple) {
  EState* const estate = CreateExecutorState();
  ResultRelInfo* const result = makeNode(ResultRelInfo);
  InitResultRelInfo(result, heap, 1, nullptr, 0);
  ExecOpenIndices(result, false);
  TupleTableSlot* const slot = MakeSingleTupleTableSlot(RelationGetDescr(heap), &TTSOpsHeapTuple);
  ExecStoreHeapTuple(tuple, slot, false);
  slot->tts_tableOid = RelationGetRelid(heap);
  slot->tts_tid = tuple->t_self;
  pg::insert_index_entries(result, slot, estate);
  ExecCloseIndices(result);
  ExecDropSingleTupleTableSlot(slot);
  FreeExecutorState(estate);
}

}  // namespace dts::store
