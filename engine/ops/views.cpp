// Ops that move no bytes: they only say where their inputs lie in their output.
#include "engine/ops.h"
#include "memory/alignment.h"

namespace poolgrad {
namespace {

std::vector<std::ptrdiff_t> at_start(const Site&) { return {0}; }

// ---- reshape

std::vector<Spec> reshape_infer(const Site& site) {
  const Shape& from = site.inputs[0].shape;
  const auto to = site.attributes.as<Shape>();
  for (const std::int64_t extent : to.extents()) {
    if (extent < 1)
      throw ShapeError(text("reshape: ", to, " has an extent below 1; give every axis"));
  }
  if (from.count() != to.count()) {
    throw ShapeError(text("reshape: ", from, " has ", from.count(), " elements but ", to, " has ",
                          to.count(), "; make them equal"));
  }
  return {{to, site.inputs[0].dtype}};
}

std::vector<Cut> reshape_cuts(const Site& site) {
  const Shape &from = site.inputs[0].shape, &to = site.outputs[0].shape;
  if (from.rank() == 0 || to.rank() == 0 || from[0] != to[0]) return {};
  return {{{Share::rows}, {Share::rows}, [](const Attributes& attributes, Rows rows) -> Attributes {
             auto shape = attributes.as<Shape>();
             shape[0] = rows.count();
             return shape;
           }}};
}

constexpr OpDef kReshape{
    .name = "reshape",
    .infer = reshape_infer,
    .backward = [](const Backward& b) -> std::vector<Tensor> {
      return {reshape(b.dy[0], b.inputs[0].shape())};
    },
    .wants = {Layout::row_major},
    .view = at_start,
    .cuts = reshape_cuts,
};

// ---- slice, and join, which undoes it

std::vector<Spec> slice_infer(const Site& site) {
  Spec spec = site.inputs[0];
  const auto [begin, end] = site.attributes.as<Rows>();
  if (spec.shape.rank() == 0 || begin < 0 || begin >= end || end > spec.shape[0]) {
    throw ShapeError(text("slice: rows [", begin, ", ", end, ") are not in ", spec.shape,
                          "; take at least one of its rows"));
  }
  spec.shape[0] = end - begin;
  return {spec};
}

constexpr OpDef kSlice{
    .name = "slice",
    .infer = slice_infer,
    .view = [](const Site& site) -> std::vector<std::ptrdiff_t> {
      const auto row_bytes =
          site.inputs[0].strides()[0] * static_cast<std::int64_t>(size_of(site.inputs[0].dtype));
      return {-site.attributes.as<Rows>().begin * row_bytes};
    },
};

std::vector<Spec> slice_columns_infer(const Site& site) {
  Spec spec = site.inputs[0];
  const auto [begin, end] = site.attributes.as<Rows>();
  if (spec.shape.rank() != 2 || begin < 0 || begin >= end || end > spec.shape[1]) {
    throw ShapeError(text("slice_columns: columns [", begin, ", ", end, ") are not in ", spec.shape,
                          "; take at least one column of a matrix"));
  }
  spec.pitch = spec.strides()[0];
  spec.shape[1] = end - begin;
  return {spec};
}

constexpr OpDef kSliceColumns{
    .name = "slice_columns",
    .infer = slice_columns_infer,
    .view = [](const Site& site) -> std::vector<std::ptrdiff_t> {
      const auto value_bytes = static_cast<std::int64_t>(size_of(site.inputs[0].dtype));
      return {-site.attributes.as<Rows>().begin * value_bytes};
    },
};

std::vector<Spec> join_infer(const Site& site) {
  Spec whole = site.inputs[0];
  std::int64_t rows = 0;
  for (const Spec& part : site.inputs) {
    Spec like = part;
    if (part.shape.rank() > 0 && whole.shape.rank() > 0) {
      rows += part.shape[0];
      like.shape[0] = whole.shape[0];
    }
    if (like != whole || rows == 0) {
      throw ShapeError(text("join: part ", part.shape, " of ", part.dtype, " does not go on ",
                            whole.shape, " of ", whole.dtype, "; parts differ in axis 0 only"));
    }
  }
  whole.shape[0] = rows;
  return {whole};
}

/// Inputs end to end, each on `alignment` bytes.
std::vector<std::ptrdiff_t> end_to_end(const Site& site, std::size_t alignment) {
  std::vector<std::ptrdiff_t> begins;
  std::size_t at = 0;
  for (const Spec& part : site.inputs) {
    begins.push_back(static_cast<std::ptrdiff_t>(at));
    at += memory::aligned(part.bytes(), alignment);
  }
  return begins;
}

constexpr OpDef kJoin{
    .name = "join",
    .infer = join_infer,
    .view = [](const Site& site) { return end_to_end(site, 1); },
};

// ---- pack

std::vector<Spec> pack_infer(const Site& site) {
  const DType dtype = site.inputs[0].dtype;
  std::size_t bytes = 0;
  for (const Spec& part : site.inputs) {
    if (part.dtype != dtype) {
      throw ShapeError(text("pack: ", part.shape, " is ", part.dtype, " but the first part is ",
                            dtype, "; pack one dtype at a time"));
    }
    bytes += memory::aligned(part.bytes());
  }
  return {{{static_cast<std::int64_t>(bytes / size_of(dtype))}, dtype}};
}

constexpr OpDef kPack{
    .name = "pack",
    .infer = pack_infer,
    .view = [](const Site& site) { return end_to_end(site, memory::kAlignment); },
};

// ---- after

constexpr OpDef kAfter{
    .name = "after",
    .infer = same_as_first,
    .backward = [](const Backward& b) -> std::vector<Tensor> {
      std::vector<Tensor> grads(b.inputs.size());
      grads[0] = b.dy[0];
      return grads;
    },
    .view = at_start,
};

}  // namespace

Tensor reshape(Tensor x, const Shape& shape) { return x.graph->add(kReshape, {x}, shape)[0]; }

Tensor flatten(Tensor x) {
  const Shape& shape = x.shape();
  if (shape.rank() == 0)
    throw ShapeError("flatten: x [] has no axes; it needs a first one, which is kept");
  return reshape(x, {shape[0], shape.count() / shape[0]});
}

Tensor slice(Tensor x, std::int64_t begin, std::int64_t end) {
  return x.graph->add(kSlice, {x}, Rows{begin, end})[0];
}

Tensor slice_columns(Tensor x, std::int64_t begin, std::int64_t end) {
  return x.graph->add(kSliceColumns, {x}, Rows{begin, end})[0];
}

Tensor join(const std::vector<Tensor>& parts) {
  if (parts.empty()) throw ShapeError("join: there are no parts; give at least one");
  return parts[0].graph->add(kJoin, parts)[0];
}

Tensor pack(const std::vector<Tensor>& parts) {
  if (parts.empty()) throw ShapeError("pack: there are no parts; give at least one");
  return parts[0].graph->add(kPack, parts)[0];
}

Tensor after(Tensor x, const std::vector<Tensor>& others) {
  std::vector<Tensor> inputs{x};
  inputs.insert(inputs.end(), others.begin(), others.end());
  return x.graph->add(kAfter, inputs)[0];
}

}  // namespace poolgrad
