// BatchNorm2d.
#include "layers/batch_norm.h"

namespace poolgrad::layers {

Tensor BatchNorm2d::operator()(Graph& graph, Tensor x, bool training) const {
  const Tensor weight = parameter(graph, {features}, Init::constant(1.0F), "weight");
  const Tensor bias = parameter(graph, {features}, Init::constant(0.0F), "bias");
  const RunningStatistics running{
      statistic(graph, {{features}}, Init::constant(0.0F), "running_mean"),
      statistic(graph, {{features}}, Init::constant(1.0F), "running_var"),
      statistic(graph, {{}, DType::i64}, Init::constant(0.0F), "num_batches_tracked")};
  return training ? batch_norm(x, weight, bias, running, settings)
                  : batch_norm_fixed(x, weight, bias, running, settings);
}

}  // namespace poolgrad::layers
