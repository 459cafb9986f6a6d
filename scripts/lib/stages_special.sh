# shellcheck shell=bash
# Stages with builds of their own: asan (the pgTAP tests with AddressSanitizer and UBSan in the server), points (tests with pause points),
# mutants (planted bugs still apply). Sourced after stages_server.sh.

# special_build NAME MAKE-ARGUMENT...: builds a copy of the tree and installs it into a copy of the server of its own; from then on
# the stage uses that one.
special_build() {
  local name=$1
  shift
  export CHECK_ROOT=$CHECK_WORK/$name-root
  PG_BINDIR=$(copy_installation "$CHECK_ROOT") || return 1
  cp -r "$CHECK_SRC" "$CHECK_WORK/$name-src" && cd "$CHECK_WORK/$name-src" || return 1
  make -s clean PG_CONFIG="$PG_CONFIG" >/dev/null
  make -s -j2 PG_CONFIG="$PG_CONFIG" "$@" && make -s install PG_CONFIG="$PG_CONFIG" DESTDIR="$CHECK_ROOT"
}

# The sanitizer's library must come first in the process. In Debian 12 it hangs when a library's constructor asks for a
# translation before it has started (libgpg-error, behind libsystemd): a malloc before all constructors starts it in time.
early_sanitizer() {
  printf '%s\n' '#include <stdlib.h>' '__attribute__((constructor)) static void early(void) { void *volatile p = malloc(1); free(p); }' |
    gcc -x c - -shared -fPIC -O0 -Wl,-z,initfirst -o "$CHECK_ROOT/early.so"
}

# In place of pg_ctl, which would run a sanitized `postgres -V` and wait for it.
launch_sanitized() {
  local patience=300
  as_server_user env LD_PRELOAD="$(gcc -print-file-name=libasan.so) $CHECK_ROOT/early.so" \
    ASAN_OPTIONS=detect_leaks=0:abort_on_error=1 UBSAN_OPTIONS=print_stacktrace=1 "$PG_BINDIR/postgres" -D "$SERVER_DIR/data" >"$SERVER_DIR/log" 2>&1 &
  until as_server_user "$PG_BINDIR/pg_isready" -q -h "$SERVER_DIR"; do
    patience=$((patience - 1))
    [ "$patience" -gt 0 ] || { tail -n 30 "$SERVER_DIR/log" && return 1; }
    sleep 0.1
  done
}

stage_asan() {
  local status=0
  # shellcheck disable=SC2317  # start_server calls it
  launch_server() { launch_sanitized; }
  special_build asan CXX='g++ -fsanitize=address,undefined -fno-omit-frame-pointer' COPT='-fsanitize=address,undefined' && early_sanitizer || return 1
  stage_pgtap || status=1
  if grep -E 'runtime error:|AddressSanitizer' "$SERVER_DIR/log" | sort | uniq -c | head -n 20 | grep .; then status=1; fi
  report_status "$status"
}

stage_points() {
  special_build points POINTS=1 || return 1
  tap_files test/points/*.pl
}

# Whether each planted bug can still be planted; test/chaos/run-mutants shows that the tests find it.
stage_mutants() {
  local mutant bad status=0
  for mutant in test/chaos/mutants/*.patch; do
    bad=0
    patch -p1 -s -f --dry-run <"$mutant" || { say "FAILED: $mutant does not apply" && bad=1; }
    grep -q '^Caught by: test/' "$mutant" || { say "FAILED: $mutant does not say what catches it" && bad=1; }
    report_status "$bad" || status=1
  done
  return "$status"
}
