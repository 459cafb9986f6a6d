# shellcheck shell=bash
# What the checks need from Debian. Sourced after common.sh.

# The major version of this machine's release, without asking for a network: installed headers first, then the metapackage.
native_major() {
  local config
  if config=$(find_pg_config); then
    "$config" --version | sed -E 's/^PostgreSQL ([0-9]+).*/\1/'
  else
    apt-cache depends postgresql 2>/dev/null | sed -nE 's/.*Depends: postgresql-([0-9]+)$/\1/p' | head -n 1
  fi
}

package_list() {
  local major=$1
  printf '%s\n' "postgresql-$major" "postgresql-client-$major" "postgresql-server-dev-$major" "postgresql-$major-pgtap" \
    libtap-parser-sourcehandler-pgtap-perl libipc-run-perl pgbouncer nginx-light openssl iproute2 libcurl4-openssl-dev libssl-dev make g++ binutils cmake libgtest-dev \
    clang-format clang-tidy shellcheck perl python3-minimal patch util-linux
}

# What some tests want and skip without: not every release has it.
optional_packages() {
  printf 'postgresql-%s-cron\n' "$(native_major)"
}

# missing PACKAGE...: those that are not installed.
missing() {
  local package
  for package in "$@"; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || printf '%s\n' "$package"
  done
}

# Without this file the server's package would make and start a cluster of its own.
forbid_main_cluster() {
  local conf=/etc/postgresql-common/createcluster.conf
  [ -e "$conf" ] && return 0
  mkdir -p "${conf%/*}"
  printf 'create_main_cluster = false\n' >"$conf"
}

apt_install() {
  DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends --no-upgrade \
    -o Dpkg::Options::=--force-confold -o Acquire::Retries=3 "$@"
}

# What scripts/check needs on this machine.
native_packages() {
  local major
  major=$(native_major)
  if [ -z "$major" ] && is_root; then
    apt-get update -q >/dev/null && major=$(native_major)
  fi
  package_list "${major:-15}"
}

install_missing() {
  local absent=()
  mapfile -t absent < <(missing "$@")
  [ ${#absent[@]} -gt 0 ] || return 0
  is_root || die "missing packages: ${absent[*]}; install them, or run as root"
  forbid_main_cluster
  # Lists may be too old to fetch from: refresh them once when the first try fails.
  apt_install "${absent[@]}" || { apt-get update -q && apt_install "${absent[@]}"; }
}

try_packages() {
  is_root || return 0
  (install_missing "$@") >/dev/null 2>&1 || true
}

# ensure_packages PACKAGE...: quiet unless it fails; then it is the one failure of the run.
ensure_packages() {
  local log
  log=$(mktemp)
  if ! (install_missing "$@") >"$log" 2>&1; then
    tail -n 20 "$log"
    rm -f "$log"
    say "0 passed, 1 failed"
    exit 1
  fi
  rm -f "$log"
}
