// What the hand-written steps share: one static block, a team of threads, primitives of oneDNN that
// run on the thread that calls them, and time by operation. Measuring code: it trains one network
// as fast as we know how, and is the mark for the engine. Global on purpose: one step, one process.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstring>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <thread>
#include <unordered_map>
#include <vector>

#include <immintrin.h>
#include <oneapi/dnnl/dnnl.hpp>
#include <sys/mman.h>

#include "bench/peers/turns.h"

extern "C" void omp_set_num_threads(int);

namespace steps {

using Index = std::int64_t;
using Format = dnnl::memory::format_tag;
constexpr auto kF32 = dnnl::memory::data_type::f32;

constexpr int kMostMembers = 2;

/// Set once by run().
inline int members = 1;
inline Index batch = 0;

// --- the block -----------------------------------------------------------------------------------

/// Slots on 128 bytes, never given back.
class Block {
 public:
  Block() { madvise(bytes_, sizeof(bytes_), MADV_HUGEPAGE); }

  /// For parameters and what the optimizer keeps of them.
  template <typename T = float>
  T* state(Index count) {
    return take<T>(count, state_bytes_);
  }
  /// For all else.
  template <typename T = float>
  T* work(Index count) {
    return take<T>(count, work_bytes_);
  }
  [[nodiscard]] std::size_t work_bytes() const { return work_bytes_; }

 private:
  template <typename T>
  T* take(Index count, std::size_t& sum) {
    const std::size_t size = (static_cast<std::size_t>(count) * sizeof(T) + 127) / 128 * 128;
    if (top_ + size > sizeof(bytes_)) throw std::runtime_error("steps: the block is too small");
    T* slot = reinterpret_cast<T*>(bytes_ + top_);
    top_ += size;
    sum += size;
    return slot;
  }

  alignas(1U << 21U) std::byte bytes_[512U << 20U];
  std::size_t top_ = 0, state_bytes_ = 0, work_bytes_ = 0;
};
inline Block block;

/// Member `member`'s share of [0, count), in units of `unit`.
struct Range {
  Index begin = 0, end = 0;
  [[nodiscard]] Index count() const { return end - begin; }
};
inline Range share(Index count, int member, Index unit = 1) {
  const Index units = count / unit;
  return {units * member / members * unit, units * (member + 1) / members * unit};
}

// --- the team ------------------------------------------------------------------------------------

/// Counts up. Waiting for the next number spins for a while, then sleeps in the kernel.
class alignas(64) Turn {
 public:
  [[nodiscard]] int now() const { return turn_.load(std::memory_order_acquire); }
  void wait(int old) const {
    for (int pauses = 0; now() == old; ++pauses)
      pauses < 2000 ? _mm_pause() : turn_.wait(old, std::memory_order_acquire);
  }
  void next() {
    turn_.fetch_add(1, std::memory_order_release);
    turn_.notify_all();
  }

 private:
  std::atomic<int> turn_ = 0;
};
inline Turn job, met;
alignas(64) inline std::atomic<int> arrived = 0;

/// Waits for the other members.
inline void meet() {
  if (members == 1) return;
  const int before = met.now();
  if (arrived.fetch_add(1) == members - 1) {
    arrived = 0;
    met.next();
  } else {
    met.wait(before);
  }
}

// --- time by operation ---------------------------------------------------------------------------

/// Of member 0, in the order of first calls.
struct Operation {
  const char* name;
  double microseconds = 0.0;
};
inline bool profiling = false;
inline std::vector<Operation> operations;

/// Runs `work` and, when profiling, adds its time to that of `name`.
template <typename F>
void timed(int member, const char* name, F&& work) {
  if (!profiling || member != 0) return work();
  const auto begin = std::chrono::steady_clock::now();
  work();
  const std::chrono::duration<double, std::micro> spent = std::chrono::steady_clock::now() - begin;
  for (Operation& operation : operations)
    if (std::strcmp(operation.name, name) == 0)
      return static_cast<void>(operation.microseconds += spent.count());
  operations.push_back({name, spent.count()});
}

inline void timed_meet(int member) { timed(member, "barrier", meet); }

// --- oneDNN --------------------------------------------------------------------------------------

inline dnnl::engine& cpu() {
  static dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}
inline dnnl::stream& cpu_stream() {
  thread_local dnnl::stream mine(cpu());
  return mine;
}

constexpr std::size_t kScratchBytes = 8U << 20U;
inline std::array<std::byte*, kMostMembers> scratch_block{};
inline std::size_t scratch_bytes = 0;  // the largest that a primitive asked for

inline dnnl::memory scratch(const dnnl::memory::desc& wanted, int member) {
  std::byte*& mine = scratch_block[static_cast<std::size_t>(member)];
  if (mine == nullptr) mine = static_cast<std::byte*>(std::aligned_alloc(4096, kScratchBytes));
  scratch_bytes = std::max(scratch_bytes, wanted.get_size());
  if (scratch_bytes > kScratchBytes) throw std::runtime_error("steps: too much scratch wanted");
  return {wanted, cpu(), mine};
}
inline dnnl::primitive_attr user_scratch() {
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  return attributes;
}

/// A primitive and its arguments.
struct Op {
  dnnl::primitive primitive;
  std::unordered_map<int, dnnl::memory> arguments;

