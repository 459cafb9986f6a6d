// One request on its way: what was asked, its handle of libcurl, what has come back.
#pragma once

#include <curl/curl.h>

#include <map>
#include <string>
#include <vector>

#include "core/egress.hpp"
#include "http/client.hpp"
#include "http/hosts.hpp"

namespace dts::http {

struct Line {
  std::string text;
  bool secret = false;  // holds the value of a secret: not for another host
};

/// What a transfer needs of those who run it.
struct Reactor {
  Reactor() = default;
  Reactor(const Reactor&) = delete;
  Reactor& operator=(const Reactor&) = delete;
  virtual ~Reactor() = default;
  [[nodiscard]] virtual const std::vector<core::EgressRule>& rules(uint32_t role) const noexcept = 0;
  /// The name of a transfer's host is known: those that wait for it may go.
  virtual void looked_up(Transfer& t) noexcept = 0;
  /// Its request is on the way.
  virtual void sent(Transfer& t) noexcept = 0;
  /// A socket of a connection was opened, or is about to be closed.
  virtual void socket_opened(Transfer& t, int fd) noexcept = 0;
  virtual void socket_closed(int fd) noexcept = 0;
};

struct Transfer;
using Deadlines = std::multimap<int64_t, Transfer*>;

struct Transfer {
  Reactor* reactor = nullptr;
  int ticket = 0;
  uint32_t role = 0;
  // asked
  std::string url, method, body;
  bool has_body = false, body_secret = false;
  std::vector<Line> lines;
  int redirects_left = 0;
  int timeout_ms = 0, connect_timeout_ms = 0;
  size_t most_body = 0;
  std::string ca, certificate, key;
  std::vector<std::pair<std::string, std::string>> secrets;
  // mail
  bool is_mail = false, mail_tls = false;
  bool special = false;  // has certificates of its own, or is a mail
  std::string from, user, password, text, html;
  std::vector<std::string> to;
  struct Attached {
    std::string name, type, data;
  };
  std::vector<Attached> parts;
  // under way
  CURL* easy = nullptr;
  CURLU* parsed = nullptr;
  std::vector<curl_slist> header_nodes;  // of a request: they point into `lines`
  curl_slist* header_list = nullptr;     // of a mail
  curl_slist* recipients = nullptr;
  curl_mime* mime = nullptr;
  core::Target target;
  Host* host = nullptr;
  bool counted = false, looks = false, added = false, unsent = false;
  int64_t deadline = 0;  // milliseconds, of the whole
  Deadlines::iterator at_deadline;
  // come back
  Failure failure = Failure::None;
  std::string message, got_headers, got_body, last_url;
  bool cut = false, refused = false, too_many_headers = false;
  bool asked = false;  // the request was sent, as far as we know
  bool multiplexed = false;
  bool unanswered = false;  // it would have been sent once more, which its method does not allow
  int status = 0, redirects = 0, resent = 0;
  int64_t looked_up = 0, connected = 0, secured = 0, first_byte = 0, total = 0;
  char error[CURL_ERROR_SIZE] = "";

  Transfer() = default;
  Transfer(const Transfer&) = delete;
  Transfer& operator=(const Transfer&) = delete;
  ~Transfer();

  void copy(const Request& r);
  /// Takes the URL apart and asks the rules; false, with failure and message, if it must not be asked for.
  bool aim();
  /// Whether its handle can be used again for another such request without being reset.
  [[nodiscard]] bool plain() const { return !special; }
  /// Makes the handle ready; false for want of memory. `seasoned`: it was used for a plain request, and has what all of them need.
  /// `keep`: its connection may serve others afterwards.
  bool prepare(CURL* handle, bool seasoned, const char* ca_file, bool keep);
  /// The handle is done with this result. True if it goes on with another request (a redirect).
  bool finish(CURLcode result);
  void fail(Failure why, std::string what);
  /// Hides the values of secrets in all that has come back.
  void hide_secrets();
  /// What has come back; its texts are ours.
  [[nodiscard]] Response response() const;
  /// Gives back what belongs to one request, and the handle.
  CURL* let_go();

 private:
  bool prepare_http(bool keep);
  bool prepare_mail();
  bool redirect();
};

}  // namespace dts::http
