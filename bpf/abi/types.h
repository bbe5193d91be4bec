/* What every ABI header needs: sized types and an assert that both languages understand.
 * Included unchanged by `clang -target bpf` (C11) and by g++ (C++20), so a struct exists once. */
#pragma once

#include <linux/types.h>

#ifdef __cplusplus
#define ABI_ASSERT(condition, text) static_assert(condition, text)
#else
#define ABI_ASSERT(condition, text) _Static_assert(condition, text)
#endif

/* Bumped when any struct of bpf/abi changes meaning or size. Kept in the pinned weft_meta map; what
 * weftd does when it meets another number is written in docs/architecture.md, "Layout version". */
#define WEFT_ABI_LAYOUT 4
#define WEFT_ABI_MAGIC 0x74666577u /* "weft", little endian */
