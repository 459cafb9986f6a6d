#include "http/transfer.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>

#include "core/mail.hpp"
#include "core/url.hpp"

// Callbacks of libcurl run in its frames: they neither throw nor call the server.

namespace dts::http {

namespace {

constexpr size_t kMostHeaders = 65536;
constexpr long kIdleSeconds = 60;  // a connection that was idle for so long is not used again
constexpr long kFreshSeconds = 2;

std::string own(const Text& t) { return t.size == 0 ? std::string() : std::string(t.data, t.size); }

const char* or_empty(const char* s) { return s == nullptr ? "" : s; }

size_t on_body(char* data, size_t, size_t size, void* self) noexcept {
  auto& t = *static_cast<Transfer*>(self);
  try {
    const size_t room = t.most_body - t.got_body.size();
    t.got_body.append(data, size < room ? size : room);
    if (size <= room) return size;
    t.cut = true;
  } catch (...) {
    t.cut = true;
  }
  return CURL_WRITEFUNC_ERROR;  // enough: what else the server has to say is not read
}

size_t on_header(char* data, size_t, size_t size, void* self) noexcept {
  auto& t = *static_cast<Transfer*>(self);
  try {
    if (size >= 5 && std::memcmp(data, "HTTP/", 5) == 0) {
      t.got_headers.clear();
      return size;
    }
    if (t.got_headers.size() + size > kMostHeaders) {
      t.too_many_headers = true;
      return 0;
    }
    t.got_headers.append(data, size);
    return size;
  } catch (...) {
    return 0;
  }
}

bool address_of(const sockaddr* s, core::Address* out) noexcept {
  if (s->sa_family == AF_INET) {
    out->v6 = false;
    std::memcpy(out->byte.data(), &reinterpret_cast<const sockaddr_in*>(s)->sin_addr, 4);
    return true;
  }
  if (s->sa_family != AF_INET6) return false;
  out->v6 = true;
  std::memcpy(out->byte.data(), &reinterpret_cast<const sockaddr_in6*>(s)->sin6_addr, 16);
  return true;
}

bool may_connect(Transfer& t, const core::Address& a) noexcept {
  try {
    if (t.is_mail || core::may_connect(t.reactor->rules(t.role), t.target, a) == core::Egress::Allowed) return true;
  } catch (...) {
  }
  t.refused = true;
  return false;
}

/// The address that is about to be connected to: whatever the name said before, this is where the bytes would go.
curl_socket_t on_socket(void* self, curlsocktype, curl_sockaddr* where) noexcept {
  auto& t = *static_cast<Transfer*>(self);
  t.reactor->looked_up(t);
  core::Address a;
  if (!address_of(&where->addr, &a) || !may_connect(t, a)) return CURL_SOCKET_BAD;
  const int fd = socket(where->family, where->socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, where->protocol);
  if (fd >= 0) t.reactor->socket_opened(t, fd);
  return fd;
}

int on_close(void* reactor, curl_socket_t fd) noexcept {
  static_cast<Reactor*>(reactor)->socket_closed(fd);
  return close(fd);
}

/// Methods that do the same when they are sent twice (RFC 9110, 9.2.2).
bool is_idempotent(const std::string& method) {
  return method == "GET" || method == "HEAD" || method == "PUT" || method == "DELETE" || method == "OPTIONS";
}

/// The connection that is used, also one that was made earlier, maybe for a role that may do more. libcurl comes here again if a connection
/// that was kept open turns out to be dead before a byte of an answer: whether the peer has got the request nobody knows.
int on_request(void* self, char* ip, char*, int, int) noexcept {
  auto& t = *static_cast<Transfer*>(self);
  t.reactor->looked_up(t);
  core::Address a;
  if (ip == nullptr || !core::parse_address(ip, &a) || !may_connect(t, a)) {
    t.refused = true;
    return CURL_PREREQFUNC_ABORT;
  }
  if (t.asked && !is_idempotent(t.method)) {
    t.unanswered = true;
    return CURL_PREREQFUNC_ABORT;
  }
  t.resent += t.asked ? 1 : 0;
  t.asked = true;
  t.refused = false;  // another address of the name was
  t.reactor->sent(t);
  return CURL_PREREQFUNC_OK;
}

std::string part_of(CURLU* u, CURLUPart part, unsigned flags) {
  char* s = nullptr;
  if (curl_url_get(u, part, &s, flags) != CURLUE_OK || s == nullptr) return {};
  std::string out(s);
  curl_free(s);
  return out;
}

bool add(curl_slist** list, const char* line) {
  curl_slist* const more = curl_slist_append(*list, line);
  if (more == nullptr) return false;
  *list = more;
  return true;
}

void replace_all(std::string* s, const std::string& what, const std::string& with) {
  for (size_t at = s->find(what); at != std::string::npos; at = s->find(what, at + with.size())) s->replace(at, what.size(), with);
}

void blob(CURL* easy, CURLoption option, std::string& s) {
  if (s.empty()) return;
  curl_blob b{s.data(), s.size(), CURL_BLOB_NOCOPY};
  curl_easy_setopt(easy, option, &b);
}

/// Text on the way ends its lines with CRLF.
std::string lines_of(const std::string& s) {
  std::string out;
  out.reserve(s.size() + 64);
  for (size_t i = 0; i < s.size(); i++) {
    if (s[i] == '\n' && (i == 0 || s[i - 1] != '\r')) out += '\r';
    out += s[i];
  }
  return out;
}

void wipe(std::string& s) {
  volatile char* const p = s.data();
  for (size_t i = 0; i < s.size(); i++) p[i] = 0;
}

int64_t time_of(CURL* easy, CURLINFO what) {
  curl_off_t t = 0;
  curl_easy_getinfo(easy, what, &t);
  return t;
}

Failure failure_of(CURLcode code) {
  switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST: return Failure::Lookup;
    case CURLE_COULDNT_CONNECT: return Failure::Connect;
    case CURLE_OPERATION_TIMEDOUT: return Failure::Timeout;
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CIPHER:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_ISSUER_ERROR:
    case CURLE_SSL_INVALIDCERTSTATUS:
    case CURLE_USE_SSL_FAILED: return Failure::Tls;
    case CURLE_GOT_NOTHING:
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_PARTIAL_FILE:
    case CURLE_HTTP2_STREAM:
    case CURLE_HTTP2:
    case CURLE_SEND_FAIL_REWIND: return Failure::Broken;
    case CURLE_URL_MALFORMAT: return Failure::Refused;
    case CURLE_LOGIN_DENIED: return Failure::Rejected;
    case CURLE_OUT_OF_MEMORY: return Failure::Local;
    default: return Failure::Protocol;
  }
}

}  // namespace

