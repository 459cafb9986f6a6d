# shellcheck shell=bash
# Stages that need a server with dts: sql, catalog, reference, regress, pgtap, isolation, tap, upgrade. Sourced after common.sh and server.sh.

# One server for a stage, with dts preloaded and some slots to spare.
start_dts_server() {
  [ -f "$(installed_library)" ] || die "dts is not installed for $PG_CONFIG: run the stage build too"
  start_server_trap
  # sweep_interval: a lost wake-up shows in the sweep's counter only if the sweep comes by during the test.
  # max_prepared_transactions: that PREPARE after a submit is refused shows only where PREPARE works at all.
  start_server "$CHECK_WORK/$CHECK_STAGE" "shared_preload_libraries = 'dts'" "max_worker_processes = 32" \
    "dts.sweep_interval = '1s'" "max_prepared_transactions = 4" "${CHECK_CONF:-}"
}

# What must hold after any use of a server: nothing crashed, and the sweep found no task that the wake-ups had missed.
finish_dts_server() {
  local status=0 db found
  for db in $(run_sql postgres "SELECT datname FROM pg_database WHERE datallowconn AND NOT datistemplate"); do
    [ "$(run_sql "$db" "SELECT count(*) FROM pg_extension WHERE extname = 'dts'")" = 1 ] || continue
    found=$(run_sql "$db" "SELECT value FROM dts.stats() WHERE name = 'swept_tasks_total'")
    [ "$found" = 0 ] || { say "FAILED: the sweep found ${found:-no counter of} lost tasks in database $db" && status=1; }
  done
  stop_server fast || status=1
  if grep -E "$DAMAGE|was terminated by signal" "$SERVER_DIR/log" | sort | uniq -c | head -n 20 | grep .; then status=1; fi
  [ "$status" -eq 0 ] || tail -n 40 "$SERVER_DIR/log"
  report_status "$status"
}

# The text of the install script.
stage_sql() {
  local status=0
  perl scripts/lib/lint_sql.pl src/sql/[0-9]*.sql >lint_sql.tap || status=$?
  cat lint_sql.tap
  report_tap "$status" lint_sql.tap
}

# chosen FILE...: those that scripts/check --files asks for.
chosen() { printf '%s\n' "$@" | grep -E "$CHECK_FILES"; }

# prove_files DB FILE...: runs pgTAP files; test points go to the counts.
prove_files() {
  local db=$1 log status
  shift
  log=$(mktemp "$CHECK_WORK/prove.XXXXXX")
  as_server_user pg_prove --verbose --ext .sql --psql-bin "$PG_BINDIR/psql" -d "$db" "$@" >"$log" 2>&1
  status=$?
  cat "$log"
  report_tap "$status" "$log"
}

# What the install script made, on a live server.
stage_catalog() {
  local status=0
  start_dts_server || return 1
  run_sql postgres 'CREATE EXTENSION pgtap; CREATE EXTENSION dts' || return 1
  prove_files postgres scripts/lib/catalog_check.sql || status=1
  finish_dts_server || status=1
  return "$status"
}

stage_reference() {
  scripts/gen-reference --check
  report_status $?
}

stage_regress() {
  local status=0 tests options
  read -r -a tests <<<"$(make_value REGRESS)"
  read -r -a options <<<"$(make_value REGRESS_OPTS)"
  [ ${#tests[@]} -gt 0 ] || { say "no tests" && report 0 0 1 && return 0; }
  start_dts_server || return 1
  server_dir "$CHECK_WORK/out-$CHECK_STAGE"
  as_server_user "$(pgxs_dir test/regress)/pg_regress" --inputdir=. --outputdir="$CHECK_WORK/out-$CHECK_STAGE" --bindir="$PG_BINDIR" \
    --dbname=contrib_regression "${options[@]}" "${tests[@]}" >regress.log 2>&1 || status=1
  cat regress.log
  report_regress "$status" regress.log || cat "$CHECK_WORK/out-$CHECK_STAGE/regression.diffs"
  finish_dts_server || status=1
  return "$status"
}

stage_isolation() {
  local status=0 tests options
  read -r -a tests <<<"$(make_value ISOLATION)"
  read -r -a options <<<"$(make_value ISOLATION_OPTS)"
  [ ${#tests[@]} -gt 0 ] || { say "no tests" && report 0 0 1 && return 0; }
  start_dts_server || return 1
  server_dir "$CHECK_WORK/out-$CHECK_STAGE"
  as_server_user "$(pgxs_dir test/isolation)/pg_isolation_regress" --inputdir=. --outputdir="$CHECK_WORK/out-$CHECK_STAGE" --bindir="$PG_BINDIR" \
    --dbname=contrib_isolation "${options[@]}" "${tests[@]}" >isolation.log 2>&1 || status=1
  cat isolation.log
  report_regress "$status" isolation.log || cat "$CHECK_WORK/out-$CHECK_STAGE/regression.diffs"
  finish_dts_server || status=1
  return "$status"
}

# Each file in a database of its own: tasks commit, so files cannot hide behind a ROLLBACK from each other.
stage_pgtap() {
  local status=0 file db n=0
  compgen -G 'test/pgtap/*.sql' >/dev/null || { say "no tests" && report 0 0 1 && return 0; }
  start_dts_server || return 1
  for file in $(chosen test/pgtap/*.sql); do
    n=$((n + 1))
    db=pgtap_$n
    if ! run_sql postgres "CREATE DATABASE $db" || ! run_sql "$db" 'CREATE EXTENSION pgtap; CREATE EXTENSION dts'; then
      report 0 1
      status=1
      break
    fi
    prove_files "$db" "$file" || status=1
  done
  finish_dts_server || status=1
  return "$status"
}

# One file of TAP tests, as PGXS's installcheck would run it.
run_tap_file() {
  local name status=0 log="$CHECK_WORK/tap/${1##*/}.log"
  as_server_user env "PATH=$PG_BINDIR:$PATH" TMPDIR="$CHECK_WORK/tap" TESTDIR="$CHECK_WORK/tap" TESTDATADIR="$CHECK_WORK/tap/tmp_check" TESTLOGDIR="$CHECK_WORK/tap/tmp_check/log" PGPORT=65432 PG_REGRESS="$(pgxs_dir test/regress)/pg_regress" \
    prove --verbose -I "$(pgxs_dir test/perl)" -I test/perl "$1" >"$log" 2>&1
  report_tap $? "$log" || { cat "$log" && status=1; }
  name=${1##*/}
  if grep -hE "$DAMAGE" "$CHECK_WORK/tap/tmp_check/log/${name%.pl}_"*.log 2>/dev/null | head -n 20 | grep .; then
    say "FAILED: the server was damaged in $1"
    report 0 1
    status=1
  fi
  return "$status"
}

# They start servers of their own and mostly wait, so two run at a time.
stage_tap() { tap_files test/t/*.pl; }

stage_upgrade() { tap_files test/upgrade/*.pl; }

tap_files() {
  local status=0
  [ -f "$(installed_library)" ] || die "dts is not installed for $PG_CONFIG: run the stage build too"
  server_dir "$CHECK_WORK/tap"
  # The test of an upgrade writes a script of its own into the private copy.
  if is_root; then chown postgres: "$CHECK_ROOT$("$PG_CONFIG" --sharedir)/extension"; fi
  chosen "$@" >"$CHECK_WORK/tap/files"
  in_pairs run_tap_file <"$CHECK_WORK/tap/files" || status=1
  return "$status"
}
