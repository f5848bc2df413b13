// What needs a GPU; skipped aloud where there is none.
#include "tests/cuda/gpu.h"

#include <doctest/doctest.h>

#include "engine/program.h"
#include "models/cnn.h"
#include "models/mlp.h"
#include "models/resnet.h"
#include "models/unet.h"
#include "tests/engine/small_images.h"
#include "train/task.h"
#ifdef POOLGRAD_CUDA
#include "memory/cuda.h"
#endif

namespace poolgrad {
namespace {

using testing::gpu, testing::on_gpu;

constexpr std::int64_t kBatch = 32, kSide = 28;

std::vector<float> losses(const train::Model& model, const Options& options, int steps) {
  const train::TaskSpec spec{
      .model = model, .sample = {1, kSide, kSide}, .batch = kBatch, .optimizer = train::Adam{}};
  const train::Task task = train::make_task(spec);
  Program program(draft_task(spec, task, options));
  testing::SmallImages images(kBatch, kSide);
  std::vector<float> result;
  for (int step = 0; step < steps; ++step) {
    program.run("train", images.feeds(task.samples, task.labels, step % 4 == 3 ? 20 : kBatch));
    result.push_back(program.read(task.training.loss).as<float>()[0]);
  }
  return result;
}

train::Model model_of(int which) {
  static constexpr std::array<std::int64_t, 1> kHidden{128};
  if (which == 0) return models::mlp(kSide * kSide, kHidden, 10);
  if (which == 1) return models::cnn();
  if (which == 2) return models::resnet();
  return models::unet();
}

TEST_CASE("gpu: the first losses of each network are the CPU's within 1e-4") {
  if (!gpu()) return;
  for (const int which : {0, 1, 2, 3}) {
    CAPTURE(which);
    CHECK(testing::gap(losses(model_of(which), {}, 5), losses(model_of(which), on_gpu(), 5)) <
          1e-4);
  }
}

TEST_CASE("gpu: planned, pooled and direct give the same bits, and so does a second run") {
  if (!gpu()) return;
  for (const int which : {0, 1, 2}) {
    CAPTURE(which);
    const std::vector<float> planned = losses(model_of(which), on_gpu(), 200);
    CHECK(losses(model_of(which), on_gpu(), 200) == planned);
    CHECK(losses(model_of(which), on_gpu(Memory::pooled), 200) == planned);
    CHECK(losses(model_of(which), on_gpu(Memory::direct), 200) == planned);
  }
}

#ifdef POOLGRAD_CUDA
TEST_CASE("gpu: a step asks the driver for no memory") {
  if (!gpu()) return;
  const train::TaskSpec spec{.model = model_of(1),
                             .sample = {1, kSide, kSide},
                             .batch = kBatch,
                             .optimizer = train::Adam{}};
  const train::Task task = train::make_task(spec);
  Program program(draft_task(spec, task, on_gpu()));
  testing::SmallImages images(kBatch, kSide);
  for (int i = 0; i < 3; ++i) program.run("train", images.feeds(task.samples, task.labels, kBatch));
  const std::size_t before = memory::cuda_memory_calls();
  for (int i = 0; i < 20; ++i)
    program.run("train", images.feeds(task.samples, task.labels, kBatch));
  program.synchronize();
  CHECK(memory::cuda_memory_calls() == before);
}
#endif

TEST_CASE("gpu: where none can be used, the error says why") {
  std::string why;
  if (cuda::device_count(&why) > 0) {
    CHECK_THROWS_AS((void)cuda::launcher(Device::cuda(99)), DeviceError);
    return;
  }
  Graph graph;
  const Tensor x = graph.input({{1}}, "x");
  try {
    (void)compile(graph, {{"run", {x}}}, on_gpu());
    FAIL("no error");
  } catch (const DeviceError& error) {
    const std::string what = error.what();
    CAPTURE(what);
    CHECK(what.starts_with("device: cuda:0 cannot be used: "));
  }
}

}  // namespace
}  // namespace poolgrad
