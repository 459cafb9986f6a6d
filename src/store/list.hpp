// A growing array that lives as long as the top transaction; callbacks of its end only read it.
#pragma once

#include "pg/postgres.hpp"

namespace dts::store {

template <class T>
struct TransactionList {
  T* items = nullptr;
  int n = 0, room = 0;
  T& push() {
    if (n == room) {
      room = room == 0 ? 8 : room * 2;
      items = items == nullptr ? static_cast<T*>(MemoryContextAllocHuge(TopTransactionContext, sizeof(T) * room))
                               : static_cast<T*>(repalloc_huge(items, sizeof(T) * room));
    }
    return items[n++];
  }
  void drop() {
    items = nullptr;
    n = room = 0;
  }
};

}  // namespace dts::store
