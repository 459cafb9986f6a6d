// What the renderers of requests share: the request as it is made, its secrets and headers, its templates.
#pragma once

#include <string_view>

#include "request.hpp"

namespace dts::request {

/// What is known while one request is rendered. Plain data in the current context.
struct Render {
  const store::Task& task;
  Oid role;
  const JsonbContainer* doc;  // nullptr: no values
  const JsonbContainer* payload;
  const char* host;  // that secrets are asked for; "" until it is known
  Rendered out;
  http::Text* secrets;  // what is used of these two is copied in the end
  http::Text* headers;
};

/// Notes what keeps the request from being sent; the first such thing counts.
void fail(Render* r, int sqlstate, const char* why);

/// Where a text stands: a value is escaped for it.
enum class Place { Url, Header, Plain };

/// A text of the server, as it goes over the network.
http::Text in_utf8(const char* s, size_t n);
/// The same as a string of C; "" if there is none.
const char* c_string(const http::Text& t);
void append_escaped(StringInfo to, std::string_view s, Place place);
/// A text with its references replaced.
http::Text render_text(Render* r, std::string_view s, Place place);
/// A JSON value with its references replaced: a whole string takes the type of its value.
JsonbValue* render_json(Render* r, const JsonbContainer* c);
/// The bytes of a base64 text.
http::Text decode(Render* r, std::string_view s);

/// The value of a secret, noted so that nothing shows it; "" after a failure.
http::Text secret_value(Render* r, std::string_view name);

/// Adds "name: value", if it is one line.
void add_header(Render* r, const char* name, const http::Text& value);
/// A header of ours: its folds are made here, so it is not looked at for line breaks.
void add_line(Render* r, const char* name, const char* value);
bool has_header(const Render& r, const char* name);
/// Those that the request has itself.
void add_headers(Render* r, Jsonb* request);

/// The same in each attempt, and never that of another task, also not after a failover that hands ids out again: a digest of what no two
/// tasks share. (Standard Webhooks calls it webhook-id.)
const char* message_id(const store::Task& t);
/// Standard Webhooks 1.0: several secrets give several signatures, so that a receiver may change from one to the next.
void sign(Render* r, Jsonb* request, const char* id);

void render_http(Render* r, Jsonb* request);
void render_mail(Render* r, Jsonb* request);

}  // namespace dts::request
