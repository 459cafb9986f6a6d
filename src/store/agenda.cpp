#include "store/agenda.hpp"

#include "settings.hpp"
#include "store/agenda_sets.hpp"
#include "store/list.hpp"
#include "store/touch.hpp"

extern "C" {
#include "common/hashfn.h"
}

namespace dts::store {

DatabaseAgenda* agendas = nullptr;

namespace {

/// Two transactions of 60 tasks with 180 children each seldom meet in one of so many unless they have a child in common.
constexpr uint32 kCells = 32768;
constexpr uint32 kFlag = 1U << 31;

pg_atomic_uint32* cells = nullptr;

uint32 cell_of(int64 id) {
  struct {
    int64 id;
    uint32 db, pad;
  } const key{id, MyDatabaseId, 0};
  return hash_bytes(reinterpret_cast<const unsigned char*>(&key), sizeof(key)) % kCells;
}

/// What this transaction entered: one bit a cell, whatever the number of ids. `words` tells which words of those have bits.
uint64 entered[kCells / 64], parents[kCells / 64], words[kCells / 64 / 64];
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

uint32 enter(int64 id) {
  const uint32 cell = cell_of(id);
  if (has(entered, cell)) return cell;
  touch_register();
  uint32 old = pg_atomic_read_u32(&cells[cell]);
  while (!pg_atomic_compare_exchange_u32(&cells[cell], &old, (old + 1) | ((old & ~kFlag) > 0 ? kFlag : 0) | (old & kFlag))) {
  }
  entered[cell / 64] |= uint64{1} << (cell % 64);
  words[cell / 64 / 64] |= uint64{1} << (cell / 64 % 64);
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

/// Calls f(word) for each word that has bits.
template <class F>
void each_word(F&& f) {
  for (uint32 k = 0; k < lengthof(words); k++)
    for (uint64 bits = words[k]; bits != 0; bits &= bits - 1) f(k * 64 + static_cast<uint32>(__builtin_ctzll(bits)));
}

void forget() {
  each_word([](uint32 w) { entered[w] = parents[w] = 0; });
  memset(words, 0, sizeof(words));
  any_entered = writer = any_child = has_taken = false;
  on_overlap.drop();
  notes.drop();
}

/// Leaves all cells and puts what overlapped on the agenda. Returns whether anything was put there.
bool leave_all(DatabaseAgenda& a, bool committed) {
  bool submitted_late = false;
  each_word([&](uint32 w) {
    for (uint64 bits = entered[w]; bits != 0; bits &= bits - 1) {
      const uint32 cell = w * 64 + static_cast<uint32>(__builtin_ctzll(bits));
      if (leave(cell))
        submitted_late |= has(parents, cell);
      else
        entered[w] &= ~(uint64{1} << (cell % 64));  // what stays is where somebody else was
    }
  });
  if (!committed) return false;
  bool noted = false;
  for (int i = 0; i < on_overlap.n; i++) {
    const Noted& o = on_overlap.items[i];
    if (!has(entered, cell_of(o.id))) continue;
    agenda_add(a, o.note, o.id, o.id);
    noted = true;
  }
  if (submitted_late && any_child) {
    agenda_add(a, Note::Deep, child_lo, child_hi);
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
  DatabaseAgenda* const a = writer ? nullptr : own_agenda();
  if (a == nullptr) return;
  touch_register();
  // Counted as a writer first: the scheduler's proof reads in the other order.
  pg_atomic_fetch_add_u32(&a->writers, 1);
  writer = true;
  pg_atomic_fetch_add_u64(&a->edges, 1);
}

bool edges_exist() {
  DatabaseAgenda* const a = own_agenda();
  pg_memory_barrier();
  return a == nullptr || pg_atomic_read_u64(&a->edges) != 0;
}

bool edges_quiet(uint64* proof) {
  DatabaseAgenda* const a = own_agenda();
  if (a == nullptr) return false;
  *proof = pg_atomic_fetch_add_u64(&a->edges, 0);
  return *proof != 0 && pg_atomic_fetch_add_u32(&a->writers, 0) == 0;
}

void edges_none(uint64 proof) {
  DatabaseAgenda* const a = own_agenda();
  if (a != nullptr) pg_atomic_compare_exchange_u64(&a->edges, &proof, 0);
}

void agenda_end(bool committed) {
  if (!any_entered && !writer && !has_taken && notes.n == 0) {
    if (any_child || on_overlap.n > 0) forget();
    return;
  }
  DatabaseAgenda* const a = own_agenda();
  if (a == nullptr) {
    forget();
    return;
  }
  LWLockAcquire(&a->lock, LW_EXCLUSIVE);
  bool noted = leave_all(*a, committed);
  if (committed)
    for (int i = 0; i < notes.n; i++) {
      agenda_add(*a, notes.items[i].note, notes.items[i].lo, notes.items[i].hi);
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
  if (writer) {
    pg_atomic_fetch_sub_u32(&a->writers, 1);
    pg_atomic_write_u32(&databases[a - agendas].activity, 1);  // what it left may be for the sweep alone
  }
  forget();
  if (noted) tell(*a);
}

}  // namespace dts::store