Transfer::~Transfer() {
  if (easy != nullptr) curl_easy_cleanup(let_go());
  for (auto& s : secrets) wipe(s.second);
  for (Line& l : lines) wipe(l.text);
  wipe(password);
  wipe(key);
  wipe(certificate);
}

CURL* Transfer::let_go() {
  CURL* const handle = easy;
  easy = nullptr;
  if (handle != nullptr) {
    // It outlives us: nothing of ours may be left in it.
    if (plain()) {
      curl_easy_setopt(handle, CURLOPT_HTTPHEADER, nullptr);
      curl_easy_setopt(handle, CURLOPT_POSTFIELDS, nullptr);
      curl_easy_setopt(handle, CURLOPT_CURLU, nullptr);
      curl_easy_setopt(handle, CURLOPT_ERRORBUFFER, nullptr);
    } else {
      curl_easy_reset(handle);
    }
  }
  header_nodes.clear();
  curl_slist_free_all(header_list);
  curl_slist_free_all(recipients);
  curl_mime_free(mime);
  curl_url_cleanup(parsed);
  header_list = recipients = nullptr;
  mime = nullptr;
  parsed = nullptr;
  return handle;
}

void Transfer::fail(Failure why, std::string what) {
  failure = why;
  message = std::move(what);
}

