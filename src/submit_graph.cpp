// dts.submit_many(jsonb) whose elements refer to each other by name: ids first, then the check for cycles, then the rows.
#include "depends.hpp"
#include "graph.hpp"

namespace dts {

namespace {

void add_name(Names* names, const char* name, int index) {
  if (name[0] == '\0' || strlen(name) >= NAMEDATALEN)
    ereport(ERROR,
            (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid value for \"name\" in element %d of argument \"tasks\"", index),
             errhint("Give a string of 1 to %d bytes.", NAMEDATALEN - 1)));
  const int before = names->add(name, index);
  if (before >= 0)
    ereport(ERROR, (errcode(ERRCODE_DUPLICATE_OBJECT), errmsg("name \"%s\" is used twice in argument \"tasks\"", name),
                    errdetail("By elements %d and %d.", before, index), errhint("Each name stands for one task.")));
}

int find_name(const Names& names, const char* name, int from) {
  const int index = names.find(name);
  if (index >= 0) return index;
  ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("element %d of argument \"tasks\" depends on unknown \"%s\"", from, name),
                  errhint("Names in \"depends_on\" are those of other elements of the same call.")));
}

struct Node {
  const char* name;
  Depends depends;
};

Jsonb* member(const JsonbValue& object, const char* key) {
  JsonbValue v;
  if (object.type != jbvBinary || !JsonContainerIsObject(object.val.binary.data)) return nullptr;
  if (getKeyJsonValueFromContainer(object.val.binary.data, key, static_cast<int>(strlen(key)), &v) == nullptr || v.type == jbvNull)
    return nullptr;
  return JsonbValueToJsonb(&v);
}

/// Refuses a cycle, naming its path.
void check_cycles(const Node* nodes, int n, int64 edge_count, const int* targets) {
  auto* const first = static_cast<int32*>(palloc(sizeof(int32) * (n + 1)));
  auto* const to = static_cast<int32*>(MemoryContextAllocHuge(CurrentMemoryContext, sizeof(int32) * (edge_count + 1)));
  int32 k = 0;
  int64 t = 0;
  for (int i = 0; i < n; i++) {
    first[i] = k;
    for (int j = 0; j < nodes[i].depends.n; j++)
      if (const int target = targets[t++]; target >= 0) to[k++] = target;
  }
  first[n] = k;
  const char* const path = cycle_path({n, first, to}, [&](int i) { return nodes[i].name; });
  if (path == nullptr) return;
  ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("the dependencies in argument \"tasks\" form a cycle"),
                  errdetail("%s", path), errhint("Each task would wait for the one before it; take one of the dependencies out.")));
}

/// Reads names and dependencies of all elements, and draws their ids. Returns the number of dependencies.
int64 read_nodes(Jsonb* tasks, Node* nodes, Names* names, int64* ids) {
  int64 edge_count = 0;
  for (int i = 0; i < static_cast<int>(JB_ROOT_COUNT(tasks)); i++) {
    const JsonbValue* const v = getIthJsonbValueFromContainer(&tasks->root, i);
    nodes[i] = Node{nullptr, {}};
    JsonbValue name;
    if (v->type == jbvBinary && JsonContainerIsObject(v->val.binary.data) &&
        getKeyJsonValueFromContainer(v->val.binary.data, "name", 4, &name) != nullptr && name.type == jbvString) {
      nodes[i].name = pnstrdup(name.val.string.val, name.val.string.len);
      add_name(names, nodes[i].name, i);
    }
    nodes[i].depends = read_depends(member(*v, "depends_on"), true);
    edge_count += nodes[i].depends.n;
    ids[i] = store::next_task_id();
    if (i % 1024 == 0) CHECK_FOR_INTERRUPTS();
  }
  return edge_count;
}

/// Replaces names by ids, and refuses cycles.
void resolve_names(Node* nodes, int n, int64 edge_count, const Names& names, const int64* ids) {
  auto* const targets = static_cast<int*>(MemoryContextAllocHuge(CurrentMemoryContext, sizeof(int) * (edge_count + 1)));
  int64 k = 0;
  for (int i = 0; i < n; i++)
    for (int j = 0; j < nodes[i].depends.n; j++) {
      ParentRef& p = nodes[i].depends.parents[j];
      targets[k] = -1;
      if (p.name != nullptr) {
        targets[k] = find_name(names, p.name, i);
        p.id = ids[targets[k]];
        p.fresh = true;
      }
      k++;
    }
  check_cycles(nodes, n, edge_count, targets);
}

}  // namespace

bool has_names(Jsonb* tasks) {
  for (uint32 i = 0; i < JB_ROOT_COUNT(tasks); i++)
    if (member(*getIthJsonbValueFromContainer(&tasks->root, i), "name") != nullptr) return true;
  return false;
}

void submit_graph(Jsonb* tasks, int64* ids) {
  const int n = static_cast<int>(JB_ROOT_COUNT(tasks));
  auto* const nodes = static_cast<Node*>(MemoryContextAllocHuge(CurrentMemoryContext, sizeof(Node) * (n + 1)));
  Names names(n);
  const int64 edge_count = read_nodes(tasks, nodes, &names, ids);
  resolve_names(nodes, n, edge_count, names, ids);
  store::TaskTable table = store::TaskTable::open();
  store::EdgeTable edges = store::EdgeTable::open();
  edges.insert_many();
  MemoryContext const scratch = AllocSetContextCreate(CurrentMemoryContext, "dts graph", ALLOCSET_DEFAULT_SIZES);
  MemoryContext const old = MemoryContextSwitchTo(scratch);
  for (int i = 0; i < n; i++) {
    Options o;
    Prepared p = prepare_json(*getIthJsonbValueFromContainer(&tasks->root, i), psprintf("element %d of argument \"tasks\"", i), &o);
    if (o.key != nullptr)
      ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                      errmsg("element %d of argument \"tasks\" has a key, in a call whose tasks have names", i),
                      errhint("Submit tasks with keys in a call of their own.")));
    Links links;
    links.look(table, nodes[i].depends, &p.task);
    p.task.id = ids[i];
    table.insert(p.task, p.lane);
    BatchGrowth().inserted(table, edges, p.task);
    links.connect(table, edges, p.task, p.lane);
    MemoryContextReset(scratch);
    CHECK_FOR_INTERRUPTS();
  }
  MemoryContextSwitchTo(old);
  edges.close();
  table.close();
}

}  // namespace dts
