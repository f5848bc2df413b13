// Ops that move bytes and change no value: reorder, relabel (its view where bytes agree) and
// duplicate. The pass `layout` puts the first two in, after differentiate(), so they have no
// gradient.
#include <algorithm>
#include <cstring>

#include "engine/backend/onednn.h"
#include "engine/cuda/kernels.h"
#include "engine/ops.h"

namespace poolgrad {
namespace {

std::vector<Spec> in_layout(const Site& site) {
  return {{site.inputs[0].shape, site.inputs[0].dtype, site.attributes.as<Layout>()}};
}

/// to [columns, rows] = from [rows, columns], by tiles that stay in the first cache.
template <typename T>
void transpose(const T* from, std::int64_t rows, std::int64_t columns, T* to) {
  constexpr std::int64_t kTile = 16;
  for (std::int64_t r = 0; r < rows; r += kTile) {
    for (std::int64_t c = 0; c < columns; c += kTile) {
      const std::int64_t r_end = std::min(r + kTile, rows), c_end = std::min(c + kTile, columns);
      for (std::int64_t j = c; j < c_end; ++j) {
        for (std::int64_t i = r; i < r_end; ++i) to[j * rows + i] = from[i * columns + j];
      }
    }
  }
}

/// An image is a matrix [c, h·w] row-major and [h·w, c] channels-last.
template <typename T>
Kernel by_loops(const Shape& shape, Layout to) {
  std::int64_t rows = shape[1], columns = shape[2] * shape[3];
  if (to == Layout::row_major) std::swap(rows, columns);
  return {[=, images = shape[0]](const Args& a) {
    const std::int64_t size = rows * columns;
    for (std::int64_t i = 0; i < images; ++i)
      transpose(a.in<T>(0) + i * size, rows, columns, a.out<T>() + i * size);
  }};
}

#ifdef POOLGRAD_ONEDNN
Kernel by_onednn(const Site& site) {
  const onednn::Primitive copy =
      onednn::reorder("reorder", onednn::desc(site.inputs[0]), onednn::desc(site.outputs[0]));
  return {[copy](const Args& a) {
            copy.run({a.inputs[0], a.outputs[0], a.workspace()});
          },
          copy.scratch_bytes()};
}
#endif

Kernel reorder_cpu(const Site& site) {
  const Spec& to = site.outputs[0];
#ifdef POOLGRAD_ONEDNN
  if (to.dtype == DType::f32) {
    if (auto kernel = onednn::prepare("reorder", [&] { return by_onednn(site); })) return *kernel;
  }
#endif
  switch (size_of(to.dtype)) {
    case 1:
      return by_loops<std::uint8_t>(to.shape, to.layout);
    case 2:
      return by_loops<std::uint16_t>(to.shape, to.layout);
    case 4:
      return by_loops<std::uint32_t>(to.shape, to.layout);
    default:
      return by_loops<std::uint64_t>(to.shape, to.layout);
  }
}

Kernel duplicate_cpu(const Site& site) {
  return {[bytes = site.outputs[0].bytes()](const Args& a) {
    std::memcpy(a.outputs[0], a.inputs[0], bytes);
  }};
}

constexpr OpDef kRelabel{
    .name = "relabel",
    .infer = in_layout,
    .view = [](const Site&) -> std::vector<std::ptrdiff_t> { return {0}; },
    .cuts = row_by_row<1>,
};

constexpr OpDef kReorder{
    .name = "reorder",
    .infer = in_layout,
    .any_dtype = true,
    .cuts = row_by_row<1>,
    .cpu = reorder_cpu,
    .cuda = kCuda ? cuda::reorder : nullptr,
};

constexpr OpDef kDuplicate{
    .name = "duplicate",
    .infer = same_as_first,
    .backward = [](const Backward& b) -> std::vector<Tensor> { return {b.dy[0]}; },
    .any_dtype = true,
    .cuts = row_by_row<1>,
    .cpu = duplicate_cpu,
    .cuda = kCuda ? cuda::duplicate : nullptr,
};

}  // namespace

Tensor reorder(Tensor x, Layout layout) {
  if (x.spec().layout == layout) return x;
  const Shape& shape = x.shape();
  if (shape.rank() != 4) {
    throw ShapeError(text("reorder: x ", shape, " has ", shape.rank(),
                          " axes; only images [batch, channels, height, width] have layouts"));
  }
  const bool same_bytes = shape[1] == 1 || shape[2] * shape[3] == 1;
  return x.graph->add(same_bytes ? kRelabel : kReorder, {x}, layout)[0];
}

Tensor duplicate(Tensor x) { return x.graph->add(kDuplicate, {x})[0]; }

}  // namespace poolgrad
