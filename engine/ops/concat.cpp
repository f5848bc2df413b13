// concat: tensors next to each other along any axis, by copying; and its gradient, which copies the
// part of one of them out again. Of the axes only the order of the bytes matters here, so images
// may be channels-last: then channels are the last axis.
#include <algorithm>
#include <cstring>

#include "engine/cuda/kernels.h"
#include "engine/ops.h"
#include "engine/ops/settings.h"

namespace poolgrad {
namespace {

using settings::Along;

/// A tensor as a matrix: `rows` combinations of the axes that lie before `axis` in its bytes, and
/// in each row so many bytes for one step along it.
struct Lines {
  std::int64_t rows = 1;
  std::size_t step_bytes;

  Lines(const Spec& spec, int axis) : step_bytes(size_of(spec.dtype)) {
    constexpr std::array<int, 4> kChannelsLast{0, 3, 1, 2};  // where an axis lies
    const bool last = spec.layout == Layout::channels_last;
    const auto place = [&](int a) { return last ? kChannelsLast[static_cast<std::size_t>(a)] : a; };
    for (int a = 0; a < spec.shape.rank(); ++a) {
      if (place(a) < place(axis)) rows *= spec.shape[a];
      if (place(a) > place(axis)) step_bytes *= static_cast<std::size_t>(spec.shape[a]);
    }
  }
};

/// Copies a column of a matrix: `bytes` of each of `rows` lines.
void copy_lines(const std::byte* from, std::size_t from_line, std::byte* to, std::size_t to_line,
                std::size_t bytes, std::int64_t rows) {
  for (std::int64_t i = 0; i < rows; ++i, from += from_line, to += to_line)
    std::memcpy(to, from, bytes);
}

std::vector<Cut> cuts(const Site& site) {
  if (site.attributes.as<Along>().axis == 0) return {};
  return {{std::vector(site.inputs.size(), Share::rows), {Share::rows}}};
}

std::size_t extent(const Spec& spec, int axis) {
  return static_cast<std::size_t>(spec.shape[axis]);
}

// ---- the part of one tensor

std::vector<Spec> part_infer(const Site& site) {
  Spec part = site.inputs[0];
  const auto along = site.attributes.as<Along>();
  part.shape[along.axis] = along.count;
  return {part};
}

Kernel part_cpu(const Site& site) {
  const auto along = site.attributes.as<Along>();
  const Spec& whole = site.inputs[0];
  const Lines lines(whole, along.axis);
  const std::size_t line = extent(whole, along.axis) * lines.step_bytes;
  const std::size_t begin = static_cast<std::size_t>(along.begin) * lines.step_bytes;
  const std::size_t bytes = static_cast<std::size_t>(along.count) * lines.step_bytes;
  return {[=](const Args& a) {
    copy_lines(a.in<std::byte>(0) + begin, line, a.out<std::byte>(), bytes, bytes, lines.rows);
  }};
}

constexpr OpDef kPart{
    .name = "concat_grad",  // dy -> dx of one tensor
    .infer = part_infer,
    .any_dtype = true,
    .cuts = cuts,
    .cpu = part_cpu,
    .cuda = kCuda ? cuda::concat_part : nullptr,
};

// ---- concat

std::vector<Spec> concat_infer(const Site& site) {
  const int axis = site.attributes.as<Along>().axis;
  Spec whole = site.inputs[0];
  std::int64_t extent = 0;
  for (const Spec& part : site.inputs) {
    Spec like = part;
    like.layout = whole.layout;
    if (part.shape.rank() == whole.shape.rank()) {
      extent += part.shape[axis];
      like.shape[axis] = whole.shape[axis];
    }
    if (like != whole) {
      throw ShapeError(text("concat: ", part.shape, " of ", part.dtype, " does not go on ",
                            whole.shape, " of ", whole.dtype, "; tensors may differ in axis ", axis,
                            " only"));
    }
  }
  whole.shape[axis] = extent;
  check_extents(whole, "concat: y");
  return {whole};
}

Kernel concat_cpu(const Site& site) {
  const int axis = site.attributes.as<Along>().axis;
  const Lines lines(site.outputs[0], axis);
  const std::size_t line = extent(site.outputs[0], axis) * lines.step_bytes;
  std::vector<std::size_t> bytes;  // in a line, by tensor
  for (const Spec& part : site.inputs) bytes.push_back(extent(part, axis) * lines.step_bytes);
  return {[=](const Args& a) {
    std::byte* to = a.out<std::byte>();
    for (std::size_t i = 0; i < bytes.size(); to += bytes[i++])
      copy_lines(a.in<std::byte>(static_cast<int>(i)), bytes[i], to, line, bytes[i], lines.rows);
  }};
}

constexpr OpDef kConcat{
    .name = "concat",
    .infer = concat_infer,
    .backward = [](const Backward& b) -> std::vector<Tensor> {
      std::vector<Tensor> grads;
      auto along = b.attributes.as<Along>();
      for (const Tensor& part : b.inputs) {
        along.count = part.shape()[along.axis];
        grads.push_back(b.dy[0].graph->add(kPart, {b.dy[0]}, along)[0]);
        along.begin += along.count;
      }
      return grads;
    },
    .any_dtype = true,
    .cuts = cuts,
    .cpu = concat_cpu,
    .cuda = kCuda ? cuda::concat : nullptr,
};

}  // namespace

Tensor concat(const std::vector<Tensor>& tensors, int axis) {
  if (tensors.empty()) throw ShapeError("concat: there are no tensors; give at least one");
  const int rank = tensors[0].shape().rank();
  if (axis < -rank || axis >= rank)
    throw ShapeError(text("concat: ", tensors[0].shape(), " has ", rank, " axes; axis ", axis,
                          " is none of them"));
  return tensors[0].graph->add(kConcat, tensors, Along{axis < 0 ? axis + rank : axis})[0];
}

}  // namespace poolgrad
