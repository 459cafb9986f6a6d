#include "store/journal.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

namespace dts::store {

namespace {

constexpr uint64 kMagic = 0x6474736a30310001ULL;
constexpr int kCharges = 1024;
constexpr const char* kPath = "pg_stat_tmp/dts.journal";  // below pg_stat_tmp: base backups skip it

struct Entry {
  Oid db;
  int32 innocent;
  int64 task;
};

struct ChargeEntry {
  Oid db;
  int32 why;
  int64 task;
};

struct Journal {
  uint64 magic;
  int64 postmaster_start;
  uint32 count;  // charges in use
  uint32 pad;
  Entry running[kMaxSlots];
  ChargeEntry charge[kCharges];
};

Journal* journal = nullptr;

/// Opens and maps the file; without it dts works, only crash attribution is lost.
Journal* map_file() {
  const int fd = open(kPath, O_RDWR | O_CREAT, 0600);
  if (fd < 0) {
    ereport(LOG, (errcode_for_file_access(), errmsg("could not open file \"%s\": %m", kPath)));
    return nullptr;
  }
  const int failed = posix_fallocate(fd, 0, sizeof(Journal));
  void* const p = failed != 0 ? MAP_FAILED : mmap(nullptr, sizeof(Journal), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  close(fd);
  if (p == MAP_FAILED) {
    ereport(LOG, (errmsg("could not map file \"%s\"", kPath), errdetail("Tasks that crash the server will not be recognized.")));
    return nullptr;
  }
  return static_cast<Journal*>(p);
}

}  // namespace

void journal_startup() {
  if (journal == nullptr) journal = map_file();
  if (journal == nullptr) return;
  if (journal->magic != kMagic || journal->count > kCharges) {
    memset(static_cast<void*>(journal), 0, sizeof(Journal));
    journal->magic = kMagic;
  }
  for (Entry& e : journal->running) {
    if (e.task != 0 && e.innocent == 0) {
      ereport(LOG, (errmsg("dts task %lld of database %u was running when its executor crashed", static_cast<long long>(e.task), e.db)));
      charge_add(e.db, e.task, Charge::Crash);
    }
    e = Entry{};
  }
  journal->postmaster_start = PgStartTime;
}

void journal_running(int slot, Oid db, int64 task) {
  if (journal == nullptr) return;
  Entry& e = journal->running[slot];
  e.db = db;
  e.innocent = 0;
  pg_write_barrier();
  e.task = task;
}

void journal_innocent(int slot) {
  if (journal != nullptr) journal->running[slot].innocent = 1;
}

void charge_add(Oid db, int64 task, Charge why) {
  if (journal == nullptr) return;
  LWLockAcquire(&shared->charge_lock, LW_EXCLUSIVE);
  // When full, the oldest give way: losing a charge costs one uncounted crash.
  if (journal->count == kCharges) {
    memmove(&journal->charge[0], &journal->charge[1], sizeof(ChargeEntry) * (kCharges - 1));
    journal->count--;
  }
  journal->charge[journal->count] = ChargeEntry{db, static_cast<int32>(why), task};
  pg_write_barrier();
  journal->count++;
  LWLockRelease(&shared->charge_lock);
}

Charge charge_of(Oid db, int64 task) {
  if (journal == nullptr || journal->count == 0) return Charge::None;
  Charge got = Charge::None;
  LWLockAcquire(&shared->charge_lock, LW_SHARED);
  for (uint32 i = 0; i < journal->count && got == Charge::None; i++)
    if (journal->charge[i].task == task && journal->charge[i].db == db) got = static_cast<Charge>(journal->charge[i].why);
  LWLockRelease(&shared->charge_lock);
  return got;
}

void charge_remove(Oid db, int64 task) {
  if (journal == nullptr || journal->count == 0) return;
  LWLockAcquire(&shared->charge_lock, LW_EXCLUSIVE);
  uint32 kept = 0;
  for (uint32 i = 0; i < journal->count; i++)
    if (journal->charge[i].task != task || journal->charge[i].db != db) journal->charge[kept++] = journal->charge[i];
  journal->count = kept;
  LWLockRelease(&shared->charge_lock);
}

int charges(Oid db, int64* tasks, int max) {
  if (journal == nullptr) return 0;
  int n = 0;
  LWLockAcquire(&shared->charge_lock, LW_SHARED);
  for (uint32 i = 0; i < journal->count && n < max; i++)
    if (journal->charge[i].db == db) tasks[n++] = journal->charge[i].task;
  LWLockRelease(&shared->charge_lock);
  return n;
}

}  // namespace dts::store
