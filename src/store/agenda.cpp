#include "store/agenda.hpp"

#include "settings.hpp"
#include "store/list.hpp"
#include "store/touch.hpp"

extern "C" {
#include "common/hashfn.h"
}

namespace dts::store {

namespace {

constexpr uint32 kCells = 8192;
constexpr uint32 kFlag = 1U << 31;

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

DatabaseAgenda* agendas = nullptr;
pg_atomic_uint32* cells = nullptr;

DatabaseAgenda* mine() {
  DatabaseSlot* const d = shared == nullptr ? nullptr : database_slot(MyDatabaseId, true);
  return d == nullptr ? nullptr : &agendas[d - databases];
}

uint32 cell_of(int64 id) {
  struct {
    int64 id;
    uint32 db, pad;
  } const key{id, MyDatabaseId, 0};
  return hash_bytes(reinterpret_cast<const unsigned char*>(&key), sizeof(key)) % kCells;
}

/// What this transaction entered: one bit a cell, whatever the number of ids.
uint64 entered[kCells / 64], parents[kCells / 64];
bool any_entered = false;
bool writer = false;

bool has(const uint64* set, uint32 cell) { return (set[cell / 64] >> (cell % 64) & 1) != 0; }

struct Noted {
  int64 id;
  Note note;
};
TransactionList<Noted> on_overlap;
struct NotedRange {
  int64 lo, hi;
  Note note;
};
TransactionList<NotedRange> notes;
int64 child_lo = 0, child_hi = 0;
bool any_child = false;

/// What agenda_take gave and an abort gives back.
Agenda taken_agenda;
bool has_taken = false;

uint32 enter(int64 id) {
  const uint32 cell = cell_of(id);
  if (has(entered, cell)) return cell;
  touch_register();
  uint32 old = pg_atomic_read_u32(&cells[cell]);
  while (!pg_atomic_compare_exchange_u32(&cells[cell], &old, (old + 1) | ((old & ~kFlag) > 0 ? kFlag : 0) | (old & kFlag))) {
  }
  entered[cell / 64] |= uint64{1} << (cell % 64);
  any_entered = true;
  return cell;
}

/// Leaves a cell; whether somebody else was there at any time.
bool leave(uint32 cell) {
  uint32 old = pg_atomic_read_u32(&cells[cell]);
  uint32 wanted = 0;
  do {
    const uint32 count = (old & ~kFlag) - 1;
    wanted = count == 0 ? 0 : count | (old & kFlag);
  } while (!pg_atomic_compare_exchange_u32(&cells[cell], &old, wanted));
  return (old & kFlag) != 0;
}

core::Key key(int64 id) { return {id, 0}; }

void add(DatabaseAgenda& a, Note note, int64 lo, int64 hi) {
  a.agenda.set[static_cast<int>(note)].add(key(lo), core::Key{hi, 0}, core::kMax);
}

void forget() {
  memset(entered, 0, sizeof(entered));
  memset(parents, 0, sizeof(parents));
  any_entered = writer = any_child = has_taken = false;
  on_overlap.drop();
  notes.drop();
}

/// Leaves all cells and puts what overlapped on the agenda. Returns whether anything was put there.
bool leave_all(DatabaseAgenda& a, bool committed) {
  uint64 flagged[kCells / 64];
  memset(flagged, 0, sizeof(flagged));
  bool submitted_late = false;
  for (uint32 w = 0; w < kCells / 64; w++)
    for (uint64 bits = entered[w]; bits != 0; bits &= bits - 1) {
      const uint32 cell = w * 64 + static_cast<uint32>(__builtin_ctzll(bits));
      if (!leave(cell)) continue;
      flagged[w] |= uint64{1} << (cell % 64);
      submitted_late |= has(parents, cell);
    }
  if (!committed) return false;
  bool noted = false;
  for (int i = 0; i < on_overlap.n; i++) {
    const Noted& o = on_overlap.items[i];
    if (!has(flagged, cell_of(o.id))) continue;
    add(a, o.note, o.id, o.id);
    noted = true;
  }
  if (submitted_late && any_child) {
    add(a, Note::Deep, child_lo, child_hi);
    noted = true;
  }
  return noted;
}

/// Who looks: an executor does so itself at the top of its loop, everybody else tells the scheduler.
void tell(DatabaseAgenda& a) {
  pg_atomic_write_u32(&a.any, 1);
  pg_memory_barrier();
  if (own_slot >= 0 && a.agenda.set[static_cast<int>(Note::Held)].empty()) return;
  if (pg_atomic_exchange_u32(&a.told, 1) == 0) tell_scheduler(MyDatabaseId, kAgenda);
}

}  // namespace

Size agenda_size() {
  return add_size(mul_size(sizeof(DatabaseAgenda), settings::max_databases), mul_size(sizeof(pg_atomic_uint32), kCells));
}

void agenda_startup(int tranche) {
  bool found = false;
  agendas = static_cast<DatabaseAgenda*>(ShmemInitStruct("dts agendas", mul_size(sizeof(DatabaseAgenda), settings::max_databases), &found));
  cells = static_cast<pg_atomic_uint32*>(ShmemInitStruct("dts cells", mul_size(sizeof(pg_atomic_uint32), kCells), &found));
  if (found) return;
  memset(static_cast<void*>(agendas), 0, mul_size(sizeof(DatabaseAgenda), settings::max_databases));
  for (uint32 i = 0; i < kCells; i++) pg_atomic_init_u32(&cells[i], 0);
  for (int i = 0; i < settings::max_databases; i++) {
    DatabaseAgenda& a = agendas[i];
    LWLockInitialize(&a.lock, tranche);
    for (pg_atomic_uint32* p : {&a.any, &a.told, &a.writers}) pg_atomic_init_u32(p, 0);
    for (pg_atomic_uint64* p : {&a.not_before, &a.held_until}) pg_atomic_init_u64(p, 0);
    pg_atomic_init_u64(&a.edges, 1);  // until somebody has looked there may be some
  }
}

void cell_enter(int64 id, Note note) {
  if (shared == nullptr) return;
  on_overlap.push() = Noted{id, note};
  (void)enter(id);
}

void cell_enter_parent(int64 id) {
  if (shared == nullptr) return;
  const uint32 cell = enter(id);
  parents[cell / 64] |= uint64{1} << (cell % 64);
}

void agenda_submitted(int64 child) {
  child_lo = any_child ? Min(child_lo, child) : child;
  child_hi = any_child ? Max(child_hi, child) : child;
  any_child = true;
}

void cell_enter_to_look(int64 id) {
  if (shared != nullptr) (void)enter(id);
}

void agenda_note(Note note, int64 lo, int64 hi) {
  if (shared == nullptr) return;
  touch_register();
  notes.push() = NotedRange{lo, hi, note};
}

bool agenda_active() { return any_entered || writer || any_child || has_taken || notes.n > 0; }

void edges_raise() {
  DatabaseAgenda* const a = writer ? nullptr : mine();
  if (a == nullptr) return;
  touch_register();
  // Counted as a writer first: the scheduler's proof reads in the other order.
  pg_atomic_fetch_add_u32(&a->writers, 1);
  writer = true;
  pg_atomic_fetch_add_u64(&a->edges, 1);
}

bool edges_exist() {
  DatabaseAgenda* const a = mine();
  pg_memory_barrier();
  return a == nullptr || pg_atomic_read_u64(&a->edges) != 0;
}

bool edges_quiet(uint64* proof) {
  DatabaseAgenda* const a = mine();
  if (a == nullptr) return false;
  *proof = pg_atomic_fetch_add_u64(&a->edges, 0);
  return *proof != 0 && pg_atomic_fetch_add_u32(&a->writers, 0) == 0;
}

void edges_none(uint64 proof) {
  DatabaseAgenda* const a = mine();
  if (a != nullptr) pg_atomic_compare_exchange_u64(&a->edges, &proof, 0);
}

void agenda_end(bool committed) {
  if (!any_entered && !writer && !has_taken && notes.n == 0) {
    if (any_child || on_overlap.n > 0) forget();
    return;
  }
  DatabaseAgenda* const a = mine();
  if (a == nullptr) {
    forget();
    return;
  }
  LWLockAcquire(&a->lock, LW_EXCLUSIVE);
  bool noted = leave_all(*a, committed);
  if (committed)
    for (int i = 0; i < notes.n; i++) {
      add(*a, notes.items[i].note, notes.items[i].lo, notes.items[i].hi);
      noted = true;
    }
  if (!committed && has_taken)
    for (int k = 0; k < kNotes; k++)
      for (int i = 0; i < taken_agenda.set[k].size(); i++) {
        const core::Range& r = taken_agenda.set[k][i];
        a->agenda.set[k].add(r.lo, r.hi, core::kMax);
        noted = true;
      }
  if (noted && !a->agenda.set[static_cast<int>(Note::Held)].empty() && pg_atomic_read_u64(&a->held_until) == 0) {
    a->held_ms = Min(Max(a->held_ms * 2, 1), 1000);
    pg_atomic_write_u64(&a->held_until, static_cast<uint64>(GetCurrentTimestamp() + a->held_ms * 1000LL));
  }
  LWLockRelease(&a->lock);
  if (writer) pg_atomic_fetch_sub_u32(&a->writers, 1);
  forget();
  if (noted) tell(*a);
}

bool agenda_take(Agenda* out) {
  DatabaseAgenda* const a = mine();
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
  DatabaseAgenda* const a = mine();
  if (a == nullptr) return;
  a->failures = round == Round::Failed ? Min(a->failures + 1, 20) : 0;
  const int64 pause = round == Round::Decided ? 0 : round == Round::Nothing ? 500 : Min(1000LL << Min(a->failures, 10), 1000000LL);
  pg_atomic_write_u64(&a->not_before, pause == 0 ? 0 : static_cast<uint64>(GetCurrentTimestamp() + pause));
}

int agenda_slice() {
  const DatabaseAgenda* const a = mine();
  return a == nullptr ? 1000 : Max(1000 >> Min(a->failures, 10), 1);
}

void agenda_everything(Oid db) {
  DatabaseSlot* const d = shared == nullptr ? nullptr : database_slot(db, true);
  if (d == nullptr) return;
  DatabaseAgenda& a = agendas[d - databases];
  pg_atomic_fetch_add_u64(&a.edges, 1);
  LWLockAcquire(&a.lock, LW_EXCLUSIVE);
  add(a, Note::Deep, core::kMin, core::kMax);
  LWLockRelease(&a.lock);
  pg_atomic_write_u32(&a.any, 1);
  tell_scheduler(db, kAgenda);
}

}  // namespace dts::store
