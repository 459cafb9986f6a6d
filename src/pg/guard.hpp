// The doors between C++ and the server's errors (docs/cpp_in_postgres.md).
//
// Server errors are long jumps: no frame that they cross may hold an object with a destructor. Everything in src/ outside core/
// keeps to plain data, so errors travel through it as through C. Two helpers are left:
//   entry(f)    body of each function that the server calls: a C++ exception becomes a server error, never a terminate()
//   attempt(f)  runs f and catches a server error; for the executor's task loop and the main loops only
#pragma once

#include "pg/postgres.hpp"

namespace dts::pg {

/// Runs f; a C++ exception leaves as ERROR, raised outside the catch block so that the exception object is freed.
template <class F>
auto entry(F&& f) {
  int sqlstate = 0;
  try {
    return f();
  } catch (const std::bad_alloc&) {
    sqlstate = ERRCODE_OUT_OF_MEMORY;
  } catch (...) {
    sqlstate = ERRCODE_INTERNAL_ERROR;
  }
  ereport(ERROR, (errcode(sqlstate), errmsg(sqlstate == ERRCODE_OUT_OF_MEMORY ? "out of memory" : "unexpected exception in dts")));
  pg_unreachable();
}

/// Runs f and returns nullptr, or the error that it raised, copied into `context`. The caller must abort the (sub)transaction.
template <class F>
ErrorData* attempt(MemoryContext context, F&& f) {
  sigjmp_buf* const saved_stack = PG_exception_stack;
  ErrorContextCallback* const saved_context = error_context_stack;
  sigjmp_buf here;
  if (sigsetjmp(here, 0) == 0) {
    PG_exception_stack = &here;
    f();
    PG_exception_stack = saved_stack;
    error_context_stack = saved_context;
    return nullptr;
  }
  PG_exception_stack = saved_stack;
  error_context_stack = saved_context;
  MemoryContextSwitchTo(context);
  ErrorData* const error = CopyErrorData();
  FlushErrorState();
  return error;
}

}  // namespace dts::pg

/// Declares and opens a C function that SQL calls; the body follows in braces and returns a Datum.
// Declared with its visibility first: the server's macro would declare it hidden on 15.
#define DTS_FUNCTION(name)                                             \
  extern "C" {                                                         \
  PGDLLEXPORT Datum name(PG_FUNCTION_ARGS);                            \
  PG_FUNCTION_INFO_V1(name);                                           \
  }                                                                    \
  static Datum name##_body(FunctionCallInfo fcinfo);                   \
  extern "C" Datum name(PG_FUNCTION_ARGS) {                            \
    return ::dts::pg::entry([fcinfo] { return name##_body(fcinfo); }); \
  }                                                                    \
  static Datum name##_body([[maybe_unused]] FunctionCallInfo fcinfo)