void Transfer::copy(const Request& r) {
  ticket = r.ticket;
  role = r.role;
  url = or_empty(r.url);
  method = or_empty(r.method);
  has_body = r.has_body;
  body = own(r.body);
  for (size_t i = 0; i < static_cast<size_t>(r.secret_count); i++) secrets.emplace_back(own(r.secrets[2 * i]), own(r.secrets[2 * i + 1]));
  const auto holds_secret = [this](const std::string& s) {
    for (const auto& secret : secrets)
      if (!secret.second.empty() && s.find(secret.second) != std::string::npos) return true;
    return false;
  };
  for (int i = 0; i < r.header_count; i++) {
    Line line{own(r.headers[i])};
    // With an empty value libcurl would leave the field out, and would take it for one of its own; a semicolon says that it is meant.
    const size_t colon = line.text.find(':');
    if (colon != std::string::npos && r.mail == nullptr && line.text.find_first_not_of(" \t", colon + 1) == std::string::npos)
      line.text = line.text.substr(0, colon) + ";";
    line.secret = holds_secret(line.text);
    lines.push_back(std::move(line));
  }
  body_secret = holds_secret(body);
  redirects_left = r.redirects;
  timeout_ms = r.timeout_ms;
  connect_timeout_ms = r.connect_timeout_ms;
  most_body = r.most_body;
  ca = own(r.ca);
  certificate = own(r.certificate);
  key = own(r.key);
  // libcurl compares certificates, and not keys, when it looks for a connection: with the key behind it (which it skips) nobody gets one
  // that was made with a key that he does not have.
  if (!certificate.empty()) certificate += "\n" + key;
  special = r.mail != nullptr || !ca.empty() || !certificate.empty() || !key.empty();
  if (r.mail == nullptr) return;
  const Mail& m = *r.mail;
  is_mail = true;
  mail_tls = m.tls;
  from = or_empty(m.from);
  for (int i = 0; i < m.to_count; i++) to.emplace_back(m.to[i]);
  user = or_empty(m.user);
  password = or_empty(m.password);
  text = lines_of(own(m.text));
  html = lines_of(own(m.html));
  for (int i = 0; i < m.part_count; i++) parts.push_back({own(m.parts[i].name), own(m.parts[i].type), own(m.parts[i].data)});
}

bool Transfer::aim() {
  parsed = curl_url();
  if (parsed == nullptr) {
    fail(Failure::Local, "out of memory");
    return false;
  }
  if (const CURLUcode c = curl_url_set(parsed, CURLUPART_URL, url.c_str(), CURLU_DISALLOW_USER); c != CURLUE_OK) {
    fail(Failure::Refused, std::string("the URL is not valid: ") + curl_url_strerror(c));
    return false;
  }
  target.scheme = core::lower(part_of(parsed, CURLUPART_SCHEME, 0));
  target.host = core::plain_host(part_of(parsed, CURLUPART_HOST, 0));
  const std::string port = part_of(parsed, CURLUPART_PORT, CURLU_DEFAULT_PORT);
  target.port = 0;
  for (const char c : port)
    if (c >= '0' && c <= '9' && target.port < 100000) target.port = target.port * 10 + (c - '0');
  if (is_mail) return true;  // an administrator has chosen the server
  if (target.scheme != "http" && target.scheme != "https") {
    fail(Failure::Refused, "scheme \"" + target.scheme + "\" is not allowed");
    return false;
  }
  if (!core::is_host_pattern(target.host) || target.host.find('*') != std::string::npos || target.port < 1 || target.port > 65535) {
    fail(Failure::Refused, "the URL has no valid host or port");
    return false;
  }
  // An address must be allowed before anything is looked at: no answer, not even a refused connection, comes from a forbidden one.
  core::Address a;
  core::Egress v = core::parse_address(target.host, &a) ? core::may_connect(reactor->rules(role), target, a)
                                                        : core::may_ask(reactor->rules(role), target);
  if (v == core::Egress::Allowed) return true;
  fail(Failure::Refused, v == core::Egress::Address ? "the host's address is not allowed"
                         : v == core::Egress::Denied
                             ? target.scheme + "://" + target.host + ":" + std::to_string(target.port) + " is denied"
                             : "no rule allows " + target.scheme + "://" + target.host + ":" + std::to_string(target.port));
  return false;
}

