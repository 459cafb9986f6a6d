// What tasks refer to: queues, handlers, lanes. Cached in each process until definitions change.
#pragma once

#include "store/catalog.hpp"
#include "store/lanes.hpp"

namespace dts::store {

/// Defaults that a task takes when it says nothing. Absent ones are -1 or nullptr.
struct Defaults {
  int32 priority = -1, max_attempts = -1;
  int32 timeout_ms = -1;
  Interval* expires = nullptr;
  Jsonb* retry = nullptr;
};

struct Queue {
  int32 id;
  char name[NAMEDATALEN];
  bool paused, durable, dropped;
  char history;
  int32 batch_size;
  Defaults defaults;
};

struct Handler {
  int32 id;
  char name[NAMEDATALEN];
  Oid owner;
  bool shared, transactional, capture;
  core::Kind kind;
  char* sql;     // nullptr unless of kind sql
  char* labels;  // that its tasks ask of an agent
  Jsonb* spec;   // of other kinds: what belongs to them
  char* queue;   // nullptr: the default queue
  Defaults defaults;
};

/// By name (not dropped) or by id; nullptr if there is none. Valid until the end of the statement.
const Queue* queue_by_name(const char* name);
const Queue* queue_by_id(int32 id);
const Handler* handler_by_name(const char* name);
const Handler* handler_by_id(int32 id);

inline constexpr int kLabelsLength = 200;

struct Lane {
  LaneInfo info;
  char tenant[NAMEDATALEN * 4];
  char labels[kLabelsLength + 1];
};

/// The lane of (owner, queue, tenant, priority, handler or 0, runner, labels that it requires), made if there is none.
LaneInfo lane_for(Oid owner, int32 queue, const char* tenant, int priority, int32 handler, core::Runner runner, const char* labels = "");
/// By id; nullptr if there is none.
const Lane* lane_by_id(int32 id);

/// A lane like this one with another priority.
LaneInfo lane_with_priority(const Lane& lane, int priority);

/// Hooks of the transaction callbacks: what was read inside a transaction that changed definitions must not outlive it.
void definitions_end(bool committed);
void definitions_subabort();
/// Something of this process's cache depends on rows that this transaction wrote.
void definitions_dirty();

}  // namespace dts::store
