// What has come back of a transfer: status and times, why it failed, without the values of secrets.
#include "core/url.hpp"
#include "http/transfer.hpp"

namespace dts::http {

namespace {

void replace_all(std::string* s, const std::string& what, const std::string& with) {
  for (size_t at = s->find(what); at != std::string::npos; at = s->find(what, at + with.size())) s->replace(at, what.size(), with);
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

Response Transfer::response() const {
  Response r;
  r.ticket = ticket;
  r.failure = failure;
  r.message = message.c_str();
  r.status = status;
  r.headers = {got_headers.data(), got_headers.size()};
  r.body = {got_body.data(), got_body.size()};
  r.cut = cut;
  r.redirects = redirects;
  r.resent = resent;
  r.url = last_url.c_str();
  r.looked_up = looked_up;
  r.connected = connected;
  r.secured = secured;
  r.first_byte = first_byte;
  r.total = total;
  return r;
}

}  // namespace dts::http
