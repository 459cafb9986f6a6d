// What a courier asks of libcurl, without libcurl: requests go in, responses come out, and one descriptor says when there is something
// to do. The implementation is a library of its own (dts_http), which only couriers load: no backend carries libcurl.
//
// Nothing here fails by exception, and nothing here knows the server. All texts of a request are copied; those of a response live until
// release().
#pragma once

#include <cstddef>
#include <cstdint>

namespace dts::http {

struct Text {
  const char* data = nullptr;
  size_t size = 0;
};

/// A rule of egress, as texts (core/egress.hpp): schemes, ports ("80,8000-8080") and networks are lists with commas.
struct RuleText {
  bool allow;
  const char* host;
  const char* schemes;
  const char* ports;
  const char* networks;
};

struct Settings {
  int host_connections = 0;  // to one host and port, 0: any number
  int lookups = 16;          // names looked up at once: each is a thread of libcurl's
  const char* ca_file = nullptr;
};

struct Part {
  Text name, type, data;  // an attachment: file name, media type, bytes
};

struct Mail {
  const char* from;  // addresses of the envelope
  const char* const* to;
  int to_count;
  const char* user;  // nullptr: no login
  const char* password;
  bool tls;  // on a connection that begins without: STARTTLS must work
  Text text, html;
  const Part* parts;
  int part_count;
};

/// One request; a mail has `mail`, and its headers are those of the message.
struct Request {
  int ticket = 0;     // the caller's number for it
  uint32_t role = 0;  // whose rules count
  const char* url = nullptr;
  const char* method = nullptr;
  bool has_body = false;
  Text body;
  const Text* headers = nullptr;  // "Name: value"
  int header_count = 0;
  int timeout_ms = 0, connect_timeout_ms = 0;
  size_t most_body = 0;
  int redirects = 0;
  Text ca, certificate, key;      // PEM
  const Text* secrets = nullptr;  // pairs of name and value, which no response and no message shows
  int secret_count = 0;
  const Mail* mail = nullptr;
};

enum class Failure { None, Refused, Lookup, Connect, Tls, Timeout, Broken, Protocol, Redirects, Cancelled, Rejected, Local };

struct Response {
  int ticket = 0;
  Failure failure = Failure::None;
  const char* message = "";  // of a failure
  int status = 0;            // of HTTP, or the last reply of SMTP
  Text headers;              // "name: value" lines
  Text body;
  bool cut = false;
  int redirects = 0;
  int resent = 0;        // times that the last request was sent again because a connection that was kept open had died
  const char* url = "";  // of the last request, if there were redirects
  // Microseconds from the start of the last request.
  int64_t looked_up = 0, connected = 0, secured = 0, first_byte = 0, total = 0;
};

class Client {
 public:
  Client() = default;
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;
  virtual ~Client() = default;

  virtual void configure(const Settings& settings) noexcept = 0;
  /// Replaces the rules of a role.
  virtual void set_rules(uint32_t role, const RuleText* rules, int n) noexcept = 0;
  /// Begins a request; false if there is no memory. Its end comes from next(), whatever happens.
  virtual bool start(const Request& request) noexcept = 0;
  /// Ends a request: its response comes with Failure::Cancelled or Timeout.
  virtual void stop(int ticket, Failure why) noexcept = 0;
  /// Readable when turn() has something to do.
  [[nodiscard]] virtual int descriptor() const noexcept = 0;
  /// Milliseconds until turn() has something to do anyway, -1: none.
  [[nodiscard]] virtual int wait_ms() const noexcept = 0;
  /// Moves bytes, without waiting.
  virtual void turn() noexcept = 0;
  /// A request that has ended; false if there is none. release() forgets it.
  virtual bool next(Response* out) noexcept = 0;
  virtual void release(int ticket) noexcept = 0;
  /// Requests that have begun and have not been given by next().
  [[nodiscard]] virtual int active() const noexcept = 0;
  /// Those of them that could be sent already, but for others at the same host.
  [[nodiscard]] virtual int queued() const noexcept = 0;
};

/// The one symbol of the library, "dts_http_open"; nullptr, with a reason, if libcurl cannot be used.
using Open = Client* (*)(const char** why);

}  // namespace dts::http
