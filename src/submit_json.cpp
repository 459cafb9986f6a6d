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

}  // namespace

Prepared prepare_json(const JsonbValue& object, const char* place, Options* o, bool analyse) {
  if (object.type != jbvBinary || !JsonContainerIsObject(object.val.binary.data))
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("%s must be a JSON object", place),
                    errhint("Example: {\"sql\": \"SELECT 1\"} or {\"handler\": \"name\", \"payload\": {}}.")));
  const char* sql = nullptr;
  const char* handler = nullptr;
  Jsonb* args = nullptr;
  Jsonb* payload = nullptr;
  Jsonb* request = nullptr;
  core::Kind kind = core::Kind::Sql;
  bool node = false, scheduled = false;
  CommandParts command;
  JsonbIterator* it = JsonbIteratorInit(object.val.binary.data);
  JsonbValue v;
  (void)JsonbIteratorNext(&it, &v, false);
  while (JsonbIteratorNext(&it, &v, true) == WJB_KEY) {
    const char* const key = pnstrdup(v.val.string.val, v.val.string.len);
    (void)JsonbIteratorNext(&it, &v, true);
    if (v.type == jbvNull) continue;
    if (strcmp(key, "sql") == 0)
      sql = text_option(v, key, place);
    else if (strcmp(key, "handler") == 0)
      handler = text_option(v, key, place);
    else if (strcmp(key, "http") == 0 || strcmp(key, "mail") == 0) {
      kind = key[0] == 'h' ? core::Kind::Http : core::Kind::Mail;
      request = request_in(v, key[0] == 'h', key, place);
    } else if (strcmp(key, "name") == 0)
      (void)text_option(v, key, place);  // for the other elements of the same call
    else if (strcmp(key, "node") == 0 && GetUserId() == store::catalog().owner)
      node = true;  // of a workflow, which only the functions for workflows make
    else if (strcmp(key, "scheduled") == 0 && GetUserId() == store::catalog().owner)
      scheduled = true;  // the end of a run that a schedule started
    else if (strcmp(key, "args") == 0)
      args = json_of(v);
    else if (strcmp(key, "payload") == 0)
      payload = json_of(v);
    else if (!read_command_part(v, key, place, &command) && !read_option(v, key, place, o))
      ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("unknown key \"%s\" in %s", key, place),
                      errhint("The keys are sql, args, handler, payload, http, mail, command, env, stdin, dir, requires, retry_exit_codes, "
                              "container, name and the "
                              "options of dts.submit.")));
  }
  if ((sql != nullptr ? 1 : 0) + (handler != nullptr ? 1 : 0) + (command.argv != nullptr ? 1 : 0) + (request != nullptr ? 1 : 0) != 1)
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                    errmsg("%s must have one of \"sql\", \"handler\", \"http\", \"mail\", \"command\" and \"workflow\"", place),
                    errhint("Give the one that says what to do.")));
  if (command.argv == nullptr && command.last != nullptr)
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("\"%s\" in %s does not go without \"command\"", command.last, place),
                    errhint("It belongs to a command.")));
  if (command.argv != nullptr) {
    const char* const other = args != nullptr ? "args" : payload != nullptr ? "payload" : nullptr;
    if (other != nullptr)
      ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("\"%s\" in %s does not go with \"command\"", other, place),
                      errhint("What a command works on goes into its arguments, \"env\" or \"stdin\".")));
    return prepare_command(command, o);
  }
  if (request != nullptr) {
    if (args != nullptr || payload != nullptr)
      ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                      errmsg("\"%s\" in %s does not go with a request", args != nullptr ? "args" : "payload", place),
                      errhint("What the request needs is in its object.")));
    return prepare_request(kind, request, place, *o);
  }
  if (sql != nullptr ? payload != nullptr : args != nullptr)
    ereport(ERROR,
            (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
             errmsg("\"%s\" in %s does not go with \"%s\"", sql != nullptr ? "payload" : "args", place, sql != nullptr ? "sql" : "handler"),
             errhint("args go with sql, payload goes with a handler.")));
  Prepared p = sql != nullptr ? prepare_sql(sql, *o) : prepare_handler(handler, *o);
  if (scheduled) p.task.flags |= core::kScheduled;
  if (node && p.task.kind != core::Kind::Sql)
    ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                    errmsg("handler \"%s\" was made anew, for work outside the server", handler),
                    errhint("Create the workflow again: such a handler is run in another way.")));
  if (node) p.task.flags |= core::kNode;  // its arguments come when it is its turn
  // The input functions of types may be the owner's code (a domain's check), and run as the caller: for tasks of others arguments are only
  // counted.
  if (sql != nullptr && !node) check_args(p, args, analyse && p.lane.owner == GetUserId());
  p.task.args = sql != nullptr ? args : payload;
  check_payload_size(p.task.args, "tasks");
  return p;
}

}  // namespace dts
