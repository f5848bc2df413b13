// The op grid on a device of the host's and on a GPU; and that no op which models, layers or the
// grid can make lacks a CUDA side.
#include "tests/cuda/op_grid.h"

#include <doctest/doctest.h>

#include "layers/batch_norm.h"
#include "layers/conv2d.h"
#include "layers/linear.h"
#include "layers/stateless.h"
#include "models/chain.h"
#include "models/cnn.h"
#include "models/mlp.h"
#include "models/resnet.h"
#include "models/unet.h"
#include "tests/cuda/device_kernels.h"
#include "tests/cuda/gpu.h"
#include "train/task.h"

namespace poolgrad {
namespace {

std::set<std::string> known_ops() {
  std::set<std::string> names = testing::library_ops();
  for (const auto& [name, maker] : testing::own_kernels()) names.insert(name);
  return names;
}

/// CHECKs all places, and that every op with a CUDA side was met: those of updates with f32, which
/// parameters are.
void check_grid(const Options& device, DType kept) {
  std::set<std::string> met = testing::check_updates(device);
  for (const testing::Place& place : testing::op_grid())
    met.merge(testing::check_place(place, device, kept));
  CHECK(met == known_ops());
}

TEST_CASE("device: the op grid gives the CPU's values, and leaves no kernel out") {
  Options device;
  device.launcher = testing::fake_device();
  for (const DType kept : {DType::f32, DType::bf16, DType::f16}) {
    CAPTURE(kept);
    check_grid(device, kept);
  }
}

TEST_CASE("gpu: the op grid gives the CPU's values") {
  if (!testing::gpu()) return;
  for (const DType kept : {DType::f32, DType::bf16, DType::f16}) {
    CAPTURE(kept);
    check_grid(testing::on_gpu(), kept);
  }
}

/// CHECKs each op that the task's entries come down to on a device.
void check_has_kernels(const train::TaskSpec& spec) {
  Options device;
  device.launcher = testing::fake_device();
  const train::Task task = train::make_task(spec);
  const Blueprint blueprint = draft(*task.graph, task.entries, device);
  const std::set<std::string> known = known_ops();
  for (const Entry& entry : blueprint.entries) {
    for (const Step& step : entry.steps) {
      const OpDef& op = *entry.graph->nodes[static_cast<std::size_t>(step.node)].op;
      CAPTURE(op.name);
      CHECK(known.contains(std::string(op.name)));
      CHECK((!kCuda || op.cuda != nullptr));
    }
  }
}

TEST_CASE("device: every op of the models, layers and optimizers has a CUDA side") {
  constexpr std::array<std::int64_t, 1> kHidden{16};
  const layers::Sequential every_layer{
      layers::Conv2d{.inputs = 1, .outputs = 8, .kernel = {3, 3}, .settings = {.padding = {1, 1}}},
      layers::BatchNorm2d{8},
      layers::ReLU{},
      layers::MaxPool2d{},
      layers::Upsample{},
      layers::AvgPool2d{},
      layers::Dropout{},
      layers::GlobalAvgPool2d{},
      layers::Flatten{},
      layers::Linear{.inputs = 8, .outputs = 10}};
  const std::vector<train::Model> all{every_layer,     models::mlp(784, kHidden, 10),
                                      models::cnn(),   models::resnet(1, 4),
                                      models::unet(4), models::chain(2, 4)};
  const std::vector<train::Optimizer> optimizers{train::Sgd{}, train::Sgd{.momentum = 0.9F},
                                                 train::Adam{}, train::AdamW{}};
  const train::Columns data{{{100, 1, 28, 28}, DType::u8}, {{100}, DType::u8}};
  for (const train::Model& model : all) {
    for (const train::Optimizer& optimizer : optimizers) {
      train::TaskSpec spec{
          .model = model, .sample = {1, 28, 28}, .batch = 8, .optimizer = optimizer};
      check_has_kernels(spec);
      spec.tables = train::Tables{data, data};
      spec.minimize.updates = train::Updates::whole_column;
      check_has_kernels(spec);
    }
  }
}

}  // namespace
}  // namespace poolgrad
