// Many rows for one statement: each column as an array, for unnest().
#pragma once

#include "pg/postgres.hpp"

namespace dts::pg {

class Columns {
 public:
  explicit Columns(int rows) : n_(rows), values_(static_cast<Datum*>(palloc(sizeof(Datum) * rows))) {}

  template <class F>
  [[nodiscard]] Datum int4s(F&& f) const {
    return make([&](int i) { return Int32GetDatum(f(i)); }, INT4OID, 4, true, TYPALIGN_INT);
  }
  template <class F>
  [[nodiscard]] Datum int8s(F&& f) const {
    return make([&](int i) { return Int64GetDatum(f(i)); }, INT8OID, 8, true, TYPALIGN_DOUBLE);
  }
  template <class F>
  [[nodiscard]] Datum times(F&& f) const {
    return make([&](int i) { return TimestampTzGetDatum(f(i)); }, TIMESTAMPTZOID, 8, true, TYPALIGN_DOUBLE);
  }
  template <class F>
  [[nodiscard]] Datum bools(F&& f) const {
    return make([&](int i) { return BoolGetDatum(f(i)); }, BOOLOID, 1, true, TYPALIGN_CHAR);
  }
  template <class F>
  [[nodiscard]] Datum texts(F&& f) const {
    return make([&](int i) { return CStringGetTextDatum(f(i)); }, TEXTOID, -1, false, TYPALIGN_INT);
  }

 private:
  template <class F>
  [[nodiscard]] Datum make(F&& f, Oid type, int length, bool by_value, char alignment) const {
    for (int i = 0; i < n_; i++) values_[i] = f(i);
    return PointerGetDatum(construct_array(values_, n_, type, length, by_value, alignment));
  }

  int n_;
  Datum* values_;
};

}  // namespace dts::pg
