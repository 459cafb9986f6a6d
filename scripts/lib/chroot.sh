# shellcheck shell=bash
# scripts/check --pg N: the server-side stages inside the Debian suite that has that server. Sourced after common.sh and packages.sh.
# A library built here would not do: another suite has another C library, and the server's headers know it.

# Stages that make sense there; the others do not depend on the server.
CHROOT_STAGES=build,symbols,catalog,regress,pgtap,isolation,tap

suite_of() {
  case $1 in
    15) say bookworm ;;
    17) say trixie ;;
    18) say forky ;;
    *) die "no Debian suite has PostgreSQL $1: 15, 17 and 18 are there" ;;
  esac
}

# The mirror that this machine gets Debian from, and its settings for reaching it.
debian_mirror() {
  # shellcheck disable=SC2016 # apt expands these
  apt-get indextargets --format '$(REPO_URI) $(ORIGIN) $(LABEL)' 'Created-By: Packages' | awk '$2 == "Debian" && $3 == "Debian" { print $1; exit }'
}

apt_settings() {
  apt-config dump | grep -E '^Acquire::(http|https|Retries|Check-Valid-Until)(::[A-Za-z:-]*)? ".+";$'
  # A suite in development may pass the date on its release file between two updates; its signature is checked all the same.
  if [ "$1" = forky ]; then say 'Acquire::Check-Valid-Until "false";'; fi
  say 'APT::Install-Recommends "false";'
}

# bootstrap MAJOR TARBALL: a minimal suite with server, compiler and test tools. Nothing in it starts a service or a cluster.
bootstrap() {
  local major=$1 tarball=$2 suite mirror settings packages
  suite=$(suite_of "$major")
  mirror=$(debian_mirror)
  [ -n "$mirror" ] || { apt-get update -q && mirror=$(debian_mirror); }
  [ -n "$mirror" ] || die "apt knows no Debian mirror"
  settings=$(mktemp)
  apt_settings "$suite" >"$settings"
  packages=$(package_list "$major" | grep -vE '^(cmake|libgtest-dev|clang-format|clang-tidy|shellcheck)$' | paste -sd,)
  # shellcheck disable=SC2016 # mmdebstrap sets $1 for its hooks
  mmdebstrap --quiet --variant=minbase --mode=root --aptopt="$settings" --include="$packages,ca-certificates,procps" \
    --essential-hook='printf "#!/bin/sh\nexit 101\n" >"$1/usr/sbin/policy-rc.d"; chmod 755 "$1/usr/sbin/policy-rc.d"' \
    --essential-hook='mkdir -p "$1/etc/postgresql-common"; echo "create_main_cluster = false" >"$1/etc/postgresql-common/createcluster.conf"' \
    "$suite" "$tarball.new.tar.zst" "deb $mirror $suite main" && mv "$tarball.new.tar.zst" "$tarball"
  local status=$?
  rm -f "$settings" "$tarball.new.tar.zst"
  return "$status"
}

# check_in_chroot MAJOR STAGES: prints what scripts/check prints inside, and returns its status.
check_in_chroot() {
  local major=$1 stages=${2:-$CHROOT_STAGES} cache=${DTS_CHECK_CACHE:-/var/cache/dts-check} tarball root status
  is_root || die "--pg needs root"
  ensure_packages mmdebstrap zstd
  suite_of "$major" >/dev/null
  tarball=$cache/pg$major-$(dpkg --print-architecture).tar.zst
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
  unshare --mount --pid --fork --kill-child --propagation private "$TOP/scripts/lib/enter-root" "$root" \
    /src/scripts/check --inside --only "$stages"
  status=$?
  rm -rf --one-file-system "$root"
  trap - EXIT
  return "$status"
}
