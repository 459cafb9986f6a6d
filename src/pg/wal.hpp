// Waiting for the disk.
#pragma once

#include "pg/postgres.hpp"

extern "C" {
#include "access/xlog_internal.h"
}

namespace dts::pg {

/// Flushes all WAL inserted so far, also that of other sessions' asynchronous commits.
/// The insert position is where the next record will begin: at a page's boundary that is behind the page's header, which does not
/// exist yet, and a flush up to there fails. Newer minor releases have GetXLogInsertEndRecPtr() for this, older ones do not.
inline void flush_wal() {
  XLogRecPtr end = GetXLogInsertRecPtr();
  const uint64 header = XLogSegmentOffset(end, wal_segment_size) < XLOG_BLCKSZ ? SizeOfXLogLongPHD : SizeOfXLogShortPHD;
  if (end % XLOG_BLCKSZ == header) end -= header;
  XLogFlush(end);
}

}  // namespace dts::pg
