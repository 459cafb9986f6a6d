#include "store/leases.hpp"

#include "pg/as_owner.hpp"
#include "store/keys.hpp"
#include "store/list.hpp"

namespace dts::store {

namespace {

// ---- what this transaction did to places of limits; the callbacks only read it

struct Reservation {
  int slot;
  int32 lane;
  int n, used;
  SubTransactionId subid;
};
struct Left {
  int slot;
  int32 lane;
  SubTransactionId subid;
};
TransactionList<Reservation> reservations;
TransactionList<Left> left;
TimestampTz earliest = core::kMax;

}  // namespace

int lease_reserve(int lane_slot, int n) {
  touch_register();
  Reservation& r = reservations.push();  // an error is still harmless here
  r = Reservation{lane_slot, lanes[lane_slot].lane, 0, 0, GetCurrentSubTransactionId()};
  r.n = places_take(lane_slot, r.lane, n);
  if (r.n == 0) reservations.n--;
  return r.n;
}

Task lease_task(TaskTable& tasks, const Task& t, const LaneInfo& lane) {
  Task leased = t;
  leased.state = core::State::Leased;
  leased.attempt = static_cast<int16>(t.attempt + 1);
  leased.has_token = leased.has_lease = true;
  leased.lease_until = DT_NOEND;  // its end stands in dts.lease
  if (!pg_strong_random(&leased.token, sizeof(leased.token))) ereport(ERROR, (errmsg("could not make a random token")));
  tasks.update(t, leased, lane, lane);
  if (t.ckey != 0) key_leased(t.ckey, t.id);
  if (reservations.n > 0) reservations.items[reservations.n - 1].used++;
  return leased;
}

void lease_until(TimestampTz until) {
  touch_register();
  earliest = Min(earliest, until);
}

void lease_left(const Task& t, const LaneInfo& lane, Outcome* o) {
  Lease lease;
  if (read_lease(t.token, &lease)) {
    o->started_at = lease.started_at;
    o->agent = pstrdup(lease.agent);
  }
  // An agent's open transaction may hold the row (a heartbeat): nobody waits for it, and the scheduler removes what is left over, as it
  // does with those whose agent is to hear of a cancel.
  static pg::Statement forget{
      "DELETE FROM dts.lease x USING (SELECT token FROM dts.lease WHERE token = $1 FOR UPDATE SKIP LOCKED) l WHERE x.token = l.token",
      1,
      {UUIDOID}};
  static pg::Statement cancel{
      "UPDATE dts.lease x SET ended = 13 FROM (SELECT token FROM dts.lease WHERE token = $1 FOR UPDATE SKIP LOCKED) l WHERE x.token = "
      "l.token",
      1,
      {UUIDOID}};
  const Datum values[] = {UUIDPGetDatum(&t.token)};
  const pg::AsOwner as(catalog().owner, pg::Plans::ByKey);
  SPI_connect();
  (o->state == core::State::Cancelled ? cancel : forget).run(values, nullptr, true);
  SPI_finish();
  as.end();
  if (shared == nullptr) return;
  touch_register();
  Left& l = left.push();
  l = Left{lane_slot_of(MyDatabaseId, lane.lane), lane.lane, GetCurrentSubTransactionId()};
}

void leases_found(const LaneInfo& lane, int n) {
  const int slot = lane_slot(MyDatabaseId, lane);
  if (slot >= 0) places_found(slot, lane.lane, n);
}

void leases_end(bool committed) {
  for (int i = 0; i < reservations.n; i++) {
    const Reservation& r = reservations.items[i];
    places_give(r.slot, r.lane, committed ? r.n - r.used : r.n);
  }
  for (int i = 0; i < left.n && committed; i++) places_give(left.items[i].slot, left.items[i].lane, 1);
  reservations.drop();
  left.drop();
  DatabaseSlot* const d = earliest == core::kMax ? nullptr : database_slot(MyDatabaseId, false);
  if (committed && d != nullptr && earliest < static_cast<int64>(pg_atomic_read_u64(&d->lapse_at)))
    tell_scheduler(MyDatabaseId, kAgentLease);
  earliest = core::kMax;
}

void leases_subabort(SubTransactionId subid) {
  for (; reservations.n > 0 && reservations.items[reservations.n - 1].subid >= subid; reservations.n--) {
    const Reservation& r = reservations.items[reservations.n - 1];
    places_give(r.slot, r.lane, r.n);
  }
  while (left.n > 0 && left.items[left.n - 1].subid >= subid) left.n--;
}

bool read_lease(const pg_uuid_t& token, Lease* out) {
  static pg::Statement read{
      "SELECT task, started_at, until, deadline, role::oid, agent FROM dts.lease WHERE token = $1 AND ended IS NULL", 1, {UUIDOID}};
  const Datum values[] = {UUIDPGetDatum(&token)};
  const pg::AsOwner as(catalog().owner, pg::Plans::ByKey);
  SPI_connect();
  const bool found = read.run(values, nullptr, true) == 1;
  if (found) {
    bool null = false;
    *out = Lease{};
    out->task = DatumGetInt64(pg::column(0, 1, &null));
    out->started_at = DatumGetTimestampTz(pg::column(0, 2, &null));
    out->until = DatumGetTimestampTz(pg::column(0, 3, &null));
    const Datum deadline = pg::column(0, 4, &null);
    out->deadline = null ? 0 : DatumGetTimestampTz(deadline);
    out->role = DatumGetObjectId(pg::column(0, 5, &null));
    strlcpy(out->agent, TextDatumGetCString(pg::column(0, 6, &null)), sizeof(out->agent));
  }
  SPI_finish();
  as.end();
  return found;
}

void check_agent(const char* name) {
  if (name == nullptr)
    ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("argument \"agent\" must not be null"),
                    errhint("Give a name that tells this process from others, for example its host and process id.")));
  if (name[0] == '\0' || strlen(name) >= NAMEDATALEN)
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("argument \"agent\" must be 1 to %d bytes long", NAMEDATALEN - 1),
                    errhint("Its host and process id serve, for example.")));
}

}  // namespace dts::store
