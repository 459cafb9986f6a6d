#include "store/policy.hpp"

namespace dts::store {

namespace {

bool is(const JsonbValue& v, const char* text) {
  return v.type == jbvString && static_cast<size_t>(v.val.string.len) == strlen(text) &&
         strncmp(v.val.string.val, text, v.val.string.len) == 0;
}

double number(const JsonbValue& v) {
  return DatumGetFloat8(DirectFunctionCall1(numeric_float8_no_overflow, NumericGetDatum(v.val.numeric)));
}

[[noreturn]] void refuse(const char* key, const char* wanted) {
  ereport(ERROR,
          (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid value for \"%s\" in argument \"retry\"", key), errhint("%s", wanted)));
}

void check_number(const JsonbValue& v, const char* key, double lowest, double highest) {
  if (v.type != jbvNumeric || !(number(v) >= lowest && number(v) <= highest)) {
    char wanted[128];
    snprintf(wanted, sizeof(wanted), "Give a number between %g and %g.", lowest, highest);
    refuse(key, pstrdup(wanted));
  }
}

/// SQLSTATEs (5 characters) or classes (2) in an array of strings.
void check_states(const JsonbValue& v, const char* key) {
  constexpr const char* kWanted = "Give an array of SQLSTATEs (five characters) or classes (two characters).";
  if (v.type != jbvBinary || !JsonContainerIsArray(v.val.binary.data)) refuse(key, kWanted);
  const uint32 n = JsonContainerSize(v.val.binary.data);
  for (uint32 i = 0; i < n; i++) {
    const JsonbValue* const e = getIthJsonbValueFromContainer(v.val.binary.data, i);
    if (e->type != jbvString || (e->val.string.len != 2 && e->val.string.len != 5)) refuse(key, kWanted);
    for (int k = 0; k < e->val.string.len; k++)
      if (strchr("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ", e->val.string.val[k]) == nullptr) refuse(key, kWanted);
  }
}

bool listed(Jsonb* policy, const char* key, const char* sqlstate, bool* present) {
  JsonbValue v;
  *present = json_member(policy, key, &v) && v.type == jbvBinary;
  if (!*present) return false;
  const uint32 n = JsonContainerSize(v.val.binary.data);
  for (uint32 i = 0; i < n; i++) {
    const JsonbValue* const e = getIthJsonbValueFromContainer(v.val.binary.data, i);
    if (e->type == jbvString && core::sqlstate_matches(sqlstate, e->val.string.val, e->val.string.len)) return true;
  }
  return false;
}

}  // namespace

bool json_member(Jsonb* object, const char* key, JsonbValue* out) {
  if (object == nullptr || !JB_ROOT_IS_OBJECT(object)) return false;
  return getKeyJsonValueFromContainer(&object->root, key, static_cast<int>(strlen(key)), out) != nullptr && out->type != jbvNull;
}

void check_retry(Jsonb* policy) {
  if (policy == nullptr) return;
  if (!JB_ROOT_IS_OBJECT(policy))
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("argument \"retry\" must be a JSON object"),
                    errhint("For example {\"strategy\": \"exponential\", \"base\": 1, \"cap\": 3600}.")));
  constexpr const char* kStrategies = "Use exponential, linear or fixed.";
  JsonbIterator* it = JsonbIteratorInit(&policy->root);
  JsonbValue v;
  (void)JsonbIteratorNext(&it, &v, false);
  while (JsonbIteratorNext(&it, &v, true) == WJB_KEY) {
    const JsonbValue key = v;
    (void)JsonbIteratorNext(&it, &v, true);
    if (v.type == jbvNull) continue;
    if (is(key, "strategy")) {
      if (!is(v, "exponential") && !is(v, "linear") && !is(v, "fixed")) refuse("strategy", kStrategies);
    } else if (is(key, "base")) {
      check_number(v, "base", 0.001, 3.2e9);
    } else if (is(key, "cap")) {
      check_number(v, "cap", 0.001, 3.2e9);
    } else if (is(key, "factor")) {
      check_number(v, "factor", 1, 1000);
    } else if (is(key, "jitter")) {
      if (!is(v, "full") && !is(v, "none")) refuse("jitter", "Use full or none.");
    } else if (is(key, "on")) {
      check_states(v, "on");
    } else if (is(key, "not_on")) {
      check_states(v, "not_on");
    } else {
      ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                      errmsg("unknown key \"%s\" in argument \"retry\"", pnstrdup(key.val.string.val, key.val.string.len)),
                      errhint("Known keys are strategy, base, factor, cap, jitter, on and not_on.")));
    }
  }
  const core::RetryPolicy p = read_retry(policy);
  if (p.base_ms > p.cap_ms) refuse("base", "It must not be above \"cap\" (3600 if not given).");
}

core::RetryPolicy read_retry(Jsonb* policy) {
  core::RetryPolicy p;
  JsonbValue v;
  if (json_member(policy, "strategy", &v))
    p.strategy = is(v, "linear") ? core::Strategy::Linear : is(v, "fixed") ? core::Strategy::Fixed : core::Strategy::Exponential;
  if (json_member(policy, "base", &v) && v.type == jbvNumeric) p.base_ms = number(v) * 1000;
  if (json_member(policy, "factor", &v) && v.type == jbvNumeric) p.factor = number(v);
  if (json_member(policy, "cap", &v) && v.type == jbvNumeric) p.cap_ms = number(v) * 1000;
  if (json_member(policy, "jitter", &v)) p.jitter = !is(v, "none");
  return p;
}

bool retry_wanted(Jsonb* policy, const char* sqlstate) {
  bool present = false;
  if (listed(policy, "not_on", sqlstate, &present)) return false;
  const bool on = listed(policy, "on", sqlstate, &present);
  return on || !present;
}

}  // namespace dts::store
