// The bodies of the CUDA kernels, compiled for the host, in whole trainings beside the CPU's
// kernels: all but launches, cuBLASLt and cuDNN. Sums are added up in another order, hence the
// tolerances.
#include <doctest/doctest.h>

#include "layers/layer.h"
#include "layers/linear.h"
#include "layers/stateless.h"
#include "models/cnn.h"
#include "models/mlp.h"
#include "models/resnet.h"
#include "models/unet.h"
#include "tests/cuda/device_kernels.h"
#include "tests/engine/small_images.h"
#include "train/task.h"

namespace poolgrad {
namespace {

constexpr std::int64_t kBatch = 8, kSide = 12;

/// Losses of `steps` steps, the last of each three with fewer rows; then the loss and the right
/// answers of "evaluate".
std::vector<float> training(const train::TaskSpec& spec, const Options& options, int steps) {
  const train::Task task = train::make_task(spec);
  Program program(draft_task(spec, task, options));
  testing::SmallImages images(kBatch, kSide);
  std::vector<float> result;
  const auto note = [&](Tensor loss, Tensor correct) {
    result.push_back(program.read(loss).as<float>()[0]);
    result.push_back(static_cast<float>(program.read(correct).as<std::int64_t>()[0]));
  };
  for (int step = 0; step < steps; ++step) {
    const std::int64_t rows = step % 3 == 2 ? kBatch - 3 : kBatch;
    program.run("train", images.feeds(task.samples, task.labels, rows));
    note(task.training.loss, task.correct);
  }
  program.run("evaluate", images.feeds(task.samples, task.labels, kBatch));
  note(task.test_loss, task.test_correct);
  return result;
}

void compare(const train::TaskSpec& spec, int steps, double tolerance,
             DType precision = DType::f32) {
  Options on_cpu;
  on_cpu.precision = precision;
  on_cpu.chunks = 1;
  on_cpu.use_team = on_cpu.fuse_updates = on_cpu.features = on_cpu.winograd = false;
  Options on_device;
  on_device.precision = precision;
  on_device.launcher = testing::fake_device();
  CHECK(testing::gap(training(spec, on_cpu, steps), training(spec, on_device, steps)) < tolerance);
}

train::TaskSpec task_of(const train::Model& model, const train::Optimizer& optimizer) {
  return {.model = model, .sample = {1, kSide, kSide}, .batch = kBatch, .optimizer = optimizer};
}

train::Model small_mlp() {
  return layers::Sequential{
      layers::Flatten{}, layers::Linear{.inputs = kSide * kSide, .outputs = 20}, layers::ReLU{},
      layers::Dropout{.p = 0.3, .seed = 5}, layers::Linear{.inputs = 20, .outputs = 10}};
}

TEST_CASE("cuda kernels on the host: every optimizer takes the CPU's steps") {
  const std::vector<train::Optimizer> optimizers{
      train::Sgd{.rate = 0.05F},
      train::Sgd{.rate = 0.05F, .weight_decay = 0.01F},
      train::Sgd{.rate = 0.05F, .momentum = 0.9F},
      train::Sgd{.rate = 0.05F, .momentum = 0.9F, .weight_decay = 0.01F, .nesterov = true},
      train::Adam{.rate = 0.01F, .weight_decay = 0.01F},
      train::AdamW{.rate = 0.01F}};
  for (std::size_t i = 0; i < optimizers.size(); ++i) {
    for (const train::Updates when : {train::Updates::at_gradient, train::Updates::whole_column}) {
      CAPTURE(i);
      train::TaskSpec spec = task_of(small_mlp(), optimizers[i]);
      spec.minimize.updates = when;
      compare(spec, 30, 1e-4);
    }
  }
}

TEST_CASE("cuda kernels on the host: f16 with a loss scale that overflows at first, and clipped") {
  for (const train::Updates when : {train::Updates::at_gradient, train::Updates::whole_column}) {
    train::TaskSpec spec = task_of(small_mlp(), train::Sgd{.rate = 0.05F, .momentum = 0.9F});
    spec.minimize = {.updates = when,
                     .grad_scaler = train::GradScaler{.init_scale = 0x1p24F, .growth_interval = 5},
                     .clip_grad_norm = 0.5F};
    compare(spec, 30, 5e-3, DType::f16);
  }
}

TEST_CASE("cuda kernels on the host: networks train as on the CPU") {
  const train::Sgd sgd{.rate = 0.02F, .momentum = 0.9F};
  SUBCASE("cnn") {
    compare(task_of(models::cnn({.height = kSide, .width = kSide}), sgd), 10, 1e-3);
  }
  SUBCASE("resnet") { compare(task_of(models::resnet(1, 4), sgd), 6, 1e-2); }
  SUBCASE("unet") { compare(task_of(models::unet(4), sgd), 8, 1e-3); }
}

TEST_CASE("cuda kernels on the host: pools with padding and overlap, like the CPU's") {
  const Pool2d overlapping{.size = {3, 3}, .stride = {2, 1}, .padding = {1, 1}};
  for (const bool most : {true, false}) {
    CAPTURE(most);
    const train::Model model = [=](Graph& graph, Tensor x, bool) {
      std::vector<Tensor> p = graph.column("parameters");
      if (p.empty()) {
        p = {graph.parameter({3, 1, 3, 3}, Init::kaiming_uniform(9, 1), "a"),
             graph.parameter({10, 216}, Init::kaiming_uniform(216, 1), "b")};
      }
      const Tensor image = conv2d(x, p[0], {}, {.padding = {1, 1}});
      const Tensor pooled =
          most ? max_pool2d(relu(image), overlapping) : avg_pool2d(image, overlapping);
      return linear(flatten(pooled), p[1]);
    };
    compare(task_of(model, train::Sgd{.rate = 0.1F}), 12, 1e-4);
  }
}

TEST_CASE("cuda kernels on the host: a label out of range is the CPU's error, at the next answer") {
  const train::TaskSpec spec = task_of(small_mlp(), train::Sgd{});
  const train::Task task = train::make_task(spec);
  Options options;
  options.launcher = testing::fake_device();
  Program program(draft_task(spec, task, options));
  testing::SmallImages images(kBatch, kSide);
  images.y[2] = 10;
  program.run("train", images.feeds(task.samples, task.labels, kBatch));
  CHECK_THROWS_WITH_AS((void)program.read(task.training.loss),
                       "softmax_cross_entropy: label 10 in row 2 is not in [0, 10); use labels "
                       "from 0 to 9",
                       ArgumentError);
  images.y[2] = 0;  // goes on
  program.run("train", images.feeds(task.samples, task.labels, kBatch));
  CHECK_NOTHROW((void)program.read(task.training.loss));
}

}  // namespace
}  // namespace poolgrad
