# shellcheck shell=bash
# A private server in a directory of its own, reached through a socket in that directory and nothing else. Sourced after common.sh.
#
#   PG_BINDIR=...            where initdb, pg_ctl and psql are
#   start_server DIR [LINE]...   makes and starts it; each LINE goes into postgresql.conf. Exports PGHOST, PGPORT, PGUSER, PGDATABASE.
#   stop_server [MODE]       stops it (fast); also done at exit if start_server_trap was called
#   restart_server           stop, start
#   run_sql DB SQL           psql as superuser, unaligned, errors stop it
#
# The port is a file name here: with the socket in a private directory it cannot collide with another server's, so none is searched for.

SERVER_DIR=

start_server() {
  SERVER_DIR=$1
  shift
  server_dir "$SERVER_DIR"
  as_server_user "$PG_BINDIR/initdb" -D "$SERVER_DIR/data" -U postgres -A trust -E UTF8 --locale=C -N --no-instructions >"$SERVER_DIR/initdb.log" 2>&1 ||
    { cat "$SERVER_DIR/initdb.log" && return 1; }
  {
    printf "%s\n" "listen_addresses = ''" "unix_socket_directories = '$SERVER_DIR'" "port = 5432" "timezone = 'UTC'"
    # Speed: what is tested here is not durability; tests of crashes make their own servers.
    printf "%s\n" "fsync = off" "full_page_writes = off" "max_wal_size = '4GB'"
    printf "%s\n" "log_line_prefix = '%m [%p] %b %d '" "$@"
  } >>"$SERVER_DIR/data/postgresql.conf"
  export PGHOST=$SERVER_DIR PGPORT=5432 PGUSER=postgres PGDATABASE=postgres
  launch_server
}

launch_server() {
  as_server_user "$PG_BINDIR/pg_ctl" -D "$SERVER_DIR/data" -l "$SERVER_DIR/log" -w -t "${PGCTLTIMEOUT:-60}" -s start </dev/null >/dev/null || {
    tail -n 30 "$SERVER_DIR/log"
    return 1
  }
}

stop_server() {
  [ -n "$SERVER_DIR" ] && [ -f "$SERVER_DIR/data/postmaster.pid" ] || return 0
  as_server_user "$PG_BINDIR/pg_ctl" -D "$SERVER_DIR/data" -w -t "${PGCTLTIMEOUT:-60}" -s -m "${1:-fast}" stop
}

restart_server() { stop_server fast && launch_server; }

abandon_server() { stop_server immediate >/dev/null 2>&1; }

# A stage that ends early, by an error or by its time limit, must not leave a server behind.
start_server_trap() {
  trap abandon_server EXIT
  trap 'show_server; exit 143' TERM INT HUP
}

# What a server does, for a stage that its time limit ended: else nothing would say where it hung.
show_server() {
  [ -n "$SERVER_DIR" ] && [ -f "$SERVER_DIR/data/postmaster.pid" ] || return 0
  say 'what the server did:'
  run_sql postgres "SELECT pid, backend_type, datname, state, wait_event_type, wait_event, now() - state_change, left(query, 200) FROM pg_stat_activity"
  tail -n 30 "$SERVER_DIR/log"
}

run_sql() { as_server_user "$PG_BINDIR/psql" -X -q -A -t -v ON_ERROR_STOP=1 -d "$1" -c "$2"; }

# copy_installation ROOT: a copy of the server's programs, library and share folders below ROOT. PostgreSQL finds its
# folders relative to its program, so `make install DESTDIR=ROOT` installs into the copy, no right to write to /usr is
# needed, and a server of the machine never meets a library under test. Prints the copy's folder of programs.
copy_installation() {
  local root=$1 option dir
  for option in bindir pkglibdir sharedir; do
    dir=$("$PG_CONFIG" "--$option")
    [ -e "$root$dir" ] && continue
    mkdir -p "$root$dir"
    cp -a "$dir/." "$root$dir/"
  done
  printf '%s%s\n' "$root" "$("$PG_CONFIG" --bindir)"
}

# wrap_server LINE: from here on `postgres` of the private copy is a script that ends with this line of shell, in which $bare is the real
# program. What makes a cluster or only prints runs without.
wrap_server() {
  [ -e "$PG_BINDIR/postgres.bare" ] || mv "$PG_BINDIR/postgres" "$PG_BINDIR/postgres.bare"
  # shellcheck disable=SC2016 # it is for the script
  printf '%s\n' '#!/bin/bash' "bare=$PG_BINDIR/postgres.bare" 'case ${1:-} in --boot | --check | --single | -V | --version | -C) exec -a "$0" "$bare" "$@" ;; esac' \
    "$1" >"$PG_BINDIR/postgres"
  chmod 755 "$PG_BINDIR/postgres"
}

# What no log of a server under test may hold, whatever it was put through: tests kill processes with 9 and 15 only.
# shellcheck disable=SC2034 # for the stages
DAMAGE='PANIC|TRAP: |AddressSanitizer|runtime error: |was terminated by signal (4|6|7|8|11)'
