// How our own kernels are launched: a body is called for each index, for each column, or for
// threads that work together (together.h). Compiled without nvcc the same bodies are loops on the
// host, with sums in the same order: so tests on the CPU run all of a kernel but its launch. No
// result depends on how many threads there are.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string_view>

#include "engine/cuda/both.h"
#include "engine/cuda/context.h"
#include "engine/cuda/together.h"
#include "engine/cuda/values.h"
#include "engine/op.h"

#ifdef __CUDACC__
#include <cuda_runtime.h>
#endif

namespace poolgrad::cuda {

/// Throws DeviceError where the launch of `op` failed. launcher.cpp has it.
void check_launch(const char* op);

/// A site's stream, the op for messages, and how many groups the device holds at once: 8 on a
/// multiprocessor. Further work takes turns.
struct Queue {
  const char* op;
  memory::Stream stream;
  std::int64_t most;

  Queue(const char* of, const Site& site)
      : op(of),
        stream(site.device.stream),
        most(8 * (site.context != nullptr ? site.context->multiprocessors : 1)) {}

  [[nodiscard]] std::int64_t groups(std::int64_t threads) const {
    return std::clamp<std::int64_t>((threads + kThreads - 1) / kThreads, 1, most);
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

/// A thread's rows of a column: first, first + step, ...
struct Steps {
  std::int64_t first, step;
};

/// `work` in `chunks` of N, then singly up to `count`.
template <int N, typename Body>
POOLGRAD_BOTH void do_values(std::int64_t me, std::int64_t step, std::int64_t chunks,
                             std::int64_t count, const Body& body) {
  for (std::int64_t i = me; i < chunks; i += step) body.template at<N>(i * N);
  for (std::int64_t i = chunks * N + me; i < count; i += step) body.template at<1>(i);
}

/// Column and rows of thread `me`, of threads that are a multiple of the columns.
template <typename Body>
POOLGRAD_BOTH void do_columns(std::int64_t me, std::int64_t step, const Divisor& columns,
                              const Body& body) {
  const std::int64_t row = columns.quotient(me);
  if (row < step) body(me - row * columns.by(), Steps{row, step});
}

/// Rows me, me + step, ... by lanes that share them.
template <typename Body>
POOLGRAD_BOTH void do_rows(std::int64_t me, std::int64_t step, std::int64_t count,
                           const Lanes& lanes, const Body& body) {
  for (std::int64_t i = me; i < count; i += step) body(i, lanes);
}

#ifdef __CUDACC__
__device__ inline std::int64_t this_thread() {
  return static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
}
__device__ inline std::int64_t all_threads() {
  return static_cast<std::int64_t>(gridDim.x) * kThreads;
}

template <int N, typename Body>
__global__ void __launch_bounds__(kThreads)
    run_values(std::int64_t chunks, std::int64_t count, const Body body) {
  do_values<N>(this_thread(), all_threads(), chunks, count, body);
}
template <typename Body>
__global__ void __launch_bounds__(kThreads)
    run_columns(std::int64_t step, const Divisor columns, const Body body) {
  do_columns(this_thread(), step, columns, body);
}
template <typename Body>
__global__ void __launch_bounds__(kThreads)
    run_rows(std::int64_t count, const Lanes lanes, const Body body) {
  do_rows(this_thread() / lanes.width, all_threads() / lanes.width, count, lanes, body);
}
template <typename Body>
__global__ void __launch_bounds__(kThreads) run_groups(std::int64_t count, const Body body) {
  for (std::int64_t i = blockIdx.x; i < count; i += gridDim.x) body(i, Group{});
}

inline cudaStream_t stream_of(const Queue& queue) {
  return static_cast<cudaStream_t>(queue.stream.handle);
}
#endif

/// body.at<N>(i) does values [i, i + N) of `count`: N at once where `aligned`, the last ones
/// singly.
template <int N, typename Body>
void each_value(const Queue& queue, std::int64_t count, bool aligned, const Body& body) {
  if (count <= 0) return;
  const std::int64_t chunks = aligned ? count / N : 0;
  const std::int64_t groups = queue.groups(std::max(chunks, count - chunks * N));
#ifdef __CUDACC__
  run_values<N>
      <<<static_cast<unsigned>(groups), kThreads, 0, stream_of(queue)>>>(chunks, count, body);
  check_launch(queue.op);
#else
  const std::int64_t threads = groups * kThreads;
  for (std::int64_t t = 0; t < threads; ++t) do_values<N>(t, threads, chunks, count, body);
#endif
}

/// body(i) for i in [0, count), in any order.
template <typename Body>
struct Singly {
  Body body;
  template <int>
  POOLGRAD_BOTH void at(std::int64_t i) const {
    body(i);
  }
};
template <typename Body>
void each(const Queue& queue, std::int64_t count, const Body& body) {
  each_value<1>(queue, count, false, Singly<Body>{body});
}

/// body(column, steps) for columns of a matrix whose rows lie end to end: neighbours have
/// neighbouring columns, and each thread has one column, on some of the rows.
template <typename Body>
void each_column(const Queue& queue, std::int64_t rows, std::int64_t columns, const Body& body) {
  if (rows <= 0 || columns <= 0) return;
  const std::int64_t groups =
      std::max(queue.groups(rows * columns), (columns + kThreads - 1) / kThreads);
  const std::int64_t step = groups * kThreads / columns;
#ifdef __CUDACC__
  run_columns<<<static_cast<unsigned>(groups), kThreads, 0, stream_of(queue)>>>(
      step, Divisor(columns), body);
  check_launch(queue.op);
#else
  for (std::int64_t t = 0; t < groups * kThreads; ++t) do_columns(t, step, Divisor(columns), body);
#endif
}

/// body(row, lanes) for `count` rows of `width` values: as many lanes as it takes, at most 32.
template <typename Body>
void each_row(const Queue& queue, std::int64_t count, std::int64_t width, const Body& body) {
  if (count <= 0) return;
  const Lanes lanes{lanes_for(width)};
  const std::int64_t groups = queue.groups(count * lanes.width);
#ifdef __CUDACC__
  run_rows<<<static_cast<unsigned>(groups), kThreads, 0, stream_of(queue)>>>(count, lanes, body);
  check_launch(queue.op);
#else
  const std::int64_t step = groups * kThreads / lanes.width;
  for (std::int64_t i = 0; i < step; ++i) do_rows(i, step, count, lanes, body);
#endif
}

/// body(i, group) for i in [0, count), a group each, in any order.
template <typename Body>
void each_group(const Queue& queue, std::int64_t count, const Body& body) {
  if (count <= 0) return;
#ifdef __CUDACC__
  run_groups<<<static_cast<unsigned>(std::min(count, queue.most)), kThreads, 0, stream_of(queue)>>>(
      count, body);
  check_launch(queue.op);
#else
  (void)queue;
  for (std::int64_t i = 0; i < count; ++i) body(i, Group{});
#endif
}

}  // namespace poolgrad::cuda
