// The loop's promise to allocate nothing, and that it would be seen if a kernel did. This program
// counts every malloc, calloc, operator new and mmap of the process.
#include <algorithm>
#include <cstdlib>
#include <optional>
#include <random>

#include <doctest/doctest.h>

#include "engine/ops.h"
#include "memory/allocation_count.h"
#include "train/fit.h"

namespace poolgrad::train {
namespace {

enum class Spill : std::uint8_t { nothing, ours, library };

/// y = x, by a kernel that takes 5,000 bytes from the heap at each call.
constexpr OpDef kSpill{
    .name = "spill",
    .infer = same_as_first,
    .backward = [](const Backward& b) -> std::vector<Tensor> { return {b.dy[0]}; },
    .cpu = [](const Site& site) -> Kernel {
      const bool library = site.attributes.as<Spill>() == Spill::library;
      return {[library, count = site.inputs[0].shape.count()](const Args& a) {
        std::optional<memory::InLibrary> mark;
        if (library) mark.emplace();
        void* volatile spilled = std::malloc(5000);
        std::free(spilled);
        std::copy_n(a.in<float>(0), count, a.out<float>());
      }};
    },
};

struct Noise {
  std::vector<float> samples = std::vector<float>(256 * 64);
  std::vector<std::int64_t> labels = std::vector<std::int64_t>(256);
  Noise() {
    std::mt19937 random(3);
    for (float& value : samples) value = static_cast<float>(random() % 1000) / 1000.0F;
    for (std::int64_t& label : labels) label = static_cast<std::int64_t>(random() % 10);
  }
  [[nodiscard]] Dataset data() {
    return {ArrayView::of(std::span(samples), {256, 64}, DType::f32),
            ArrayView::of(std::span(labels), {256}, DType::i64), 10};
  }
};

/// Two layers with a spill between them, trained for two epochs of eight steps each.
FitResult trained(Spill spill, int threads) {
  const Model model = [spill](Graph& graph, Tensor x, bool) {
    std::vector<Tensor> p = graph.column("parameters");
    if (p.empty()) {
      p = {graph.parameter({128, 64}, Init::kaiming_uniform(64, 1), "0.weight"),
           graph.parameter({10, 128}, Init::kaiming_uniform(128, 1), "2.weight")};
    }
    Tensor hidden = relu(linear(x, p[0]));
    if (spill != Spill::nothing) hidden = graph.add(kSpill, {hidden}, spill)[0];
    return linear(hidden, p[1]);
  };
  Noise noise;
  const Split data{noise.data(), noise.data()};
  const Task task =
      make_task({.model = model, .sample = {64}, .batch = 32, .tables = tables_of(data)});
  poolgrad::Options options;
  options.threads = threads;
  Program program = compile(*task.graph, task.entries, options);
  return fit(task, program, data, {.epochs = 2}, {});
}

TEST_CASE("loop: poolgrad allocates nothing, and the libraries little at a time") {
  if (!memory::counting()) return;  // under a sanitizer
  for (const int threads : {1, 2}) {
    const FitResult result = trained(Spill::nothing, threads);
    CHECK(result.steps == 16);
    CHECK(result.allocations.ours == 0);
    CHECK(result.allocations.largest_library_bytes < 4096);
    CHECK(result.measured_peak_bytes == result.predicted_peak_bytes);
  }
}

TEST_CASE("loop: a malloc planted in a kernel is reported, as ours or as a library's by its mark") {
  if (!memory::counting()) return;
  const FitResult ours = trained(Spill::ours, 1);
  CHECK(ours.allocations.ours == 2 * 16);  // in training steps and in those on test data
  CHECK(ours.allocations.ours_bytes == 2 * 16 * 5000);
  const FitResult library = trained(Spill::library, 1);
  CHECK(library.allocations.ours == 0);
  CHECK(library.allocations.largest_library_bytes == 5000);
}

}  // namespace
}  // namespace poolgrad::train
