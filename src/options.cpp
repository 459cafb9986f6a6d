// The options of the submit family: one table, read from the arguments of a SQL function and from a JSON object alike.
#include "pg/guard.hpp"
#include "submit.hpp"

namespace dts {

namespace {

/// Where a value stands, for messages.
struct Place {
  const char* key;
  const char* object;
};

[[noreturn]] void refuse(const Place& at, const char* wanted) {
  ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid value for \"%s\" in %s", at.key, at.object),
                  errhint("Give %s.", wanted)));
}

const char* text_of(const JsonbValue& v, const Place& at) {
  if (v.type != jbvString) refuse(at, "a string");
  return pnstrdup(v.val.string.val, v.val.string.len);
}

int32 int_of(const JsonbValue& v, const Place& at) {
  if (v.type != jbvNumeric) refuse(at, "a whole number");
  const Numeric n = v.val.numeric;
  const double d = DatumGetFloat8(DirectFunctionCall1(numeric_float8_no_overflow, NumericGetDatum(n)));
  if (!(d >= -2147483648.0 && d <= 2147483647.0) || d != floor(d)) refuse(at, "a whole number");
  return static_cast<int32>(d);
}

bool bool_of(const JsonbValue& v, const Place& at) {
  if (v.type != jbvBool) refuse(at, "true or false");
  return v.val.boolean;
}

/// An interval as text, or a number of seconds.
Interval* interval_of(const JsonbValue& v, const Place& at) {
  const char* text = nullptr;
  if (v.type == jbvNumeric) {
    const double seconds = DatumGetFloat8(DirectFunctionCall1(numeric_float8_no_overflow, NumericGetDatum(v.val.numeric)));
    if (!(seconds >= -1e10 && seconds <= 1e10)) refuse(at, "an interval, as text or as a number of seconds");
    text = psprintf("%.6f seconds", seconds);
  } else {
    text = text_of(v, at);
  }
  return DatumGetIntervalP(DirectFunctionCall3(interval_in, CStringGetDatum(text), ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
}

TimestampTz instant_of(const JsonbValue& v, const Place& at) {
  return DatumGetTimestampTz(
      DirectFunctionCall3(timestamptz_in, CStringGetDatum(text_of(v, at)), ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
}

/// One overload for each type that an option may have; to add an option, add a member to Options and a line to the table.
void read(Datum d, const char** to) { *to = text_to_cstring(DatumGetTextPP(d)); }
void read(Datum d, Maybe<int32>* to) { *to = {true, DatumGetInt32(d)}; }
void read(Datum d, Maybe<TimestampTz>* to) { *to = {true, DatumGetTimestampTz(d)}; }
void read(Datum d, Maybe<bool>* to) { *to = {true, DatumGetBool(d)}; }
void read(Datum d, Interval** to) { *to = DatumGetIntervalP(d); }
void read(Datum d, Jsonb** to) { *to = DatumGetJsonbP(d); }

void read(const JsonbValue& v, const Place& at, const char** to) { *to = text_of(v, at); }
void read(const JsonbValue& v, const Place& at, Maybe<int32>* to) { *to = {true, int_of(v, at)}; }
void read(const JsonbValue& v, const Place& at, Maybe<TimestampTz>* to) { *to = {true, instant_of(v, at)}; }
void read(const JsonbValue& v, const Place& at, Maybe<bool>* to) { *to = {true, bool_of(v, at)}; }
void read(const JsonbValue& v, const Place& at, Interval** to) { *to = interval_of(v, at); }
void read(const JsonbValue& v, const Place& /*at*/, Jsonb** to) { *to = json_of(v); }

struct Option {
  const char* name;
  enum class In : uint8 { All, One, Sql } in;  // all forms, those that submit one task, those that submit SQL
  void (*from_datum)(Datum, Options*);
  void (*from_json)(const JsonbValue&, const Place&, Options*);
};

template <auto Member>
constexpr Option option(const char* name, Option::In in = Option::In::All) {
  return {name, in, [](Datum d, Options* o) { read(d, &(o->*Member)); },
          [](const JsonbValue& v, const Place& at, Options* o) { read(v, at, &(o->*Member)); }};
}

/// In the order of the arguments in src/sql/30_submit.sql.
constexpr Option kOptions[] = {
    option<&Options::queue>("queue"),
    option<&Options::priority>("priority"),
    option<&Options::run_at>("run_at"),
    option<&Options::delay>("delay"),
    option<&Options::max_attempts>("max_attempts"),
    option<&Options::retry>("retry"),
    option<&Options::timeout>("timeout"),
    option<&Options::expires>("expires"),
    option<&Options::key>("key", Option::In::One),
    option<&Options::on_conflict>("on_conflict", Option::In::One),
    option<&Options::key_ttl>("key_ttl", Option::In::One),
    option<&Options::transactional>("transactional", Option::In::Sql),
    option<&Options::capture>("capture", Option::In::Sql),
    option<&Options::labels>("labels"),
    option<&Options::tenant>("tenant"),
    option<&Options::owner>("owner"),
    option<&Options::depends_on>("depends_on"),
    option<&Options::concurrency_key>("concurrency_key"),
    option<&Options::batch>("batch"),
};

}  // namespace

Jsonb* json_of(const JsonbValue& v) { return JsonbValueToJsonb(const_cast<JsonbValue*>(&v)); }

const char* text_option(const JsonbValue& v, const char* key, const char* object) { return text_of(v, {key, object}); }

Options read_options(FunctionCallInfo fcinfo, int first, bool many, bool sql) {
  Options o;
  int i = first;
  for (const Option& option : kOptions) {
    if ((many && option.in == Option::In::One) || (!sql && option.in == Option::In::Sql)) continue;
    if (i >= PG_NARGS()) break;  // the SQL of an older version
    if (!PG_ARGISNULL(i)) option.from_datum(PG_GETARG_DATUM(i), &o);
    i++;
  }
  return o;
}

bool read_option(const JsonbValue& v, const char* key, const char* object, Options* o) {
  for (const Option& option : kOptions) {
    if (strcmp(key, option.name) != 0) continue;
    option.from_json(v, {key, object}, o);
    return true;
  }
  return false;
}

}  // namespace dts
