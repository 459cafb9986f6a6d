# shellcheck shell=bash
# scripts/check --assertions: PostgreSQL from Debian's source package, with assertions, freed memory overwritten, new memory filled with
# noise, and what valgrind has to know. Sourced after common.sh and packages.sh.

ASSERTION_PACKAGES='dpkg-dev bzip2 xz-utils gcc make zlib1g-dev libssl-dev libicu-dev libxml2-dev valgrind tzdata'
# Stages that make sense there.
# shellcheck disable=SC2034 # for scripts/check
ASSERTION_STAGES=build,catalog,regress,pgtap,isolation,tap,points

# A copy of apt's world with the source packages of the mirrors that this machine knows; the machine's own stays as it is.
source_options() {
  local world=$1
  mkdir -p "$world/lists/partial" "$world/cache/archives/partial"
  # shellcheck disable=SC2016 # apt expands these
  apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT) $(ORIGIN)' 'Created-By: Packages' |
    awk '$4 == "Debian" { print "deb-src", $1, $2, $3 }' | sort -u >"$world/sources.list"
  printf '%s\n' -o "Dir::Etc::sourcelist=$world/sources.list" -o Dir::Etc::sourceparts=- -o "Dir::State::Lists=$world/lists" \
    -o "Dir::Cache=$world/cache" -o APT::Sandbox::User=root -o Acquire::Retries=3
}

# fetch_source MAJOR FOLDER: the source package, unpacked in FOLDER/src. Mirrors may name a version before they have it, or no more: the newest that comes.
fetch_source() {
  local package=postgresql-$1 folder=$2 options version
  mapfile -t options < <(source_options "$folder/apt")
  apt-get -q "${options[@]}" update || return 1
  while read -r version; do
    (cd "$folder" && apt-get -q "${options[@]}" source --download-only "$package=$version") || continue
    mkdir -p "$folder/src" && tar -C "$folder/src" --strip-components=1 -xjf "$folder"/postgresql-*.orig.tar.bz2
    return
  done < <(apt-cache "${options[@]}" showsrc "$package" | sed -n 's/^Version: //p' | sort -ruV)
  return 1
}

# build_source FOLDER PREFIX: the server with contrib, and what its tests need. The release's tarball needs neither bison nor flex.
build_source() {
  cd "$1/src" || return 1
  ./configure --prefix="$2" --enable-cassert --enable-debug --enable-tap-tests --without-readline --with-openssl --with-libxml --with-icu \
    --with-system-tzdata=/usr/share/zoneinfo CFLAGS='-Og -fno-omit-frame-pointer' CXXFLAGS='-Og -g -fno-omit-frame-pointer' \
    CPPFLAGS='-DUSE_VALGRIND -DRANDOMIZE_ALLOCATED_MEMORY' || return 1
  nice make -s -j2 world-bin && make -s install-world-bin && cp src/tools/valgrind.supp "$2/share/"
}

# assertion_server MAJOR: builds it if it is not there, which takes some minutes; prints its pg_config.
assertion_server() {
  local major=$1 prefix=${DTS_CHECK_CACHE:-/var/cache/dts-check}/pg$1-assertions work
  # What is copied last says that all of it is there.
  if [ ! -f "$prefix/share/valgrind.supp" ]; then
    is_root || die "--assertions needs root"
    # shellcheck disable=SC2086 # a list
    ensure_packages $ASSERTION_PACKAGES >&2
    work=$(mktemp -d /var/tmp/dts-source.XXXXXX)
    mkdir -p "${prefix%/*}"
    printf 'building PostgreSQL %s with assertions in %s, once\n' "$major" "$prefix" >&2
    if ! (fetch_source "$major" "$work" && build_source "$work" "$prefix") >"$prefix.log" 2>&1; then
      tail -n 20 "$prefix.log" >&2
      rm -rf "$work" "$prefix"
      return 1
    fi
    rm -rf "$work"
  fi
  cp -u "/usr/share/postgresql/$major/extension/pgtap"* "$prefix/share/postgresql/extension/" || return 1
  printf '%s/bin/pg_config\n' "$prefix"
}
