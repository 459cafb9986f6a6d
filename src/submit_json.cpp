// A task as a JSON object, as in dts.submit_many(jsonb): what it does, and options named as those of dts.submit.
#include "pg/guard.hpp"
#include "request.hpp"
#include "request_json.hpp"
#include "submit_command.hpp"

namespace dts {

namespace {

/// A request inside a task: an object, or of HTTP the URL alone.
Jsonb* request_in(const JsonbValue& v, bool url, const char* key, const char* place) {
  if (v.type == jbvBinary && JsonContainerIsObject(v.val.binary.data)) return json_of(v);
  if (v.type != jbvString || !url)
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid value for \"%s\" in %s", key, place),
                    errhint("Give an object whose keys are the arguments of dts.submit_%s.", key)));
  JsonbParseState* state = nullptr;
  JsonbValue name, value = v;
  name.type = jbvString;
  name.val.string.val = const_cast<char*>("url");
  name.val.string.len = 3;
  pushJsonbValue(&state, WJB_BEGIN_OBJECT, nullptr);
  pushJsonbValue(&state, WJB_KEY, &name);
  pushJsonbValue(&state, WJB_VALUE, &value);
  return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, nullptr));
}

Prepared prepare_request(core::Kind kind, Jsonb* request, const char* place, const Options& o) {
  Prepared p = prepare_outside(kind, o);
  JsonbValue v;
  check_request(kind, request, p.lane.owner, request::member(&request->root, "values", &v), place);
  p.task.args = request;
  check_payload_size(request, "tasks");
  return p;
}

/// What an object says that is no option.
struct Work {
  const char* sql = nullptr;
  const char* handler = nullptr;
  Jsonb* args = nullptr;
  Jsonb* payload = nullptr;
  Jsonb* request = nullptr;
  core::Kind kind = core::Kind::Sql;
  bool node = false, scheduled = false;
  CommandParts command;
};

/// Reads one member; false if there is none of this name.
bool read_work(const JsonbValue& v, const char* key, const char* place, Work* w) {
  if (strcmp(key, "sql") == 0)
    w->sql = text_option(v, key, place);
  else if (strcmp(key, "handler") == 0)
    w->handler = text_option(v, key, place);
  else if (strcmp(key, "http") == 0 || strcmp(key, "mail") == 0) {
    w->kind = key[0] == 'h' ? core::Kind::Http : core::Kind::Mail;
    w->request = request_in(v, key[0] == 'h', key, place);
  } else if (strcmp(key, "name") == 0)
    (void)text_option(v, key, place);  // for the other elements of the same call
  else if (strcmp(key, "node") == 0 && GetUserId() == store::catalog().owner)
    w->node = true;  // of a workflow, which only the functions for workflows make
  else if (strcmp(key, "scheduled") == 0 && GetUserId() == store::catalog().owner)
    w->scheduled = true;  // the end of a run that a schedule started
  else if (strcmp(key, "args") == 0)
    w->args = json_of(v);
  else if (strcmp(key, "payload") == 0)
    w->payload = json_of(v);
  else
    return read_command_part(v, key, place, &w->command);
  return true;
}

/// Refuses members that do not go together: it must say one thing to do, and nothing that belongs to another.
void check_work(const Work& w, const char* place) {
  const bool command = w.command.argv != nullptr;
  if ((w.sql != nullptr ? 1 : 0) + (w.handler != nullptr ? 1 : 0) + (command ? 1 : 0) + (w.request != nullptr ? 1 : 0) != 1)
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                    errmsg("%s must have one of \"sql\", \"handler\", \"http\", \"mail\", \"command\" and \"workflow\"", place),
                    errhint("Give the one that says what to do.")));
  if (!command && w.command.last != nullptr)
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("\"%s\" in %s does not go without \"command\"", w.command.last, place),
                    errhint("It belongs to a command.")));
  const char* const data = w.args != nullptr ? "args" : w.payload != nullptr ? "payload" : nullptr;
  if (command && data != nullptr)
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("\"%s\" in %s does not go with \"command\"", data, place),
                    errhint("What a command works on goes into its arguments, \"env\" or \"stdin\".")));
  if (w.request != nullptr && data != nullptr)
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("\"%s\" in %s does not go with a request", data, place),
                    errhint("What the request needs is in its object.")));
  if ((w.sql != nullptr && w.payload != nullptr) || (w.handler != nullptr && w.args != nullptr))
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                    errmsg("\"%s\" in %s does not go with \"%s\"", w.sql != nullptr ? "payload" : "args", place,
                           w.sql != nullptr ? "sql" : "handler"),
                    errhint("args go with sql, payload goes with a handler.")));
}

/// A task that runs in the server: SQL, or a handler.
Prepared prepare_work(const Work& w, const Options& o, bool analyse) {
  Prepared p = w.sql != nullptr ? prepare_sql(w.sql, o) : prepare_handler(w.handler, o);
  if (w.scheduled) p.task.flags |= core::kScheduled;
  if (w.node && p.task.kind != core::Kind::Sql)
    ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                    errmsg("handler \"%s\" was made anew, for work outside the server", w.handler),
                    errhint("Create the workflow again: such a handler is run in another way.")));
  if (w.node) p.task.flags |= core::kNode;  // its arguments come when it is its turn
  // The input functions of types may be the owner's code (a domain's check), and run as the caller: for tasks of others arguments are only
  // counted.
  if (w.sql != nullptr && !w.node) check_args(p, w.args, analyse && p.lane.owner == GetUserId());
  p.task.args = w.sql != nullptr ? w.args : w.payload;
  check_payload_size(p.task.args, "tasks");
  return p;
}

}  // namespace

Prepared prepare_json(const JsonbValue& object, const char* place, Options* o, bool analyse) {
  if (object.type != jbvBinary || !JsonContainerIsObject(object.val.binary.data))
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("%s must be a JSON object", place),
                    errhint("Example: {\"sql\": \"SELECT 1\"} or {\"handler\": \"name\", \"payload\": {}}.")));
  Work w;
  request::each_member(object.val.binary.data, [&](const JsonbValue& name, const JsonbValue& value) {
    if (value.type == jbvNull) return;
    const char* const key = pnstrdup(name.val.string.val, name.val.string.len);
    if (!read_work(value, key, place, &w) && !read_option(value, key, place, o))
      ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("unknown key \"%s\" in %s", key, place),
                      errhint("The keys are sql, args, handler, payload, http, mail, command, env, stdin, dir, requires, retry_exit_codes, "
                              "container, name and the "
                              "options of dts.submit.")));
  });
  check_work(w, place);
  if (w.command.argv != nullptr) return prepare_command(w.command, o);
  if (w.request != nullptr) return prepare_request(w.kind, w.request, place, *o);
  return prepare_work(w, *o, analyse);
}

}  // namespace dts
