// Inside store/: the agendas in shared memory, for transactions that put something there and for rounds that take it off.
#pragma once

#include "store/agenda.hpp"

namespace dts::store {

/// The agenda of one database, at the place of its DatabaseSlot.
struct DatabaseAgenda {
  LWLock lock;
  pg_atomic_uint32 any;         // something is in a set
  pg_atomic_uint32 told;        // the scheduler was told since it last looked
  pg_atomic_uint64 not_before;  // the next round: rounds that decide nothing are paced
  pg_atomic_uint64 held_until;  // the ids in Held are looked at then
  pg_atomic_uint64 edges;       // 0: there are no edges. Else there may be, and it moves whenever somebody writes some
  pg_atomic_uint32 writers;     // open transactions that may have written edges
  int32 held_ms;                // pace of Held: 1, 2, 4 ... 1000
  int32 failures;
  Agenda agenda;
};

extern DatabaseAgenda* agendas;

inline DatabaseAgenda* own_agenda() {
  DatabaseSlot* const d = shared == nullptr ? nullptr : database_slot(MyDatabaseId, true);
  return d == nullptr ? nullptr : &agendas[d - databases];
}

/// Puts a range there; needs the lock.
inline void agenda_add(DatabaseAgenda& a, Note note, int64 lo, int64 hi) {
  a.agenda.set[static_cast<int>(note)].add(core::Key{lo, 0}, core::Key{hi, 0}, core::kMax);
}

/// What agenda_take gave and an abort gives back.
extern Agenda taken_agenda;
extern bool has_taken;

}  // namespace dts::store
