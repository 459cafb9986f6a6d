#include "http/hosts.hpp"

#include "http/transfer.hpp"

namespace dts::http {

namespace {

constexpr int64_t kCacheMs = 50000;  // libcurl keeps names for a minute
constexpr int kEasily = 64;          // requests at once that any host gets: more connections only cost a fast one
constexpr int64_t kRampMs = 5;       // if nothing has come back for so long, as many more are sent
constexpr int64_t kFastUs = 10000;
constexpr int kKept = 256;      // connections that are kept open to one host,
constexpr int kIdle = 1024;     // and that wait idle to all
constexpr int kConnecting = 8;  // connections made at once to a host where one can serve a hundred requests

}  // namespace

void Hosts::touch(Host& h) {
  if (h.startable) return;
  startable_.push_back(&h);
  h.startable = true;
}

void Hosts::forget(Host& h) {
  if (h.active == 0 && h.open == 0 && h.waiting.empty() && !h.startable && !h.ramping && !h.blocked) hosts_.erase({h.name, h.port});
}

void Hosts::enqueue(Transfer& t) {
  const auto [found, made] = hosts_.try_emplace({t.target.host, t.target.port});
  Host& h = found->second;
  if (made) {
    core::Address a;
    h.name = t.target.host;
    h.port = t.target.port;
    h.literal = core::parse_address(h.name, &a);
    h.allowed = kEasily;
  }
  t.host = &h;
  h.waiting.push_back(&t);
  touch(h);
}

Transfer* Hosts::next(int64_t now) {
  while (!startable_.empty()) {
    Host& h = *startable_.front();
    if (Transfer* const t = first_of(h, now)) return t;
    startable_.pop_front();
    h.startable = false;
    forget(h);
  }
  return nullptr;
}

Transfer* Hosts::first_of(Host& h, int64_t now) {
  if (h.waiting.empty() || (connections_ > 0 && h.active >= connections_)) return nullptr;
  if (h.active >= h.allowed && !grow(h, now)) return nullptr;
  if (h.multiplexes && h.unsent >= kConnecting) return nullptr;  // sent() comes back to it
  const bool known = h.literal || h.known_until > now;
  if (!known && h.looking) return nullptr;
  if (!known && lookups_ >= lookups_most_) {
    if (!h.blocked) blocked_.push_back(&h);
    h.blocked = true;
    return nullptr;
  }
  Transfer& t = *h.waiting.front();
  h.waiting.pop_front();
  if (!known) {
    h.looking = t.looks = true;
    lookups_++;
  }
  h.active++;
  active_++;
  h.unsent++;
  t.added = t.unsent = true;
  return &t;
}

bool Hosts::grow(Host& h, int64_t now) {
  // Who is still being connected to has not had the chance to be slow: sent() and left() come back to it.
  if (h.unsent * 2 > h.active) return false;
  if (now - h.changed_at >= kRampMs) {
    h.allowed *= 2;
    h.changed_at = now;
    return true;
  }
  if (!h.ramping) ramping_.push_back(&h);
  h.ramping = true;
  if (ramp_at_ < 0) ramp_at_ = now + kRampMs;
  return false;
}

void Hosts::ramp(int64_t now) {
  if (ramp_at_ < 0 || ramp_at_ > now) return;
  ramp_at_ = -1;
  while (!ramping_.empty()) {
    Host& h = *ramping_.front();
    touch(h);
    h.ramping = false;
    ramping_.pop_front();
  }
}

void Hosts::sent(Transfer& t, int64_t now) {
  Host& h = *t.host;
  h.changed_at = now;
  if (!t.unsent) return;
  t.unsent = false;
  h.unsent--;
  if (!h.waiting.empty()) touch(h);
}

void Hosts::left(Transfer& t, int64_t now) {
  Host& h = *t.host;
  h.multiplexes |= t.multiplexed;
  h.unsent -= t.unsent ? 1 : 0;
  t.unsent = false;
  if (t.added) {
    h.active--;
    active_--;
    t.added = false;
    h.changed_at = now;
    if (h.allowed > kEasily && t.total < kFastUs) h.allowed--;
  } else {
    std::erase(h.waiting, &t);
  }
  if (t.looks) {
    t.looks = h.looking = false;
    lookups_--;
  }
  touch(h);
  unblock();
}

void Hosts::unblock() {
  if (blocked_.empty() || lookups_ >= lookups_most_) return;
  Host& h = *blocked_.front();
  touch(h);
  h.blocked = false;
  blocked_.pop_front();
}

void Hosts::looked_up(Transfer& t, int64_t now) {
  if (!t.looks) return;
  t.looks = t.host->looking = false;
  lookups_--;
  t.host->known_until = now + kCacheMs;
  touch(*t.host);
  unblock();
}

void Hosts::socket_closed(Host& h) {
  h.open--;
  open_--;
  forget(h);
}

bool Hosts::keeps(const Host& h) const { return h.active <= kKept && open_ - active_ <= kIdle; }

int Hosts::queued() const {
  size_t n = 0;
  for (const Host* const h : ramping_) n += h->waiting.size();
  return static_cast<int>(n);
}

}  // namespace dts::http
