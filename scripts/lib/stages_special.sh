# shellcheck shell=bash
# Stages with builds or servers of their own: asan (AddressSanitizer and UBSan), valgrind, points (tests with pause points),
# mutants (planted bugs still apply). Sourced after stages_server.sh.

# special_build NAME MAKE-ARGUMENT...: builds a copy of the tree and installs it into a copy of the server of its own; from then on
# the stage uses that one.
special_build() {
  local name=$1
  shift
  export CHECK_ROOT=$CHECK_WORK/$name-root
  # shellcheck disable=SC2034 # the stages use it
  PG_BINDIR=$(copy_installation "$CHECK_ROOT") || return 1
  cp -r "$CHECK_SRC" "$CHECK_WORK/$name-src" && cd "$CHECK_WORK/$name-src" || return 1
  make -s clean PG_CONFIG="$PG_CONFIG" >/dev/null
  make -s -j2 PG_CONFIG="$PG_CONFIG" "$@" && make -s install PG_CONFIG="$PG_CONFIG" DESTDIR="$CHECK_ROOT"
}

# TAP tests in which each kind of process does all that it can, for servers that are watched and slow.
WATCHED_TAP='test/t/001_basic.pl test/t/008_steering.pl test/t/031_keys.pl test/t/034_batches.pl test/t/040_schedules.pl
  test/t/050_http.pl test/t/050_agents.pl test/t/051_egress.pl test/t/052_notifications.pl'

stage_asan() {
  local status=0 flags
  mapfile -t flags < <(sanitizer_flags)
  special_build asan "${flags[@]}" && sanitize_server "$CHECK_ROOT" || return 1
  stage_pgtap || status=1
  # shellcheck disable=SC2086 # a list
  tap_files $WATCHED_TAP || status=1
  return "$status"
}

# PostgreSQL's list of what is known and harmless comes with its sources. Each process writes what is found to a file of its own.
stage_valgrind() {
  local status=0 found="$CHECK_WORK/valgrind-logs" counts=$CHECK_COUNTS supp
  supp=$(dirname "$("$PG_CONFIG" --bindir)")/share/valgrind.supp
  [ -f "$supp" ] || { say "needs scripts/check --assertions" && report 0 0 1 && return 0; }
  server_dir "$found"
  wrap_server "exec valgrind --quiet --leak-check=no --gen-suppressions=all --num-callers=40 --suppressions='$supp' --suppressions='$CHECK_SRC/scripts/lib/valgrind.supp' \
    --error-markers=VALGRIND,END --log-file='$found/%p.log' \"\$bare\" \"\$@\""
  # It is slow: some twenty times.
  export PGCTLTIMEOUT=300 PG_TEST_TIMEOUT_DEFAULT=1200 DTS_WAIT=600 DTS_PEERS_SECONDS=7200 DTS_FUZZ_SECONDS=120 CHECK_CONF="dts.batch_budget = '1s'"
  # Tests that give something a few seconds fail here; what counts is what valgrind and the server say.
  CHECK_COUNTS=$found/counts
  stage_pgtap
  # shellcheck disable=SC2086 # a list
  tap_files $WATCHED_TAP
  CHECK_COUNTS=$counts
  if grep -hE "$DAMAGE" "$CHECK_WORK/$CHECK_STAGE/log" "$CHECK_WORK"/tap/tmp_check/log/*.log 2>/dev/null | head -n 20 | grep .; then status=1; fi
  if grep -lE '== (VALGRIND|Invalid|Conditional|Syscall)' "$found"/*.log >"$found/files"; then
    say 'FAILED: valgrind found:'
    xargs cat <"$found/files" | sed -E 's/^==[0-9]+== //' | head -n 400
    status=1
  fi
  say "watched: $(find "$found" -name '*.log' | wc -l) processes"
  report_status "$status"
  return "$status"
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
