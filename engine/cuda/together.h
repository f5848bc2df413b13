// Threads that work together: Lanes, of one warp, and Group, 256 with memory they share. On the
// host they are loops, and sums are made in the same order.
#pragma once

#include <cstdint>
#include <utility>

#include "engine/cuda/both.h"

#ifdef __CUDA_ARCH__
#define POOLGRAD_SHARED __shared__
#else
#define POOLGRAD_SHARED
#endif

namespace poolgrad::cuda {

inline constexpr int kThreads = 256;  // of a group
inline constexpr int kWarp = 32, kWarps = kThreads / kWarp;

/// How many lanes do well on so many values: a power of two.
inline unsigned lanes_for(std::int64_t values) {
  unsigned lanes = 1;
  while (lanes < values && lanes < kWarp) lanes *= 2;
  return lanes;
}

/// Lanes of one warp that do a row. All of them must come to each call.
struct Lanes {
  unsigned width;  // a power of two, at most 32

  /// visit(i) for i in [0, count), by any lane.
  template <typename F>
  POOLGRAD_BOTH void each(std::int64_t count, const F& visit) const {
#ifdef __CUDA_ARCH__
    for (std::int64_t i = threadIdx.x % width; i < count; i += width) visit(i);
#else
    for (std::int64_t i = 0; i < count; ++i) visit(i);
#endif
  }

  /// All value(i) for i in [0, count) and `first`, combined; for every lane.
  template <typename T, typename F, typename Combine>
  POOLGRAD_BOTH T reduce(std::int64_t count, T first, const F& value,
                         const Combine& combine) const {
#ifdef __CUDA_ARCH__
    const unsigned lane = threadIdx.x % width, before = threadIdx.x % kWarp - lane;
    const unsigned mask = (width == kWarp ? ~0U : (1U << width) - 1) << before;
    T part = first;
    for (std::int64_t i = lane; i < count; i += width) part = combine(part, value(i));
    for (unsigned apart = width / 2; apart > 0; apart /= 2)
      part = combine(part, __shfl_xor_sync(mask, part, apart));
    return part;
#else
    T parts[kWarp];
    for (T& part : parts) part = first;
    for (std::int64_t i = 0; i < count; ++i) parts[i % width] = combine(parts[i % width], value(i));
    for (unsigned apart = width / 2; apart > 0; apart /= 2) {
      for (unsigned l = 0; l < apart; ++l) parts[l] = combine(parts[l], parts[l + apart]);
    }
    return parts[0];
#endif
  }
};

/// 256 threads, which share what is POOLGRAD_SHARED. All of them must come to each call.
struct Group {
  /// visit(i) for i in [0, count), by any thread; all is done when it returns.
  template <typename F>
  POOLGRAD_BOTH void each(int count, const F& visit) const {
#ifdef __CUDA_ARCH__
    for (int i = static_cast<int>(threadIdx.x); i < count; i += kThreads) visit(i);
    __syncthreads();
#else
    for (int i = 0; i < count; ++i) visit(i);
#endif
  }

  /// K sums for each of `width` columns, a power of two up to kMost. Thread t belongs to column
  /// t % width: own(t, values) adds to its values [K], and give(column, sums) is told the sums over
  /// its threads, by one of them.
  template <int K, int kMost, typename Own, typename Give>
  POOLGRAD_BOTH void sums(int width, const Own& own, const Give& give) const {
#ifdef __CUDA_ARCH__
    __shared__ double parts[K][kWarps][kMost];
    const int t = static_cast<int>(threadIdx.x), warp = t / kWarp, lane = t % kWarp;
    double values[K]{};
    own(t, values);
    for (int apart = kWarp / 2; apart >= width; apart /= 2) {
      for (int k = 0; k < K; ++k) values[k] += __shfl_xor_sync(~0U, values[k], apart);
    }
    for (int k = 0; k < K && lane < width; ++k) parts[k][warp][lane] = values[k];
    __syncthreads();
    if (t < width) {
      for (int k = 0; k < K; ++k) {
        values[k] = parts[k][0][t];
        for (int w = 1; w < kWarps; ++w) values[k] += parts[k][w][t];
      }
      give(t, values);
    }
    __syncthreads();  // before the next sums are put there
#else
    double values[kThreads][K]{};
    for (int t = 0; t < kThreads; ++t) own(t, values[t]);
    for (int c = 0; c < width; ++c) {
      for (int k = 0; k < K; ++k) {
        for (int first = c; first < kThreads; first += kWarp) {
          for (int apart = kWarp / 2; apart >= width; apart /= 2) {
            for (int l = first; l < first - c + apart; l += width)
              values[l][k] += values[l + apart][k];
          }
          if (first != c) values[c][k] += values[first][k];
        }
      }
      give(c, values[c]);
    }
#endif
  }
};

}  // namespace poolgrad::cuda
