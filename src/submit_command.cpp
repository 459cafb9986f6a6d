// Commands: tasks for agents. What is to be run is kept as JSON in the task's args: argv, env, stdin, dir, container,
// retry_exit_codes.
#include "submit_command.hpp"

#include "pg/guard.hpp"
#include "store/policy.hpp"

namespace dts {

namespace {

[[noreturn]] void bad(const char* argument, const char* wants, const char* hint) {
  ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("argument \"%s\" %s", argument, wants), errhint("%s", hint)));
}

void push_string(JsonbParseState** state, JsonbIteratorToken token, const char* text) {
  JsonbValue v;
  v.type = jbvString;
  v.val.string.val = const_cast<char*>(text);
  v.val.string.len = static_cast<int>(strlen(text));
  pushJsonbValue(state, token, &v);
}

void push_json(JsonbParseState** state, const char* key, Jsonb* value) {
  if (value == nullptr) return;
  push_string(state, WJB_KEY, key);
  JsonbValue v;
  v.type = jbvBinary;
  v.val.binary.data = &value->root;
  v.val.binary.len = static_cast<int>(VARSIZE(value)) - VARHDRSZ;
  pushJsonbValue(state, WJB_VALUE, &v);
}

/// A value as an argument or in the environment: strings as they are, everything else as JSON writes it.
const char* plain(const JsonbValue& v) {
  if (v.type == jbvString) return pnstrdup(v.val.string.val, v.val.string.len);
  Jsonb* const j = json_of(v);
  return JsonbToCString(nullptr, &j->root, VARSIZE(j));
}

void push_argv(JsonbParseState** state, Jsonb* argv) {
  if (argv == nullptr)
    ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("argument \"argv\" must not be null"),
                    errhint("Give the program and its arguments, for example ARRAY['backup', '--full'].")));
  if (!JB_ROOT_IS_ARRAY(argv) || JB_ROOT_IS_SCALAR(argv) || JB_ROOT_COUNT(argv) == 0)
    bad("argv", "must be an array of at least one string", "The program comes first: ARRAY['backup', '--full']. No shell reads it.");
  push_string(state, WJB_KEY, "argv");
  pushJsonbValue(state, WJB_BEGIN_ARRAY, nullptr);
  const uint32 n = JB_ROOT_COUNT(argv);
  for (uint32 i = 0; i < n; i++) {
    const JsonbValue* const v = getIthJsonbValueFromContainer(&argv->root, i);
    if (v->type == jbvNull)
      ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("argument \"argv\" must not contain null"),
                      errhint("Leave the element out, or write an empty string.")));
    const char* const text = plain(*v);
    if (i == 0 && text[0] == '\0') bad("argv", "must begin with a program", "Its first element is empty.");
    push_string(state, WJB_ELEM, text);
  }
  pushJsonbValue(state, WJB_END_ARRAY, nullptr);
}

void push_env(JsonbParseState** state, Jsonb* env) {
  if (env == nullptr) return;
  if (!JB_ROOT_IS_OBJECT(env)) bad("env", "must be a JSON object", "Its keys are names of variables: {\"LANG\": \"C\"}.");
  push_string(state, WJB_KEY, "env");
  pushJsonbValue(state, WJB_BEGIN_OBJECT, nullptr);
  JsonbIterator* it = JsonbIteratorInit(&env->root);
  JsonbValue v;
  (void)JsonbIteratorNext(&it, &v, false);
  while (JsonbIteratorNext(&it, &v, true) == WJB_KEY) {
    const char* const name = pnstrdup(v.val.string.val, v.val.string.len);
    if (name[0] == '\0' || strchr(name, '=') != nullptr)
      ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("argument \"env\" has an invalid name \"%s\"", name),
                      errhint("A variable's name must not be empty or hold \"=\".")));
    (void)JsonbIteratorNext(&it, &v, true);
    if (v.type == jbvNull) continue;
    push_string(state, WJB_KEY, name);
    push_string(state, WJB_VALUE, plain(v));
  }
  pushJsonbValue(state, WJB_END_OBJECT, nullptr);
}