namespace {

/// What is the same for all requests of one kind. Nothing from the environment: no proxy, no credentials, no other protocol.
void season(CURL* easy, bool mail, const char* ca_file) {
  curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
#if LIBCURL_VERSION_NUM >= 0x075700
  curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);  // a hanging look-up is not waited for
#endif
  curl_easy_setopt(easy, CURLOPT_PROXY, "");
  curl_easy_setopt(easy, CURLOPT_NOPROXY, "*");
  curl_easy_setopt(easy, CURLOPT_NETRC, CURL_NETRC_IGNORED);
  curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, mail ? "smtp,smtps" : "http,https");
  curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
  curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 1L);
  curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 2L);
  curl_easy_setopt(easy, CURLOPT_SSLVERSION, CURL_SSLVERSION_TLSv1_2);
  if (ca_file != nullptr && *ca_file != '\0') curl_easy_setopt(easy, CURLOPT_CAINFO, ca_file);
  curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, 8192L);
  curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, on_socket);
  curl_easy_setopt(easy, CURLOPT_CLOSESOCKETFUNCTION, on_close);
  curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
  if (mail) {
    // A connection is judged by libcurl when it is made: one that was made without encryption, or with another login, is not used again.
    curl_easy_setopt(easy, CURLOPT_FRESH_CONNECT, 1L);
    curl_easy_setopt(easy, CURLOPT_FORBID_REUSE, 1L);
    return;
  }
  curl_easy_setopt(easy, CURLOPT_PREREQFUNCTION, on_request);
  curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
  curl_easy_setopt(easy, CURLOPT_ACCEPT_ENCODING, "gzip, deflate");
}

}  // namespace

bool Transfer::prepare(CURL* handle, bool seasoned, const char* ca_file, bool keep) {
  easy = handle;
  error[0] = '\0';
  if (!seasoned) season(easy, is_mail, ca_file);
  curl_easy_setopt(easy, CURLOPT_PRIVATE, this);
  curl_easy_setopt(easy, CURLOPT_CURLU, parsed);
  curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, error);
  curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(connect_timeout_ms));
  curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, this);
  curl_easy_setopt(easy, CURLOPT_CLOSESOCKETDATA, reactor);
  curl_easy_setopt(easy, CURLOPT_WRITEDATA, this);
  blob(easy, CURLOPT_CAINFO_BLOB, ca);
  blob(easy, CURLOPT_SSLCERT_BLOB, certificate);
  blob(easy, CURLOPT_SSLKEY_BLOB, key);
  if (is_mail) return prepare_mail();
  curl_easy_setopt(easy, CURLOPT_PREREQDATA, this);
  curl_easy_setopt(easy, CURLOPT_HEADERDATA, this);
  return prepare_http(keep);
}

