// Batches: tasks submitted under one name, counted without a row that all of them change (docs/architecture.md, "Batches").
#pragma once

#include "core/dependency.hpp"
#include "pg/postgres.hpp"

namespace dts::store {

/// What a row of dts.batch_tally counts, beside ends by their state.
inline constexpr int kSubmittedToBatch = 0;

/// The batch of this owner and name, begun if there is none. Waits for nobody.
int64 batch_for(Oid owner, const char* name);
/// The batches of this name that the current user may wait for: his own, else those of one role that he is a member of. Gives how many.
int batches_named(const char* name, int64** ids);
/// The unfinished tasks of a batch, by the latest snapshot; gives how many. The array is the caller's to free.
int64 batch_members(int64 batch, int64** tasks);

/// This transaction counts n more of something. Written before the commit.
void tally(int64 batch, int what, int64 n);
/// How many tasks of a batch have ended in a way that is not accepted: committed, or in this transaction.
int64 refused_ends(int64 batch, core::Accept accept);

/// At the end of transactions and subtransactions (store/touch.cpp).
void tallies_write();
void tallies_forget();
void tallies_subabort(SubTransactionId subid);

}  // namespace dts::store
