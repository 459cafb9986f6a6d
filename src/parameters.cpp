#include "parameters.hpp"

namespace dts {

namespace {

/// Also of a domain over it.
bool is_json(Oid type) {
  const Oid base = OidIsValid(type) ? getBaseType(type) : InvalidOid;
  return base == JSONBOID || base == JSONOID;
}

/// A value as JSON.
char* json_text(const JsonbValue& v) {
  Jsonb* const j = JsonbValueToJsonb(const_cast<JsonbValue*>(&v));
  return JsonbToCString(nullptr, &j->root, VARSIZE(j));
}

/// Text of a JSON scalar for a type's input function; nullptr for null.
char* scalar_text(const JsonbValue& v) {
  switch (v.type) {
    case jbvNull: return nullptr;
    case jbvBool: return pstrdup(v.val.boolean ? "true" : "false");
    case jbvNumeric: return DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(v.val.numeric)));
    case jbvString: return pnstrdup(v.val.string.val, v.val.string.len);
    default: return json_text(v);
  }
}

/// A JSON array as a literal of a PostgreSQL array; `json`: its elements are json or jsonb, so that strings keep their quotes.
void array_text(StringInfo out, JsonbContainer* array, bool json) {
  appendStringInfoChar(out, '{');
  const uint32 n = JsonContainerSize(array);
  for (uint32 i = 0; i < n; i++) {
    if (i > 0) appendStringInfoChar(out, ',');
    const JsonbValue* const e = getIthJsonbValueFromContainer(array, i);
    if (e->type == jbvBinary && JsonContainerIsArray(e->val.binary.data)) {
      check_stack_depth();
      array_text(out, e->val.binary.data, json);
      continue;
    }
    const char* const text = json ? json_text(*e) : scalar_text(*e);
    if (text == nullptr) {
      appendStringInfoString(out, "NULL");
      continue;
    }
    appendStringInfoChar(out, '"');
    for (const char* c = text; *c != '\0'; c++) {
      if (*c == '"' || *c == '\\') appendStringInfoChar(out, '\\');
      appendStringInfoChar(out, *c);
    }
    appendStringInfoChar(out, '"');
  }
  appendStringInfoChar(out, '}');
}

Datum to_type(const JsonbValue& v, Oid type, bool* isnull) {
  *isnull = v.type == jbvNull && !is_json(type);
  if (*isnull) {
    // Domains may refuse NULL.
    Oid input = InvalidOid, param = InvalidOid;
    getTypeInputInfo(type, &input, &param);
    return OidInputFunctionCall(input, nullptr, param, -1);
  }
  if (type == JSONBOID) return JsonbPGetDatum(JsonbValueToJsonb(const_cast<JsonbValue*>(&v)));
  char* text = nullptr;
  const Oid element = get_element_type(getBaseType(type));
  if (is_json(type)) {
    text = json_text(v);
  } else if (v.type == jbvBinary && JsonContainerIsArray(v.val.binary.data) && OidIsValid(element)) {
    StringInfoData literal;
    initStringInfo(&literal);
    array_text(&literal, v.val.binary.data, is_json(element));
    text = literal.data;
  } else {
    text = scalar_text(v);
  }
  Oid input = InvalidOid, param = InvalidOid;
  getTypeInputInfo(type, &input, &param);
  return OidInputFunctionCall(input, text, param, -1);
}

}  // namespace

ParamListInfo bind_parameters(Jsonb* args, bool payload, const Oid* types, int n) {
  if (n == 0) return nullptr;
  ParamListInfo const list = makeParamList(n);
  for (int i = 0; i < n; i++) {
    ParamExternData& p = list->params[i];
    p.pflags = PARAM_FLAG_CONST;
    p.ptype = types[i];
    if (payload) {
      p.value = JsonbPGetDatum(args);
      p.isnull = args == nullptr;
      continue;
    }
    const JsonbValue* const v = getIthJsonbValueFromContainer(&args->root, i);
    p.value = to_type(*v, types[i], &p.isnull);
  }
  return list;
}

int infer_types(RawStmt* raw, const char* sql, bool payload, int given, Oid** types) {
  *types = nullptr;
  int n = 0;
  if (payload) {
    *types = static_cast<Oid*>(palloc(sizeof(Oid)));
    (*types)[0] = JSONBOID;
    return 1;
  }
  if (given == 0) return 0;
  // Utility statements take no parameters; the analysis of a copy leaves the original to the planner.
  Query* const query = parse_analyze_varparams(static_cast<RawStmt*>(copyObjectImpl(raw)), sql, types, &n, nullptr);
  (void)query;
  for (int i = 0; i < n; i++)
    if ((*types)[i] == InvalidOid || (*types)[i] == UNKNOWNOID) (*types)[i] = TEXTOID;
  while (n < given) {  // a number that the text skips still takes its argument
    *types = *types == nullptr ? static_cast<Oid*>(palloc(sizeof(Oid) * given)) : static_cast<Oid*>(repalloc(*types, sizeof(Oid) * given));
    (*types)[n++] = TEXTOID;
  }
  return n;
}

int argument_count(Jsonb* args, bool payload) { return payload ? 1 : args == nullptr ? 0 : static_cast<int>(JB_ROOT_COUNT(args)); }

}  // namespace dts
