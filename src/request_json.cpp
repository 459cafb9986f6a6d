#include "request_json.hpp"

namespace dts::request {

const char* text_of(const JsonbValue& v) {
  if (v.type == jbvString) return pnstrdup(v.val.string.val, v.val.string.len);
  if (v.type == jbvNull) return "";
  if (v.type == jbvBool) return v.val.boolean ? "true" : "false";
  if (v.type == jbvNumeric) return DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(v.val.numeric)));
  Jsonb* const j = JsonbValueToJsonb(const_cast<JsonbValue*>(&v));
  return JsonbToCString(nullptr, &j->root, static_cast<int>(VARSIZE(j)));
}

JsonbValue string_value(const char* s) {
  JsonbValue v;
  v.type = jbvString;
  v.val.string.val = const_cast<char*>(s);
  v.val.string.len = static_cast<int>(strlen(s));
  return v;
}

bool member(const JsonbContainer* object, const char* key, JsonbValue* out) {
  return getKeyJsonValueFromContainer(const_cast<JsonbContainer*>(object), key, static_cast<int>(strlen(key)), out) != nullptr &&
         out->type != jbvNull;
}

const char* text_member(Jsonb* object, const char* key) {
  JsonbValue v;
  return member(&object->root, key, &v) && v.type == jbvString ? text_of(v) : nullptr;
}

int int_member(Jsonb* object, const char* key, int otherwise, double scale) {
  JsonbValue v;
  if (!member(&object->root, key, &v) || v.type != jbvNumeric) return otherwise;
  const double d = DatumGetFloat8(DirectFunctionCall1(numeric_float8_no_overflow, NumericGetDatum(v.val.numeric))) * scale;
  return d >= 0 && d <= 2e9 ? static_cast<int>(d) : otherwise;
}

}  // namespace dts::request
