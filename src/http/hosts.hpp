// Hosts that requests go to: each has a line of its own, so that a slow one keeps nobody else waiting, and one request looks its name up
// for all.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <utility>

#include "core/egress.hpp"

namespace dts::http {

struct Transfer;

/// A host and port.
struct Host {
  std::string name;
  int port = 0;
  bool literal = false;  // an address: nothing to look up
  int active = 0;        // begun and not ended
  int unsent = 0;        // of those: no connection yet
  int open = 0;          // sockets, also idle ones
  bool multiplexes = false;
  int allowed = 0;         // at once, for now: a fast host needs no more, a slow one gets more quickly
  int64_t changed_at = 0;  // milliseconds: when something last went out or came back
  bool looking = false;
  int64_t known_until = 0;  // milliseconds: the name is in libcurl's cache
  std::deque<Transfer*> waiting;
  bool startable = false, ramping = false, blocked = false;  // in these lists
};

/// Which request may begin when. Times are milliseconds of a clock that never goes back.
class Hosts {
 public:
  void configure(int connections, int lookups) {
    connections_ = connections;
    lookups_most_ = lookups;
  }
  /// Puts a transfer into the line of its target.
  void enqueue(Transfer& t);
  /// The next transfer that may begin, which counts as begun; nullptr if there is none.
  Transfer* next(int64_t now);
  /// A transfer that was begun, or waited, is over.
  void left(Transfer& t, int64_t now);
  /// The request of a transfer is on its way.
  void sent(Transfer& t, int64_t now);
  /// The name of a transfer's host is known.
  void looked_up(Transfer& t, int64_t now);
  /// Hosts from which nothing came back for a while get more. Only after all that has come was looked at.
  void ramp(int64_t now);
  void socket_opened(Host& h) {
    h.open++;
    open_++;
  }
  void socket_closed(Host& h);
  /// Whether the connection of a request that begins is kept: not if there are many, which are only needed now.
  [[nodiscard]] bool keeps(const Host& h) const;
  [[nodiscard]] bool any_startable() const { return !startable_.empty(); }
  /// When ramp() should be called, -1: there is no need.
  [[nodiscard]] int64_t ramp_at() const { return ramp_at_; }
  /// Transfers that wait only because others are under way to their host.
  [[nodiscard]] int queued() const;

 private:
  Transfer* first_of(Host& h, int64_t now);
  bool grow(Host& h, int64_t now);
  void touch(Host& h);
  void unblock();
  void forget(Host& h);

  std::map<std::pair<std::string, int>, Host> hosts_;
  std::deque<Host*> startable_, blocked_, ramping_;
  int connections_ = 0, lookups_most_ = 16, lookups_ = 0;
  int open_ = 0, active_ = 0;  // of all hosts
  int64_t ramp_at_ = -1;
};

}  // namespace dts::http
