#!/usr/bin/env bash
# Every C and C++ file is as clang-format would write it. --fix rewrites what is not.
set -euo pipefail
cd "$(dirname "$0")/.."
format=$(command -v clang-format-14 || command -v clang-format)
mode=(--dry-run -Werror)
[ "${1:-}" = --fix ] && mode=(-i)
git ls-files -coz --exclude-standard '*.h' '*.cc' '*.c' |
  while IFS= read -r -d '' file; do [ ! -e "$file" ] || printf '%s\0' "$file"; done |
  xargs -0 -n 16 -P 2 "$format" --style=file "${mode[@]}"
