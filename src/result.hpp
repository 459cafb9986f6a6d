// What a task's text returned, as JSON.
#pragma once

#include "pg/postgres.hpp"

namespace dts {

/// What a text gave. Memory is that of the context in which it was run.
struct SqlResult {
  StringInfoData json;  // rows as a JSON array; data is nullptr if no statement returned rows
  bool truncated = false;
  int64 row_count = 0;  // rows returned or changed by the last statement
};

/// Takes the rows of each statement; those of the last one stay.
struct Receiver {
  DestReceiver pub;  // first: the server sees only this
  SqlResult* result;
  MemoryContext memory;
  TupleDesc desc;  // nullptr: the last statement had no rows
  bool capture;
  int64 limit;
};

/// room: bytes that are kept at least, whatever dts.max_result_size says.
Receiver make_receiver(SqlResult* result, bool capture, int64 room = 0);

/// Told of each utility statement: one without rows leaves no result, also after a statement that had one.
void result_forget(DestReceiver* dest);

}  // namespace dts
