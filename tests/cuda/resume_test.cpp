// Checkpoints of a program on a device: it goes on there, or on the CPU, and the other way round.
#include <array>

#include <doctest/doctest.h>

#include "layers/batch_norm.h"
#include "layers/layer.h"
#include "layers/linear.h"
#include "layers/stateless.h"
#include "tests/cuda/device_kernels.h"
#include "tests/cuda/gpu.h"
#include "tests/cuda/op_grid.h"
#include "tests/train/clusters.h"
#include "train/fit.h"

namespace poolgrad {
namespace {

using train::Checkpoint, train::FitResult, train::Position, train::Problem, train::TaskSpec;

/// Whatever keeps something from step to step: moments, running statistics, dropout's place.
TaskSpec spec(const Problem& problem) {
  const train::Model model = [](Graph& graph, Tensor x, bool training) {
    const layers::Linear first{.inputs = 4, .outputs = 8, .bias = false},
        last{.inputs = 8, .outputs = 3};
    const layers::Sequential net{first,
                                 layers::Layer([](Graph&, Tensor t, bool) {
                                   return reshape(t, {t.shape()[0], 8, 1, 1});
                                 }),
                                 layers::BatchNorm2d{8},
                                 layers::ReLU{},
                                 layers::Flatten{},
                                 layers::Dropout{.p = 0.25},
                                 last};
    return net(graph, x, training);
  };
  return {.model = model,
          .sample = {4},
          .batch = 16,
          .optimizer = train::Adam{.rate = 0.02F},
          .tables = tables_of(problem.data)};
}

/// As it comes from a file: on bytes of its own.
struct Saved {
  Checkpoint checkpoint;
  std::vector<std::vector<std::byte>> bytes;

  Saved(const train::Task& task, const Program& program, const Position& at)
      : checkpoint(train::checkpoint(task, program, &at)) {
    for (NamedArray& named : checkpoint.arrays) {
      const auto* from = static_cast<const std::byte*>(named.array.data);
      bytes.emplace_back(from, from + named.array.bytes());
      named.array.data = bytes.back().data();
      named.array.owner = nullptr;
    }
  }
};

/// Two epochs of 7 steps: `stop` steps by `first`, the rest by a program of `second`.
Saved trained(const Options& first, const Options& second, int stop) {
  const Problem problem;
  const TaskSpec what = spec(problem);
  std::optional<Saved> saved;
  Position from;
  for (const bool go_on : {false, true}) {
    const train::Task task = train::make_task(what);
    Program program(draft_task(what, task, go_on ? second : first));
    if (saved) restore(task, program, saved->checkpoint, "saved");
    int steps = 0;
    const bool stops = !go_on && stop > 0;
    const FitResult done = fit(task, program, problem.data, {.epochs = 2, .seed = 5, .from = from},
                               {.should_stop = [&] { return stops && ++steps == stop; }});
    CHECK(done.interrupted == stops);
    saved.emplace(task, program, done.at);
    from = *position_in(saved->checkpoint, "saved");
    if (!stops) break;
  }
  return std::move(*saved);
}

void check_near(const Saved& a, const Saved& b, double tolerance) {
  REQUIRE(a.checkpoint.arrays.size() == b.checkpoint.arrays.size());
  for (std::size_t i = 0; i < a.bytes.size(); ++i) {
    const ArrayView &x = a.checkpoint.arrays[i].array, &y = b.checkpoint.arrays[i].array;
    CAPTURE(a.checkpoint.arrays[i].name);
    if (x.dtype != DType::f32) {
      CHECK(a.bytes[i] == b.bytes[i]);
      continue;
    }
    for (std::size_t k = 0; k < x.as<float>().size(); ++k)
      CHECK(std::abs(x.as<float>()[k] - y.as<float>()[k]) <= tolerance);
  }
}

void check_resumes(const std::function<Options()>& device) {
  const Options cpu = testing::plain_cpu();
  const Saved there = trained(device(), device(), 0), here = trained(cpu, cpu, 0);
  check_near(there, here, 2e-3);
  for (const int stop : {1, 5, 7, 10}) {
    CAPTURE(stop);
    CHECK(trained(device(), device(), stop).bytes == there.bytes);
    check_near(trained(device(), cpu, stop), here, 2e-3);
    check_near(trained(cpu, device(), stop), there, 2e-3);
  }
}

TEST_CASE("device: stopped anywhere, training goes on there with the same bits, and on the CPU") {
  check_resumes([] {
    Options device;
    device.launcher = testing::fake_device();
    return device;
  });
}

TEST_CASE("device: with the CPU's kernels, to the bit, whoever goes on") {
  Options cpu = testing::plain_cpu(), device;
  device.launcher = std::make_shared<testing::FakeLauncher>();
  const Saved whole = trained(cpu, cpu, 0);
  for (const int stop : {1, 7, 10}) {
    CAPTURE(stop);
    CHECK(trained(device, device, stop).bytes == whole.bytes);
    CHECK(trained(device, cpu, stop).bytes == whole.bytes);
    CHECK(trained(cpu, device, stop).bytes == whole.bytes);
  }
}

TEST_CASE("gpu: stopped anywhere, training goes on there with the same bits, and on the CPU") {
  if (!testing::gpu()) return;
  check_resumes([] { return testing::on_gpu(); });
}

}  // namespace
}  // namespace poolgrad
