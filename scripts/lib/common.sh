# shellcheck shell=bash
# Shared by the scripts: messages, the user that servers run as, counting of test points.

say() { printf '%s\n' "$*"; }

die() {
  printf '%s: %s\n' "${0##*/}" "$*" >&2
  exit 1
}

is_root() { [ "$(id -u)" -eq 0 ]; }

# PostgreSQL refuses to run as root, so under root everything that touches a server runs as the packages' own user.
as_server_user() {
  if is_root; then
    runuser -u postgres -- "$@"
  else
    "$@"
  fi
}

# A directory that the server's user owns. Short, because a socket's path may have at most 107 bytes.
server_dir() {
  mkdir -p "$1"
  if is_root; then chown postgres: "$1"; fi
}

# The pg_config to build and test with: PG_CONFIG if set, else the one in PATH, else the newest of the Debian packages.
find_pg_config() {
  local found
  if [ -n "${PG_CONFIG:-}" ]; then
    found=$PG_CONFIG
  elif found=$(command -v pg_config) && [ -f "$("$found" --includedir-server 2>/dev/null)/postgres.h" ]; then
    :
  else
    found=$(find /usr/lib/postgresql/*/bin -name pg_config 2>/dev/null | sort -V | tail -n 1)
  fi
  [ -n "$found" ] && printf '%s\n' "$found"
}

# pgxs_dir SUBDIR: where PGXS keeps the server's test programs and Perl modules.
pgxs_dir() { printf '%s/../../src/%s\n' "$(dirname "$("$PG_CONFIG" --pgxs)")" "$1"; }

# make_value NAME: a variable of the Makefile, so that lists of tests are written in one place only.
make_value() { make -s --no-print-directory --eval "dts-print: ; @echo \$($1)" dts-print PG_CONFIG="$PG_CONFIG"; }

# report PASSED FAILED [SKIPPED]: adds to the counts of the running stage.
report() { printf '%s %s %s\n' "$1" "$2" "${3:-0}" >>"$CHECK_COUNTS"; }

# report_status STATUS: one test point that passed if the status is 0.
report_status() {
  if [ "$1" -eq 0 ]; then report 1 0; else report 0 1; fi
  return "$1"
}

# report_tap STATUS FILE...: counts test points in TAP (todo counts as passed). A harness that failed although no
# point did (a crash, a wrong plan) counts as one failure.
report_tap() {
  local status=$1
  shift
  cat "$@" | awk -v status="$status" '
    /^ok [0-9]+/ { if (tolower($0) ~ /# skip/) skipped++; else passed++ }
    /^not ok [0-9]+/ { if (tolower($0) ~ /# todo/) passed++; else failed++ }
    /^1\.\.0( |$)/ { skipped++ }
    END { if (status != 0 && !failed) failed = 1; print passed + 0, failed + 0, skipped + 0 }' >>"$CHECK_COUNTS"
  return "$status"
}

# report_regress STATUS FILE: the same for pg_regress and pg_isolation_regress, which speak TAP from 16 on.
report_regress() {
  awk -v status="$1" '
    /^ok [0-9]+/ || /\.\.\. ok( |$)/ { passed++ }
    /^not ok [0-9]+/ || /\.\.\. FAILED/ { failed++ }
    END { if (status != 0 && !failed) failed = 1; print passed + 0, failed + 0, 0 }' "$2" >>"$CHECK_COUNTS"
  return "$1"
}

# in_pairs COMMAND...: runs COMMAND LINE for each line of stdin, two at a time. Sets PAIRS_TOTAL and PAIRS_FAILED.
in_pairs() {
  local line running=0
  PAIRS_TOTAL=0 PAIRS_FAILED=0
  while read -r line; do
    if [ "$running" -ge 2 ]; then
      wait -n || PAIRS_FAILED=$((PAIRS_FAILED + 1))
      running=$((running - 1))
    fi
    { "$@" "$line" </dev/null || { say "FAILED: $line" && exit 1; }; } &
    running=$((running + 1)) PAIRS_TOTAL=$((PAIRS_TOTAL + 1))
  done
  while [ "$running" -gt 0 ]; do
    wait -n || PAIRS_FAILED=$((PAIRS_FAILED + 1))
    running=$((running - 1))
  done
  [ "$PAIRS_FAILED" -eq 0 ]
}

# The same for commands that are one test point for each line.
each_file() {
  local status=0
  in_pairs "$@" || status=1
  report $((PAIRS_TOTAL - PAIRS_FAILED)) "$PAIRS_FAILED"
  return "$status"
}
