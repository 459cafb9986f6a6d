// Sets of key ranges: where claimable rows of a lane may be (see docs/architecture.md, "Claiming").
// Plain data, no allocation, no exceptions: it lives in shared memory and is changed inside commit callbacks.
#pragma once

#include <cstdint>
#include <limits>

namespace dts::core {

/// Order of the claim index behind the lane: due time, then id.
struct Key {
  int64_t run_at = 0;
  int64_t id = 0;
  friend constexpr bool operator<(const Key& a, const Key& b) { return a.run_at != b.run_at ? a.run_at < b.run_at : a.id < b.id; }
  friend constexpr bool operator==(const Key& a, const Key& b) { return a.run_at == b.run_at && a.id == b.id; }
  friend constexpr bool operator<=(const Key& a, const Key& b) { return !(b < a); }
};

inline constexpr int64_t kMin = std::numeric_limits<int64_t>::min();
inline constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
inline constexpr Key kLowest{kMin, kMin};
inline constexpr Key kHighest{kMax, kMax};

/// The next key above k in key order; kHighest stays.
constexpr Key next(const Key& k) {
  if (k.id != kMax) return {k.run_at, k.id + 1};
  return k.run_at == kMax ? k : Key{k.run_at + 1, kMin};
}

/// Both ends belong to it; lo == hi is legal.
struct Range {
  Key lo, hi;
};

/// At most N sorted, disjoint ranges. Adding beyond N unites neighbours: the set may grow, it never loses a key.
template <int N>
class RangeSet {
 public:
  [[nodiscard]] int size() const { return n_; }
  [[nodiscard]] bool empty() const { return n_ == 0; }
  [[nodiscard]] const Range& operator[](int i) const { return r_[i]; }
  void clear() { n_ = 0; }

  /// Due time of the lowest key, kMax if the set is empty.
  [[nodiscard]] int64_t first() const { return n_ == 0 ? kMax : r_[0].lo.run_at; }

  [[nodiscard]] bool contains(const Key& k) const {
    for (int i = 0; i < n_; i++)
      if (r_[i].lo <= k && k <= r_[i].hi) return true;
    return false;
  }

  /// Unites [lo, hi] with the set. Above N ranges the two neighbours are merged whose gap, counted as far as it is past `now`,
  /// is smallest: a gap in the future costs nothing, since nobody has deleted rows there yet. Returns whether a merge was needed.
  bool add(const Key& lo, const Key& hi, int64_t now) {
    int i = 0;
    while (i < n_ && !touches(r_[i].hi, lo)) i++;
    Range merged{lo, hi};
    int j = i;
    while (j < n_ && touches(hi_of(merged), r_[j].lo)) {
      if (r_[j].lo < merged.lo) merged.lo = r_[j].lo;
      if (merged.hi < r_[j].hi) merged.hi = r_[j].hi;
      j++;
    }
    if (j > i) {
      r_[i] = merged;
      for (int k = j; k < n_; k++) r_[i + 1 + k - j] = r_[k];
      n_ -= j - i - 1;
      return false;
    }
    for (int k = n_; k > i; k--) r_[k] = r_[k - 1];
    r_[i] = merged;
    n_++;
    if (n_ <= N) return false;
    merge_cheapest(now);
    return true;
  }

  /// Removes up to `max` ranges from the low end whose lowest key is due, into out. Returns how many.
  int take_due(int64_t now, int max, Range* out) {
    int taken = 0;
    while (taken < max && taken < n_ && r_[taken].lo.run_at <= now) {
      out[taken] = r_[taken];
      taken++;
    }
    if (taken > 0) {
      for (int k = taken; k < n_; k++) r_[k - taken] = r_[k];
      n_ -= taken;
    }
    return taken;
  }

 private:
  static constexpr const Key& hi_of(const Range& r) { return r.hi; }
  /// Whether a range that ends at `hi` overlaps or directly precedes one that begins at `lo`.
  static constexpr bool touches(const Key& hi, const Key& lo) { return lo <= hi || next(hi) == lo; }

  void merge_cheapest(int64_t now) {
    int best = 0;
    uint64_t best_cost = std::numeric_limits<uint64_t>::max();
    for (int i = 0; i + 1 < n_; i++) {
      const int64_t begin = r_[i].hi.run_at;
      const int64_t end = r_[i + 1].lo.run_at < now ? r_[i + 1].lo.run_at : now;
      const uint64_t cost = end > begin ? static_cast<uint64_t>(end) - static_cast<uint64_t>(begin) : 0;
      if (cost < best_cost) {
        best = i;
        best_cost = cost;
      }
    }
    r_[best].hi = r_[best + 1].hi;
    for (int k = best + 2; k < n_; k++) r_[k - 1] = r_[k];
    n_--;
  }

  int32_t n_ = 0;
  Range r_[N + 1];  // one more than it ever holds between calls: add() inserts first and merges second
};

}  // namespace dts::core
