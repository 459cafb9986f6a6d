// Graphs whose nodes have names: the names, and the path of a cycle.
#pragma once

#include "core/cycle.hpp"
#include "pg/postgres.hpp"

namespace dts {

/// The places of names of less than NAMEDATALEN bytes; longer ones are nowhere.
class Names {
 public:
  explicit Names(int n);
  /// -1, or the place that the name had already.
  int add(const char* name, int index);
  /// -1: it has none.
  int find(const char* name) const;

 private:
  HTAB* table_;
};

/// Room for the search of a cycle; palloced.
core::CycleWork cycle_work(int n);

/// "a -> b -> a" in the order of the work, or null. An edge leads from a node to one that it needs. name(i) gives the name of a node.
template <class Name>
const char* cycle_path(const core::Graph& graph, Name&& name) {
  const core::CycleWork work = cycle_work(graph.n);
  const int32 length = core::find_cycle(graph, work);
  if (length == 0) return nullptr;
  // Read backwards, the path is the order of the work.
  constexpr int32 kShown = 20;
  StringInfoData path;
  initStringInfo(&path);
  appendStringInfoString(&path, name(work.path[0]));
  if (length > kShown) appendStringInfo(&path, " -> (%d more)", length - kShown);
  for (int32 i = Min(length, kShown) - 1; i >= 0; i--) appendStringInfo(&path, " -> %s", name(work.path[i]));
  return path.data;
}

}  // namespace dts
