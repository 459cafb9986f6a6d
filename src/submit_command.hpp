// Commands for agents, as the submit functions and JSON give them.
#pragma once

#include "submit.hpp"

namespace dts {

struct CommandParts {
  Jsonb* argv = nullptr;
  Jsonb* env = nullptr;
  const char* input = nullptr;
  const char* dir = nullptr;
  Jsonb* container = nullptr;
  Jsonb* codes = nullptr;
  const char* labels = "";
  const char* last = nullptr;  // key that was read last
};

/// Reads one key of a JSON object; false if it does not belong to a command.
bool read_command_part(const JsonbValue& v, const char* key, const char* place, CommandParts* parts);
/// Checks it and makes a task of it.
Prepared prepare_command(const CommandParts& parts, Options* options);

/// Labels sorted, each once, separated by commas; refuses malformed ones and more than `most`.
const char* canonical_labels(char** label, int n, const char* argument, int most);
/// The elements of an array argument; refuses null.
char** label_texts(ArrayType* array, const char* argument, int* n);

}  // namespace dts
