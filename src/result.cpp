#include "result.hpp"

#include "settings.hpp"

namespace dts {

namespace {

void receiver_startup(DestReceiver* self, int, TupleDesc desc) {
  auto* const r = reinterpret_cast<Receiver*>(self);
  r->desc = nullptr;
  r->result->row_count = 0;
  r->result->truncated = false;
  if (!r->capture) return;
  const MemoryContext old = MemoryContextSwitchTo(r->memory);
  r->desc = CreateTupleDescCopy(desc);
  BlessTupleDesc(r->desc);
  if (r->result->json.data == nullptr) initStringInfo(&r->result->json);
  resetStringInfo(&r->result->json);
  appendStringInfoChar(&r->result->json, '[');
  MemoryContextSwitchTo(old);
}

/// A row that can never fit is not even converted: the conversion itself would fail on a gigabyte.
bool too_big(TupleTableSlot* slot, int64 limit) {
  int64 size = 0;
  for (int i = 0; i < slot->tts_tupleDescriptor->natts; i++) {
    if (slot->tts_isnull[i] || TupleDescAttr(slot->tts_tupleDescriptor, i)->attlen != -1) continue;
    size += static_cast<int64>(toast_raw_datum_size(slot->tts_values[i]));
  }
  return size > limit;
}

bool receiver_row(TupleTableSlot* slot, DestReceiver* self) {
  auto* const r = reinterpret_cast<Receiver*>(self);
  r->result->row_count++;
  if (!r->capture || r->result->truncated) return true;
  slot_getallattrs(slot);
  StringInfo const json = &r->result->json;
  if (too_big(slot, r->limit - json->len)) {
    r->result->truncated = true;
    return true;
  }
  const MemoryContext old = MemoryContextSwitchTo(r->memory);
  HeapTuple const tuple = heap_form_tuple(r->desc, slot->tts_values, slot->tts_isnull);
  const Datum row = DirectFunctionCall1(row_to_json, heap_copy_tuple_as_datum(tuple, r->desc));
  text* const t = DatumGetTextPP(row);
  const int length = static_cast<int>(VARSIZE_ANY_EXHDR(t));
  if (json->len + length + 2 > r->limit) {
    r->result->truncated = true;
  } else {
    if (json->len > 1) appendStringInfoChar(json, ',');
    appendBinaryStringInfo(json, VARDATA_ANY(t), length);
  }
  heap_freetuple(tuple);
  MemoryContextSwitchTo(old);
  return true;
}

void receiver_shutdown(DestReceiver*) {}

bool is_ours(const DestReceiver* dest) { return dest != nullptr && dest->receiveSlot == receiver_row; }

}  // namespace

Receiver make_receiver(SqlResult* result, bool capture, int64 room) {
  Receiver receiver{};
  receiver.pub.receiveSlot = receiver_row;
  receiver.pub.rStartup = receiver_startup;
  receiver.pub.rShutdown = receiver_shutdown;
  receiver.pub.rDestroy = receiver_shutdown;
  receiver.pub.mydest = DestNone;
  receiver.result = result;
  receiver.memory = CurrentMemoryContext;
  receiver.capture = capture;
  receiver.limit = Max(static_cast<int64>(settings::max_result_kb) * 1024, room);
  return receiver;
}

void result_forget(DestReceiver* dest) {
  if (!is_ours(dest)) return;
  auto* const r = reinterpret_cast<Receiver*>(dest);
  r->desc = nullptr;
  r->result->row_count = 0;
  r->result->truncated = false;
}

}  // namespace dts