bool Transfer::prepare_http(bool keep) {
  asked = false;
  curl_easy_setopt(easy, CURLOPT_FORBID_REUSE, keep ? 0L : 1L);
  // What may not be sent twice does not take a connection that the peer may be closing right now.
  // libcurl would look for an idle connection among all there are to the host, which takes long if these are thousands.
  curl_easy_setopt(easy, CURLOPT_FRESH_CONNECT, target.scheme == "http" && host->open < host->active ? 1L : 0L);
  curl_easy_setopt(easy, CURLOPT_MAXAGE_CONN, is_idempotent(method) ? kIdleSeconds : kFreshSeconds);
  curl_easy_setopt(easy, CURLOPT_PIPEWAIT, target.scheme == "https" ? 1L : 0L);  // one connection for many, where the peer speaks HTTP/2
  // The handle may have served another method before.
  curl_easy_setopt(easy, CURLOPT_HTTPGET, 1L);
  curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, nullptr);
  if (method == "HEAD") {
    curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
  } else if (has_body || method == "POST" || method == "PUT" || method == "PATCH") {
    curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(body.size()));
    curl_easy_setopt(easy, CURLOPT_POSTFIELDS, body.data());
    curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, method.c_str());
  } else if (method != "GET") {
    curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, method.c_str());
  }
  static char no_type[] = "Content-Type:", no_expect[] = "Expect:";  // not what libcurl would add
  bool typed = false;
  header_nodes.reserve(lines.size() + 2);
  const auto add_line = [this](char* line) {
    header_nodes.push_back(curl_slist{line, nullptr});
    if (header_nodes.size() > 1) header_nodes[header_nodes.size() - 2].next = &header_nodes.back();
  };
  for (Line& l : lines) {
    typed |= curl_strnequal(l.text.c_str(), "content-type", 12) != 0 && (l.text[12] == ':' || l.text[12] == ';');
    add_line(l.text.data());
  }
  if (!typed) add_line(no_type);
  add_line(no_expect);
  curl_easy_setopt(easy, CURLOPT_HTTPHEADER, header_nodes.data());
  return true;
}

bool Transfer::prepare_mail() {
  curl_easy_setopt(easy, CURLOPT_MAIL_FROM, from.c_str());
  for (const std::string& r : to)
    if (!add(&recipients, r.c_str())) return false;
  curl_easy_setopt(easy, CURLOPT_MAIL_RCPT, recipients);
  if (mail_tls) curl_easy_setopt(easy, CURLOPT_USE_SSL, static_cast<long>(CURLUSESSL_ALL));
  if (!user.empty()) {
    curl_easy_setopt(easy, CURLOPT_USERNAME, user.c_str());
    curl_easy_setopt(easy, CURLOPT_PASSWORD, password.c_str());
  }
  for (const Line& l : lines)
    if (!add(&header_list, l.text.c_str())) return false;
  mime = curl_mime_init(easy);
  if (mime == nullptr) return false;
  const auto put = [this](curl_mime* to_mime, const std::string& data, const char* type, const char* encoder) {
    curl_mimepart* const p = curl_mime_addpart(to_mime);
    if (p == nullptr || curl_mime_data(p, data.data(), data.size()) != CURLE_OK) return static_cast<curl_mimepart*>(nullptr);
    curl_mime_type(p, type);
    curl_mime_encoder(p, encoder);
    return p;
  };
  curl_mime* texts = mime;
  if (!html.empty()) {
    texts = curl_mime_init(easy);
    if (texts == nullptr) return false;
    curl_mimepart* const p = curl_mime_addpart(mime);
    if (p == nullptr) return false;
    curl_mime_subparts(p, texts);
    curl_mime_type(p, "multipart/alternative");
  }
  if ((!text.empty() || html.empty()) && put(texts, text, "text/plain; charset=utf-8", "quoted-printable") == nullptr) return false;
  if (!html.empty() && put(texts, html, "text/html; charset=utf-8", "quoted-printable") == nullptr) return false;
  for (const Attached& a : parts) {
    curl_mimepart* const p = put(mime, a.data, a.type.c_str(), "base64");
    if (p == nullptr) return false;
    const std::string name = core::encoded_text(a.name);
    curl_slist* const disposition = curl_slist_append(nullptr, ("Content-Disposition: attachment; filename=\"" + name + "\"").c_str());
    curl_mime_headers(p, disposition, 1);
  }
  curl_easy_setopt(easy, CURLOPT_MIMEPOST, mime);
  curl_easy_setopt(easy, CURLOPT_HTTPHEADER, header_list);
  return true;
}

