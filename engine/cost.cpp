// Two rates of a usual core. Only their ratio decides what a budget makes again.
#include "engine/cost.h"

#include <algorithm>

namespace poolgrad {
namespace {

constexpr double kFlopsPerUs = 60e3;  // products and convolutions, one core
constexpr double kBytesPerUs = 10e3;  // read or written, past the caches
constexpr double kCallUs = 0.2;

}  // namespace

double modelled_us(const Graph& graph, const Node& node) {
  if (node.op->view != nullptr) return 0.0;
  const auto inputs = graph.specs(node.inputs), outputs = graph.specs(node.outputs);
  double bytes = 0.0;
  for (const auto* specs : {&inputs, &outputs})
    for (const Spec& spec : *specs) bytes += static_cast<double>(spec.bytes());
  const double flops =
      node.op->flops == nullptr
          ? 0.0
          : static_cast<double>(node.op->flops({inputs, outputs, node.attributes}));
  return kCallUs + std::max(flops / kFlopsPerUs, bytes / kBytesPerUs);
}

}  // namespace poolgrad
