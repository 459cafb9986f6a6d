#include "store/definitions.hpp"

#include "pg/as_owner.hpp"
#include "store/permits.hpp"

namespace dts::store {

namespace {

MemoryContext cache = nullptr;
uint32 cache_generation = 0;
bool dirty = false;

/// A list is enough: a process meets few definitions, and lanes have a hash of their own.
struct QueueNode {
  Queue q;
  QueueNode* next;
};
struct HandlerNode {
  Handler h;
  HandlerNode* next;
};
struct LaneCacheKey {
  Oid owner;
  int32 queue;
  int32 priority;
  int32 handler;
  int32 runner;
  char tenant[NAMEDATALEN * 4];
  char labels[kLabelsLength + 1];
};
struct LaneCacheEntry {
  LaneCacheKey key;
  int32 lane;
};
struct LaneNode {
  int32 id;
  Lane lane;
};
QueueNode* queue_list = nullptr;
HandlerNode* handler_list = nullptr;
HTAB* lane_cache = nullptr;
HTAB* lane_ids = nullptr;

HTAB* make_hash(const char* name, Size key, Size entry) {
  HASHCTL ctl{};
  ctl.keysize = key;
  ctl.entrysize = entry;
  ctl.hcxt = cache;
  return hash_create(name, 64, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

void reset_cache() {
  // Callers may still hold pointers into the old one: it lives on until the transaction ends.
  if (cache != nullptr) MemoryContextSetParent(cache, TopTransactionContext);
  cache = AllocSetContextCreate(CacheMemoryContext, "dts definitions", ALLOCSET_DEFAULT_SIZES);
  queue_list = nullptr;
  handler_list = nullptr;
  lane_cache = make_hash("dts lane cache", sizeof(LaneCacheKey), sizeof(LaneCacheEntry));
  lane_ids = make_hash("dts lane ids", sizeof(int32), sizeof(LaneNode));
}

/// Without shared memory nobody tells us of changes: nothing is kept then.
void check_cache() {
  DatabaseSlot* const d = shared == nullptr ? nullptr : database_slot(MyDatabaseId, false);
  const uint32 generation = d == nullptr ? 0 : pg_atomic_read_u32(&d->generation);
  if (cache == nullptr || generation == 0 || generation != cache_generation) reset_cache();
  cache_generation = generation;
}

int32 milliseconds(const Interval* i) {
  const double ms = static_cast<double>(i->time) / 1000.0 + (i->day + i->month * 30.0) * 86400000.0;
  return ms < 1 ? 1 : ms > 2147483000.0 ? 2147483000 : static_cast<int32>(ms);
}

Defaults read_defaults(int first) {
  Defaults d;
  bool null = false;
  Datum v = pg::column(0, first, &null);
  d.priority = null ? -1 : DatumGetInt32(v);
  v = pg::column(0, first + 1, &null);
  d.max_attempts = null ? -1 : DatumGetInt32(v);
  v = pg::column(0, first + 2, &null);
  d.timeout_ms = null ? -1 : milliseconds(DatumGetIntervalP(v));
  v = pg::column_copy(cache, 0, first + 3, &null);
  d.expires = null ? nullptr : DatumGetIntervalP(v);
  v = pg::column_copy(cache, 0, first + 4, &null);
  d.retry = null ? nullptr : DatumGetJsonbP(v);
  return d;
}

const char* text_column(int col, bool* null) {
  const Datum v = pg::column(0, col, null);
  return *null ? "" : TextDatumGetCString(v);
}

pg::Statement queue_by{
    "SELECT priority, max_attempts, timeout, expires, retry, id, name, paused, durable, dropped_at IS NOT NULL, history, batch_size "
    "FROM dts.queue WHERE CASE WHEN $1 IS NULL THEN id = $2 ELSE name = $1 AND dropped_at IS NULL END",
    2,
    {TEXTOID, INT4OID}};

const Queue* read_queue(const char* name, int32 id) {
  const pg::AsOwner as(catalog().owner);
  SPI_connect();
  const Datum values[] = {name != nullptr ? CStringGetTextDatum(name) : Datum{0}, Int32GetDatum(id)};
  const char nulls[] = {name != nullptr ? ' ' : 'n', ' ', '\0'};
  QueueNode* node = nullptr;
  if (queue_by.run(values, nulls, true) == 1) {
    node = static_cast<QueueNode*>(MemoryContextAllocZero(cache, sizeof(QueueNode)));
    Queue& q = node->q;
    bool null = false;
    q.defaults = read_defaults(1);
    q.id = DatumGetInt32(pg::column(0, 6, &null));
    strlcpy(q.name, text_column(7, &null), sizeof(q.name));
    q.paused = DatumGetBool(pg::column(0, 8, &null));
    q.durable = DatumGetBool(pg::column(0, 9, &null));
    q.dropped = DatumGetBool(pg::column(0, 10, &null));
    q.history = text_column(11, &null)[0];
    q.batch_size = DatumGetInt32(pg::column(0, 12, &null));
    node->next = queue_list;
    queue_list = node;
  }
  SPI_finish();
  as.end();
  return node == nullptr ? nullptr : &node->q;
}

pg::Statement handler_by{
    "SELECT priority, max_attempts, timeout, expires, retry, id, name, owner::oid, shared, transactional, capture, sql, queue, kind, "
    "requires, spec "
    "FROM dts.handler WHERE CASE WHEN $1 IS NULL THEN id = $2 ELSE name = $1 AND dropped_at IS NULL END",
    2,
    {TEXTOID, INT4OID}};

core::Kind kind_of_handler(const char* name) {
  return strcmp(name, "http") == 0       ? core::Kind::Http
         : strcmp(name, "mail") == 0     ? core::Kind::Mail
         : strcmp(name, "external") == 0 ? core::Kind::External
                                         : core::Kind::Sql;
}

const Handler* read_handler(const char* name, int32 id) {
  const pg::AsOwner as(catalog().owner);
  SPI_connect();
  const Datum values[] = {name != nullptr ? CStringGetTextDatum(name) : Datum{0}, Int32GetDatum(id)};
  const char nulls[] = {name != nullptr ? ' ' : 'n', ' ', '\0'};
  HandlerNode* node = nullptr;
  if (handler_by.run(values, nulls, true) == 1) {
    node = static_cast<HandlerNode*>(MemoryContextAllocZero(cache, sizeof(HandlerNode)));
    Handler& h = node->h;
    bool null = false;
    h.defaults = read_defaults(1);
    h.id = DatumGetInt32(pg::column(0, 6, &null));
    strlcpy(h.name, text_column(7, &null), sizeof(h.name));
    h.owner = DatumGetObjectId(pg::column(0, 8, &null));
    h.shared = DatumGetBool(pg::column(0, 9, &null));
    h.transactional = DatumGetBool(pg::column(0, 10, &null));
    h.capture = DatumGetBool(pg::column(0, 11, &null));
    const char* const sql = text_column(12, &null);
    h.sql = null ? nullptr : MemoryContextStrdup(cache, sql);
    const char* const queue = text_column(13, &null);
    h.queue = null ? nullptr : MemoryContextStrdup(cache, queue);
    h.kind = kind_of_handler(text_column(14, &null));
    h.labels = MemoryContextStrdup(cache, text_column(15, &null));
    const Datum spec = pg::column_copy(cache, 0, 16, &null);
    h.spec = null ? nullptr : DatumGetJsonbP(spec);
    node->next = handler_list;
    handler_list = node;
  }
  SPI_finish();
  as.end();
  return node == nullptr ? nullptr : &node->h;
}

pg::Statement lane_find{
    "SELECT id FROM dts.lane WHERE owner = $1::oid::regrole AND queue = $2 AND priority = $3 AND tenant = $4 AND handler = $5 "
    "AND runner = $6 AND requires = $7 ORDER BY id LIMIT 1",
    7,
    {OIDOID, INT4OID, INT4OID, TEXTOID, INT4OID, INT2OID, TEXTOID}};
pg::Statement lane_make{
    "INSERT INTO dts.lane (owner, queue, priority, tenant, handler, runner, requires) VALUES ($1::oid::regrole, $2, $3, $4, $5, $6, $7) "
    "RETURNING id",
    7,
    {OIDOID, INT4OID, INT4OID, TEXTOID, INT4OID, INT2OID, TEXTOID}};
pg::Statement lane_read{"SELECT owner::oid, queue, priority, tenant, handler, runner, requires FROM dts.lane WHERE id = $1", 1, {INT4OID}};

int32 read_lane(Oid owner, int32 queue, const char* tenant, int priority, int32 handler, core::Runner runner, const char* labels) {
  const pg::AsOwner as(catalog().owner);
  SPI_connect();
  const Datum values[] = {ObjectIdGetDatum(owner),     Int32GetDatum(queue),   Int32GetDatum(priority),
                          CStringGetTextDatum(tenant), Int32GetDatum(handler), Int16GetDatum(static_cast<int16>(runner)),
                          CStringGetTextDatum(labels)};
  if (lane_find.run(values, nullptr, true) == 0) {
    lane_make.run(values);
    dirty = true;
  }
  bool null = false;
  const int32 id = DatumGetInt32(pg::column(0, 1, &null));
  SPI_finish();
  as.end();
  return id;
}

}  // namespace

const Queue* queue_by_name(const char* name) {
  check_cache();
  for (const QueueNode* n = queue_list; n != nullptr; n = n->next)
    if (!n->q.dropped && strcmp(n->q.name, name) == 0) return &n->q;
  return read_queue(name, 0);
}

const Queue* queue_by_id(int32 id) {
  check_cache();
  for (const QueueNode* n = queue_list; n != nullptr; n = n->next)
    if (n->q.id == id) return &n->q;
  return read_queue(nullptr, id);
}

const Handler* handler_by_name(const char* name) {
  check_cache();
  for (const HandlerNode* n = handler_list; n != nullptr; n = n->next)
    if (strcmp(n->h.name, name) == 0) return &n->h;
  return read_handler(name, 0);
}

const Handler* handler_by_id(int32 id) {
  check_cache();
  for (const HandlerNode* n = handler_list; n != nullptr; n = n->next)
    if (n->h.id == id) return &n->h;
  return read_handler(nullptr, id);
}

LaneInfo lane_for(Oid owner, int32 queue, const char* tenant, int priority, int32 handler, core::Runner runner, const char* labels) {
  check_cache();
  LaneCacheKey key;
  memset(&key, 0, sizeof(key));
  key.owner = owner;
  key.queue = queue;
  key.priority = priority;
  key.handler = handler;
  key.runner = static_cast<int32>(runner);
  strlcpy(key.tenant, tenant, sizeof(key.tenant));
  strlcpy(key.labels, labels, sizeof(key.labels));
  auto* entry = static_cast<LaneCacheEntry*>(hash_search(lane_cache, &key, HASH_FIND, nullptr));
  int32 id = 0;
  if (entry != nullptr) {
    id = entry->lane;
  } else {
    id = read_lane(owner, queue, tenant, priority, handler, runner, labels);
    entry = static_cast<LaneCacheEntry*>(hash_search(lane_cache, &key, HASH_ENTER, nullptr));
    entry->lane = id;
  }
  return LaneInfo{id, owner, queue, static_cast<int16>(priority), handler, tenant_hash(key.tenant), runner, labels_of(labels)};
}

const Lane* lane_by_id(int32 id) {
  check_cache();
  auto* node = static_cast<LaneNode*>(hash_search(lane_ids, &id, HASH_FIND, nullptr));
  if (node != nullptr) return &node->lane;
  const pg::AsOwner as(catalog().owner);
  SPI_connect();
  const Datum values[] = {Int32GetDatum(id)};
  if (lane_read.run(values, nullptr, true) == 1) {
    bool null = false;
    Lane lane{};
    lane.info = LaneInfo{id, DatumGetObjectId(pg::column(0, 1, &null)), DatumGetInt32(pg::column(0, 2, &null)),
                         static_cast<int16>(DatumGetInt32(pg::column(0, 3, &null)))};
    strlcpy(lane.tenant, text_column(4, &null), sizeof(lane.tenant));
    lane.info.handler = DatumGetInt32(pg::column(0, 5, &null));
    lane.info.tenant = tenant_hash(lane.tenant);
    lane.info.runner = static_cast<core::Runner>(DatumGetInt16(pg::column(0, 6, &null)));
    strlcpy(lane.labels, text_column(7, &null), sizeof(lane.labels));
    lane.info.labels = labels_of(lane.labels);
    node = static_cast<LaneNode*>(hash_search(lane_ids, &id, HASH_ENTER, nullptr));
    node->lane = lane;
  }
  SPI_finish();
  as.end();
  return node == nullptr ? nullptr : &node->lane;
}

LaneInfo lane_with_priority(const Lane& lane, int priority) {
  return lane_for(lane.info.owner, lane.info.queue, lane.tenant, priority, lane.info.handler, lane.info.runner, lane.labels);
}

void definitions_dirty() { dirty = true; }

void definitions_end(bool) {
  if (dirty) cache_generation = 0;
  dirty = false;
}

void definitions_subabort() {
  if (dirty) cache_generation = 0;
}

}  // namespace dts::store
