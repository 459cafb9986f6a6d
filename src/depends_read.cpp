// The syntax of the option depends_on.
#include "depends.hpp"
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

}  // namespace dts
