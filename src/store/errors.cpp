#include "store/errors.hpp"

namespace dts::store {

namespace {

void push_pair(JsonbParseState** state, const char* key, const char* value) {
  if (value == nullptr) return;
  JsonbValue k, v;
  k.type = jbvString;
  k.val.string.val = const_cast<char*>(key);
  k.val.string.len = static_cast<int>(strlen(key));
  pushJsonbValue(state, WJB_KEY, &k);
  // Text of errors can be in any encoding (bytes raised by C code): what is not valid is shown as question marks.
  const int length = static_cast<int>(Min(strlen(value), size_t{8192}));
  char* const clean = pnstrdup(value, pg_mbcliplen(value, length, length));
  if (!pg_verifymbstr(clean, static_cast<int>(strlen(clean)), true))
    for (char* c = clean; *c != '\0'; c++)
      if (static_cast<unsigned char>(*c) >= 0x80) *c = '?';
  v.type = jbvString;
  v.val.string.val = clean;
  v.val.string.len = static_cast<int>(strlen(clean));
  pushJsonbValue(state, WJB_VALUE, &v);
}

}  // namespace

Jsonb* error_json(const ErrorData* e) {
  JsonbParseState* state = nullptr;
  pushJsonbValue(&state, WJB_BEGIN_OBJECT, nullptr);
  push_pair(&state, "sqlstate", unpack_sql_state(e->sqlerrcode));
  push_pair(&state, "message", e->message != nullptr ? e->message : "missing error text");
  push_pair(&state, "detail", e->detail);
  push_pair(&state, "hint", e->hint);
  push_pair(&state, "context", e->context);
  push_pair(&state, "schema", e->schema_name);
  push_pair(&state, "table", e->table_name);
  push_pair(&state, "column", e->column_name);
  push_pair(&state, "datatype", e->datatype_name);
  push_pair(&state, "constraint", e->constraint_name);
  push_pair(&state, "internal_query", e->internalquery);
  if (e->internalpos > 0) push_pair(&state, "internal_position", psprintf("%d", e->internalpos));
  if (e->cursorpos > 0) push_pair(&state, "position", psprintf("%d", e->cursorpos));
  return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, nullptr));
}

Jsonb* error_json(int sqlstate, const char* message, const char* hint) {
  ErrorData e{};
  e.sqlerrcode = sqlstate;
  e.message = const_cast<char*>(message);
  e.hint = const_cast<char*>(hint);
  return error_json(&e);
}

}  // namespace dts::store
