#include "depends.hpp"

#include "steer.hpp"
#include "store/batches.hpp"

namespace dts {

namespace {

using core::State;

constexpr int kMaxParents = 1000000;

[[noreturn]] void bad(const char* what, const char* hint) {
  ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("argument \"depends_on\" %s", what), errhint("%s", hint)));
}

constexpr const char* kForms =
    "Give ids, or {\"tasks\": [...], \"on\": outcomes, \"need\": \"all\", \"any\" or a number, \"on_unsatisfied\": \"skip\", \"fail\" or "
    "\"cancel\"}; dts.after() makes that.";
constexpr const char* kOutcomes = "Outcomes are succeeded, failed, expired, cancelled, skipped and ended, which is any of them.";

bool is(const JsonbValue& v, const char* text) {
  const int n = static_cast<int>(strlen(text));
  return v.type == jbvString && v.val.string.len == n && memcmp(v.val.string.val, text, n) == 0;
}

core::Accept outcome(const JsonbValue& v) {
  if (is(v, "ended")) return core::kAcceptAny;
  for (const State s : {State::Succeeded, State::Failed, State::Expired, State::Cancelled, State::Skipped})
    if (is(v, core::name(s))) return core::accept_bit(s);
  bad("names an unknown outcome", kOutcomes);
}

/// Calls f(value) for each element of an array, or for the value itself.
template <class F>
void each(const JsonbValue& v, F&& f) {
  if (v.type != jbvBinary || !JsonContainerIsArray(v.val.binary.data)) {
    f(v);
    return;
  }
  JsonbIterator* it = JsonbIteratorInit(v.val.binary.data);
  JsonbValue e;
  (void)JsonbIteratorNext(&it, &e, false);
  while (JsonbIteratorNext(&it, &e, true) == WJB_ELEM) f(e);
}

core::Accept outcomes(const JsonbValue& v) {
  core::Accept all = 0;
  each(v, [&](const JsonbValue& e) { all = static_cast<core::Accept>(all | outcome(e)); });
  if (all == 0) bad("names no outcome", kOutcomes);
  return all;
}

int64 id_of(const JsonbValue& v) {
  const Datum n = NumericGetDatum(v.val.numeric);
  const double d = DatumGetFloat8(DirectFunctionCall1(numeric_float8_no_overflow, n));
  if (!(d >= 1 && d < 9.2e18) || d != floor(d)) bad("must name tasks by their ids", kForms);
  return DatumGetInt64(DirectFunctionCall1(numeric_int8, n));
}

struct Reader {
  Depends out;
  int room = 0;
  bool names = false;
  core::Accept accept = core::accept_bit(State::Succeeded);

