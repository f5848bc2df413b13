// POOLGRAD_CLONES, and the loops over rows that several ops share. No libraries and no ops here.
//
// A function marked with it is compiled once for each of three instruction sets, and the loader
// picks the copy that the processor can run: a binary built on one machine runs well on another.
// Such a function is a plain one (no template, no lambda), and what it calls must be inlined into
// it.
#pragma once

#include <cstdint>

#ifndef POOLGRAD_X86_LEVEL  // the widest that is used; CMake defines a smaller one
#define POOLGRAD_X86_LEVEL 4
#endif

// Thread sanitizer's runtime dies where a copy is picked before it has started.
#if !defined(__x86_64__) || !defined(__ELF__) || defined(__SANITIZE_THREAD__) || \
    POOLGRAD_X86_LEVEL < 3
#define POOLGRAD_CLONES
#elif defined(__clang__)
#if __has_feature(thread_sanitizer) || __clang_major__ < 14
#define POOLGRAD_CLONES
#elif POOLGRAD_X86_LEVEL < 4
#define POOLGRAD_CLONES __attribute__((target_clones("default", "avx2")))
#else
#define POOLGRAD_CLONES __attribute__((target_clones("default", "avx2", "avx512f")))
#endif
#elif __GNUC__ >= 12
// Levels, not names of processors: "arch=haswell" is picked on a Haswell alone.
#if POOLGRAD_X86_LEVEL < 4
#define POOLGRAD_CLONES __attribute__((target_clones("default", "arch=x86-64-v3")))
#else
#define POOLGRAD_CLONES \
  __attribute__((target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4")))
#endif
#else
#define POOLGRAD_CLONES
#endif

namespace poolgrad::loops {

/// y = a + b, `count` values. Any two may be the same array.
void add(const float* a, const float* b, float* y, std::int64_t count);

/// y [rows, columns] += bias [columns], which may be null; then max(y, 0) with `relu`.
void bias_relu(const float* bias, bool relu, float* y, std::int64_t rows, std::int64_t columns);

/// y [rows, columns] = x [columns, rows] turned, plus bias [columns], which may be null; then
/// max(y, 0) with `relu`.
void turn(const float* x, const float* bias, bool relu, float* y, std::int64_t rows,
          std::int64_t columns);

/// sum [columns] = or, with `add`, += the rows of x [rows, columns], which lie `stride` values
/// apart. Sums of 64 rows are added up, so that the error grows with rows / 64.
void sum_rows(const float* x, std::int64_t rows, std::int64_t columns, std::int64_t stride,
              bool add, float* sum);

}  // namespace poolgrad::loops
