// A handle of libcurl made ready for a transfer: what all have, an HTTP request, a mail.
#include "core/mail.hpp"
#include "http/callbacks.hpp"
#include "http/transfer.hpp"

namespace dts::http {

namespace {

constexpr long kIdleSeconds = 60;  // a connection that was idle for so long is not used again
constexpr long kFreshSeconds = 2;

bool add(curl_slist** list, const char* line) {
  curl_slist* const more = curl_slist_append(*list, line);
  if (more == nullptr) return false;
  *list = more;
  return true;
}

void blob(CURL* easy, CURLoption option, std::string& s) {
  if (s.empty()) return;
  curl_blob b{s.data(), s.size(), CURL_BLOB_NOCOPY};
  curl_easy_setopt(easy, option, &b);
}

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

}  // namespace dts::http
