// Runs the SQL text of a task: parameters from JSON, plans kept, result as JSON, notices collected.
#pragma once

#include "core/task_state.hpp"
#include "pg/postgres.hpp"
#include "result.hpp"

namespace dts {

/// Runs a transactional text inside the current subtransaction. args: JSON array bound to $1, ... (or any JSON bound to $1 as jsonb
/// if `payload`). Raises whatever it raises.
void run_transactional(const char* sql, Jsonb* args, bool payload, bool capture, SqlResult* result, int64 room = 0);

/// Runs one statement outside of any transaction block, as psql would: VACUUM, CREATE INDEX CONCURRENTLY, CALL with COMMIT.
/// Starts and ends its own transactions.
void run_top_level(const char* sql);

/// Number of the highest placeholder in a text, by the server's own scanner.
int count_placeholders(const char* sql);

/// What can be known about a text before it runs.
struct SqlShape {
  int statements;
  int placeholders;
  bool transaction_control;  // BEGIN, COMMIT, ...
  const char* copy_stream;   // COPY ... FROM STDIN / TO STDOUT
};
/// Parses (raises 42601). The shape of the last texts is remembered.
SqlShape shape_of(const char* sql);

/// Checks that args fit a text that can be analysed now: conversion errors are raised; names that do not exist yet are not.
void check_arguments(const char* sql, Jsonb* args, bool payload);

/// Notices of the running task: collected from begin to take (nullptr if there were none).
void notices_begin();
const char* notices_take();
/// Installs the collector in this process.
void notices_install();

/// Whether the last task left something in the session that the next one must not see.
bool session_used();
/// Forgets what nothing tells cheaply whether it was used: session-level advisory locks, values of sequences, descriptors of large
/// objects, the seed of random(). After each task.
void session_forget();
/// Cleans the session between transactions; cheap if nothing was used.
void session_reset();
void session_install();

}  // namespace dts
