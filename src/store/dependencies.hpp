// The release of dependents: what the end of a task does to those that wait for it (docs/architecture.md, "Dependencies").
// The edges are the state: there is no counter. Outcomes are recorded on edges by the transaction that ends the parent; the verdict on
// a child moves one way, so nobody waits for anybody; whoever may have seen too little is made to look again after the commit.
#pragma once

#include "store/agenda.hpp"
#include "store/edges.hpp"
#include "store/runs.hpp"

namespace dts::store {

/// Before the commit of a transaction that ended tasks: records the outcomes on their edges, and moves the children that are decided.
/// Called by the transaction callbacks, for every kind of end alike.
void release_dependents();

/// One round over the agenda, in a transaction of its own (READ COMMITTED). Returns what it did; agenda_pace wants to know.
Round resolve();

/// Ends a locked task whose dependencies can no longer be satisfied as its submitter wished: skipped, failed or cancelled.
/// `culprit`: the parent that settled it, 0 if none is known, and how that one ended.
void end_unmet(TaskTable& tasks, const Task& task, const LaneInfo& lane, int64 culprit, int outcome);

/// How a task ended, from history: a core::State, or kUnknownOutcome if nothing is kept. `owner`: of its lane, if known.
int ended_outcome(int64 task, Oid* owner);

}  // namespace dts::store
