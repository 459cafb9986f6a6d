// All transfers of one courier: libcurl's multi handle, and its sockets in an epoll set of their own. One descriptor is enough for the
// server's wait: a set of 10,000 sockets is never rebuilt.
#include <ctime>
#include <deque>
#include <map>
#include <memory>
#include <unordered_map>

#include "http/handles.hpp"
#include "http/reactor.hpp"
#include "http/rules.hpp"
#include "http/signals.hpp"
#include "http/sockets.hpp"
#include "http/transfer.hpp"

namespace dts::http {

namespace {

constexpr int kRounds = 16;  // of one turn: what has gone may make room for more

int64_t now_us() {
  timespec t{};
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<int64_t>(t.tv_sec) * 1000000 + t.tv_nsec / 1000;
}
int64_t now_ms() { return now_us() / 1000; }

class Multi final : public Client, public Reactor {
 public:
  Multi() = default;
  ~Multi() override {
    for (auto& t : transfers_) take_off(*t.second);
    transfers_.clear();
    spare_.clear();
    if (multi_ != nullptr) curl_multi_cleanup(multi_);
  }
  bool open() {
    multi_ = curl_multi_init();
    if (!sockets_.open() || multi_ == nullptr) return false;
    curl_multi_setopt(multi_, CURLMOPT_SOCKETFUNCTION, on_socket);
    curl_multi_setopt(multi_, CURLMOPT_SOCKETDATA, this);
    curl_multi_setopt(multi_, CURLMOPT_TIMERFUNCTION, on_timer);
    curl_multi_setopt(multi_, CURLMOPT_TIMERDATA, this);
    // Above it libcurl would look through all connections, busy ones too, at the end of each request: Hosts::keeps() sees to it that there
    // are not too many.
    curl_multi_setopt(multi_, CURLMOPT_MAXCONNECTS, 1000000L);
    curl_multi_setopt(multi_, CURLMOPT_PIPELINING, static_cast<long>(CURLPIPE_MULTIPLEX));
    return true;
  }

  void configure(const Settings& s) noexcept override {
    try {
      hosts_.configure(s.host_connections, s.lookups);
      const char* const ca = s.ca_file == nullptr ? "" : s.ca_file;
      if (ca_file_ != ca) spare_.clear();
      ca_file_ = ca;
    } catch (...) {
    }
  }

  void set_rules(uint32_t role, const RuleText* rules, int n) noexcept override {
    try {
      rules_[role] = rules_of(rules, n);
    } catch (...) {
      rules_.erase(role);  // none: nothing is allowed
    }
  }
  [[nodiscard]] const std::vector<core::EgressRule>& rules(uint32_t role) const noexcept override {
    const auto found = rules_.find(role);
    return found == rules_.end() ? none_ : found->second;
  }

  bool start(const Request& r) noexcept override {
    try {
      auto t = std::make_unique<Transfer>();
      t->reactor = this;
      t->copy(r);
      if (t->timeout_ms > 0) t->deadline = now_ms() + t->timeout_ms;
      Transfer& mine = *t;
      transfers_[r.ticket] = std::move(t);
      active_++;
      if (mine.aim())
        enqueue(mine);
      else
        ended(mine);
      return true;
    } catch (...) {
      return false;
    }
  }

  void stop(int ticket, Failure why) noexcept override {
    const auto found = transfers_.find(ticket);
    if (found == transfers_.end() || found->second->host == nullptr) return;
    try {
      Transfer& t = *found->second;
      t.fail(why, why == Failure::Timeout ? "the time limit was reached" : "cancelled");
      leave(t);
      ended(t);
    } catch (...) {
    }
  }

  [[nodiscard]] int descriptor() const noexcept override { return sockets_.descriptor(); }
  [[nodiscard]] int wait_ms() const noexcept override {
    if (hosts_.any_startable() || !done_.empty()) return 0;
    int64_t at = timer_at_ < 0 ? -1 : (timer_at_ + 999) / 1000;
    if (hosts_.ramp_at() >= 0 && (at < 0 || hosts_.ramp_at() < at)) at = hosts_.ramp_at();
    if (!deadlines_.empty() && (at < 0 || deadlines_.begin()->first < at)) at = deadlines_.begin()->first;
    if (at < 0) return -1;
    const int64_t left = at - now_ms();
    return left <= 0 ? 0 : static_cast<int>(left < 3600000 ? left : 3600000);
  }

  void turn() noexcept override {
    const SignalsBlocked blocked;
    try {
      listen();
      expire();
      collect();
      overdue();
      // What has come back is known: who is silent by now is slow.
      hosts_.ramp(now_ms());
      for (int round = 0; round < kRounds && start_ready(); round++) {
        expire();  // libcurl begins with the next expiry
        collect();
      }
    } catch (...) {
    }
  }

  bool next(Response* out) noexcept override {
    if (done_.empty()) return false;
    Transfer& t = *done_.front();
    done_.pop_front();
    active_--;
    *out = t.response();
    return true;
  }
  void release(int ticket) noexcept override { transfers_.erase(ticket); }
  [[nodiscard]] int active() const noexcept override { return active_; }
  [[nodiscard]] int queued() const noexcept override { return hosts_.queued(); }

  void looked_up(Transfer& t) noexcept override {
    try {
      hosts_.looked_up(t, now_ms());
    } catch (...) {
    }
  }
  void sent(Transfer& t) noexcept override {
    try {
      hosts_.sent(t, now_ms());
    } catch (...) {
    }
  }
  void socket_opened(Transfer& t, int fd) noexcept override {
    try {
      sockets_.opened(fd, t.host);
      hosts_.socket_opened(*t.host);
    } catch (...) {  // then it is not parked
    }
  }
  void socket_closed(int fd) noexcept override {
    if (Host* const host = sockets_.closed(fd)) hosts_.socket_closed(*host);
  }

