#include "store/transfers.hpp"

#include <algorithm>

#include "settings.hpp"

namespace dts::store {

TransferHead* transfer_head = nullptr;
TransferSlot* transfers = nullptr;
HostSlot* hosts = nullptr;

Size transfers_size() {
  return sizeof(TransferHead) + mul_size(sizeof(TransferSlot), static_cast<Size>(settings::max_transfers)) + sizeof(HostSlot) * kHosts +
         1024;
}

void transfers_startup(int tranche) {
  bool found = false;
  transfer_head = static_cast<TransferHead*>(ShmemInitStruct("dts transfer head", sizeof(TransferHead), &found));
  const Size size = mul_size(sizeof(TransferSlot), static_cast<Size>(settings::max_transfers));
  transfers = static_cast<TransferSlot*>(ShmemInitStruct("dts transfers", size, &found));
  hosts = static_cast<HostSlot*>(ShmemInitStruct("dts hosts", sizeof(HostSlot) * kHosts, &found));
  if (found) return;
  memset(static_cast<void*>(transfers), 0, size);
  memset(static_cast<void*>(hosts), 0, sizeof(HostSlot) * kHosts);
  LWLockInitialize(&transfer_head->lock, tranche);
  LWLockInitialize(&transfer_head->hosts_lock, tranche);
  pg_atomic_init_u32(&transfer_head->used, 0);
  transfer_head->free = -1;
  transfer_head->top = 0;
}

int transfer_take(int courier, Oid db) {
  LWLockAcquire(&transfer_head->lock, LW_EXCLUSIVE);
  int got = transfer_head->free;
  if (got >= 0)
    transfer_head->free = transfers[got].next;
  else if (transfer_head->top < settings::max_transfers)
    got = transfer_head->top++;
  LWLockRelease(&transfer_head->lock);
  if (got < 0) return -1;
  TransferSlot& t = transfers[got];
  LWLockAcquire(&slots[courier].lock, LW_EXCLUSIVE);
  t.sent = t.stop = false;
  t.db = db;
  t.owner = InvalidOid;
  t.task = 0;
  t.courier = courier;
  t.host = -1;
  t.since = 0;
  t.permits.places = 0;
  t.used = true;
  LWLockRelease(&slots[courier].lock);
  pg_atomic_fetch_add_u32(&transfer_head->used, 1);
  return got;
}

void transfer_free(int transfer) {
  TransferSlot& t = transfers[transfer];
  permits_give(&slots[t.courier].lock, &t.permits);
  LWLockAcquire(&slots[t.courier].lock, LW_EXCLUSIVE);
  const int host = t.host;
  t.used = false;
  t.task = 0;
  LWLockRelease(&slots[t.courier].lock);
  if (host >= 0 && hosts[host].in_flight > 0) hosts[host].in_flight--;
  LWLockAcquire(&transfer_head->lock, LW_EXCLUSIVE);
  t.next = transfer_head->free;
  transfer_head->free = transfer;
  LWLockRelease(&transfer_head->lock);
  pg_atomic_fetch_sub_u32(&transfer_head->used, 1);
}

void transfers_leave(int courier) {
  for (int i = 0; i < transfer_head->top; i++)
    if (transfers[i].used && transfers[i].courier == courier) transfer_free(i);
}

int transfers_free() { return settings::max_transfers - static_cast<int>(pg_atomic_read_u32(&transfer_head->used)); }

bool transfer_stop(Oid db, int64 task) {
  for (int i = 0; i < transfer_head->top; i++) {
    TransferSlot& t = transfers[i];
    if (!t.used || t.task != task || t.db != db) continue;
    ExecutorSlot& s = slots[t.courier];
    LWLockAcquire(&s.lock, LW_EXCLUSIVE);
    const bool there = t.used && t.task == task && t.db == db && s.pid != 0;
    if (there) {
      t.stop = true;
      pg_atomic_write_u64(&s.interrupt, pg_atomic_read_u64(&s.interrupt) + 1);
      wake(s.proc);
    }
    LWLockRelease(&s.lock);
    if (there) return true;
  }
  return false;
}

bool transfer_holds(Oid db, int64 task) {
  for (int i = 0; i < transfer_head->top; i++) {
    const TransferSlot& t = transfers[i];
    if (t.used && t.task == task && t.db == db && slots[t.courier].pid != 0) return true;
  }
  return false;
}

int transfers_of(Oid db, int64** out) {
  *out = static_cast<int64*>(palloc(sizeof(int64) * (static_cast<Size>(transfer_head->top) + 1)));
  int n = 0;
  for (int i = 0; i < transfer_head->top; i++)
    if (transfers[i].used && transfers[i].db == db && transfers[i].task != 0 && slots[transfers[i].courier].pid != 0)
      (*out)[n++] = transfers[i].task;
  std::sort(*out, *out + n);
  return n;
}

int host_slot(Oid db, const char* name) {
  static int hint = 0;
  if (hosts[hint].used && hosts[hint].db == db && strcmp(hosts[hint].name, name) == 0) return hint;
  int spare = -1, oldest = -1;
  for (int i = 0; i < kHosts; i++) {
    HostSlot& h = hosts[i];
    if (h.used && h.db == db && strcmp(h.name, name) == 0) return hint = i;
    if (!h.used && spare < 0) spare = i;
    // An open circuit is not forgotten before its time.
    if (h.used && h.in_flight == 0 && h.circuit == Circuit::Closed && (oldest < 0 || h.last_use < hosts[oldest].last_use)) oldest = i;
  }
  LWLockAcquire(&transfer_head->hosts_lock, LW_EXCLUSIVE);
  if (spare >= 0 && hosts[spare].used) spare = -1;  // a courier of another database was quicker
  const int got = spare >= 0 ? spare : oldest;
  if (got >= 0) {
    HostSlot& h = hosts[got];
    memset(static_cast<void*>(&h), 0, sizeof(h));
    h.db = db;
    strlcpy(h.name, name, sizeof(h.name));
    h.last_use = GetCurrentTimestamp();
    h.used = true;
    hint = got;
  }
  LWLockRelease(&transfer_head->hosts_lock);
  return got;
}

}  // namespace dts::store
