// Requests as they are stored: JSON objects whose keys are the arguments of dts.submit_http and dts.submit_mail. Checked at submit,
// rendered by the courier: values of templates and secrets are put in by position there, and nowhere else.
#pragma once

#include "core/task_state.hpp"
#include "http/client.hpp"
#include "pg/postgres.hpp"
#include "store/tasks.hpp"

namespace dts {

/// Raises 22023, 42501 and the like for a request that can never be sent. `place` names it in details; `values`: it is a template.
void check_request(core::Kind kind, Jsonb* request, Oid role, bool values, const char* place);

/// What became of an attempt to render.
struct Rendered {
  const char* error = nullptr;  // what keeps the request from being sent
  int sqlstate = 0;
  const char* host = "";  // of an HTTP request: "name:port"
  http::Request request;
  http::Mail mail;
};

/// Renders the request of a task in the current context: `request` is its own or its handler's, `doc` what references look into.
Rendered render_request(const store::Task& task, Jsonb* request, Jsonb* payload, Oid role);

/// Whether a status counts as success, and whether it is worth another attempt, by the request's own word or the defaults.
bool is_success(Jsonb* request, int status);
bool is_retryable(Jsonb* request, int status);

/// Egress rules of a role as texts, in the current context.
int read_rules(Oid role, http::RuleText** out);

}  // namespace dts