 private:
  static int on_socket(CURL*, curl_socket_t fd, int what, void* self, void*) noexcept {
    uint32_t events = 0;
    if (what == CURL_POLL_IN || what == CURL_POLL_INOUT) events |= EPOLLIN;
    if (what == CURL_POLL_OUT || what == CURL_POLL_INOUT) events |= EPOLLOUT;
    static_cast<Multi*>(self)->sockets_.watch(fd, events);
    return 0;
  }
  static int on_timer(CURLM*, long ms, void* self) noexcept {
    static_cast<Multi*>(self)->timer_at_ = ms < 0 ? -1 : now_us() + ms * 1000;
    return 0;
  }

  /// What sockets have to say.
  void listen() {
    sockets_.each_ready([this](int fd, uint32_t events) {
      const int what = ((events & (EPOLLIN | EPOLLHUP)) != 0 ? CURL_CSELECT_IN : 0) | ((events & EPOLLOUT) != 0 ? CURL_CSELECT_OUT : 0) |
                       ((events & EPOLLERR) != 0 ? CURL_CSELECT_ERR : 0);
      int running = 0;
      curl_multi_socket_action(multi_, fd, what, &running);
    });
  }
  void expire() {
    if (timer_at_ < 0 || timer_at_ > now_us()) return;
    int running = 0;
    timer_at_ = -1;
    curl_multi_socket_action(multi_, CURL_SOCKET_TIMEOUT, 0, &running);
  }

  void enqueue(Transfer& t) {
    hosts_.enqueue(t);
    if (t.deadline != 0 && !t.counted) {
      t.at_deadline = deadlines_.emplace(t.deadline, &t);
      t.counted = true;
    }
  }

  /// Begins what may begin. True if there was anything.
  bool start_ready() {
    const int64_t now = now_ms();
    bool any = false;
    while (Transfer* const t = hosts_.next(now)) {
      begin(*t);
      any = true;
    }
    return any;
  }

  void begin(Transfer& t) {
    CURL* easy = t.plain() ? spare_.take() : nullptr;
    const bool seasoned = easy != nullptr;
    if (!seasoned) easy = curl_easy_init();
    if (easy == nullptr || !t.prepare(easy, seasoned, ca_file_.c_str(), hosts_.keeps(*t.host)) ||
        curl_multi_add_handle(multi_, easy) != CURLM_OK) {
      t.fail(Failure::Local, "out of memory");
      leave(t);
      ended(t);
    }
  }

  /// Takes a transfer out of the multi handle and of its host.
  void take_off(Transfer& t) noexcept {
    if (t.easy == nullptr) return;
    curl_multi_remove_handle(multi_, t.easy);
    CURL* const easy = t.let_go();
    if (t.plain())
      spare_.give(easy);
    else
      curl_easy_cleanup(easy);
  }
  void leave(Transfer& t) {
    take_off(t);
    hosts_.left(t, now_ms());
  }

  void ended(Transfer& t) {
    if (t.counted) {
      deadlines_.erase(t.at_deadline);
      t.counted = false;
    }
    t.host = nullptr;
    t.hide_secrets();
    done_.push_back(&t);
  }

  void collect() {
    int left = 0;
    while (CURLMsg* const m = curl_multi_info_read(multi_, &left)) {
      if (m->msg != CURLMSG_DONE) continue;
      const CURLcode result = m->data.result;
      Transfer* t = nullptr;
      curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &t);
      Host* const host = t->host;
      const bool again = t->finish(result);
      const bool unknown = t->failure == Failure::Lookup && t->looks;
      CURLU* const parsed = t->parsed;
      if (again) t->parsed = nullptr;
      leave(*t);
      if (again) {
        t->parsed = parsed;
        enqueue(*t);
        continue;
      }
      ended(*t);
      if (unknown) fail_waiting(*host, *t);
    }
  }

  /// A name that does not exist does not for the others either: they are not looked up one after the other.
  void fail_waiting(Host& h, const Transfer& like) {
    while (!h.waiting.empty()) {
      Transfer& t = *h.waiting.front();
      t.fail(like.failure, like.message);
      leave(t);
      ended(t);
    }
  }

  void overdue() {
    const int64_t now = now_ms();
    while (!deadlines_.empty() && deadlines_.begin()->first <= now) {
      Transfer& t = *deadlines_.begin()->second;
      t.fail(Failure::Timeout, "the time limit was reached");
      leave(t);
      ended(t);
    }
  }

  CURLM* multi_ = nullptr;
  int64_t timer_at_ = -1;  // microseconds: a timer that rings too early is one that libcurl does not set again
  Sockets sockets_;
  int active_ = 0;
  std::string ca_file_;
  std::unordered_map<uint32_t, std::vector<core::EgressRule>> rules_;
  std::vector<core::EgressRule> none_;
  std::unordered_map<int, std::unique_ptr<Transfer>> transfers_;
  Hosts hosts_;
  Deadlines deadlines_;
  std::deque<Transfer*> done_;
  Handles spare_;
};

}  // namespace

Client* open_reactor() noexcept {
  try {
    auto m = std::make_unique<Multi>();
    if (m->open()) return m.release();
  } catch (...) {
  }
  return nullptr;
}

}  // namespace dts::http
