// Rows of dts.dependency, read and written without the executor.
#pragma once

#include "store/tasks.hpp"

namespace dts::store {

inline constexpr int kOpen = -1;

struct Edge {
  int64 parent, child;
  core::Accept accept;
  bool counted;  // the child's rule is not "all"
  int outcome;   // of the parent: a core::State or core::kUnknownOutcome; kOpen while it has not ended
  ItemPointerData tid;
  [[nodiscard]] bool accepted() const { return outcome != kOpen && core::accepts(accept, outcome); }
};

/// dts.dependency, open for the rest of the transaction. Plain data: after an error the abort closes it.
class EdgeTable {
 public:
  static EdgeTable open();
  void close();

  void insert(const Edge& edge);
  /// From here on edges are found by their parents only when the table is closed: a large graph names its parents in any order, and its
  /// entries go into that index in the order of the index.
  void insert_many();
  /// Records the outcome of an ended parent: an accepted edge of the rule "all" has said all it can and goes, others keep the outcome.
  /// Never waits: an edge that somebody else is removing is left to him.
  void record(const Edge& edge, int outcome);
  /// Removes an edge whose child is decided. Never waits.
  void remove(const Edge& edge);

  enum class By { Parent, Child, DecidedChild };
  /// A scan in the order of the index: (parent, child), (child, parent), or the edges of a child that have an outcome.
  class Scan {
   public:
    void begin(EdgeTable& table, By by, Snapshot snapshot);
    /// Restarts for parents or children lo..hi; `last_first` reads backwards.
    void range(int64 lo, int64 hi, bool last_first = false);
    void of(int64 id, bool last_first = false) { range(id, id, last_first); }
    bool next(Edge* out);
    void end();

   private:
    By by_ = By::Parent;
    TupleTableSlot* slot_ = nullptr;
    IndexScanDesc scan_ = nullptr;
    ScanDirection direction_ = ForwardScanDirection;
  };

 private:
  void classify();
  bool lock(const Edge& edge);
  void index_entries(HeapTuple tuple, const Edge& edge);
  Relation index(By by);

  void insert_late();

  /// An edge that is not in the index of parents yet.
  struct Late {
    int64 parent, child;
    ItemPointerData tid;
  };
  Late* late_ = nullptr;
  int64 late_n_ = 0, late_room_ = 0;
  Relation heap_ = nullptr;
  Relation index_[3] = {};
  bool plain_ = false;
};

}  // namespace dts::store
