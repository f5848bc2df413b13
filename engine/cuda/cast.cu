// cast, and kernels between casts.
#include <array>

#include "engine/cuda/cast.h"
#include "engine/cuda/kernels.h"
#include "memory/alignment.h"

namespace poolgrad::cuda {
namespace {

template <typename From, typename To>
struct Cast {
  const From* x;
  To* y;
  template <int N>
  POOLGRAD_BOTH void at(std::int64_t i) const {
    store(y + i, load<N>(x + i));
  }
};

void convert(const Queue& queue, DType from, const void* x, DType to, void* y, std::int64_t count) {
  by_dtype(from, [&]<typename From>(Of<From>) {
    by_dtype(to, [&]<typename To>(Of<To>) {
      each_value<std::max(kFit<From>, kFit<To>)>(
          queue, count, aligned({x, y}),
          Cast<From, To>{static_cast<const From*>(x), static_cast<To*>(y)});
    });
  });
}

constexpr std::size_t kMostOperands = 16;

/// A half that stands in the workspace as floats.
struct Place {
  std::size_t operand, offset;
  DType dtype;
  std::int64_t count;
};

/// Of all halves among `specs`; counts `bytes` up.
std::vector<Place> places(std::span<const Spec> specs, std::size_t& bytes) {
  std::vector<Place> result;
  for (std::size_t i = 0; i < specs.size(); ++i) {
    if (!is_half(specs[i].dtype)) continue;
    const std::int64_t count = specs[i].shape.count();
    result.push_back({i, bytes, specs[i].dtype, count});
    bytes += memory::aligned(static_cast<std::size_t>(count) * sizeof(float));
  }
  return result;
}

}  // namespace

Kernel cast(const Site& site) {
  const Spec &x = site.inputs[0], &y = site.outputs[0];
  return {[queue = Queue("cast", site), from = x.dtype, to = y.dtype, count = x.shape.count()](
              const Args& a) { convert(queue, from, a.inputs[0], to, a.outputs[0], count); }};
}

Kernel in_floats(const Site& site, const Kernel& inner) {
  const std::size_t inputs = site.inputs.size(), outputs = site.outputs.size();
  if (inputs > kMostOperands || outputs > kMostOperands)
    throw DeviceError(text("a kernel with ", inputs, " inputs of which some are halves; ",
                           kMostOperands, " are the most"));
  std::size_t bytes = 0;
  const std::vector<Place> in = places(site.inputs, bytes), out = places(site.outputs, bytes);
  return {[=, queue = Queue("cast", site)](const Args& a) {
            std::array<void*, kMostOperands> from, to;
            std::copy_n(a.inputs, inputs, from.begin());
            std::copy_n(a.outputs, outputs, to.begin());
            for (const Place& p : in) {
              from[p.operand] = a.workspace(p.offset);
              convert(queue, p.dtype, a.inputs[p.operand], DType::f32, from[p.operand], p.count);
            }
            for (const Place& p : out) to[p.operand] = a.workspace(p.offset);
            void* const scratch = a.workspace(bytes);
            inner.run({from.data(), to.data(), &scratch});
            for (const Place& p : out)
              convert(queue, DType::f32, to[p.operand], p.dtype, a.outputs[p.operand], p.count);
          },
          bytes + inner.workspace_bytes};
}

}  // namespace poolgrad::cuda