void check_codes(Jsonb* codes) {
  if (codes == nullptr) return;
  constexpr const char* kWants = "must be an array of whole numbers";
  constexpr const char* kHint = "They are the exit codes after which it is tried again; others end it at once.";
  if (!JB_ROOT_IS_ARRAY(codes) || JB_ROOT_IS_SCALAR(codes) || JB_ROOT_COUNT(codes) == 0) bad("retry_exit_codes", kWants, kHint);
  for (uint32 i = 0; i < JB_ROOT_COUNT(codes); i++) {
    const JsonbValue* const v = getIthJsonbValueFromContainer(&codes->root, i);
    if (v->type != jbvNumeric) bad("retry_exit_codes", kWants, kHint);
    const double d = DatumGetFloat8(DirectFunctionCall1(numeric_float8_no_overflow, NumericGetDatum(v->val.numeric)));
    if (!(d >= -2147483648.0 && d <= 2147483647.0) || d != floor(d)) bad("retry_exit_codes", kWants, kHint);
  }
}

int compare_texts(const void* a, const void* b) { return strcmp(*static_cast<char* const*>(a), *static_cast<char* const*>(b)); }

/// An array argument as JSON.
Jsonb* json_of_array(FunctionCallInfo fcinfo, int i, const char* argument) {
  if (PG_ARGISNULL(i)) return nullptr;
  if (ARR_NDIM(PG_GETARG_ARRAYTYPE_P(i)) > 1)
    ereport(ERROR, (errcode(ERRCODE_ARRAY_SUBSCRIPT_ERROR), errmsg("argument \"%s\" must be a one-dimensional array", argument),
                    errhint("Write ARRAY[...].")));
  const Datum json = DirectFunctionCall1(array_to_json, PG_GETARG_DATUM(i));
  return DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(TextDatumGetCString(json))));
}

}  // namespace

const char* canonical_labels(char** label, int n, const char* argument, int most) {
  if (n > most)
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("argument \"%s\" has too many labels", argument),
                    errdetail("It has %d, at most %d are allowed.", n, most), errhint("Join those that always come together into one.")));
  for (int i = 0; i < n; i++) {
    const size_t length = strlen(label[i]);
    if (length == 0 || length > 63 || strspn(label[i], "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.:/=@+-") != length)
      ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("argument \"%s\" has an invalid label \"%s\"", argument, label[i]),
                      errhint("A label is 1 to 63 letters, digits or any of _.:/=@+-, for example gpu or region=eu.")));
  }
  qsort(label, n, sizeof(char*), compare_texts);
  StringInfoData text;
  initStringInfo(&text);
  for (int i = 0; i < n; i++)
    if (i == 0 || strcmp(label[i], label[i - 1]) != 0) appendStringInfo(&text, "%s%s", text.len == 0 ? "" : ",", label[i]);
  return text.data;
}

namespace {

const char* required(char** label, int n) {
  const char* const text = canonical_labels(label, n, "requires", store::kAgentLabels);
  if (strlen(text) > store::kLabelsLength)
    bad("requires", psprintf("must be at most %d bytes long in all", store::kLabelsLength), "Choose shorter labels.");
  return text;
}

const char* required_of_array(ArrayType* array) {
  int n = 0;
  char** const label = label_texts(array, "requires", &n);
  return required(label, n);
}

const char* required_of_json(Jsonb* j) {
  if (!JB_ROOT_IS_ARRAY(j) || JB_ROOT_IS_SCALAR(j)) bad("requires", "must be an array of strings", "Write [\"gpu\", \"region=eu\"].");
  const int n = static_cast<int>(JB_ROOT_COUNT(j));
  auto** const label = static_cast<char**>(palloc(sizeof(char*) * (n + 1)));
  for (int i = 0; i < n; i++) {
    const JsonbValue* const v = getIthJsonbValueFromContainer(&j->root, i);
    if (v->type != jbvString) bad("requires", "must be an array of strings", "Write [\"gpu\", \"region=eu\"].");
    label[i] = pnstrdup(v->val.string.val, v->val.string.len);
  }
  return required(label, n);
}

}  // namespace

char** label_texts(ArrayType* array, const char* argument, int* n) {
  Datum* values = nullptr;
  bool* nulls = nullptr;
  deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &values, &nulls, n);
  auto** const label = static_cast<char**>(palloc(sizeof(char*) * (*n + 1)));
  for (int i = 0; i < *n; i++) {
    if (nulls[i])
      ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("argument \"%s\" must not contain null", argument),
                      errhint("Leave the element out.")));
    label[i] = TextDatumGetCString(values[i]);
  }
  return label;
}

