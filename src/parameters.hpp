// Arguments of a task, JSON, as parameters of its text.
#pragma once

#include "pg/postgres.hpp"

namespace dts {

/// Values for $1, ... of these types from a JSON array, through the types' input functions; `payload`: $1 is all of it. Raises what they
/// raise.
ParamListInfo bind_parameters(Jsonb* args, bool payload, const Oid* types, int n);

/// Types of a text's parameters as the server infers them; a payload's one parameter is jsonb. Returns how many.
int infer_types(RawStmt* raw, const char* sql, bool payload, int given, Oid** types);

int argument_count(Jsonb* args, bool payload);

}  // namespace dts
