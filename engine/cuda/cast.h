// One kernel for f32, f16 and bf16, also where operands that ought to be alike are not. For .cu
// files.
#pragma once

#include <algorithm>
#include <vector>

#include "engine/cuda/launch.h"

namespace poolgrad::cuda {

/// `inner`, which takes f32 alone, at a site with halves: they are converted before and after, in
/// the workspace.
[[nodiscard]] Kernel in_floats(const Site& site, const Kernel& inner);

/// The operands whose values stream through a kernel. All others are f32, or no floats.
struct Streams {
  std::initializer_list<int> inputs, outputs;
};

/// make(Of<T>{}) for the T of all streams; where they differ, or halves stand where f32 should,
/// that for f32 with conversions around it.
template <typename F>
Kernel by_dtype(const Site& site, const Streams& streams, const F& make) {
  const std::vector<Spec> specs = [&] {
    std::vector<Spec> all(site.inputs.begin(), site.inputs.end());
    all.insert(all.end(), site.outputs.begin(), site.outputs.end());
    return all;
  }();
  std::vector<bool> streaming(specs.size());
  for (const int i : streams.inputs) streaming[static_cast<std::size_t>(i)] = true;
  for (const int i : streams.outputs)
    streaming[site.inputs.size() + static_cast<std::size_t>(i)] = true;
  const auto first = std::ranges::find(streaming, true) - streaming.begin();
  const DType dtype = specs[static_cast<std::size_t>(first)].dtype;
  for (std::size_t i = 0; i < specs.size(); ++i) {
    const bool alike = streaming[i] ? specs[i].dtype == dtype : !is_half(specs[i].dtype);
    if (!alike) return in_floats(site, make(Of<float>{}));
  }
  return by_dtype(dtype, make);
}

}  // namespace poolgrad::cuda