bool read_command_part(const JsonbValue& v, const char* key, const char* place, CommandParts* parts) {
  if (strcmp(key, "command") == 0)
    parts->argv = json_of(v);
  else if (strcmp(key, "env") == 0)
    parts->env = json_of(v);
  else if (strcmp(key, "stdin") == 0)
    parts->input = text_option(v, key, place);
  else if (strcmp(key, "dir") == 0)
    parts->dir = text_option(v, key, place);
  else if (strcmp(key, "container") == 0)
    parts->container = json_of(v);
  else if (strcmp(key, "retry_exit_codes") == 0)
    parts->codes = json_of(v);
  else if (strcmp(key, "requires") == 0)
    parts->labels = required_of_json(json_of(v));
  else
    return false;
  parts->last = key;
  return true;
}

namespace {

/// What is kept in the task; refuses what cannot be run.
Jsonb* command_spec(const CommandParts& parts) {
  JsonbParseState* state = nullptr;
  pushJsonbValue(&state, WJB_BEGIN_OBJECT, nullptr);
  push_argv(&state, parts.argv);
  push_env(&state, parts.env);
  if (parts.input != nullptr) {
    push_string(&state, WJB_KEY, "stdin");
    push_string(&state, WJB_VALUE, parts.input);
  }
  if (parts.dir != nullptr) {
    if (parts.dir[0] == '\0') bad("dir", "must not be empty", "Leave it out for the agent's own.");
    push_string(&state, WJB_KEY, "dir");
    push_string(&state, WJB_VALUE, parts.dir);
  }
  if (parts.container != nullptr && !JB_ROOT_IS_OBJECT(parts.container))
    bad("container", "must be a JSON object", "It is passed on to the agent, for example {\"image\": \"debian:12\"}.");
  push_json(&state, "container", parts.container);
  check_codes(parts.codes);
  push_json(&state, "retry_exit_codes", parts.codes);
  Jsonb* const spec = JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, nullptr));
  check_payload_size(spec, "argv");
  return spec;
}

}  // namespace

Prepared prepare_command(const CommandParts& parts, Options* o) {
  Jsonb* const spec = command_spec(parts);
  o->labels_required = parts.labels;
  Prepared p = prepare_outside(core::Kind::Command, *o);
  p.task.args = spec;
  return p;
}

}  // namespace dts

using namespace dts;

DTS_FUNCTION(dts_submit_command) {
  CommandParts parts;
  parts.argv = json_of_array(fcinfo, 0, "argv");
  parts.env = PG_ARGISNULL(1) ? nullptr : PG_GETARG_JSONB_P(1);
  parts.input = PG_ARGISNULL(2) ? nullptr : text_to_cstring(PG_GETARG_TEXT_PP(2));
  parts.dir = PG_ARGISNULL(3) ? nullptr : text_to_cstring(PG_GETARG_TEXT_PP(3));
  parts.labels = PG_ARGISNULL(4) ? "" : required_of_array(PG_GETARG_ARRAYTYPE_P(4));
  parts.codes = json_of_array(fcinfo, 5, "retry_exit_codes");
  parts.container = PG_ARGISNULL(6) ? nullptr : PG_GETARG_JSONB_P(6);
  Options o = read_options(fcinfo, 7, false, false);
  Prepared p = prepare_command(parts, &o);
  PG_RETURN_INT64(submit_prepared(p, o));
}

DTS_FUNCTION(dts_check_labels) { PG_RETURN_DATUM(CStringGetTextDatum(PG_ARGISNULL(0) ? "" : required_of_array(PG_GETARG_ARRAYTYPE_P(0)))); }

/// dts._check_command(node): refuses a node of a workflow whose command cannot be run.
DTS_FUNCTION(dts_check_command) {
  CommandParts parts;
  JsonbIterator* it = JsonbIteratorInit(&PG_GETARG_JSONB_P(0)->root);
  JsonbValue v;
  (void)JsonbIteratorNext(&it, &v, false);
  while (JsonbIteratorNext(&it, &v, true) == WJB_KEY) {
    const char* const key = pnstrdup(v.val.string.val, v.val.string.len);
    (void)JsonbIteratorNext(&it, &v, true);
    if (v.type != jbvNull) (void)read_command_part(v, key, "the node", &parts);
  }
  (void)command_spec(parts);
  PG_RETURN_VOID();
}
