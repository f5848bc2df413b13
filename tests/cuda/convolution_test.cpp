// The plans of convolutions for GPUs that are not there: cuDNN 9.8 and later makes them from a
// description alone. Nothing is computed.
#include "engine/cuda/convolution.h"

#include <algorithm>
#include <set>

#include <doctest/doctest.h>

#include "models/cnn.h"
#include "models/resnet.h"
#include "models/unet.h"
#include "tests/cuda/described_gpu.h"
#include "train/task.h"

namespace poolgrad {
namespace testing {

std::string GpuFacts::json() const {
  constexpr int kKib = 1024;
  const auto number = [](const char* key, auto value) { return text(", \"", key, "\": ", value); };
  return text("{\"deviceName\": \"", name, "\", \"maxGridSize\": [2147483647, 65535, 65535]",
              ", \"maxBlockSize\": [1024, 1024, 64]") +
         number("deviceVer", version) + number("driverVer", 13000) + number("cudaDeviceId", 0) +
         number("pciDeviceId", 0) + number("isTccDriver", 0) + number("supportCoopLaunch", 1) +
         number("multiProcessorCount", processors) + number("warpSize", 32) +
         number("regsPerBlock", 65536) + number("maxRegistersPerSM", 65536) +
         number("maxCtasPerSM", blocks) + number("maxThreadsPerSM", threads) +
         number("maxThreadsPerBlock", 1024) + number("maxSharedMemoryPerBlock", 48 * kKib) +
         number("maxSharedMemoryPerBlockOptin", shared_kib * kKib) +
         number("reservedSharedMemoryPerBlock", reserved_kib * kKib) +
         number("smClockRateKHz", clock_khz) + number("memClockRateKHz", memory_khz) +
         number("l2CacheSize", l2_mib * kKib * kKib) +
         number("totalGlobalMem", static_cast<std::int64_t>(memory_gib * (1 << 30))) + "}";
}

Kernel DescribedGpu::prepare(const OpDef& op, const Site& site) {
  if (!op.name.starts_with("conv2d")) return {[](const Args&) { refuse(); }};
  std::vector<Spec> inputs(site.inputs.begin(), site.inputs.end()),
      outputs(site.outputs.begin(), site.outputs.end());
  for (auto* specs : {&inputs, &outputs}) {
    for (Spec& spec : *specs) spec.dtype = dtype_;
  }
  const Site here{.inputs = inputs,
                  .outputs = outputs,
                  .attributes = site.attributes,
                  .device = site.device,
                  .winograd = site.winograd,
                  .context = &context_,
                  .alignment = site.alignment};
  if (seen_) seen_(op, here);
  return op.cuda(here);
}

}  // namespace testing

namespace {

using cuda::Convolution;
using cuda::Pass;
using testing::DescribedGpu;

const std::array<testing::GpuFacts, 3> kGpus{testing::kH100, testing::kA100, testing::kT4};

Blueprint drafted(const train::Model& model, std::int64_t batch,
                  const std::shared_ptr<DescribedGpu>& gpu) {
  const train::TaskSpec spec{
      .model = model, .sample = {1, 28, 28}, .batch = batch, .optimizer = train::Adam{}};
  Options options;
  options.launcher = gpu;
  return draft_task(spec, train::make_task(spec), options);
}

/// What is computed with, and whether f32 may be rounded to TF32.
struct Way {
  std::string name;
  DType dtype;
  bool tensor_float;
};
const std::array<Way, 4> kWays{Way{"f32", DType::f32, false}, Way{"TF32", DType::f32, true},
                               Way{"bf16", DType::bf16, false}, Way{"f16", DType::f16, false}};

bool can(const testing::GpuFacts& facts, const Way& way) {
  return way.dtype != DType::bf16 || facts.version >= 800;
}

TEST_CASE("convolutions: cuDNN has deterministic engines for all of our networks'") {
  if (CUDNN_VERSION < 90800) return;
  for (const auto& facts : kGpus) {
    for (const Way& way : kWays) {
      if (!can(facts, way)) continue;
      CAPTURE(facts.name);
      CAPTURE(way.name);
      int count = 0, forward = 0, fused = 0;
      std::shared_ptr<DescribedGpu> gpu;
      const auto seen = [&](const OpDef& op, const Site& site) {
        ++count;
        if (op.name != "conv2d") return;
        const auto s = site.attributes.as<Conv2d>();
        const bool bias = site.inputs.size() == 3;
        if (!bias && !s.relu) return;
        ++forward;
        const bool exact = way.dtype == DType::f32 && !way.tensor_float;
        const Convolution all{Pass::forward,
                              s,
                              site.inputs[0].shape,
                              site.inputs[1].shape,
                              site.outputs[0].shape,
                              way.dtype,
                              exact ? Layout::row_major : Layout::channels_last,
                              bias};
        fused += plan(gpu->target(), all, {.tensor_cores = !exact, .tiles = true}, 64) ? 1 : 0;
      };
      gpu = std::make_shared<DescribedGpu>(facts, way.tensor_float, seen);
      gpu->use(way.dtype);
      std::size_t most = 0;
      for (const std::int64_t batch : {32, 128}) {
        for (const train::Model& model :
             {train::Model(models::cnn()), train::Model(models::resnet()),
              train::Model(models::unet())}) {
          const Blueprint blueprint = drafted(model, batch, gpu);
          for (const Step& step : blueprint.entry("train").steps)
            most = std::max(most, step.kernel->workspace_bytes);
        }
      }
      MESSAGE(count, " convolutions; bias and ReLU in the engine in ", fused, " of ", forward,
              "; the largest workspace ", most, " bytes");
      CHECK(count > 50);
      CHECK(fused == forward);
    }
  }
}

TEST_CASE("convolutions: all settings of conv2d have plans, in all three passes") {
  if (CUDNN_VERSION < 90800) return;
  struct Problem {
    std::int64_t n, in, side, out, window;
    Conv2d settings;
  };
  const std::vector<Problem> problems{
      {5, 6, 11, 9, 3, {.stride = {2, 2}, .padding = {1, 1}, .groups = 3}},  // odd channels
      {8, 32, 14, 32, 3, {.padding = {1, 1}, .groups = 32}},                 // depthwise
      {4, 16, 15, 8, 3, {.padding = {2, 2}, .dilation = {2, 2}}},
      {3, 7, 9, 5, 1, {.stride = {2, 2}}},
      {2, 1, 28, 4, 5, {.padding = {0, 2}}},
  };
  for (const auto& facts : kGpus) {
    for (const Way& way : kWays) {
      if (!can(facts, way)) continue;
      DescribedGpu gpu(facts, way.tensor_float, {});
      for (const Problem& p : problems) {
        const Conv2d& s = p.settings;
        const auto extent = [&](std::size_t i) {
          return (p.side + 2 * s.padding[i] - s.dilation[i] * (p.window - 1) - 1) / s.stride[i] + 1;
        };
        const bool exact = way.dtype == DType::f32 && !way.tensor_float;
        for (const Pass pass : {Pass::forward, Pass::data, Pass::weights}) {
          CAPTURE(facts.name);
          CAPTURE(way.name);
          CAPTURE(static_cast<int>(pass));
          CAPTURE(p.in);
          const Convolution convolution{pass,
                                        s,
                                        {p.n, p.in, p.side, p.side},
                                        {p.out, p.in / s.groups, p.window, p.window},
                                        {p.n, p.out, extent(0), extent(1)},
                                        way.dtype,
                                        exact ? Layout::row_major : Layout::channels_last};
          for (const std::int64_t alignment : {64, 4})
            CHECK(plan(gpu.target(), convolution, {.tensor_cores = !exact}, alignment).has_value());
        }
      }
    }
  }
}

TEST_CASE("convolutions: an engine that needs more workspace than is allowed is passed over") {
  if (CUDNN_VERSION < 90800) return;
  DescribedGpu gpu(testing::kH100, false, {});
  const Convolution convolution{Pass::forward,        {.padding = {1, 1}}, {32, 32, 28, 28},
                                {32, 32, 3, 3},       {32, 32, 28, 28},    DType::f32,
                                Layout::channels_last};
  const auto all = plan(gpu.target(), convolution, {}, 64);
  const auto none = plan(gpu.target(), convolution, {.most_workspace = 0}, 64);
  REQUIRE(all.has_value());
  REQUIRE(none.has_value());
  CHECK(all->workspace_bytes() > 0);
  CHECK(none->workspace_bytes() == 0);
}

TEST_CASE("convolutions: what cuDNN refuses is told with its reason") {
  if (CUDNN_VERSION < 90800) return;
  DescribedGpu gpu(testing::kH100, false, {});
  const Convolution wrong{Pass::forward, {}, {2, 4, 8, 8}, {4, 4, 3, 3}, {2, 4, 9, 9}};
  try {
    (void)plan(gpu.target(), wrong, {}, 64);
    FAIL("no error");
  } catch (const DeviceError& error) {
    CAPTURE(error.what());
    CHECK(std::string(error.what()).starts_with("cudnnBackendFinalize failed: CUDNN_STATUS_BAD_P"));
  }
}

}  // namespace
}  // namespace poolgrad
