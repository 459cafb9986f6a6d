// Rows of a set-returning function, as their values come.
#pragma once

#include "pg/postgres.hpp"

namespace dts {

/// Ready to take rows, with the columns that the function is declared with.
inline ReturnSetInfo* begin_rows(FunctionCallInfo fcinfo) {
  InitMaterializedSRF(fcinfo, 0);
  return reinterpret_cast<ReturnSetInfo*>(fcinfo->resultinfo);
}

/// One row.
inline void put_row(ReturnSetInfo* info, Datum* values, bool* nulls) {
  tuplestore_putvalues(info->setResult, info->setDesc, values, nulls);
}

/// An instant, or NULL for 0.
inline Datum instant(TimestampTz t, bool* null) {
  *null = t == 0;
  return TimestampTzGetDatum(t);
}

}  // namespace dts
