// The board: tasks that somebody asked to cancel while an executor held them; and who waits for a task to end.
// It belongs to the task, so it outlives an executor that dies (docs/architecture.md, "Steering").
#pragma once

#include "core/task_state.hpp"
#include "store/shared.hpp"

namespace dts::store {

/// Whether a request to cancel stands. One atomic load when the board is empty.
bool board_has(Oid db, int64 task);
/// Posts a request; false when the board is full.
bool board_add(Oid db, int64 task);
void board_remove(Oid db, int64 task);

/// Registers this process to be woken when the task ends; -1 if all places are taken (then poll).
int waiter_add(Oid db, int64 task);
void waiter_remove(int place);
void wake_waiters(Oid db, int64 task, core::State outcome);
/// The end that a waiter was woken with; State::Ready if there was none yet.
core::State waiter_outcome(int place);

}  // namespace dts::store
