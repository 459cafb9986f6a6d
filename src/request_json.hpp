// Reading a stored request: the members of its JSON object and their values.
#pragma once

#include <string_view>

#include "pg/postgres.hpp"

namespace dts::request {

/// A string's bytes, where they stand.
inline std::string_view view(const JsonbValue& v) { return {v.val.string.val, static_cast<size_t>(v.val.string.len)}; }
/// A value as text: strings as they are, numbers and the rest as JSON.
const char* text_of(const JsonbValue& v);
/// A string as a value, which points to it.
JsonbValue string_value(const char* s);

/// Member of an object; false if it is not there or null.
bool member(const JsonbContainer* object, const char* key, JsonbValue* out);
/// A string member, nullptr if there is none.
const char* text_member(Jsonb* object, const char* key);
/// A numeric member times `scale`; `otherwise` if there is none that fits.
int int_member(Jsonb* object, const char* key, int otherwise, double scale = 1);

/// Calls f(name, value) for each member of an object.
template <class F>
void each_member(const JsonbContainer* object, F&& f) {
  JsonbIterator* it = JsonbIteratorInit(const_cast<JsonbContainer*>(object));
  JsonbValue name, value;
  (void)JsonbIteratorNext(&it, &value, false);
  while (JsonbIteratorNext(&it, &name, true) == WJB_KEY) {
    (void)JsonbIteratorNext(&it, &value, true);
    f(name, value);
  }
}

}  // namespace dts::request
