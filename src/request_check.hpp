// What the checks of requests share: refusals, references, headers.
#pragma once

#include <string_view>

#include "core/egress.hpp"
#include "http/client.hpp"
#include "request_json.hpp"

namespace dts::request {

/// What the checks know of the request they are in. Plain data: errors jump over it.
struct Check {
  Oid role;
  bool values;
  const char* place;
};

/// Raises 22023 for a member; the detail names the place.
[[noreturn]] void refuse(const Check& c, const char* key, const char* detail, const char* hint);
/// Raises 42501 unless the rules allow it.
void refuse_egress(const Check& c, core::Egress v, const char* target);

void need_string(const Check& c, const char* key, const JsonbValue& v);
void need_array(const Check& c, const char* key, const JsonbValue& v, const char* hint);
void need_object(const Check& c, const char* key, const JsonbValue& v);

/// Calls f(string) for each element of an array of strings, or for one string.
template <class F>
void each_string(const Check& c, const char* key, const JsonbValue& v, F&& f) {
  if (v.type == jbvString) {
    f(v);
    return;
  }
  need_array(c, key, v, "Give an array of strings.");
  const uint32 n = JsonContainerSize(v.val.binary.data);
  for (uint32 i = 0; i < n; i++) {
    const JsonbValue* const e = getIthJsonbValueFromContainer(v.val.binary.data, i);
    if (e->type != jbvString) refuse(c, key, "An element is not a string.", "Give an array of strings.");
    f(*e);
  }
}

/// Raises 42704 unless the role may use the secret.
void check_secret(const Check& c, const char* key, const char* name);
/// The references of a text: secrets exist, and only templates have others.
void check_references(const Check& c, const char* key, const JsonbValue& v);
/// Names and values of headers; `mail`: of a message.
void check_headers(const Check& c, const JsonbValue& v, bool mail);

/// One member of a request, by its key.
void check_http_member(const Check& c, const char* key, const JsonbValue& v);
/// The same of a mail; rules are those of the role.
void check_mail_member(const Check& c, const char* key, const JsonbValue& v, const http::RuleText* rules, int n);

}  // namespace dts::request
