#!/usr/bin/env bash
# Each header of bpf/abi must compile alone, as C11 for the BPF target and as C++20, and agree about every
# layout: its asserts run in both.
set -euo pipefail
cd "$(dirname "$0")/.."
clang=$(command -v clang-14 || command -v clang)
cxx=${CXX:-c++}
arch=$("${CC:-cc}" -print-multiarch)
failed=0
checked=0
for header in bpf/abi/*.h; do
  include="#include \"${header#bpf/}\""
  # Twice: the guard is part of standing alone.
  if ! printf '%s\n%s\nint used;\n' "$include" "$include" |
    "$clang" -target bpf -std=c11 -Wall -Wextra -Wpadded -Werror -Wno-unused-function -O2 -Ibpf \
      "-I/usr/include/$arch" -x c -c - -o /dev/null; then
    echo "$header: not C11 for the BPF target on its own" >&2
    failed=1
  fi
  if ! printf '%s\n%s\n' "$include" "$include" |
    "$cxx" -std=c++20 -Wall -Wextra -Wpedantic -Wpadded -Werror -Wno-unused-function -Ibpf -x c++ -fsyntax-only -; then
    echo "$header: not C++20 on its own" >&2
    failed=1
  fi
  # No bool, bit-field or pointer inside a struct; enums stand alone, as names of numbers.
  if grep -nE '^\s+(bool|enum [a-z_]+|[a-z_0-9 ]+\*+) ?[a-z_0-9]+;|:[0-9]+;' "$header"; then
    echo "$header: bool, enum, pointer or bit-field in a shared struct" >&2
    failed=1
  fi
  checked=$((checked + 1))
done
echo "$checked headers"
[ "$checked" -gt 0 ] && [ "$failed" -eq 0 ]
