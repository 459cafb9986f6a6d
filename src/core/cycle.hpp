// Finds a cycle in a directed graph given as arrays. No allocation: the caller brings the work space.
#pragma once

#include <cstdint>

namespace dts::core {

/// Edges of node i lead to to[first[i]] ... to[first[i + 1] - 1].
struct Graph {
  int32_t n;
  const int32_t* first;
  const int32_t* to;
};

/// Work space of find_cycle: three arrays of n.
struct CycleWork {
  int8_t* color;  // 0 not seen, 1 on the path, 2 done
  int32_t* path;  // the nodes on the way
  int32_t* next;  // position of the next edge to follow, by node
};

/// Length of a cycle, written to work.path[0 .. length); 0 if there is none. Depth-first without recursion: any depth.
inline int32_t find_cycle(const Graph& g, const CycleWork& work) {
  for (int32_t i = 0; i < g.n; i++) work.color[i] = 0;
  for (int32_t root = 0; root < g.n; root++) {
    if (work.color[root] != 0) continue;
    int32_t depth = 0;
    work.path[depth++] = root;
    work.color[root] = 1;
    work.next[root] = g.first[root];
    while (depth > 0) {
      const int32_t at = work.path[depth - 1];
      if (work.next[at] == g.first[at + 1]) {
        work.color[at] = 2;
        depth--;
        continue;
      }
      const int32_t to = g.to[work.next[at]++];
      if (work.color[to] == 2) continue;
      if (work.color[to] == 1) {
        int32_t from = depth - 1;
        while (work.path[from] != to) from--;
        for (int32_t i = from; i < depth; i++) work.path[i - from] = work.path[i];
        return depth - from;
      }
      work.color[to] = 1;
      work.next[to] = g.first[to];
      work.path[depth++] = to;
    }
  }
  return 0;
}

}  // namespace dts::core
