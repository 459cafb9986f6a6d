#include "depends.hpp"

#include "steer.hpp"
#include "store/batches.hpp"

namespace dts {

namespace {

using core::State;

int by_parent(const void* a, const void* b) {
  const auto* const x = static_cast<const ParentRef*>(a);
  const auto* const y = static_cast<const ParentRef*>(b);
  return x->id < y->id ? -1 : x->id > y->id ? 1 : 0;
}

/// A parent named twice is one edge that accepts what either accepts.
int unite(ParentRef* p, int n) {
  if (n < 2) return n;
  qsort(p, n, sizeof(ParentRef), by_parent);
  int k = 0;
  for (int i = 1; i < n; i++) {
    if (p[i].id == p[k].id) {
      p[k].accept = static_cast<core::Accept>(p[k].accept | p[i].accept);
      p[k].member = p[k].member && p[i].member;
    } else {
      p[++k] = p[i];
    }
  }
  return k + 1;
}

JsonbValue number(int64 n) {
  JsonbValue v;
  v.type = jbvNumeric;
  v.val.numeric = int64_to_numeric(n);
  return v;
}

/// Which tasks a child had as parents: runs of ids, in dts.task.extra, where dts.parents() reads them. (Edges go when they are satisfied.)
Jsonb* with_parents(Jsonb* extra, const ParentRef* p, int n) {
  JsonbParseState* state = nullptr;
  char name[] = "parents";
  JsonbValue key;
  key.type = jbvString;
  key.val.string.val = name;
  key.val.string.len = static_cast<int>(strlen(name));
  (void)pushJsonbValue(&state, WJB_BEGIN_OBJECT, nullptr);
  (void)pushJsonbValue(&state, WJB_KEY, &key);
  (void)pushJsonbValue(&state, WJB_BEGIN_ARRAY, nullptr);
  for (int i = 0; i < n;) {
    int j = i;
    while (j + 1 < n && p[j + 1].id == p[j].id + 1) j++;
    JsonbValue lo = number(p[i].id), hi = number(p[j].id);
    (void)pushJsonbValue(&state, WJB_BEGIN_ARRAY, nullptr);
    (void)pushJsonbValue(&state, WJB_ELEM, &lo);
    (void)pushJsonbValue(&state, WJB_ELEM, &hi);
    (void)pushJsonbValue(&state, WJB_END_ARRAY, nullptr);
    i = j + 1;
  }
  (void)pushJsonbValue(&state, WJB_END_ARRAY, nullptr);
  Jsonb* const parents = JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, nullptr));
  if (extra == nullptr) return parents;
  return DatumGetJsonbP(DirectFunctionCall2(jsonb_concat, JsonbPGetDatum(extra), JsonbPGetDatum(parents)));
}

[[noreturn]] void no_parent(int64 id) {
  ereport(ERROR,
          (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("task %lld in argument \"depends_on\" does not exist", static_cast<long long>(id)),
           errhint("It may have been removed by the retention of its queue, or belong to another role.")));
}

constexpr int kCounted = -2;  // it has ended, and its batch has counted how

/// How a parent stands: its edge, open or with an outcome.
store::Edge look_at(store::TaskTable& tasks, const ParentRef& p) {
  store::Edge e{};
  e.parent = p.id;
  e.accept = p.accept;
  e.outcome = store::kOpen;
  if (p.fresh) return e;
  store::cell_enter_parent(p.id);  // before the look
  const store::Standing s = tasks.standing(p.id);
  if (!s.found && p.member) {
    e.outcome = kCounted;
    return e;
  }
  if (!s.found) {
    Oid owner = InvalidOid;
    const int how = store::ended_outcome(p.id, &owner);
    RunEnd run;  // a run of a workflow: its end stands for it
    if (how == core::kUnknownOutcome && find_run(p.id, &run) && run.task != p.id) return look_at(tasks, {run.task, nullptr, p.accept});
    if (how == core::kUnknownOutcome || !OidIsValid(owner) || !store::role_may(GetUserId(), owner)) no_parent(p.id);
    e.outcome = how;
    return e;
  }
  const store::Lane* const lane = store::lane_by_id(s.lane);
  if (lane == nullptr || !store::role_may(GetUserId(), lane->info.owner)) no_parent(p.id);
  const store::Queue* const q = s.own ? nullptr : store::queue_by_id(lane->info.queue);
  if (q != nullptr && q->history == 'n')
    ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                    errmsg("task %lld in argument \"depends_on\" is in a queue that keeps no history", static_cast<long long>(p.id)),
                    errdetail("It may end at this moment, and nothing would tell how."),
                    errhint("Submit both tasks in one transaction, or keep at least failures in the history of queue \"%s\".", q->name)));
  if (q != nullptr && q->history == 'f') e.accept = static_cast<core::Accept>(e.accept | core::kParentKeepsFailures);
  return e;
}

}  // namespace

void Links::look(store::TaskTable& tasks, const Depends& depends, store::Task* task) {
  verdict_ = core::Verdict::Ready;
  n_ = 0;
  if (depends.n == 0 && depends.batch_n == 0) return;
  store::edges_raise();
  if (store::touched()) CommandCounterIncrement();  // parents submitted by the same statement are there too
  const int n = unite(depends.parents, depends.n);
  const bool counted = depends.need != core::kNeedAll;
  edges_ = static_cast<store::Edge*>(palloc(sizeof(store::Edge) * n));
  int64 accepted = 0, refused = 0, open = 0;
  for (int i = 0; i < n; i++) {
    store::Edge e = look_at(tasks, depends.parents[i]);
    if (e.outcome == kCounted) continue;
    e.counted = counted;
    depends.parents[i].id = e.parent;
    if (e.outcome == store::kOpen) {
      open++;
    } else if (e.accepted()) {
      accepted++;
    } else if (++refused == 1) {
      culprit_ = e.parent;
      outcome_ = e.outcome;
    }
    if (counted || e.outcome == store::kOpen) edges_[n_++] = e;
    if (n % 1024 == 0) CHECK_FOR_INTERRUPTS();
  }
  // After the looks: who was not there any more has been counted.
  for (int i = 0; i < depends.batch_n; i++) refused += store::refused_ends(depends.batches[i], depends.accept) > 0 ? 1 : 0;
  const int32 need = counted ? Min(depends.need, n) : core::kNeedAll;
  verdict_ = core::verdict(need, accepted, refused, open);
  task->flags |= depends.flags | core::kDepends | core::kHasExtra;
  task->extra = with_parents(task->extra, depends.parents, n);
  task->need = need;
  task->edges = counted ? n : 0;
  if (verdict_ != core::Verdict::Ready) task->state = State::Blocked;
}

void Links::connect(store::TaskTable& tasks, store::EdgeTable& edges, const store::Task& task, const store::LaneInfo& lane) {
  if (verdict_ == core::Verdict::Ready) return;
  if (verdict_ == core::Verdict::Dead) {
    CommandCounterIncrement();
    store::end_unmet(tasks, task, lane, culprit_, outcome_);
    return;
  }
  store::agenda_submitted(task.id);
  for (int i = 0; i < n_; i++) {
    edges_[i].child = task.id;
    edges.insert(edges_[i]);
  }
}

}  // namespace dts
