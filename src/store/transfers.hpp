// What couriers have under way, and how the hosts do that they talk to. Shared, so that steering finds a transfer, the scheduler sees
// whose lease still has somebody, and limits count it.
#pragma once

#include "store/permits.hpp"

namespace dts::store {

/// One task that a courier holds. Identity under the lock of its courier's slot; `stop` by anybody under it.
struct TransferSlot {
  int32 next;  // free list
  bool used;
  bool sent;  // claimed and committed: it is running
  bool stop;  // its courier should end it
  Oid db;
  Oid owner;
  int64 task;
  int32 courier;  // executor slot
  int32 host;     // -1: none
  TimestampTz since;
  Permits permits;
};

enum class Circuit : uint8 { Closed, Open, HalfOpen };

/// A host and port, as a courier of one database sees it. Written by that courier; identity under `hosts_lock`.
struct HostSlot {
  bool used;
  Circuit circuit;
  bool probing;  // half open: one request is under way
  Oid db;
  char name[264];
  int32 in_flight;
  int32 failures;  // in a row
  int32 opened;    // times in a row: the pause doubles
  bool reset;      // somebody asked for it
  TimestampTz open_until, last_use, last_failure_at;
  TimestampTz next_place;  // when a deferred task may expect a place
  int64 succeeded, failed, deferred;
  double mean_us;
  char last_error[128];
};
inline constexpr int kHosts = 1024;

struct TransferHead {
  LWLock lock;  // of the free list
  LWLock hosts_lock;
  int32 free;
  int32 top;  // slots ever used
  pg_atomic_uint32 used;
};

extern TransferHead* transfer_head;
extern TransferSlot* transfers;
extern HostSlot* hosts;

Size transfers_size();
void transfers_startup(int tranche);

/// A free slot for a task of the courier `courier`, -1 if there is none.
int transfer_take(int courier, Oid db);
void transfer_free(int transfer);
/// Gives back all that a courier held; its permits too. May run in exit callbacks.
void transfers_leave(int courier);
/// How many slots are free.
int transfers_free();

/// Asks a courier to end a task that it holds. True if somebody holds it.
bool transfer_stop(Oid db, int64 task);
bool transfer_holds(Oid db, int64 task);
/// Tasks that couriers of a database hold, sorted, in the current context.
int transfers_of(Oid db, int64** out);

/// The slot of a host, made if needed (that of the longest unused one goes); -1 if all are busy.
int host_slot(Oid db, const char* name);

}  // namespace dts::store
