// The one symbol of dts_http: libcurl is set up, if it can do what is needed.
#include <curl/curl.h>

#include "http/reactor.hpp"
#include "http/signals.hpp"

// Called once in each courier, after the fork: libcurl is never set up in the postmaster.
extern "C" __attribute__((visibility("default"))) dts::http::Client* dts_http_open(const char** why);

extern "C" dts::http::Client* dts_http_open(const char** why) {
  using namespace dts::http;
  const SignalsBlocked blocked;
  *why = "libcurl could not be set up";
  if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) return nullptr;
  const curl_version_info_data* const v = curl_version_info(CURLVERSION_NOW);
  if ((v->features & CURL_VERSION_ASYNCHDNS) == 0) {
    *why = "libcurl was built without asynchronous name look-ups";
    return nullptr;
  }
  if (v->version_num < 0x075500) {
    *why = "libcurl is older than 7.85";
    return nullptr;
  }
  return open_reactor();
}
