// A launcher for a GPU that is not there: convolutions get the plans that cuDNN makes from its
// description, so that drafts can be looked at; nothing can be run. In builds with CUDA.
#pragma once

#include <functional>
#include <string>

#include "engine/cuda/context.h"
#include "engine/cuda/cudnn_graph.h"
#include "engine/launcher.h"

namespace poolgrad::testing {

/// What cuDNN knows of a device: the attributes that CUDA gives of it.
struct GpuFacts {
  std::string name;
  int version;  // 900: sm_90
  int processors, blocks, threads, shared_kib, reserved_kib, l2_mib, clock_khz, memory_khz;
  double memory_gib;

  [[nodiscard]] std::string json() const;
};

const GpuFacts kH100{
    "NVIDIA H100 80GB HBM3", 900, 132, 32, 2048, 227, 1, 50, 1980000, 2619000, 79.2};
const GpuFacts kA100{
    "NVIDIA A100-SXM4-80GB", 800, 108, 32, 2048, 163, 1, 40, 1410000, 1593000, 79.2};
const GpuFacts kT4{"Tesla T4", 750, 40, 16, 1024, 64, 0, 4, 1590000, 5001000, 14.6};

class DescribedGpu final : public Launcher {
 public:
  /// `seen`: is told of each convolution, as it is asked for.
  using Seen = std::function<void(const OpDef&, const Site&)>;
  DescribedGpu(const GpuFacts& facts, bool tensor_float, Seen seen)
      : properties_(cuda::described_device(facts.json())), seen_(std::move(seen)) {
    context_.described = &properties_;
    context_.tensor_float = tensor_float;
  }
  /// Activations and weights are of this dtype instead of f32.
  void use(DType dtype) { dtype_ = dtype; }

  Kernel prepare(const OpDef& op, const Site& site) override;
  std::shared_ptr<memory::Resource> memory() override {
    return std::make_shared<memory::HostResource>();
  }
  std::shared_ptr<memory::Resource> pinned() override { return memory(); }
  std::size_t free_bytes() override { return 0; }
  [[nodiscard]] memory::Stream work() const override { return {}; }
  [[nodiscard]] memory::Stream copies() const override { return {}; }
  void copy(void*, const void*, std::size_t, memory::Stream) override { refuse(); }
  void fill(void*, std::byte, std::size_t, memory::Stream) override { refuse(); }
  void begin_recording() override { refuse(); }
  [[nodiscard]] Recording end_recording() override { return {}; }
  void replay(const Recording&) override { refuse(); }
  void check() override {}

  [[nodiscard]] cuda::Target target() const { return {nullptr, &properties_}; }

 private:
  static void refuse() { throw DeviceError("described: there is no such GPU"); }

  cuda::Descriptor properties_;
  Seen seen_;
  cuda::Context context_;
  DType dtype_ = DType::f32;
};

}  // namespace poolgrad::testing
