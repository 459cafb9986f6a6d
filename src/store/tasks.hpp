// Rows of dts.task, read and written without the executor: index scan, tuple lock, insert, update, delete. Each change also says what
// it did to shared memory (store/touch.hpp), so that no caller can forget it.
#pragma once

#include "core/dependency.hpp"
#include "store/touch.hpp"

namespace dts::store {

struct Task {
  int64 id = 0;
  TimestampTz run_at = 0, submitted_at = 0;
  int32 lane = 0, timeout_ms = 0, handler = 0, flags = 0;
  core::State state = core::State::Ready;
  core::Kind kind = core::Kind::Sql;
  int16 attempt = 0, max_attempts = 1, crashes = 0;
  bool has_expires = false, has_lease = false, has_token = false;
  TimestampTz expires_at = 0, lease_until = 0;
  pg_uuid_t token{};
  int32 need = core::kNeedAll, edges = 0;  // of a task with dependencies: how many it needs, and of how many, unless all
  int64 ckey = 0;                          // concurrency key (store/keys.hpp), 0: none
  int64 batch = 0;                         // batch (store/batches.hpp), 0: none
  text* sql = nullptr;
  Jsonb* args = nullptr;
  Jsonb* extra = nullptr;
  ItemPointerData tid{};

  /// Of text and arguments, uncompressed.
  [[nodiscard]] int64 bytes() const {
    return (sql == nullptr ? 0 : static_cast<int64>(VARSIZE_ANY_EXHDR(sql))) +
           (args == nullptr ? 0 : static_cast<int64>(VARSIZE_ANY_EXHDR(args)));
  }
  /// When it is due once its dependencies let it: at once, unless a later time was asked for. A time that is only that of the submit may
  /// lie ahead of a clock that was set back.
  [[nodiscard]] TimestampTz due_at_release() const {
    const TimestampTz now = GetCurrentTimestamp();
    return run_at <= submitted_at ? now : Max(run_at, now);
  }
  [[nodiscard]] core::Key key() const { return {run_at, id}; }
  [[nodiscard]] bool transactional() const { return (flags & core::kTransactional) != 0; }
};

/// What a look at a row tells without its payloads.
struct Standing {
  bool found;
  core::State state;
  int32 lane, need, edges;
  bool own;  // written by this transaction
};
Standing standing_of(TupleTableSlot* slot);

/// dts.task, open for the rest of the transaction. Plain data: after an error the abort closes it.
class TaskTable {
 public:
  /// Opens the table; indexes are opened when needed. `what` names the call in the error of a read-only transaction.
  static TaskTable open(const char* what = "dts");
  /// The same for claim() first of all, which brings the snapshot.
  static TaskTable open_to_claim();
  /// Opens it for read() only; also on a standby.
  static TaskTable open_to_read();
  void close();

  /// Inserts a ready (or blocked, ...) task.
  void insert(Task& task, const LaneInfo& lane);
  /// Inserts, and leaves it to the caller to say touch_inserted_many.
  void insert_untold(Task& task);

  enum class Found { Locked, Missing, Busy };
  /// Looks a task up and locks it without waiting, by the latest snapshot. Fills `out` if locked (payloads too), and, as far as seen,
  /// if busy.
  Found lock(int64 id, Task* out);
  /// The same for a row that a scan has just found: without a second look, unless it changed meanwhile.
  Found lock_seen(int64 id, TupleTableSlot* seen, Task* out);
  /// Where it stands, by the latest snapshot, without its payloads.
  Standing standing(int64 id);
  /// Locks a parked task; false if it is not parked any more, or somebody has it.
  bool lock_parked(int64 id, Task* out);
  /// Ids and states of at most max unfinished tasks of a concurrency key with ids from `from` on, in their order, by the latest snapshot.
  int of_key(int64 ckey, int64 from, int max, int64* id, core::State* state);
  /// Reads it without a lock; false if there is none.
  bool read(int64 id, Task* out);

  /// A locked task changes: its key, lane, state or counters. `from` and `to` are its lanes before and after.
  void update(const Task& old, Task& now, const LaneInfo& from, const LaneInfo& to);
  /// A locked task goes.
  void remove(const Task& task, const LaneInfo& lane);
  /// A locked task is left as it is.
  void keep(const Task& task, const LaneInfo& lane);

  /// Claims up to max rows of a lane (store/claim.cpp): takes ranges, scans and locks, puts back what it did not examine, fills `out`.
  /// `taken` (store/touch.hpp) is offered whole if anything fails before that.
  int claim(int slot, const LaneInfo& lane, int max, Task* out);

  // For scans of store/dependencies.cpp.
  [[nodiscard]] Relation heap() const { return heap_; }
  Relation id_index();
  Relation blocked_index();

 private:
  HeapTuple form(const Task& task) const;
  void insert_index_entries(HeapTuple tuple, const Task& task);
  template <class F>
  bool fetch(int64 id, Snapshot snapshot, F&& f);
  Found lock_row(int64 id, Task* out);
  void classify();
  Relation claim_index();

  Relation heap_ = nullptr;
  LOCKMODE mode_ = RowExclusiveLock;
  // Whoever writes a row with payloads out of line needs one: the server's own may vanish with any invalidation.
  Snapshot held_ = nullptr;
  Relation pkey_ = nullptr, claim_ = nullptr, lease_ = nullptr, expires_ = nullptr, blocked_ = nullptr, ckey_ = nullptr, batch_ = nullptr;
  bool plain_ = false;  // the table has exactly our indexes: entries are made without the executor
};

/// Copies a row out of a slot into memory of the current context.
void read_task(TupleTableSlot* slot, Task* out);

/// Next id of a task.
int64 next_task_id();

}  // namespace dts::store
