// Retry policies as users write them.
#pragma once

#include "core/retry.hpp"
#include "pg/postgres.hpp"

namespace dts::store {

/// Refuses a malformed policy, naming the key.
void check_retry(Jsonb* policy);

/// Reads a policy that was checked before; absent keys keep their defaults.
core::RetryPolicy read_retry(Jsonb* policy);

/// Whether the policy wants another attempt after this SQLSTATE.
bool retry_wanted(Jsonb* policy, const char* sqlstate);

/// Member of a JSON object; false if it is absent or null.
bool json_member(Jsonb* object, const char* key, JsonbValue* out);

}  // namespace dts::store
