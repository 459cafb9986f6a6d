// Options of dts.submit_many(jsonb): one object a task, keys named as the options of dts.submit.
#include "store/policy.hpp"
#include "submit.hpp"

namespace dts {

namespace {

int at = 0;  // position of the object being read, for messages

[[noreturn]] void refuse(const char* key, const char* wanted) {
  ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid value for \"%s\" in element %d of argument \"tasks\"", key, at),
                  errhint("Give %s.", wanted)));
}

const char* text_of(const JsonbValue& v, const char* key) {
  if (v.type != jbvString) refuse(key, "a string");
  return pnstrdup(v.val.string.val, v.val.string.len);
}

int32 int_of(const JsonbValue& v, const char* key) {
  if (v.type != jbvNumeric) refuse(key, "a whole number");
  const Numeric n = v.val.numeric;
  const double d = DatumGetFloat8(DirectFunctionCall1(numeric_float8_no_overflow, NumericGetDatum(n)));
  if (!(d >= -2147483648.0 && d <= 2147483647.0) || d != floor(d)) refuse(key, "a whole number");
  return static_cast<int32>(d);
}

bool bool_of(const JsonbValue& v, const char* key) {
  if (v.type != jbvBool) refuse(key, "true or false");
  return v.val.boolean;
}

Jsonb* json_of(const JsonbValue& v) { return JsonbValueToJsonb(const_cast<JsonbValue*>(&v)); }

/// An interval as text, or a number of seconds.
Interval* interval_of(const JsonbValue& v, const char* key) {
  const char* text = nullptr;
  if (v.type == jbvNumeric) {
    const double seconds = DatumGetFloat8(DirectFunctionCall1(numeric_float8_no_overflow, NumericGetDatum(v.val.numeric)));
    if (!(seconds >= -1e10 && seconds <= 1e10)) refuse(key, "an interval, as text or as a number of seconds");
    text = psprintf("%.6f seconds", seconds);
  } else {
    text = text_of(v, key);
  }
  return DatumGetIntervalP(DirectFunctionCall3(interval_in, CStringGetDatum(text), ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
}

TimestampTz instant_of(const JsonbValue& v, const char* key) {
  return DatumGetTimestampTz(
      DirectFunctionCall3(timestamptz_in, CStringGetDatum(text_of(v, key)), ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
}

/// Reads one option; false if there is none of this name.
bool read_option(const char* key, const JsonbValue& v, Options* o) {
  if (strcmp(key, "queue") == 0)
    o->queue = text_of(v, key);
  else if (strcmp(key, "priority") == 0)
    o->priority = {true, int_of(v, key)};
  else if (strcmp(key, "run_at") == 0)
    o->run_at = {true, instant_of(v, key)};
  else if (strcmp(key, "delay") == 0)
    o->delay = interval_of(v, key);
  else if (strcmp(key, "max_attempts") == 0)
    o->max_attempts = {true, int_of(v, key)};
  else if (strcmp(key, "retry") == 0)
    o->retry = json_of(v);
  else if (strcmp(key, "timeout") == 0)
    o->timeout = interval_of(v, key);
  else if (strcmp(key, "expires") == 0)
    o->expires = {true, instant_of(v, key)};
  else if (strcmp(key, "key") == 0)
    o->key = text_of(v, key);
  else if (strcmp(key, "on_conflict") == 0)
    o->on_conflict = text_of(v, key);
  else if (strcmp(key, "key_ttl") == 0)
    o->key_ttl = interval_of(v, key);
  else if (strcmp(key, "transactional") == 0)
    o->transactional = {true, bool_of(v, key)};
  else if (strcmp(key, "capture") == 0)
    o->capture = {true, bool_of(v, key)};
  else if (strcmp(key, "labels") == 0)
    o->labels = json_of(v);
  else if (strcmp(key, "tenant") == 0)
    o->tenant = text_of(v, key);
  else if (strcmp(key, "owner") == 0)
    o->owner = text_of(v, key);
  else
    return false;
  return true;
}

}  // namespace

Prepared prepare_json(const JsonbValue& object, int index, Options* o) {
  at = index;
  if (object.type != jbvBinary || !JsonContainerIsObject(object.val.binary.data))
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("element %d of argument \"tasks\" must be a JSON object", index)));
  const char* sql = nullptr;
  const char* handler = nullptr;
  Jsonb* args = nullptr;
  Jsonb* payload = nullptr;
  JsonbIterator* it = JsonbIteratorInit(object.val.binary.data);
  JsonbValue v;
  (void)JsonbIteratorNext(&it, &v, false);
  while (JsonbIteratorNext(&it, &v, true) == WJB_KEY) {
    const char* const key = pnstrdup(v.val.string.val, v.val.string.len);
    (void)JsonbIteratorNext(&it, &v, true);
    if (v.type == jbvNull) continue;
    if (strcmp(key, "sql") == 0)
      sql = text_of(v, key);
    else if (strcmp(key, "handler") == 0)
      handler = text_of(v, key);
    else if (strcmp(key, "args") == 0)
      args = json_of(v);
    else if (strcmp(key, "payload") == 0)
      payload = json_of(v);
    else if (!read_option(key, v, o))
      ereport(ERROR,
              (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("unknown key \"%s\" in element %d of argument \"tasks\"", key, index),
               errhint("The keys are sql, args, handler, payload and the options of dts.submit.")));
  }
  if ((sql != nullptr) == (handler != nullptr))
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                    errmsg("element %d of argument \"tasks\" must have either \"sql\" or \"handler\"", index)));
  if (sql != nullptr ? payload != nullptr : args != nullptr)
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                    errmsg("\"%s\" in element %d of argument \"tasks\" does not go with \"%s\"", sql != nullptr ? "payload" : "args", index,
                           sql != nullptr ? "sql" : "handler")));
  Prepared p = sql != nullptr ? prepare_sql(sql, *o) : prepare_handler(handler, *o);
  if (sql != nullptr) check_args(p, args);
  p.task.args = sql != nullptr ? args : payload;
  check_payload_size(p.task.args, "tasks");
  return p;
}

}  // namespace dts