  void push(const ParentRef& p) {
    if (out.n == room) {
      room = room == 0 ? 8 : room * 2;
      out.parents = static_cast<ParentRef*>(out.parents == nullptr ? palloc(sizeof(ParentRef) * room)
                                                                   : repalloc_huge(out.parents, sizeof(ParentRef) * room));
    }
    if (out.n >= kMaxParents)
      ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("argument \"depends_on\" names more than %d tasks", kMaxParents),
                      errhint("Join them in steps.")));
    out.parents[out.n++] = p;
  }

  void parent(const JsonbValue& v, core::Accept its) {
    ParentRef p;
    p.accept = its;
    if (v.type == jbvNumeric) {
      p.id = id_of(v);
    } else if (v.type == jbvString) {
      if (!names) bad("names a task by text", "Names are for the elements of one dts.submit_many(jsonb); elsewhere give ids.");
      p.name = pnstrdup(v.val.string.val, v.val.string.len);
    } else if (v.type == jbvBinary && JsonContainerIsObject(v.val.binary.data)) {
      edge(v.val.binary.data);
      return;
    } else {
      bad("must name tasks by their ids", kForms);
    }
    push(p);
  }

  /// {"task": 17, "on": "failed"}
  void edge(JsonbContainer* c) {
    JsonbValue task, on, v;
    bool has_task = false, has_on = false;
    JsonbIterator* it = JsonbIteratorInit(c);
    (void)JsonbIteratorNext(&it, &v, false);
    while (JsonbIteratorNext(&it, &v, true) == WJB_KEY) {
      JsonbValue value;
      (void)JsonbIteratorNext(&it, &value, true);
      if (is(v, "task")) {
        task = value;
        has_task = true;
      } else if (is(v, "on")) {
        on = value;
        has_on = true;
      } else {
        bad("has an unknown key", "A parent is an id or {\"task\": id, \"on\": outcomes}.");
      }
    }
    if (!has_task || (task.type != jbvNumeric && task.type != jbvString))
      bad("has an object without a task", "A parent is an id or {\"task\": id, \"on\": outcomes}.");
    parent(task, has_on ? outcomes(on) : accept);
  }

  void need(const JsonbValue& v) {
    if (is(v, "all")) {
      out.need = core::kNeedAll;
    } else if (is(v, "any")) {
      out.need = 1;
    } else if (v.type == jbvNumeric) {
      const int64 n = id_of(v);
      if (n > kMaxParents) bad("needs more tasks than it names", "\"need\" is \"all\", \"any\" or at most the number of tasks.");
      out.need = static_cast<int32>(n);
    } else {
      bad("has an invalid value for \"need\"", "\"need\" is \"all\", \"any\" or how many tasks must end so.");
    }
  }

  void unsatisfied(const JsonbValue& v) {
    if (is(v, "skip"))
      out.flags = 0;
    else if (is(v, "fail"))
      out.flags = core::kUnmetFails;
    else if (is(v, "cancel"))
      out.flags = core::kUnmetCancels;
    else
      bad("has an invalid value for \"on_unsatisfied\"", "Use skip, fail or cancel.");
  }

  /// The unfinished tasks of a batch; what has ended is in its counts.
  void batch(const JsonbValue& v) {
    if (v.type != jbvString) bad("has a \"batch\" that is no string", kForms);
    const char* const name = pnstrdup(v.val.string.val, v.val.string.len);
    if (store::touched()) CommandCounterIncrement();  // tasks submitted by the same statement are there too
    out.batch_n = store::batches_named(name, &out.batches);
    if (out.batch_n == 0)
      ereport(ERROR,
              (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("batch \"%s\" in argument \"depends_on\" does not exist", name),
               errhint("Submit its first tasks before, in the same transaction or an earlier one; dts.batches shows those there are.")));
    out.accept = accept;
    for (int i = 0; i < out.batch_n; i++) {
      int64* ids = nullptr;
      const int64 n = store::batch_members(out.batches[i], &ids);
      for (int64 k = 0; k < n; k++) {
        ParentRef p;
        p.id = ids[k];
        p.accept = static_cast<core::Accept>(accept | core::kOfBatch);
        p.member = true;
        push(p);
      }
      pfree(ids);
    }
  }

  void whole(JsonbContainer* c) {
    JsonbValue tasks, its_batch, v;
    bool has_tasks = false, has_batch = false;
    JsonbIterator* it = JsonbIteratorInit(c);
    (void)JsonbIteratorNext(&it, &v, false);
    while (JsonbIteratorNext(&it, &v, true) == WJB_KEY) {
      JsonbValue value;
      (void)JsonbIteratorNext(&it, &value, true);
      if (is(v, "tasks")) {
        tasks = value;
        has_tasks = true;
      } else if (is(v, "batch")) {
        its_batch = value;
        has_batch = true;
      } else if (is(v, "on")) {
        accept = outcomes(value);
      } else if (is(v, "need")) {
        need(value);
      } else if (is(v, "on_unsatisfied")) {
        unsatisfied(value);
      } else {
        bad(psprintf("has an unknown key \"%s\"", pnstrdup(v.val.string.val, v.val.string.len)), kForms);
      }
    }
    if (!has_tasks && !has_batch) bad("has no \"tasks\"", kForms);
    if (has_batch && out.need != core::kNeedAll) bad("has \"need\" beside \"batch\"", "A batch is waited for as a whole.");
    if (has_tasks) each(tasks, [&](const JsonbValue& e) { parent(e, accept); });
    if (has_batch) batch(its_batch);
  }
};

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

/// Which tasks a child had as parents: runs of ids, in dts.task.extra, where dts.parents() reads them. (Edges go when they are satisfied.)
Jsonb* with_parents(Jsonb* extra, const ParentRef* p, int n) {
  StringInfoData text;
  initStringInfo(&text);
  appendStringInfoString(&text, "{\"parents\": [");
  for (int i = 0; i < n;) {
    int j = i;
    while (j + 1 < n && p[j + 1].id == p[j].id + 1) j++;
    appendStringInfo(&text, "%s[%lld, %lld]", i == 0 ? "" : ", ", static_cast<long long>(p[i].id), static_cast<long long>(p[j].id));
    i = j + 1;
  }
  appendStringInfoString(&text, "]}");
  const Datum parents = DirectFunctionCall1(jsonb_in, CStringGetDatum(text.data));
  if (extra == nullptr) return DatumGetJsonbP(parents);
  return DatumGetJsonbP(DirectFunctionCall2(jsonb_concat, JsonbPGetDatum(extra), parents));
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

Depends read_depends(Jsonb* json, bool names) {
  if (json == nullptr) return {};
  Reader r;
  r.names = names;
  if (JB_ROOT_IS_OBJECT(json)) {
    r.whole(&json->root);
  } else {
    JsonbValue v;
    v.type = jbvBinary;
    v.val.binary.data = &json->root;
    v.val.binary.len = static_cast<int>(VARSIZE(json)) - VARHDRSZ;
    each(v, [&](const JsonbValue& e) { r.parent(e, r.accept); });
  }
  if (r.out.need != core::kNeedAll && r.out.n > 0 && r.out.need > r.out.n)
    bad("needs more tasks than it names", "\"need\" is \"all\", \"any\" or at most the number of tasks.");
  return r.out;
}

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
