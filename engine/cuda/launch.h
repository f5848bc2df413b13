// How our own kernels are launched: a body is called for each index, or for each group of threads
// that sum together. Compiled without nvcc the same bodies are loops on the host, with sums in the
// same order: so tests on the CPU run all of a kernel but its launch.
#pragma once

#include <cstdint>
#include <string_view>

#include "engine/cuda/both.h"
#include "engine/cuda/context.h"
#include "engine/op.h"

#ifdef __CUDACC__
#include <cuda_runtime.h>
#endif

namespace poolgrad::cuda {

inline constexpr int kThreads = 256;          // of a group
inline constexpr std::int64_t kMost = 65536;  // groups at once; further ones take turns

/// Throws DeviceError where the launch of `op` failed. launcher.cpp has it.
void check_launch(const char* op);

/// A site's stream, and the op for messages.
struct Queue {
  const char* op;
  memory::Stream stream;

  Queue(const char* of, const Site& site) : op(of), stream(site.device.stream) {}
};

/// 256 threads, or their loop on the host. All threads of a group must come to each call.
struct Group {
  /// visit(i) for i in [0, count), by any thread.
  template <typename F>
  POOLGRAD_BOTH void each(std::int64_t count, const F& visit) const {
#ifdef __CUDA_ARCH__
    for (std::int64_t i = threadIdx.x; i < count; i += kThreads) visit(i);
    __syncthreads();
#else
    for (std::int64_t i = 0; i < count; ++i) visit(i);
#endif
  }

  /// The sum of value(i) for i in [0, count), for every thread: always in the same order.
  template <typename T, typename F>
  POOLGRAD_BOTH T sum(std::int64_t count, const F& value) const {
#ifdef __CUDA_ARCH__
    __shared__ std::uint64_t bytes[kThreads];
    T* const parts = reinterpret_cast<T*>(bytes);
    T part{};
    for (std::int64_t i = threadIdx.x; i < count; i += kThreads) part += value(i);
    parts[threadIdx.x] = part;
    for (int half = kThreads / 2; half > 0; half /= 2) {
      __syncthreads();
      if (threadIdx.x < half) parts[threadIdx.x] += parts[threadIdx.x + half];
    }
    __syncthreads();
    const T result = parts[0];
    __syncthreads();  // before the next sum writes there
    return result;
#else
    T parts[kThreads]{};
    for (std::int64_t i = 0; i < count; ++i) parts[i % kThreads] += value(i);
    for (int half = kThreads / 2; half > 0; half /= 2) {
      for (int t = 0; t < half; ++t) parts[t] += parts[t + half];
    }
    return parts[0];
#endif
  }
};

/// Tells the host; the first to do so is heard. `op` is the host's address, which a body is given:
/// a literal in a body lies on the device, where the host cannot read it.
POOLGRAD_BOTH inline void raise(Fault* fault, Fault::Kind kind, const char* op, std::int64_t row,
                                std::int64_t value, std::int64_t limit) {
#ifdef __CUDA_ARCH__
  if (atomicCAS(&fault->taken, 0, 1) != 0) return;
#else
  if (fault->taken != 0) return;
  fault->taken = 1;
#endif
  fault->op = op;
  fault->row = row;
  fault->value = value;
  fault->limit = limit;
#ifdef __CUDA_ARCH__
  __threadfence_system();
#endif
  fault->kind = kind;
}

#ifdef __CUDACC__
template <typename Body>
__global__ void __launch_bounds__(kThreads) run_each(std::int64_t count, const Body body) {
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * kThreads;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < count;
       i += step)
    body(i);
}

template <typename Body>
__global__ void __launch_bounds__(kThreads) run_groups(std::int64_t count, const Body body) {
  for (std::int64_t i = blockIdx.x; i < count; i += gridDim.x) body(i, Group{});
}
#endif

/// body(i) for i in [0, count), in any order.
template <typename Body>
void each([[maybe_unused]] const Queue& queue, std::int64_t count, const Body& body) {
  if (count <= 0) return;
#ifdef __CUDACC__
  const std::int64_t groups = (count + kThreads - 1) / kThreads;
  run_each<<<static_cast<unsigned>(groups < kMost ? groups : kMost), kThreads, 0,
             static_cast<cudaStream_t>(queue.stream.handle)>>>(count, body);
  check_launch(queue.op);
#else
  for (std::int64_t i = 0; i < count; ++i) body(i);
#endif
}

/// body(i, group) for i in [0, count), a group each, in any order.
template <typename Body>
void each_group([[maybe_unused]] const Queue& queue, std::int64_t count, const Body& body) {
  if (count <= 0) return;
#ifdef __CUDACC__
  run_groups<<<static_cast<unsigned>(count < kMost ? count : kMost), kThreads, 0,
               static_cast<cudaStream_t>(queue.stream.handle)>>>(count, body);
  check_launch(queue.op);
#else
  for (std::int64_t i = 0; i < count; ++i) body(i, Group{});
#endif
}

}  // namespace poolgrad::cuda
