// gather: rows of a table by their numbers, converted on the way: how a batch comes out of a data
// set. No gradient.
#include "engine/ops/gather.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "engine/backend/loops.h"
#include "engine/cuda/kernels.h"
#include "engine/ops.h"
#include "engine/ops/settings.h"

namespace poolgrad {
namespace {

using Settings = settings::GatherRows;

// ---- rows

/// A division, not a product with 1/255: the numbers are those of NumPy and PyTorch.
POOLGRAD_CLONES
void divide_bytes(const std::uint8_t* __restrict from, float divisor, float* __restrict to,
                  std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) to[i] = static_cast<float>(from[i]) / divisor;
}

POOLGRAD_CLONES
void divide_floats(const float* __restrict from, float divisor, float* __restrict to,
                   std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) to[i] = from[i] / divisor;
}

void copy_row(const std::uint8_t* from, float divisor, float* to, std::int64_t n) {
  divide_bytes(from, divisor, to, n);
}

void copy_row(const float* from, float divisor, float* to, std::int64_t n) {
  if (divisor != 1.0F) return divide_floats(from, divisor, to, n);
  std::memcpy(to, from, static_cast<std::size_t>(n) * sizeof(float));
}

template <typename From>
void copy_row(const From* from, float, std::int64_t* to, std::int64_t n) {
  std::copy_n(from, n, to);
}

/// Rows lie anywhere in a table that no cache holds: the next one is on its way while one is read.
void fetch(const void* row, std::size_t bytes) {
  constexpr std::size_t kLine = 64, kMost = 4096;
  const auto* at = static_cast<const char*>(row);
  for (std::size_t i = 0; i < std::min(bytes, kMost); i += kLine) __builtin_prefetch(at + i);
}

std::int64_t checked(std::int32_t index, std::int64_t row, std::int64_t count) {
  if (index < 0 || index >= count) [[unlikely]] {
    throw ArgumentError(text("gather: index ", index, " in row ", row, " is not in [0, ", count,
                             "); the table has ", count, " rows"));
  }
  return index;
}

template <typename From, typename To>
Kernel kernel(const Site& site) {
  const Shape &table = site.inputs[0].shape, &y = site.outputs[0].shape;
  return {[n = y[0], width = y.count() / y[0], count = table[0],
           s = site.attributes.as<Settings>()](const Args& a) {
    constexpr std::int64_t kAhead = 2;  // rows
    const From* from = a.in<From>(0);
    const std::int32_t* indices = a.in<std::int32_t>(1);
    const std::int64_t used = std::clamp<std::int64_t>(*a.in<std::int32_t>(2) - s.first, 0, n);
    const auto row = [&](std::int64_t i) {
      return from + checked(indices[i], s.first + i, count) * width;
    };
    const auto bytes = static_cast<std::size_t>(width) * sizeof(From);
    for (std::int64_t i = 0; i < std::min(kAhead, used); ++i) fetch(row(i), bytes);
    To* to = a.out<To>();
    for (std::int64_t i = 0; i < used; ++i, to += width) {
      if (i + kAhead < used) fetch(row(i + kAhead), bytes);
      copy_row(row(i), s.how.divisor, to, width);
    }
    std::fill_n(to, (n - used) * width, To{});
  }};
}

Kernel gather_cpu(const Site& site) {
  const DType from = site.inputs[0].dtype;
  if (site.outputs[0].dtype == DType::f32)
    return from == DType::u8 ? kernel<std::uint8_t, float>(site) : kernel<float, float>(site);
  if (from == DType::u8) return kernel<std::uint8_t, std::int64_t>(site);
  if (from == DType::i32) return kernel<std::int32_t, std::int64_t>(site);
  return kernel<std::int64_t, std::int64_t>(site);
}

// ---- definition

void check_dtypes(DType from, const Gather& how) {
  const bool to_floats = how.dtype == DType::f32 && (from == DType::u8 || from == DType::f32);
  const bool to_numbers =
      how.dtype == DType::i64 && (from == DType::u8 || from == DType::i32 || from == DType::i64);
  if (!to_floats && !to_numbers) {
    throw ShapeError(text("gather: ", from, " does not become ", how.dtype,
                          "; uint8 and float32 become float32, uint8, int32 and int64 int64"));
  }
  if (how.divisor == 0.0F || (to_numbers && how.divisor != 1.0F))
    throw ArgumentError(text("gather: divisor ", how.divisor, " of ", how.dtype,
                             to_numbers ? "; only floats are divided" : "; take another"));
}

constexpr OpDef kGather{
    .name = "gather",  // table, indices, rows -> y
    .infer = [](const Site& site) -> std::vector<Spec> {
      const Spec &table = site.inputs[0], &indices = site.inputs[1];
      if (table.shape.rank() == 0 || indices.shape.rank() != 1 || indices.dtype != DType::i32) {
        throw ShapeError(text("gather: table ", table.shape, " and indices ", indices.shape, " of ",
                              indices.dtype, "; they must be [n, ...] and [batch] of int32"));
      }
      const Gather how = site.attributes.as<Settings>().how;
      check_dtypes(table.dtype, how);
      Spec y{table.shape, how.dtype};
      y.shape[0] = indices.shape[0];
      return {y};
    },
    .wants = {Layout::row_major},
    .cuts = [](const Site&) -> std::vector<Cut> {
      return {{{Share::whole, Share::rows},
               {Share::rows},
               [](const Attributes& attributes, Rows rows) -> Attributes {
                 auto settings = attributes.as<Settings>();
                 settings.first += rows.begin;
                 return settings;
               }}};
    },
    .cpu = gather_cpu,
    .cuda = kCuda ? cuda::gather : nullptr,
};

}  // namespace

GatherKernel::GatherKernel(const Spec& table, const Spec& to, const Gather& how) {
  const Attributes attributes = Settings{0, how};
  const std::array inputs{table, Spec{{to.shape[0]}, DType::i32}, Spec{{}, DType::i32}};
  const std::vector<Spec> made = kGather.infer({inputs, {}, attributes});
  if (made[0].shape != to.shape || made[0].dtype != to.dtype)
    throw ShapeError(text("gather: table ", table.shape, " makes ", made[0].shape, " of ",
                          made[0].dtype, " but the slot is ", to.shape, " of ", to.dtype));
  kernel_ = gather_cpu({inputs, made, attributes});
}

void GatherKernel::operator()(const void* table, std::span<const std::int32_t> indices,
                              void* to) const {
  auto rows = static_cast<std::int32_t>(indices.size());
  void* const inputs[]{const_cast<void*>(table), const_cast<std::int32_t*>(indices.data()), &rows};
  kernel_.run({.inputs = inputs, .outputs = &to});
}

Tensor gather(Tensor table, Tensor indices, const Gather& how) {
  return table.graph->add(kGather, {table, indices, table.graph->rows()}, Settings{0, how})[0];
}

}  // namespace poolgrad
