// What libcurl calls while a transfer runs; `self` is the transfer.
#pragma once

#include <curl/curl.h>

#include <string>

namespace dts::http {

/// Methods that do the same when they are sent twice (RFC 9110, 9.2.2).
bool is_idempotent(const std::string& method);

/// A piece of the body; beyond what the request wants, the transfer is over.
size_t on_body(char* data, size_t, size_t size, void* self) noexcept;
/// A line of the headers.
size_t on_header(char* data, size_t, size_t size, void* self) noexcept;
/// The address that is about to be connected to: whatever the name said before, this is where the bytes would go.
curl_socket_t on_socket(void* self, curlsocktype, curl_sockaddr* where) noexcept;
/// A socket of a connection, which may have outlived its transfer: it belongs to the reactor.
int on_close(void* reactor, curl_socket_t fd) noexcept;
/// The connection that is used, also one that was made earlier, maybe for a role that may do more. libcurl comes here again if a connection
/// that was kept open turns out to be dead before a byte of an answer: whether the peer has got the request nobody knows.
int on_request(void* self, char* ip, char*, int, int) noexcept;

}  // namespace dts::http
