# shellcheck shell=bash
# Stage asan: the pgTAP tests on a server whose dts was built with AddressSanitizer and UBSan. Sourced after stages_server.sh.

# The sanitizer's library must come first in the process. In Debian 12 it hangs when a library's constructor asks for a
# translation before it has started (libgpg-error, behind libsystemd): a malloc before all constructors starts it in time.
build_asan() {
  local root=$1
  cp -r "$CHECK_SRC" "$CHECK_WORK/asan-src" && cd "$CHECK_WORK/asan-src" || return 1
  make -s clean PG_CONFIG="$PG_CONFIG" >/dev/null
  make -s -j2 PG_CONFIG="$PG_CONFIG" CXX='g++ -fsanitize=address,undefined -fno-omit-frame-pointer' COPT='-fsanitize=address,undefined' &&
    make -s install PG_CONFIG="$PG_CONFIG" DESTDIR="$root" || return 1
  printf '%s\n' '#include <stdlib.h>' '__attribute__((constructor)) static void early(void) { void *volatile p = malloc(1); free(p); }' |
    gcc -x c - -shared -fPIC -O0 -Wl,-z,initfirst -o "$root/early.so"
}

# In place of pg_ctl, which would run a sanitized `postgres -V` and wait for it.
launch_server() {
  local patience=300
  as_server_user env LD_PRELOAD="$(gcc -print-file-name=libasan.so) $ASAN_ROOT/early.so" \
    ASAN_OPTIONS=detect_leaks=0:abort_on_error=1 UBSAN_OPTIONS=print_stacktrace=1 "$PG_BINDIR/postgres" -D "$SERVER_DIR/data" >"$SERVER_DIR/log" 2>&1 &
  until as_server_user "$PG_BINDIR/pg_isready" -q -h "$SERVER_DIR"; do
    patience=$((patience - 1))
    [ "$patience" -gt 0 ] || { tail -n 30 "$SERVER_DIR/log" && return 1; }
    sleep 0.1
  done
}

stage_asan() {
  local status=0
  ASAN_ROOT=$CHECK_WORK/asan-root
  PG_BINDIR=$(copy_installation "$ASAN_ROOT") || return 1
  export CHECK_ROOT=$ASAN_ROOT
  build_asan "$ASAN_ROOT" || return 1
  stage_pgtap || status=1
  if grep -E 'runtime error:|AddressSanitizer' "$SERVER_DIR/log" | sort | uniq -c | head -n 20 | grep .; then status=1; fi
  report_status "$status"
}
