// Handles of libcurl that have served a plain request, and are ready for another.
#pragma once

#include <curl/curl.h>

#include <vector>

namespace dts::http {

class Handles {
 public:
  Handles() = default;
  Handles(const Handles&) = delete;
  Handles& operator=(const Handles&) = delete;
  ~Handles() { clear(); }

  /// One of them, which is the caller's now; nullptr if there is none.
  CURL* take() noexcept {
    if (spare_.empty()) return nullptr;
    CURL* const handle = spare_.back();
    spare_.pop_back();
    return handle;
  }
  /// Takes a handle back, or frees it if there are enough.
  void give(CURL* handle) noexcept {
    if (spare_.size() < kMost) {
      try {
        spare_.push_back(handle);
        return;
      } catch (...) {
      }
    }
    curl_easy_cleanup(handle);
  }
  void clear() noexcept {
    for (CURL* const handle : spare_) curl_easy_cleanup(handle);
    spare_.clear();
  }

 private:
  static constexpr size_t kMost = 256;
  std::vector<CURL*> spare_;
};

}  // namespace dts::http
