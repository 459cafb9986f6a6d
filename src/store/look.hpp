// Looking at blocked tasks: what their edges say, and moving those that are decided.
#pragma once

#include "store/dependencies.hpp"

namespace dts::store {

/// How closely a candidate is looked at; the closest wish of several wins.
enum class Depth : uint8 {
  Last,   // its parents that ended here are accepted and gone: is any edge left? The look of a finisher; orphans are noted by others
  Edges,  // what the edges with an outcome say; the last open one must have a living parent
  Deep,   // all edges
};

struct Candidate {
  int64 id;
  Depth depth;
};

/// A list of children.
struct Candidates {
  Candidate* items = nullptr;
  int n = 0, room = 0;
  void push(int64 id, Depth depth);
  /// In the order of their ids, each once, with its closest look.
  void sort();
};

/// Looks at candidates whose cells are entered, by a new snapshot, and moves those that are decided. Returns how many.
int look_and_move(TaskTable& tasks, EdgeTable& edges, const Candidate* c, int n);

}  // namespace dts::store
