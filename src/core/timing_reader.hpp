// How the timing language is read: a text from left to right, and the first mistake with its place.
#pragma once

#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstring>

namespace dts::core {

/// What is wrong with a text; position counts characters (bytes) from 1, 0: nothing is wrong.
struct ParseError {
  int position = 0;
  char message[160] = "";
  char hint[160] = "";
};

/// Reads a text from left to right. The first complaint counts.
class Reader {
 public:
  Reader(const char* line, ParseError* error) : begin_(line), at_(line), end_(line + strlen(line)), error_(error) {}

  [[nodiscard]] bool failed() const { return error_->position != 0; }
  [[nodiscard]] const char* at() const { return at_; }
  [[nodiscard]] bool done() const { return at_ >= end_; }
  [[nodiscard]] char peek(int ahead = 0) const { return at_ + ahead < end_ ? at_[ahead] : '\0'; }
  void move(const char* to) { at_ = to; }
  void skip(int n = 1) { at_ += n; }
  void limit(const char* end) { end_ = end; }
  [[nodiscard]] const char* end() const { return end_; }

  static constexpr bool is_blank(char c) { return c == ' ' || c == '\t'; }
  static constexpr bool is_digit(char c) { return c >= '0' && c <= '9'; }
  static constexpr char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; }
  static constexpr bool is_letter(char c) { return lower(c) >= 'a' && lower(c) <= 'z'; }

  void blanks() {
    while (is_blank(peek())) at_++;
  }
  /// Takes a word of letters if it is this one, whatever its case.
  bool word(const char* w) {
    const size_t n = strlen(w);
    for (size_t i = 0; i < n; i++)
      if (lower(peek(static_cast<int>(i))) != w[i]) return false;
    if (is_letter(peek(static_cast<int>(n)))) return false;
    at_ += n;
    return true;
  }
  /// A number of at most nine digits; -1 and no complaint if there is none here.
  int64_t number() {
    if (!is_digit(peek())) return -1;
    int64_t v = 0;
    const char* const first = at_;
    while (is_digit(peek())) {
      if (at_ - first >= 9) {
        fail(first, "number is too large", "");
        return -1;
      }
      v = v * 10 + (*at_++ - '0');
    }
    return v;
  }

  bool fail(const char* where, const char* message, const char* hint) {
    if (failed()) return false;
    error_->position = static_cast<int>(where - begin_) + 1;
    snprintf(error_->message, sizeof(error_->message), "%s", message);
    snprintf(error_->hint, sizeof(error_->hint), "%s", hint);
    return false;
  }
  __attribute__((format(printf, 4, 5))) bool failf(const char* where, const char* hint, const char* format, ...) {
    if (failed()) return false;
    char text[sizeof(error_->message)];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    return fail(where, text, hint);
  }

 private:
  const char* begin_;
  const char* at_;
  const char* end_;
  ParseError* error_;
};

}  // namespace dts::core
