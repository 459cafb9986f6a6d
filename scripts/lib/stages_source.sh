# shellcheck shell=bash
# Stages that read the sources: format, shell, layers, headers, tidy, size. Each runs in the copy of the tree. Sourced after common.sh.

cxx_files() { find src test/unit test/fuzz \( -name '*.cpp' -o -name '*.hpp' \) | sort; }

# Shell scripts by their first line, so that none is forgotten for want of a suffix.
shell_files() {
  find scripts .ci docker test -type f ! -path '*/node_modules/*' 2>/dev/null | sort | while read -r file; do
    case $(head -c 64 "$file" | head -n 1 | tr -d '\0') in
      '#!/bin/sh'* | '#!/bin/bash'* | '#!/usr/bin/env bash'* | '# shellcheck shell='*) printf '%s\n' "$file" ;;
    esac
  done
}

stage_format() { cxx_files | each_file clang-format --dry-run -Werror; }

stage_shell() { shell_files | each_file shellcheck -x; }

# Dependencies point one way: processes -> {store, http} -> {pg, core}; core knows only the standard library, and the rest
# of the code does not know which server it is built for, nor jumps past destructors on its own.
stage_layers() {
  local failed=0 found
  forbid() {  # WHAT PATTERN PATH...
    # By its output: the status of grep is that of an error when one of the folders does not exist.
    found=$(grep -rnP --include='*.?pp' "$2" "${@:3}" 2>/dev/null)
    if [ -z "$found" ]; then
      report 1 0
      return
    fi
    printf '%s\n' "FAILED: $1" "$found"
    failed=$((failed + 1))
    report 0 1
  }
  forbid "core includes only itself and the standard library" '^#include ("([^c]|c[^o]|core[^/])|<.*\.h>)' src/core
  forbid "pg includes nothing above it" '^#include "([a-z_]+\.hpp|(store|http)/)' src/pg
  forbid "store and http include no process (settings are known to all)" '^#include "(?!settings\.hpp)[a-z_]+\.hpp"' src/store src/http
  forbid "PG_VERSION_NUM is for src/pg only" 'PG_VERSION_NUM' src/core src/store src/http src/*.cpp src/*.hpp
  forbid "sigsetjmp is for src/pg only" '\bsig(setjmp|longjmp)\b' src/core src/store src/http src/*.cpp src/*.hpp
  [ "$failed" -eq 0 ]
}

# Every header compiles alone, so that includes may be in any order; those of core without the server's headers.
check_header() {
  local header=$1 flags=(-std=c++20 -fsyntax-only -x c++ -I src -Wall -Wextra -Werror -Wno-register)
  [[ $header == src/core/* ]] || flags+=("${SERVER_FLAGS[@]}")
  printf '#include "%s"\n' "${header#src/}" | g++ "${flags[@]}" -
}

# compat.hpp is the second half of pg/postgres.hpp, which includes it.
stage_headers() {
  read -r -a SERVER_FLAGS <<<"-isystem $("$PG_CONFIG" --includedir-server) $(make_value CPPFLAGS)"
  find src -name '*.hpp' ! -path src/pg/compat.hpp | sort | each_file check_header
}

# The unit tests are left out: GoogleTest's macros take 20 s a file and are not ours. The headers of core are read alone.
tidy_file() {
  case $1 in
    *.hpp) clang-tidy --quiet "$1" -- -std=c++20 -I src -x c++ ;;
    *) clang-tidy --quiet -p build-tidy "$1" ;;
  esac
}

stage_tidy() {
  cmake -S . -B build-tidy -DDTS_PG_CONFIG="$PG_CONFIG" >build-tidy.log || { cat build-tidy.log && return 1; }
  find src \( -name '*.cpp' -o -path 'src/core/*.hpp' \) | sort | each_file tidy_file
}

# A report, not a judgement: long files and lines are looked at by people.
stage_size() {
  local files
  mapfile -t files < <(cxx_files)
  say "files over 300 lines:"
  find src scripts test sql -type f \( -name '*.?pp' -o -name '*.sh' -o -name '*.sql' -o -name '*.p[lm]' \) -print0 |
    xargs -0 wc -l | awk '$2 != "total" && $1 > 300 { print "  " $1 " " $2; n++ } END { if (!n) print "  none" }'
  say "the longest of the C++ lines over 140 characters:"
  awk 'length($0) > 140 { print length($0), FILENAME ":" FNR }' "${files[@]}" | sort -rn | head -n 10 | sed 's/^/  /'
  say "C++ functions over 50 lines:"
  awk '
    FNR == 1 { start = 0 }
    /^[A-Za-z].*\{$/ && !/^(namespace|struct|class|enum|extern|union)/ { start = FNR; head = $0 }
    /^\}/ && start { if (FNR - start > 50) { print "  " FILENAME ":" start " (" FNR - start + 1 ") " head; n++ } start = 0 }
    END { if (!n) print "  none" }' "${files[@]}"
  say "lines: $(cxx_files | grep '^src' | xargs cat | wc -l) C++, $(cat src/sql/*.sql | wc -l) SQL," \
    "$(find test sql -type f -name '*.*' ! -name '*.out' -print0 | xargs -0 cat | wc -l) tests"
  report 1 0
}
