#include "schedule_ledger.hpp"

#include "pg/as_owner.hpp"
#include "pg/columns.hpp"

namespace dts {

void Ledger::add(const Row& row) {
  if (n_ == room_) {
    room_ = Max(64, room_ * 2);
    const Size size = sizeof(Row) * room_;
    rows_ = static_cast<Row*>(rows_ == nullptr ? MemoryContextAllocHuge(memory_, size) : repalloc_huge(rows_, size));
  }
  rows_[n_++] = row;
}

void Ledger::write() {
  static pg::Statement insert{
      "WITH u AS (SELECT * FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) u(schedule, due_at, due_to, count, decision, "
      "reason, task, detail, backfill, wakes)), "
      "r AS (INSERT INTO dts.schedule_run (task, schedule, due_at, backfill, wakes) SELECT u.task, u.schedule, u.due_at, "
      "NULLIF(u.backfill, "
      "0), u.wakes FROM u WHERE u.task <> 0) "
      "INSERT INTO dts.fire (schedule, due_at, due_to, count, decision, reason, task, detail) SELECT u.schedule, u.due_at, u.due_to, "
      "u.count, u.decision, u.reason, NULLIF(u.task, 0), NULLIF(u.detail, '') FROM u",
      10,
      {INT4ARRAYOID, TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID, INT8ARRAYOID, TEXTARRAYOID, TEXTARRAYOID, INT8ARRAYOID, TEXTARRAYOID,
       INT4ARRAYOID, BOOLARRAYOID}};
  if (n_ == 0) return;
  const pg::Columns c(n_);
  const Row* const r = rows_;
  const Datum values[] = {c.int4s([r](int i) { return r[i].schedule; }), c.times([r](int i) { return r[i].due; }),
                          c.times([r](int i) { return r[i].due_to; }),   c.int8s([r](int i) { return r[i].count; }),
                          c.texts([r](int i) { return r[i].decision; }), c.texts([r](int i) { return r[i].reason; }),
                          c.int8s([r](int i) { return r[i].task; }),     c.texts([r](int i) { return r[i].detail; }),
                          c.int4s([r](int i) { return r[i].backfill; }), c.bools([r](int i) { return r[i].wakes; })};
  const pg::AsOwner as(store::catalog().owner);
  SPI_connect();
  insert.run(values);
  SPI_finish();
  as.end();
  n_ = 0;
}

}  // namespace dts