  void operator()() { primitive.execute(cpu_stream(), arguments); }
  Op& at(int argument, void* data) {
    arguments.at(argument).set_data_handle(data);
    return *this;
  }
  Op& source(void* data) { return at(DNNL_ARG_SRC, data); }
};

/// Rows `stride` values apart; a transposed one is stored the other way round.
struct Matrix {
  float* data = nullptr;
  Index stride = 0;
  bool transposed = false;

  [[nodiscard]] dnnl::memory::desc described(Index rows, Index columns) const {
    const dnnl::memory::dims strides =
        transposed ? dnnl::memory::dims{1, stride} : dnnl::memory::dims{stride, 1};
    return {{rows, columns}, kF32, strides};
  }
};

/// c = scale · a · b + keep · c, or max(a · b + bias, 0).
struct Epilogue {
  float* bias = nullptr;
  bool relu = false;
  float scale = 1.0F, keep = 0.0F;
};

/// The gradient of some rows of a weight, from `row` on.
struct RowBlock {
  Index row = 0;
  Op gradient;
};

struct Extents {
  Index m = 0, n = 0, k = 0;
};

/// c [m, n] = a [m, k] · b [k, n].
inline Op product(int member, Extents size, Matrix a, Matrix b, Matrix c, Epilogue end = {}) {
  dnnl::primitive_attr attributes = user_scratch();
  if (end.scale != 1.0F) attributes.set_output_scales(0, {end.scale});
  dnnl::post_ops after;
  if (end.keep != 0.0F) after.append_sum(end.keep);
  if (end.relu) after.append_eltwise(1.0F, dnnl::algorithm::eltwise_relu, 0.0F, 0.0F);
  attributes.set_post_ops(after);

  const auto [m, n, k] = size;
  const dnnl::memory::desc left = a.described(m, k), right = b.described(k, n),
                           result = c.described(m, n), bias({1, n}, kF32, Format::ab);
  const auto what = end.bias != nullptr ? dnnl::matmul::desc(left, right, bias, result)
                                        : dnnl::matmul::desc(left, right, result);
  const dnnl::matmul::primitive_desc made(what, attributes, cpu());
  Op op{dnnl::matmul(made),
        {{DNNL_ARG_SRC, {left, cpu(), a.data}},
         {DNNL_ARG_WEIGHTS, {right, cpu(), b.data}},
         {DNNL_ARG_DST, {result, cpu(), c.data}},
         {DNNL_ARG_SCRATCHPAD, scratch(made.scratchpad_desc(), member)}}};
  if (end.bias != nullptr) op.arguments[DNNL_ARG_BIAS] = {bias, cpu(), end.bias};
  return op;
}

// --- loops ---------------------------------------------------------------------------------------

/// Softmax cross-entropy over rows of ten; gradient = (softmax - one-hot) / batch. Answers the
/// part of the mean loss.
inline float cross_entropy(const float* logits, const std::int64_t* labels, float* gradient,
                           Index rows) {
  const float one = 1.0F / static_cast<float>(batch);
  float loss = 0.0F;
  for (Index i = 0; i < rows; ++i) {
    const float* z = logits + i * 10;
    float* g = gradient + i * 10;
    float most = z[0], sum = 0.0F;
    for (int j = 1; j < 10; ++j) most = z[j] > most ? z[j] : most;
    for (int j = 0; j < 10; ++j) sum += g[j] = std::exp(z[j] - most);
    for (int j = 0; j < 10; ++j) g[j] *= one / sum;
    g[labels[i]] -= one;
    loss += std::log(sum) + most - z[labels[i]];
  }
  return loss * one;
}

/// sums [columns] of rows `stride` values apart.
inline void column_sums(const float* x, float* sums, Index rows, Index columns, Index stride) {
  for (Index j = 0; j < columns; ++j) sums[j] = 0.0F;
  for (Index i = 0; i < rows; ++i)
    for (Index j = 0; j < columns; ++j) sums[j] += x[i * stride + j];
}

inline void relu_backward(float* __restrict gradient, const float* __restrict y, Index count) {
  for (Index i = 0; i < count; ++i) gradient[i] = y[i] > 0.0F ? gradient[i] : 0.0F;
}

/// y -= rate · x
inline void subtract(float* __restrict y, const float* __restrict x, Index count, float rate) {
  for (Index i = 0; i < count; ++i) y[i] -= rate * x[i];
}

inline void add(float* __restrict y, const float* __restrict x, Index count) {
  for (Index i = 0; i < count; ++i) y[i] += x[i];
}

inline void sgd_momentum(float* __restrict weight, float* __restrict momentum,
                         const float* __restrict gradient, Index count, float rate) {
  for (Index i = 0; i < count; ++i) {
    momentum[i] = 0.9F * momentum[i] + gradient[i];
    weight[i] -= rate * momentum[i];
  }
}

/// An image of 28 by 28 into one of 30 rows of 32, whose border stays zero.
inline void pad_image(const float* image, float* padded) {
  for (int i = 0; i < 28; ++i) std::memcpy(padded + (i + 1) * 32 + 1, image + i * 28, 28 * 4);
}

// --- weights -------------------------------------------------------------------------------------

/// Hands out the initial weights in their order.
class Weights {
 public:
  explicit Weights(std::span<float> all) : left_(all) {}
  float* next(Index count) {
    const std::span<float> mine = left_.first(static_cast<std::size_t>(count));
    left_ = left_.subspan(static_cast<std::size_t>(count));
    return mine.data();
  }
  [[nodiscard]] bool empty() const { return left_.empty(); }

