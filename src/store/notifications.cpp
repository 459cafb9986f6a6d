#include "store/notifications.hpp"

#include "pg/as_owner.hpp"
#include "store/policy.hpp"

namespace dts::store {

namespace {

/// Bits in the order of dts._notification_events().
enum Event : uint32 { kSuccess = 1, kFailure = 2, kRetryEvent = 4, kDead = 8, kCancel = 16, kSkip = 32 };

struct Rule {
  int32 id;
  uint32 events;
  int32 queue, handler;  // 0: any
  int64 task;
};

struct Rules {
  Rule* rule = nullptr;
  int n = 0;
  uint32 events = 0;  // of all of them
  int64 late_ms = 0;
  uint32 generation = 0;
};
Rules rules;
MemoryContext memory = nullptr;

void read_rules() {
  static pg::Statement all{
      "SELECT n.id, (SELECT pg_catalog.sum(1 << (pg_catalog.array_position(dts._notification_events(), e) - 1)) FROM "
      "pg_catalog.unnest(n.events) e)::int4, "
      "COALESCE(n.queue, 0), COALESCE(n.handler, 0), (extract(epoch FROM n.longer_than) * 1000)::int8, COALESCE(n.task, 0) FROM "
      "dts.notification n WHERE NOT "
      "n.paused ORDER BY n.id",
      0,
      {}};
  if (memory == nullptr) memory = AllocSetContextCreate(CacheMemoryContext, "dts notifications", ALLOCSET_SMALL_SIZES);
  const pg::AsOwner as(catalog().owner);
  SPI_connect();
  const uint64 n = all.run(nullptr, nullptr, true);
  Rules read;
  MemoryContextReset(memory);
  rules = read;  // nothing of the old ones, should memory run out
  read.rule = static_cast<Rule*>(MemoryContextAlloc(memory, sizeof(Rule) * (n + 1)));
  for (uint64 i = 0; i < n; i++) {
    bool null = false;
    Rule& r = read.rule[read.n++];
    r.id = DatumGetInt32(pg::column(i, 1, &null));
    r.events = static_cast<uint32>(DatumGetInt32(pg::column(i, 2, &null)));
    r.queue = DatumGetInt32(pg::column(i, 3, &null));
    r.handler = DatumGetInt32(pg::column(i, 4, &null));
    const int64 late = DatumGetInt64(pg::column(i, 5, &null));
    if (!null && (read.late_ms == 0 || late < read.late_ms)) read.late_ms = late;
    r.task = DatumGetInt64(pg::column(i, 6, &null));
    read.events |= r.events;
  }
  SPI_finish();
  as.end();
  rules = read;
}

/// Without shared memory nobody tells us of changes: they are read each time then.
void refresh() {
  DatabaseSlot* const d = shared == nullptr ? nullptr : database_slot(MyDatabaseId, false);
  const uint32 generation = d == nullptr ? 0 : pg_atomic_read_u32(&d->generation);
  if (generation != 0 && generation == rules.generation) return;
  read_rules();
  rules.generation = generation;
}

uint32 events_of(const Outcome& o) {
  switch (o.state) {
    case core::State::Succeeded: return kSuccess;
    case core::State::Failed: return o.dead_letter ? kDead | kFailure : kFailure;
    case core::State::Expired: return kFailure;
    case core::State::Retry: return kRetryEvent;
    case core::State::Cancelled: return kCancel;
    case core::State::Skipped: return kSkip;
    default: return 0;
  }
}

bool is_notification(const Task& t) {
  JsonbValue labels;
  if (!json_member(t.extra, "labels", &labels) || labels.type != jbvBinary) return false;
  JsonbValue v;
  return getKeyJsonValueFromContainer(labels.val.binary.data, "notification", 12, &v) != nullptr;
}

Datum event_names(uint32 events) {
  static constexpr const char* kNames[] = {"success", "failure", "retry", "dead", "cancel", "skip"};
  Datum name[lengthof(kNames)];
  int n = 0;
  for (int i = lengthof(kNames) - 1; i >= 0; i--)  // what says most first: dead before failure
    if ((events & (1U << i)) != 0) name[n++] = CStringGetTextDatum(kNames[i]);
  return PointerGetDatum(construct_array(name, n, TEXTOID, -1, false, TYPALIGN_INT));
}

void submit(const Task& t, const LaneInfo& lane, const Outcome& o, uint32 events, Datum* wanted, int n) {
  static pg::Statement call{"SELECT dts._announce($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
                            14,
                            {INT4ARRAYOID, TEXTARRAYOID, INT8OID, INT4OID, INT4OID, INT4OID, TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID,
                             JSONBOID, JSONBOID, TEXTOID, TEXTOID, TEXTOID}};
  JsonbValue labels;
  const bool labelled = json_member(t.extra, "labels", &labels);
  const Datum values[] = {PointerGetDatum(construct_array(wanted, n, INT4OID, 4, true, TYPALIGN_INT)),
                          event_names(events),
                          Int64GetDatum(t.id),
                          Int32GetDatum(lane.lane),
                          Int32GetDatum(t.attempt),
                          Int32GetDatum(t.max_attempts),
                          TimestampTzGetDatum(t.submitted_at),
                          TimestampTzGetDatum(o.started_at),
                          TimestampTzGetDatum(o.ended_at),
                          labelled ? JsonbPGetDatum(JsonbValueToJsonb(&labels)) : Datum{0},
                          PointerGetDatum(o.error),
                          o.result == nullptr ? Datum{0} : PointerGetDatum(cstring_to_text_with_len(o.result, o.result_length)),
                          o.notices == nullptr ? Datum{0} : CStringGetTextDatum(o.notices),
                          PointerGetDatum(t.sql)};
  const char nulls[] = {' ',
                        ' ',
                        ' ',
                        ' ',
                        ' ',
                        ' ',
                        ' ',
                        o.started_at == 0 ? 'n' : ' ',
                        ' ',
                        labelled ? ' ' : 'n',
                        o.error == nullptr ? 'n' : ' ',
                        o.result == nullptr ? 'n' : ' ',
                        o.notices == nullptr ? 'n' : ' ',
                        t.sql == nullptr ? 'n' : ' ',
                        '\0'};
  const pg::AsOwner as(catalog().owner);
  SPI_connect();
  call.run(values, nulls);
  SPI_finish();
  as.end();
}

}  // namespace

void announce(const Task& t, const LaneInfo& lane, const Outcome& o) {
  refresh();
  const uint32 events = events_of(o);
  if ((rules.events & events) == 0 || is_notification(t)) return;
  Datum* const wanted = static_cast<Datum*>(palloc(sizeof(Datum) * rules.n));
  int n = 0;
  for (int i = 0; i < rules.n; i++) {
    const Rule& r = rules.rule[i];
    if ((r.events & events) == 0 || (r.queue != 0 && r.queue != lane.queue) || (r.handler != 0 && r.handler != t.handler) ||
        (r.task != 0 && r.task != t.id))
      continue;
    wanted[n++] = Int32GetDatum(r.id);
  }
  if (n > 0) submit(t, lane, o, events, wanted, n);
}

int64 late_after_ms() {
  refresh();
  return rules.late_ms;
}

}  // namespace dts::store
