# shellcheck shell=bash
# scripts/check --pg N: the server-side stages inside the Debian suite that has that server, and pg_upgrade to it. Sourced after common.sh and packages.sh.
# A library built here would not do: another suite has another C library, and the server's headers know it.

# Stages that make sense there; the others do not depend on the server.
CHROOT_STAGES=build,symbols,catalog,regress,pgtap,isolation,tap,upgrade

suite_of() {
  case $1 in
    15) say bookworm ;;
    17) say trixie ;;
    18) say forky ;;
    *) die "no Debian suite has PostgreSQL $1: 15, 17 and 18 are there" ;;
  esac
}

# debian_mirror LABEL: the mirror that this machine gets Debian (or Debian-Security) from.
debian_mirror() {
  # shellcheck disable=SC2016 # apt expands these
  apt-get indextargets --format '$(REPO_URI) $(ORIGIN) $(LABEL)' 'Created-By: Packages' | awk -v label="$1" '$2 == "Debian" && $3 == label { print $1; exit }'
}

apt_settings() {
  apt-config dump | grep -E '^Acquire::(http|https|Retries|Check-Valid-Until)(::[A-Za-z:-]*)? ".+";$'
  # A suite in development may pass the date on its release file between two updates; its signature is checked all the same.
  if [ "$1" = forky ]; then say 'Acquire::Check-Valid-Until "false";'; fi
  say 'APT::Install-Recommends "false";'
}

# bootstrap MAJOR TARBALL: a minimal suite with server, compiler and test tools. Nothing in it starts a service or a cluster.
bootstrap() {
  local major=$1 tarball=$2 suite mirror security settings packages sources=()
  suite=$(suite_of "$major")
  mirror=$(debian_mirror Debian)
  [ -n "$mirror" ] || { apt-get update -q && mirror=$(debian_mirror Debian); }
  [ -n "$mirror" ] || die "apt knows no Debian mirror"
  sources=("deb $mirror $suite main")
  # pg_upgrade wants a release that is as new as the one it upgrades from. A suite in development has no security suite.
  security=$(debian_mirror Debian-Security)
  if [ -n "$security" ] && [ "$suite" != forky ]; then sources+=("deb $security $suite-security main"); fi
  settings=$(mktemp)
  apt_settings "$suite" >"$settings"
  packages=$(package_list "$major" | grep -vE '^(cmake|libgtest-dev|clang-format|clang-tidy|shellcheck)$' | paste -sd,)
  # shellcheck disable=SC2016 # mmdebstrap sets $1 for its hooks
  mmdebstrap --quiet --variant=minbase --mode=root --aptopt="$settings" --include="$packages,ca-certificates,procps" \
    --essential-hook='printf "#!/bin/sh\nexit 101\n" >"$1/usr/sbin/policy-rc.d"; chmod 755 "$1/usr/sbin/policy-rc.d"' \
    --essential-hook='mkdir -p "$1/etc/postgresql-common"; echo "create_main_cluster = false" >"$1/etc/postgresql-common/createcluster.conf"' \
    "$suite" "$tarball.new.tar.zst" "${sources[@]}" && mv "$tarball.new.tar.zst" "$tarball"
  local status=$?
  rm -f "$settings" "$tarball.new.tar.zst"
  return "$status"
}

# native_server ROOT: the machine's own server with dts below ROOT/native, as the old cluster of a pg_upgrade. Its programs do not fit the C library
# there, so each becomes a script that starts it by its own loader with its own libraries.
native_server() {
  local native=$1/native bin loader program
  PG_CONFIG=$(find_pg_config) || return 1
  bin=$(copy_installation "$native") || return 1
  mkdir "$native/src" "$native/lib" && tar -C "$1/src" -cf - . | tar -C "$native/src" -xf - || return 1
  make -s -j2 -C "$native/src" PG_CONFIG="$PG_CONFIG" && make -s -C "$native/src" install PG_CONFIG="$PG_CONFIG" DESTDIR="$native" || return 1
  rm -rf "$native/src"
  find "$bin" "$native$("$PG_CONFIG" --pkglibdir)" -maxdepth 1 -type f -exec ldd {} + 2>/dev/null | awk '$2 == "=>" && $3 ~ /^\// { print $3 }' | sort -u | xargs cp -L -t "$native/lib"
  loader=$(ldd "$bin/postgres" | awk '$1 ~ /^\/.*\/ld-/ { print $1 }')
  cp -L "$loader" "$native/lib/loader" && mv "$bin" "$bin.real" && mkdir "$bin" || return 1
  for program in "$bin.real"/*; do
    program=${program##*/}
    printf '#!/bin/sh\nexec /native/lib/loader --argv0 "%s" --library-path /native/lib "%s" "$@"\n' "${bin#"$1"}/$program" "${bin#"$1"}.real/$program" >"$bin/$program"
    chmod 755 "$bin/$program"
  done
}

# check_in_chroot MAJOR STAGES: prints what scripts/check prints inside, and returns its status.
check_in_chroot() {
  local major=$1 stages=${2:-$CHROOT_STAGES} cache=${DTS_CHECK_CACHE:-/var/cache/dts-check} tarball root status old=''
  is_root || die "--pg needs root"
  ensure_packages mmdebstrap zstd
  tarball=$cache/$(suite_of "$major")-pg$major-$(dpkg --print-architecture).tar.zst
  mkdir -p "$cache"
  if [ ! -s "$tarball" ]; then
    say "bootstrapping $(suite_of "$major") with PostgreSQL $major, once"
    bootstrap "$major" "$tarball" || die "bootstrap failed"
  fi
  root=$(mktemp -d /var/tmp/dts-check-root.XXXXXX)
  # The mounts live in a namespace of their own and the processes in another: both vanish with the first process, however
  # it ends, so that deleting the folder can never reach through a mount, and no server stays behind.
  trap 'rm -rf --one-file-system "$root"' EXIT
  tar -C "$root" -xf "$tarball" --exclude='./dev/*' || die "could not unpack $tarball"
  mkdir -p "$root/dev/shm" "$root/src"
  tar -C "$TOP" --exclude=./.git --exclude='./build*' --exclude=node_modules -cf - . | tar -C "$root/src" -xf -
  if [[ ",$stages," == *,upgrade,* ]] && [ "$(native_major)" -lt "$major" ]; then
    native_server "$root" >"$root/native.log" 2>&1 || { tail -n 20 "$root/native.log" && die "could not prepare the machine's own server for pg_upgrade"; }
    old=/native$("$PG_CONFIG" --bindir) && old=${old%/bin}
  fi
  unshare --mount --pid --fork --kill-child --propagation private "$TOP/scripts/lib/enter-root" "$root" \
    env ${old:+"DTS_OLD_INSTALL=$old"} /src/scripts/check --inside --only "$stages" ${CHECK_FILES:+--files "$CHECK_FILES"}
  status=$?
  rm -rf --one-file-system "$root"
  trap - EXIT
  return "$status"
}