 private:
  std::span<float> left_;
};

inline float* copied(const float* from, Index count) {
  float* to = block.state(count);
  std::memcpy(to, from, static_cast<std::size_t>(count) * sizeof(float));
  return to;
}

/// [outputs, inputs] -> [inputs, outputs].
inline float* transposed(const float* from, Index outputs, Index inputs) {
  float* to = block.state(outputs * inputs);
  for (Index o = 0; o < outputs; ++o)
    for (Index i = 0; i < inputs; ++i) to[i * outputs + o] = from[o * inputs + i];
  return to;
}

// --- running -------------------------------------------------------------------------------------

/// A member's share of one step on these images and labels; answers its part of the loss.
using Share = std::function<float(int member, float* images, const std::int64_t* labels)>;

class Team {
 public:
  explicit Team(Share share) : share_(std::move(share)) {
    for (int member = 1; member < members; ++member)
      std::thread([this, member] { serve(member); }).detach();
  }
  float step(float* images, const std::int64_t* labels) {
    images_ = images;
    labels_ = labels;
    if (members > 1) job.next();
    losses_[0].value = share_(0, images, labels);
    meet();
    float loss = 0.0F;
    for (int member = 0; member < members; ++member)
      loss += losses_[static_cast<std::size_t>(member)].value;
    return loss;
  }

 private:
  struct alignas(64) Loss {
    float value = 0.0F;
  };

  [[noreturn]] void serve(int member) {
    omp_set_num_threads(1);
    for (int step = 0;; ++step) {
      job.wait(step);
      losses_[static_cast<std::size_t>(member)].value = share_(member, images_, labels_);
      meet();
    }
  }

  Share share_;
  float* images_ = nullptr;
  const std::int64_t* labels_ = nullptr;
  std::array<Loss, kMostMembers> losses_{};
};

/// Time by operation over about half a second, as JSON.
inline peers::Json profile(const std::function<float(std::int64_t)>& step) {
  using Clock = std::chrono::steady_clock;
  operations.clear();
  profiling = true;
  const auto begin = Clock::now();
  Index steps = 0;
  std::chrono::duration<double, std::micro> spent{};
  for (; spent < std::chrono::milliseconds(500); spent = Clock::now() - begin) step(steps++);
  profiling = false;
  const auto count = static_cast<double>(steps);
  peers::Json result{{"step_us", spent.count() / count}};
  for (const Operation& operation : operations)
    result["operations_us"][operation.name] = operation.microseconds / count;
  return result;
}

/// Builds the step and takes part. Never answers: members sleep until the process ends.
[[noreturn]] inline void run(const peers::Arguments& given,
                             Share (*build)(const std::string& network, Weights weights)) {
  if (given.threads > kMostMembers)
    throw std::invalid_argument("steps: written for one or two threads");
  members = given.threads;
  batch = given.batch;
  omp_set_num_threads(1);
  peers::Data data = peers::read_data(given.folder, given.network);
  Team& team = *new Team(build(given.network, Weights(data.weights)));
  const auto step = [&](std::int64_t i) {
    const std::int64_t first = peers::first_image(i, batch);
    return team.step(data.images.data() + first * peers::kPixels, data.labels.data() + first);
  };
  const dnnl_version_t& version = *dnnl_version();
  const std::string library = "oneDNN " + std::to_string(version.major) + "." +
                              std::to_string(version.minor) + "." + std::to_string(version.patch);
  peers::serve(step, {{"versions", {library}}}, [&] {
    const auto scratch_of_all = static_cast<std::size_t>(members) * scratch_bytes;
    return peers::Json{{"peak_bytes", block.work_bytes() + scratch_of_all},
                       {"peak_how", "its block without parameters and moments, and scratch"},
                       {"profile", profile(step)}};
  });
  std::_Exit(0);
}

}  // namespace steps
