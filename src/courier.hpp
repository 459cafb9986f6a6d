// The courier: one process of a database. Claims tasks that leave the server, lends them to libcurl, records what comes back. No
// transaction is open while bytes fly (docs/architecture.md, "Transfers").
#pragma once

#include "request.hpp"
#include "store/runs.hpp"
#include "store/slots.hpp"
#include "store/transfers.hpp"

extern "C" PGDLLEXPORT void dts_courier_main(Datum arg);

namespace dts {

/// What the courier remembers of a transfer beside the shared slot of the same number.
struct Held {
  pg_uuid_t token;
  Oid owner;
};

/// State of this process; it has one.
struct CourierState {
  int slot = -1;
  int pool = -1;
  http::Client* client = nullptr;
  MemoryContext memory = nullptr;  // of one turn
  Held* held = nullptr;            // by transfer
  int reserved = 0;                // transfers of this claim that are not given to a task yet
  int most = 0;                    // transfers that the descriptors of this process allow
  uint32 generation = 0;           // of definitions, for which the client's rules were read
  TimestampTz rules_at = 0;
};
extern CourierState courier;

/// Transactions: READ COMMITTED, read-write; `durable`: flushed before it returns, whatever the settings say.
void courier_begin();
void courier_commit(bool durable);

// ---- courier_claim.cpp

/// Claims what is due and room is for, commits that to disk, and only then sends. True if anything was claimed.
bool courier_claim();
/// Whether a claim could find something now.
bool courier_has_work();

// ---- courier_result.cpp

/// Records what has come back, many in one transaction. True if there was anything. `later`: when to look again, 0 if there is no need.
bool courier_record(TimestampTz* later);

// ---- courier_response.cpp

/// What a response is for its task: fills state, result and error. `request` is what was asked.
void judge_response(const http::Response& r, core::Kind kind, Jsonb* request, store::Outcome* out);

// ---- courier_hosts.cpp

/// Whether a request may start at its host now; else when it should come again. Counts it in flight.
bool host_admits(int transfer, const char* name, TimestampTz now, TimestampTz* again);
/// How a request to a transfer's host ended.
void host_ended(int transfer, const http::Response& r, int64 took_us);

/// The request of a task: its own, or its handler's, with what references look into.
Jsonb* request_of(const store::Task& task, Jsonb** payload);

}  // namespace dts