bool Transfer::redirect() {
  char* next = nullptr;
  if (status < 300 || status > 399 || status == 304 || curl_easy_getinfo(easy, CURLINFO_REDIRECT_URL, &next) != CURLE_OK || next == nullptr)
    return false;
  if (redirects_left == 0) {
    if (redirects > 0) fail(Failure::Redirects, "more redirects than may be followed");
    return false;
  }
  const core::Target before = target;
  url = next;
  redirects_left--;
  redirects++;
  if ((status == 303 && method != "HEAD") || ((status == 301 || status == 302) && method == "POST")) {
    method = "GET";
    has_body = false;
    body.clear();
    body_secret = false;
    std::erase_if(lines, [](const Line& l) { return core::lower(l.text.substr(0, 8)) == "content-"; });
  }
  curl_url_cleanup(parsed);
  parsed = nullptr;
  if (!aim()) {
    message = "redirect refused: " + message;
    return false;
  }
  if (before.scheme != target.scheme || before.host != target.host || before.port != target.port) {
    if (body_secret) {
      fail(Failure::Refused, "redirect refused: the body holds a secret that is not for another host");
      return false;
    }
    certificate.clear();
    key.clear();
    std::erase_if(lines, [](const Line& l) {
      const std::string name = core::lower(l.text.substr(0, l.text.find(':')));
      return l.secret || name == "authorization" || name == "cookie" || name.starts_with("webhook-");
    });
  }
  return true;
}

bool Transfer::finish(CURLcode result) {
  long code = 0;
  curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &code);
  status = static_cast<int>(code);
  if (curl_easy_getinfo(easy, CURLINFO_HTTP_VERSION, &code) == CURLE_OK) multiplexed = code == CURL_HTTP_VERSION_2_0;
  looked_up = time_of(easy, CURLINFO_NAMELOOKUP_TIME_T);
  connected = time_of(easy, CURLINFO_CONNECT_TIME_T);
  secured = time_of(easy, CURLINFO_APPCONNECT_TIME_T);
  first_byte = time_of(easy, CURLINFO_STARTTRANSFER_TIME_T);
  total = time_of(easy, CURLINFO_TOTAL_TIME_T);
  if (cut && (result == CURLE_WRITE_ERROR || result == CURLE_OK)) result = CURLE_OK;
  if (refused) {
    fail(Failure::Refused, "the host's address is not allowed");
  } else if (unanswered) {
    fail(Failure::Broken, "the connection was closed before an answer came");
  } else if (too_many_headers) {
    fail(Failure::Protocol, "the response has more than 64 kB of headers");
  } else if (result != CURLE_OK) {
    Failure why = failure_of(result);
    if (is_mail && status >= 400 && why != Failure::Timeout) why = Failure::Rejected;
    fail(why, error[0] != '\0' ? error : curl_easy_strerror(result));
  } else if (!is_mail && redirect()) {
    last_url = url;
    got_body.clear();
    got_headers.clear();
    cut = false;
    return true;
  }
  return false;
}

void Transfer::hide_secrets() {
  for (const auto& s : secrets) {
    if (s.second.size() < 4) continue;
    const std::string shown = "${secret:" + s.first + "}";
    const std::string encoded = core::percent_encode(s.second), quoted = core::json_escape(s.second);
    for (std::string* const where : {&message, &got_headers, &got_body, &last_url}) {
      replace_all(where, s.second, shown);
      if (encoded != s.second) replace_all(where, encoded, shown);
      if (quoted != s.second) replace_all(where, quoted, shown);
    }
  }
}

}  // namespace dts::http
