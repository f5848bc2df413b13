// Two rates of a usual core. Only their ratio decides what a budget makes again.
#include "engine/cost.h"

#include <algorithm>

namespace poolgrad {
namespace {

constexpr double kFlopsPerUs = 60e3;  // products and convolutions, one core
constexpr double kBytesPerUs = 10e3;  // read or written, past the caches
constexpr double kCallUs = 0.2;

}  // namespace

Work work_of(const Graph& graph, const Node& node) {
  Work work;
  const auto inputs = graph.specs(node.inputs), outputs = graph.specs(node.outputs);
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const bool picked = graph.tensors.lent(node.inputs[i]);
    work.bytes += static_cast<double>(picked ? static_cast<std::size_t>(outputs[0].shape.count()) *
                                                   size_of(inputs[i].dtype)
                                             : inputs[i].bytes());
  }
  for (const Spec& spec : outputs) work.bytes += static_cast<double>(spec.bytes());
  if (node.op->flops != nullptr)
    work.flops = static_cast<double>(node.op->flops({inputs, outputs, node.attributes}));
  return work;
}

double modelled_us(const Graph& graph, const Node& node) {
  if (node.op->view != nullptr) return 0.0;
  const Work work = work_of(graph, node);
  return kCallUs + std::max(work.flops / kFlopsPerUs, work.bytes / kBytesPerUs);
}

}  // namespace poolgrad
