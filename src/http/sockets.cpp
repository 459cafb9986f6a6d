#include "http/sockets.hpp"

#include <unistd.h>

namespace dts::http {

Sockets::~Sockets() {
  if (epoll_ >= 0) close(epoll_);
}

bool Sockets::open() {
  epoll_ = epoll_create1(EPOLL_CLOEXEC);
  return epoll_ >= 0;
}

void Sockets::opened(int fd, Host* host) {
  if (static_cast<size_t>(fd) >= sockets_.size()) sockets_.resize(static_cast<size_t>(fd) + 64);
  sockets_[static_cast<size_t>(fd)] = Socket{true, false, false, 0, host};
}

Host* Sockets::closed(int fd) noexcept {
  if (static_cast<size_t>(fd) >= sockets_.size()) return nullptr;
  Socket& s = sockets_[static_cast<size_t>(fd)];
  Host* const host = s.host;
  s = Socket{};
  return host;
}

void Sockets::watch(int fd, uint32_t events) noexcept {
  Socket other;  // a pipe of a look-up, say: its number may be another's without our knowing
  const bool ours = static_cast<size_t>(fd) < sockets_.size() && sockets_[static_cast<size_t>(fd)].ours;
  Socket& s = ours ? sockets_[static_cast<size_t>(fd)] : other;
  s.parked = ours && events == 0;
  if (s.parked || (s.there && s.events == events)) return;
  epoll_event e{};
  e.data.fd = fd;
  e.events = s.events = events;
  const bool known = s.there;
  s.there = events != 0;
  if (events == 0)
    epoll_ctl(epoll_, EPOLL_CTL_DEL, fd, nullptr);
  else if (epoll_ctl(epoll_, known ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &e) != 0)
    epoll_ctl(epoll_, known ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, fd, &e);
}

/// An event of a socket that nobody waits for (its peer closes it): it is not waited for any more.
bool Sockets::is_parked(int fd) noexcept {
  if (static_cast<size_t>(fd) >= sockets_.size()) return false;
  Socket& s = sockets_[static_cast<size_t>(fd)];
  if (!s.ours || !s.parked) return false;
  epoll_ctl(epoll_, EPOLL_CTL_DEL, fd, nullptr);
  s.there = false;
  return true;
}

}  // namespace dts::http
