// What becomes of the due times that have come: fired, kept waiting behind a run, or skipped with a reason. Pure: the caller brings the
// clock, says what runs, and carries out what is decided in the transaction that moves the mark.
#pragma once

#include "core/timing_next.hpp"

namespace dts::core {

enum class Missed : uint8_t { Skip, Once, All, Within };
enum class Overlap : uint8_t { Skip, QueueOne, QueueAll, Replace, Allow };
enum class Fate : uint8_t { Fire, Wait, Skip };
enum class Reason : uint8_t { Due, CatchUp, Missed, Late, Overlap, Replaced, End };

struct Policy {
  Missed missed = Missed::Once;
  int missed_max = 100;
  int64_t within = 0;
  Overlap overlap = Overlap::Skip;
  int overlap_max = 1;  // Allow: runs at once; QueueAll: due times that may wait
  int64_t late = 0;     // 0: never too late
  int64_t runs_left = kNever;
};

/// A due time later than this was missed: nobody could fire it when it came. What is younger is only a busy moment, and is fired.
constexpr int64_t kGrace = 60 * kUsPerSecond;
constexpr int kMostKept = 1000;     // due times of one turn that may fire
constexpr int kMostLooked = 10000;  // due times looked at in one turn

/// The fate of due times `first` to `last` (`count` of them; more than one only if skipped).
struct Choice {
  int64_t first, last, count;
  Fate fate;
  Reason reason;
};

/// What is decided in one turn, in the order of the due times.
class Decision {
 public:
  /// Decides all due times in (mark, now]. `running`: unfinished runs, `waiting`: due times kept behind them.
  void make(const Rule& rule, const Policy& p, int64_t mark, int64_t now, int running, int waiting) {
    n_ = kept_ = 0;
    mark_ = mark;
    complete_ = true;
    p_ = &p;
    now_ = now;
    running_ = running;
    waiting_ = waiting;
    replace_ = false;
    left_ = p.runs_left;
    int64_t skipped_first = 0, skipped_last = 0, skipped = 0;
    int64_t at = mark;
    int looked = 0;
    int begin = 0;
    // The ring keeps the latest; what leaves it is older than any that may fire.
    for (;;) {
      const int64_t next = next_due(rule, at);
      if (next == kNever || next > now) break;
      if (looked == kMostLooked) {
        complete_ = false;
        break;
      }
      looked++;
      at = next;
      if (kept_ == kMostKept) {
        const int64_t old = ring_[begin];
        if (skipped++ == 0) skipped_first = old;
        skipped_last = old;
        ring_[begin] = next;
        begin = (begin + 1) % kMostKept;
      } else {
        ring_[kept_++] = next;
      }
    }
    if (skipped > 0) add({skipped_first, skipped_last, skipped, Fate::Skip, Reason::Missed});
    if (skipped > 0) mark_ = skipped_last;
    if (!complete_) return;  // the rest is decided when all are known
    int missed = 0;
    for (int i = 0; i < kept_; i++) missed += now - ring_[i] > kGrace ? 1 : 0;
    for (int i = 0; i < kept_; i++) decide(ring_[(begin + i) % kMostKept], i == kept_ - 1, missed - i);
    if (kept_ > 0) mark_ = ring_[(begin + kept_ - 1) % kMostKept];
  }

  [[nodiscard]] int size() const { return n_; }
  const Choice& operator[](int i) const { return choice_[i]; }
  /// Everything up to here is decided.
  [[nodiscard]] int64_t mark() const { return mark_; }
  /// False: there are more due times than one turn looks at.
  [[nodiscard]] bool complete() const { return complete_; }
  /// What runs is to be cancelled, and what waited before is given up.
  [[nodiscard]] bool replace() const { return replace_; }

 private:
  void add(const Choice& c) {
    if (n_ > 0 && c.fate == Fate::Skip && choice_[n_ - 1].fate == Fate::Skip && choice_[n_ - 1].reason == c.reason) {
      choice_[n_ - 1].last = c.last;
      choice_[n_ - 1].count += c.count;
      return;
    }
    choice_[n_++] = c;
  }
  void skip(int64_t due, Reason why) { add({due, due, 1, Fate::Skip, why}); }

  /// `older`: how many missed ones there are from this one on; at most 0 if it is not missed itself.
  void decide(int64_t due, bool last, int older) {
    const int64_t age = now_ - due;
    if (p_->late > 0 && age > p_->late) return skip(due, Reason::Late);
    const bool missed = age > kGrace;
    if (missed) {
      bool fire = false;
      switch (p_->missed) {
        case Missed::Skip: break;
        case Missed::Once: fire = last; break;
        case Missed::All: fire = older <= p_->missed_max; break;
        case Missed::Within: fire = age <= p_->within && older <= p_->missed_max; break;
      }
      if (!fire) return skip(due, Reason::Missed);
    }
    if (left_ <= 0) return skip(due, Reason::End);
    enter(due, missed ? Reason::CatchUp : Reason::Due);
  }

  void enter(int64_t due, Reason why) {
    const int at_once = p_->overlap == Overlap::Allow ? p_->overlap_max : 1;
    Fate v = Fate::Skip;
    if (running_ < at_once && waiting_ == 0) {
      v = Fate::Fire;
      running_++;
    } else if (p_->overlap == Overlap::Replace) {
      // The newest waits for the end of what runs; an older one that waited is given up.
      for (int i = 0; i < n_; i++)
        if (choice_[i].fate == Fate::Wait) {
          choice_[i].fate = Fate::Skip;
          choice_[i].reason = Reason::Replaced;
          left_++;
        }
      replace_ = true;
      v = Fate::Wait;
      waiting_ = 1;
    } else if ((p_->overlap == Overlap::QueueOne && waiting_ < 1) || (p_->overlap == Overlap::QueueAll && waiting_ < p_->overlap_max)) {
      v = Fate::Wait;
      waiting_++;
    }
    if (v == Fate::Skip) return skip(due, Reason::Overlap);
    left_--;
    add({due, due, 1, v, why});
  }

  int64_t ring_[kMostKept];
  Choice choice_[kMostKept + 1];
  int n_ = 0, kept_ = 0;
  int64_t mark_ = 0, now_ = 0, left_ = 0;
  int running_ = 0, waiting_ = 0;
  bool complete_ = true, replace_ = false;
  const Policy* p_ = nullptr;
};

}  // namespace dts::core
