// Secrets: encrypted in dts.secret with a key that never enters the database, opened only where they are sent.
#pragma once

#include "pg/postgres.hpp"

namespace dts {

struct Secret {
  bool found;   // there is one that the role may use
  bool opened;  // its value is there; else why says what is wrong
  const char* why;
  const char* value;  // in the current context
  size_t size;
  const char* hosts;  // where it may be sent, with commas; "": anywhere
};

/// A secret by name, if `role` may use it. `open`: with its value, which no session of a user asks for.
Secret find_secret(const char* name, Oid role, bool open);

}  // namespace dts
