// Errors as JSON, as history and dead letters keep them.
#pragma once

#include "pg/postgres.hpp"

namespace dts::store {

/// Makes the JSON of an error.
Jsonb* error_json(const ErrorData* error);
/// The same for an error that dts itself states.
Jsonb* error_json(int sqlstate, const char* message, const char* hint);

}  // namespace dts::store
