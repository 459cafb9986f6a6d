// What libcurl calls while a transfer runs. Callbacks run in its frames: they neither throw nor call the server.
#include "http/callbacks.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>

#include "http/transfer.hpp"

namespace dts::http {

namespace {

constexpr size_t kMostHeaders = 65536;

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

}  // namespace

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

bool is_idempotent(const std::string& method) {
  return method == "GET" || method == "HEAD" || method == "PUT" || method == "DELETE" || method == "OPTIONS";
}

}  // namespace dts::http
