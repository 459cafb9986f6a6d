// What is asked of one transfer: copied from the request, aimed at its target, and at the next one after a redirect.
#include "http/transfer.hpp"

#include "core/url.hpp"

namespace dts::http {

namespace {

std::string own(const Text& t) { return t.size == 0 ? std::string() : std::string(t.data, t.size); }

const char* or_empty(const char* s) { return s == nullptr ? "" : s; }

std::string part_of(CURLU* u, CURLUPart part, unsigned flags) {
  char* s = nullptr;
  if (curl_url_get(u, part, &s, flags) != CURLUE_OK || s == nullptr) return {};
  std::string out(s);
  curl_free(s);
  return out;
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

}  // namespace dts::http
