// Hosts: how many requests each has under way, and whether its circuit lets any through.
//
//   closed     requests go; dts.breaker_failures in a row open it
//   open       requests wait, uncharged, until dts.breaker_pause is over (twice as long each time, at most 5 minutes)
//   half open  one request tries: its success closes the circuit, its failure opens it again
#include "courier.hpp"
#include "settings.hpp"

namespace dts {

namespace {

using store::Circuit;
using store::HostSlot;

constexpr int64 kLongestPauseUs = 300 * USECS_PER_SEC;
constexpr int kAlwaysRoom = 16;  // requests of a host that are let through however full the table is

/// A slow host may have twice as many places as are left free: it never takes them all, and the others hardly notice it.
bool has_room(const HostSlot& h) {
  if (settings::http_host_connections > 0 && h.in_flight >= settings::http_host_connections) return false;
  const int most = Min(store::transfers_free() + courier.reserved, courier.most - courier.client->active());
  return h.in_flight < Max(kAlwaysRoom, 2 * most);
}

/// When a place is to be expected: those put off before have the earlier ones, so that hardly any comes back in vain.
TimestampTz expect_place(HostSlot& h, TimestampTz now) {
  const double each = Max(h.mean_us, 1000.0) / Max(1, h.in_flight);
  h.next_place = Max(h.next_place, now) + static_cast<int64>(each) + 1;
  h.next_place = Min(h.next_place, now + 60 * USECS_PER_SEC);
  return Max(h.next_place, now + 10000);
}

void open_circuit(HostSlot& h, TimestampTz now) {
  const int64 pause = Min(settings::breaker_pause_ms * 1000LL << Min(h.opened, 12), kLongestPauseUs);
  h.opened++;
  h.circuit = Circuit::Open;
  h.probing = false;
  h.open_until = now + pause;
}

/// Whether an end says that the host, and not the request, is in trouble.
bool is_trouble(const http::Response& r) {
  using http::Failure;
  switch (r.failure) {
    case Failure::None: return r.status >= 500;
    case Failure::Refused:
    case Failure::Cancelled:
    case Failure::Local:
    case Failure::Rejected:
    case Failure::Redirects: return false;
    default: return true;
  }
}

}  // namespace

bool host_admits(int transfer, const char* name, TimestampTz now, TimestampTz* again) {
  const int slot = store::host_slot(MyDatabaseId, name);
  if (slot < 0) return true;  // more hosts than the table holds: without limits of their own
  HostSlot& h = store::hosts[slot];
  h.last_use = now;
  if (h.reset) {
    h.reset = false;
    h.circuit = Circuit::Closed;
    h.failures = h.opened = 0;
  }
  if (h.circuit == Circuit::Open && h.open_until <= now) h.circuit = Circuit::HalfOpen;
  if (h.circuit == Circuit::Open || (h.circuit == Circuit::HalfOpen && h.probing)) {
    // A little apart, so that they do not all come at once.
    *again = Max(h.open_until, now + 1000000) + (h.deferred % 1000) * 1000;
    h.deferred++;
    return false;
  }
  if (!has_room(h)) {
    *again = expect_place(h, now);
    h.deferred++;
    return false;
  }
  h.probing = h.circuit == Circuit::HalfOpen;
  h.in_flight++;
  store::transfers[transfer].host = slot;
  return true;
}

void host_ended(int transfer, const http::Response& r, int64 took_us) {
  const int slot = store::transfers[transfer].host;
  if (slot < 0) return;
  HostSlot& h = store::hosts[slot];
  h.mean_us = h.mean_us == 0 ? static_cast<double>(took_us) : h.mean_us * 0.9 + static_cast<double>(took_us) * 0.1;
  const bool probe = h.probing && h.circuit == Circuit::HalfOpen;
  if (r.failure == http::Failure::Cancelled) {
    h.probing = probe ? false : h.probing;
    return;
  }
  if (!is_trouble(r)) {
    h.succeeded++;
    h.failures = 0;
    if (probe || h.circuit == Circuit::Closed) {
      h.circuit = Circuit::Closed;
      h.probing = false;
      h.opened = 0;
    }
    return;
  }
  const TimestampTz now = GetCurrentTimestamp();
  h.failed++;
  h.failures++;
  h.last_failure_at = now;
  strlcpy(h.last_error, r.failure == http::Failure::None ? psprintf("HTTP status %d", r.status) : r.message, sizeof(h.last_error));
  if (settings::breaker_failures > 0 && (probe || (h.circuit == Circuit::Closed && h.failures >= settings::breaker_failures)))
    open_circuit(h, now);
}

}  // namespace dts
