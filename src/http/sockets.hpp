// The sockets of all connections in one epoll set. One that is not waited for stays there: most connections are used again at once.
#pragma once

#include <cstdint>
#include <sys/epoll.h>
#include <vector>

namespace dts::http {

struct Host;

class Sockets {
 public:
  Sockets() = default;
  Sockets(const Sockets&) = delete;
  Sockets& operator=(const Sockets&) = delete;
  ~Sockets();

  bool open();
  /// Readable when one of the sockets is.
  [[nodiscard]] int descriptor() const noexcept { return epoll_; }
  /// A socket of ours, whose end will be told: it can be parked.
  void opened(int fd, Host* host);
  /// The host that it belonged to, nullptr if that is not known.
  Host* closed(int fd) noexcept;
  /// What is waited for at a socket from now on; 0: nothing.
  void watch(int fd, uint32_t events) noexcept;

  /// Calls f(fd, events) for each socket that has something to say.
  template <class F>
  void each_ready(F&& f) {
    epoll_event events[256];
    const int n = epoll_wait(epoll_, events, 256, 0);
    for (int i = 0; i < n; i++)
      if (!is_parked(events[i].data.fd)) f(events[i].data.fd, static_cast<uint32_t>(events[i].events));
  }

 private:
  struct Socket {
    bool ours = false;  // opened by us: we know of its end
    bool there = false, parked = false;
    uint32_t events = 0;
    Host* host = nullptr;
  };

  bool is_parked(int fd) noexcept;

  int epoll_ = -1;
  std::vector<Socket> sockets_;
};

}  // namespace dts::http
