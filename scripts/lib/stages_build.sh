# shellcheck shell=bash
# Stages that compile: build, symbols, unit, sanitize. Sourced after common.sh and server.sh.

# Clean, with warnings as errors, and installed into the private copy of the server.
stage_build() {
  make -s clean PG_CONFIG="$PG_CONFIG" >/dev/null
  rm -f "$CHECK_ROOT$("$PG_CONFIG" --pkglibdir)"/dts* "$CHECK_ROOT$("$PG_CONFIG" --sharedir)"/extension/dts*
  make -j2 WERROR=1 PG_CONFIG="$PG_CONFIG" && make -s install PG_CONFIG="$PG_CONFIG" DESTDIR="$CHECK_ROOT"
  report_status $?
}

installed_library() { printf '%s\n' "$CHECK_ROOT$("$PG_CONFIG" --pkglibdir)/dts.so"; }

# Whatever else the library exported could collide with another extension's symbol in the same process.
stage_symbols() {
  local extra
  extra=$(nm -D --defined-only "$(installed_library)" | awk '{ print $NF }' | sed 's/@.*//' |
    grep -vE '^(dts_[a-z0-9_]+|pg_finfo_dts_[a-z0-9_]+|Pg_magic_func|_PG_init)$' | c++filt)
  [ -z "$extra" ] || say "exported, but not ours to export:" "$extra"
  nm -D --defined-only "$(installed_library)" | grep -q ' T _PG_init' && [ -z "$extra" ]
  report_status $?
}

# run_unit_tests FOLDER OPTION...: each GoogleTest case is one test of ctest.
run_unit_tests() {
  local folder=$1 log=$1.log status
  shift
  { cmake -S . -B "$folder" -DDTS_PG_CONFIG="$PG_CONFIG" "$@" && cmake --build "$folder" -j 2 --target dts_unit; } >"$log" 2>&1 || {
    tail -n 40 "$log"
    report 0 1
    return 1
  }
  ctest --test-dir "$folder" -j 2 --output-on-failure | tee "$log"
  status=${PIPESTATUS[0]}
  awk -v status="$status" '
    / tests? failed out of / { failed = $4; passed = $NF - $4 }
    END { if (status != 0 && !failed) failed = 1; print passed + 0, failed + 0, 0 }' "$log" >>"$CHECK_COUNTS"
  return "$status"
}

stage_unit() { run_unit_tests build-unit; }

# The models speak TAP; each also shows that it finds planted mistakes.
stage_models() {
  local model status=0
  for model in test/models/*_model.py; do
    timeout 200 python3 "$model" >"$CHECK_WORK/logs/model.tap" || status=1
    cat "$CHECK_WORK/logs/model.tap"
    report_tap "$status" "$CHECK_WORK/logs/model.tap"
  done
  return "$status"
}

stage_sanitize() { run_unit_tests build-sanitize -DDTS_SANITIZE=ON; }
