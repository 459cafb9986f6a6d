// dts.submit_many(jsonb) whose elements refer to each other by name: ids first, then the check for cycles, then the rows.
#include "core/cycle.hpp"
#include "depends.hpp"

namespace dts {

namespace {

struct NameEntry {
  char name[NAMEDATALEN];
  int index;
};

class Names {
 public:
  explicit Names(int n) {
    HASHCTL ctl{};
    ctl.keysize = NAMEDATALEN;
    ctl.entrysize = sizeof(NameEntry);
    ctl.hcxt = CurrentMemoryContext;
    table_ = hash_create("dts names", n, &ctl, HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
  }
  void add(const char* name, int index) {
    if (name[0] == '\0' || strlen(name) >= NAMEDATALEN)
      ereport(ERROR,
              (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid value for \"name\" in element %d of argument \"tasks\"", index),
               errhint("Give a string of 1 to %d bytes.", NAMEDATALEN - 1)));
    bool found = false;
    auto* const e = static_cast<NameEntry*>(hash_search(table_, name, HASH_ENTER, &found));
    if (found)
      ereport(ERROR, (errcode(ERRCODE_DUPLICATE_OBJECT), errmsg("name \"%s\" is used twice in argument \"tasks\"", name),
                      errdetail("By elements %d and %d.", e->index, index), errhint("Each name stands for one task.")));
    e->index = index;
  }
  int find(const char* name, int from) {
    if (strlen(name) < NAMEDATALEN)
      if (const auto* const e = static_cast<NameEntry*>(hash_search(table_, name, HASH_FIND, nullptr))) return e->index;
    ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("element %d of argument \"tasks\" depends on unknown \"%s\"", from, name),
                    errhint("Names in \"depends_on\" are those of other elements of the same call.")));
  }

 private:
  HTAB* table_;
};

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
  const core::CycleWork work{static_cast<int8*>(palloc(n)), static_cast<int32*>(palloc(sizeof(int32) * n)),
                             static_cast<int32*>(palloc(sizeof(int32) * n))};
  const int32 length = core::find_cycle({n, first, to}, work);
  if (length == 0) return;
  // An edge leads from a task to the one that it depends on: read backwards, the path is the order of the work.
  StringInfoData path;
  initStringInfo(&path);
  appendStringInfoString(&path, nodes[work.path[0]].name);
  const int32 shown = Min(length, 20);
  if (length > shown) appendStringInfo(&path, " -> (%d more)", length - shown);
  for (int32 i = shown - 1; i >= 0; i--) appendStringInfo(&path, " -> %s", nodes[work.path[i]].name);
  ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("the dependencies in argument \"tasks\" form a cycle"),
                  errdetail("%s", path.data), errhint("Each task would wait for the one before it; take one of the dependencies out.")));
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
  int64 edge_count = 0;
  for (int i = 0; i < n; i++) {
    const JsonbValue* const v = getIthJsonbValueFromContainer(&tasks->root, i);
    nodes[i] = Node{nullptr, {}};
    JsonbValue name;
    if (v->type == jbvBinary && JsonContainerIsObject(v->val.binary.data) &&
        getKeyJsonValueFromContainer(v->val.binary.data, "name", 4, &name) != nullptr && name.type == jbvString) {
      nodes[i].name = pnstrdup(name.val.string.val, name.val.string.len);
      names.add(nodes[i].name, i);
    }
    nodes[i].depends = read_depends(member(*v, "depends_on"), true);
    edge_count += nodes[i].depends.n;
    ids[i] = store::next_task_id();
    if (i % 1024 == 0) CHECK_FOR_INTERRUPTS();
  }
  auto* const targets = static_cast<int*>(MemoryContextAllocHuge(CurrentMemoryContext, sizeof(int) * (edge_count + 1)));
  int64 k = 0;
  for (int i = 0; i < n; i++)
    for (int j = 0; j < nodes[i].depends.n; j++) {
      ParentRef& p = nodes[i].depends.parents[j];
      targets[k] = -1;
      if (p.name != nullptr) {
        targets[k] = names.find(p.name, i);
        p.id = ids[targets[k]];
        p.fresh = true;
      }
      k++;
    }
  check_cycles(nodes, n, edge_count, targets);
  store::TaskTable table = store::TaskTable::open();
  store::EdgeTable edges = store::EdgeTable::open();
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
