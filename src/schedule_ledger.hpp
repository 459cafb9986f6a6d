// Decisions on their way to dts.fire, and runs to dts.schedule_run: collected, then written by one statement.
#pragma once

#include "schedules.hpp"

namespace dts {

class Ledger {
 public:
  /// In the current memory context, which must live until write().
  Ledger() : memory_(CurrentMemoryContext) {}

  /// `backfill`: 0 if the run belongs to none; `wakes`: the schedule looks again when it ends.
  void fired(int32 schedule, TimestampTz due, int64 task, const char* reason, int32 backfill, bool wakes) {
    add({schedule, due, due, 1, "fired", reason, task, "", backfill, wakes});
  }
  void decided(int32 schedule, TimestampTz due, TimestampTz due_to, int64 count, const char* decision, const char* reason,
               const char* detail = "") {
    add({schedule, due, due_to, count, decision, reason, 0, detail, 0, false});
  }
  /// Whether a run for this due time is on its way.
  [[nodiscard]] bool has_fired(int32 schedule, TimestampTz due) const {
    for (int i = 0; i < n_; i++)
      if (rows_[i].schedule == schedule && rows_[i].due == due && rows_[i].task != 0) return true;
    return false;
  }
  void write();

 private:
  struct Row {
    int32 schedule;
    TimestampTz due, due_to;
    int64 count;
    const char* decision;
    const char* reason;
    int64 task;
    const char* detail;
    int32 backfill;
    bool wakes;
  };

  void add(const Row& row);

  MemoryContext memory_;
  Row* rows_ = nullptr;
  int n_ = 0, room_ = 0;
};

}  // namespace dts
