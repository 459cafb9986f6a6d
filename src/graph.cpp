#include "graph.hpp"

#include "pg/guard.hpp"

namespace dts {

namespace {

struct NameEntry {
  char name[NAMEDATALEN];
  int index;
};

}  // namespace

Names::Names(int n) {
  HASHCTL ctl{};
  ctl.keysize = NAMEDATALEN;
  ctl.entrysize = sizeof(NameEntry);
  ctl.hcxt = CurrentMemoryContext;
  table_ = hash_create("dts names", n, &ctl, HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
}

int Names::add(const char* name, int index) {
  if (strlen(name) >= NAMEDATALEN) return -1;
  bool found = false;
  auto* const e = static_cast<NameEntry*>(hash_search(table_, name, HASH_ENTER, &found));
  if (found) return e->index;
  e->index = index;
  return -1;
}

int Names::find(const char* name) const {
  if (strlen(name) >= NAMEDATALEN) return -1;
  const auto* const e = static_cast<NameEntry*>(hash_search(table_, name, HASH_FIND, nullptr));
  return e == nullptr ? -1 : e->index;
}

core::CycleWork cycle_work(int n) {
  return {static_cast<int8*>(palloc(n + 1)), static_cast<int32*>(palloc(sizeof(int32) * (n + 1))),
          static_cast<int32*>(palloc(sizeof(int32) * (n + 1)))};
}

namespace {

/// Calls f(key, parents) for each member {"node": ["parent", ...]}.
template <class F>
void each_node(Jsonb* nodes, F&& f) {
  JsonbIterator* it = JsonbIteratorInit(&nodes->root);
  JsonbValue key, value;
  (void)JsonbIteratorNext(&it, &key, false);
  while (JsonbIteratorNext(&it, &key, true) == WJB_KEY) {
    (void)JsonbIteratorNext(&it, &value, true);
    f(pnstrdup(key.val.string.val, key.val.string.len), value.val.binary.data);
  }
}

}  // namespace

}  // namespace dts

using namespace dts;

/// dts._cycle({"node": ["parent", ...], ...})
DTS_FUNCTION(dts_cycle) {
  Jsonb* const nodes = PG_GETARG_JSONB_P(0);
  if (!JB_ROOT_IS_OBJECT(nodes)) PG_RETURN_NULL();
  const int n = static_cast<int>(JB_ROOT_COUNT(nodes));
  Names names(n + 1);
  auto* const name = static_cast<const char**>(palloc(sizeof(char*) * (n + 1)));
  int32 count = 0, edges = 0;
  each_node(nodes, [&](const char* key, JsonbContainer* parents) {
    names.add(key, count);
    name[count++] = key;
    edges += static_cast<int32>(JsonContainerSize(parents));
  });
  auto* const first = static_cast<int32*>(palloc(sizeof(int32) * (n + 1)));
  auto* const to = static_cast<int32*>(palloc(sizeof(int32) * (edges + 1)));
  int32 i = 0, k = 0;
  each_node(nodes, [&](const char*, JsonbContainer* parents) {
    first[i++] = k;
    for (uint32 p = 0; p < JsonContainerSize(parents); p++) {
      const JsonbValue* const parent = getIthJsonbValueFromContainer(parents, p);
      const int at = names.find(pnstrdup(parent->val.string.val, parent->val.string.len));
      if (at >= 0) to[k++] = at;
    }
  });
  first[n] = k;
  const char* const path = cycle_path({n, first, to}, [&](int at) { return name[at]; });
  if (path == nullptr) PG_RETURN_NULL();
  PG_RETURN_TEXT_P(cstring_to_text(path));
}
