# shellcheck shell=bash
# Servers whose processes are watched by a sanitizer. Sourced after server.sh.

# What makes dts with AddressSanitizer and UBSan, an argument of make in each line.
sanitizer_flags() {
  printf '%s\n' 'CXX=g++ -fsanitize=address,undefined -fno-omit-frame-pointer' 'COPT=-fsanitize=address,undefined'
}

# sanitize_server FOLDER: the private copy's server loads the sanitizer, which must come first in the process. In Debian 12 it hangs when a
# library's constructor asks for a translation before it has started (libgpg-error, behind libsystemd): a malloc before all constructors starts
# it in time; FOLDER is for that.
sanitize_server() {
  printf '%s\n' '#include <stdlib.h>' '__attribute__((constructor)) static void early(void) { void *volatile p = malloc(1); free(p); }' |
    gcc -x c - -shared -fPIC -O0 -Wl,-z,initfirst -o "$1/early.so" || return 1
  # shellcheck disable=SC2016 # for the script
  wrap_server "LD_PRELOAD=\"$(gcc -print-file-name=libasan.so) $1/early.so \$LD_PRELOAD\" ASAN_OPTIONS=detect_leaks=0:abort_on_error=1 UBSAN_OPTIONS=print_stacktrace=1"' exec -a "$0" "$bare" "$@"'
}
