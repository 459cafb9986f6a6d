// Rounds over the agenda: what is due is taken off, and how the last one went sets the pace of the next.
#include "store/agenda_sets.hpp"

namespace dts::store {

Agenda taken_agenda;
bool has_taken = false;

bool agenda_take(Agenda* out) {
  DatabaseAgenda* const a = own_agenda();
  if (a == nullptr || pg_atomic_read_u32(&a->any) == 0) return false;
  const TimestampTz now = GetCurrentTimestamp();
  LWLockAcquire(&a->lock, LW_EXCLUSIVE);
  bool got = false, left = false;
  for (int k = 0; k < kNotes; k++) {
    taken_agenda.set[k].clear();
    const bool wait = k == static_cast<int>(Note::Held) && static_cast<TimestampTz>(pg_atomic_read_u64(&a->held_until)) > now;
    if (wait) {
      left |= !a->agenda.set[k].empty();
      continue;
    }
    got |= !a->agenda.set[k].empty();
    taken_agenda.set[k] = a->agenda.set[k];
    a->agenda.set[k].clear();
    if (k == static_cast<int>(Note::Held)) {
      pg_atomic_write_u64(&a->held_until, 0);
      if (taken_agenda.set[k].empty()) a->held_ms = 0;
    }
  }
  pg_atomic_write_u32(&a->any, left ? 1 : 0);
  LWLockRelease(&a->lock);
  has_taken = got;
  *out = taken_agenda;
  return got;
}

bool agenda_due(Oid db, TimestampTz now, TimestampTz* at) {
  *at = 0;
  DatabaseSlot* const d = shared == nullptr ? nullptr : database_slot(db, false);
  if (d == nullptr) return false;
  DatabaseAgenda& a = agendas[d - databases];
  if (own_slot < 0) {  // the scheduler: whoever adds from now on tells it again
    pg_atomic_write_u32(&a.told, 0);
    pg_memory_barrier();
  }
  if (pg_atomic_read_u32(&a.any) == 0) return false;
  const auto paced = static_cast<TimestampTz>(pg_atomic_read_u64(&a.not_before));
  bool others = false;
  for (int k = 0; k < static_cast<int>(Note::Held); k++) others |= !a.agenda.set[k].empty();
  const auto held = static_cast<TimestampTz>(pg_atomic_read_u64(&a.held_until));
  *at = Max(paced, others ? 0 : held);
  if (*at <= now) return true;
  if (own_slot >= 0 && pg_atomic_exchange_u32(&a.told, 1) == 0) tell_scheduler(db, kAgenda);  // it has the timer
  return false;
}

void agenda_pace(Round round) {
  DatabaseAgenda* const a = own_agenda();
  if (a == nullptr) return;
  a->failures = round == Round::Failed ? Min(a->failures + 1, 20) : 0;
  const int64 pause = round == Round::Decided ? 0 : round == Round::Nothing ? 500 : Min(1000LL << Min(a->failures, 10), 1000000LL);
  pg_atomic_write_u64(&a->not_before, pause == 0 ? 0 : static_cast<uint64>(GetCurrentTimestamp() + pause));
}

int agenda_slice() {
  const DatabaseAgenda* const a = own_agenda();
  return a == nullptr ? 1000 : Max(1000 >> Min(a->failures, 10), 1);
}

void agenda_everything(Oid db) {
  DatabaseSlot* const d = shared == nullptr ? nullptr : database_slot(db, true);
  if (d == nullptr) return;
  DatabaseAgenda& a = agendas[d - databases];
  pg_atomic_fetch_add_u64(&a.edges, 1);
  LWLockAcquire(&a.lock, LW_EXCLUSIVE);
  agenda_add(a, Note::Deep, core::kMin, core::kMax);
  LWLockRelease(&a.lock);
  pg_atomic_write_u32(&a.any, 1);
  tell_scheduler(db, kAgenda);
}

}  // namespace dts::store
