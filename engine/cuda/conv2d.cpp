// conv2d and both its gradients by cuDNN, channels-last. Which engine does it is settled once per
// site; what it cannot do, kernels of our own do before and after it.
#include "engine/cuda/convolution.h"
#include "engine/cuda/helpers.h"
#include "engine/cuda/kernels.h"
#include "engine/ops/settings.h"

namespace poolgrad::cuda {
namespace {

std::size_t aligned(std::size_t bytes) { return memory::aligned(bytes, kWorkspaceAlignment); }

/// A convolution with the plan for it, and the weight as the plan has it: as it is stored, or
/// turned to [o, kh, kw, i] or converted in the workspace.
class Convolver {
 public:
  Convolver(const Site& site, const Convolution& convolution, DType weight_type)
      : handle_(static_cast<cudnnHandle_t>(site.context->networks)),
        target_{handle_, site.context->described},
        alignment_(static_cast<std::int64_t>(site.alignment)),
        of_(convolution),
        stored_type_(weight_type) {
    // Engines of tensor cores want all of it channels-last. Those for exact f32 go by [n, c, h, w]
    // and turn images themselves.
    const bool exact = of_.dtype == DType::f32 && !site.context->tensor_float;
    of_.weight_layout = exact ? Layout::row_major : Layout::channels_last;
    wishes_ = {.tensor_cores = !exact, .tiles = site.winograd};
    const bool one_order = of_.weight[1] == 1 || of_.weight[2] * of_.weight[3] == 1;
    turned_ = !exact && !one_order;
    if (own_weight()) offset_ = aligned(bytes(of_.weight));
  }

  /// With bias and ReLU where one engine does it all: whether one does.
  bool prepare_fused(bool bias) {
    Convolution all = of_;
    all.bias = bias;
    plan_ = plan(target_, all, wishes_, alignment_);
    return plan_.has_value();
  }
  /// The convolution alone.
  void prepare() {
    of_.settings.relu = false;
    plan_ = plan(target_, of_, wishes_, alignment_);
    if (plan_) return;
    wishes_.compiled = true;
    plan_ = plan(target_, of_, wishes_, alignment_);
    if (!plan_)
      throw DeviceError(text("cuDNN has no deterministic engine for it within ",
                             wishes_.most_workspace, " bytes of workspace"));
  }

  /// Bytes of workspace that are this one's, from the beginning on.
  [[nodiscard]] std::size_t workspace_bytes() const { return offset_ + plan_->workspace_bytes(); }
  [[nodiscard]] std::size_t bytes(const Shape& shape) const {
    return static_cast<std::size_t>(shape.count()) * size_of(of_.dtype);
  }

  /// The weight as run() wants it.
  void* weight(const Queue& queue, void* stored, const Args& a) const {
    if (!own_weight()) return stored;
    const auto [o, i, window] = extents();
    turn(queue, {stored, stored_type_}, {a.workspace(), of_.dtype}, turned_ ? o : 1,
         turned_ ? i : o * i, window);
    return a.workspace();
  }
  /// Where run() puts the weight's gradient, and what brings it from there.
  void* weight_gradient(void* stored, const Args& a) const {
    return own_weight() ? a.workspace() : stored;
  }
  void store(const Queue& queue, void* stored, const Args& a) const {
    if (!own_weight()) return;
    const auto [o, i, window] = extents();
    turn(queue, {a.workspace(), of_.dtype}, {stored, stored_type_}, turned_ ? o : 1, window,
         turned_ ? i : o * i);
  }

  void run(const Args& a, void* x, void* weight, void* y, void* bias = nullptr) const {
    const std::array<std::int64_t, 4> numbers{kX, kWeight, kY, kBias};
    const std::array<void*, 4> addresses{x, weight, y, bias};
    const std::size_t count = bias != nullptr ? 4 : 3;
    void* const workspace = plan_->workspace_bytes() > 0 ? a.workspace(offset_) : nullptr;
    plan_->run(handle_, std::span(numbers).first(count), std::span(addresses).first(count),
               workspace);
  }

 private:
  struct Extents {
    std::int64_t o, i, window;
  };
  [[nodiscard]] Extents extents() const {
    return {of_.weight[0], of_.weight[1], of_.weight[2] * of_.weight[3]};
  }
  [[nodiscard]] bool own_weight() const { return turned_ || stored_type_ != of_.dtype; }

  cudnnHandle_t handle_;
  Target target_;
  std::int64_t alignment_;
  Convolution of_;
  DType stored_type_;
  Wishes wishes_;
  bool turned_ = false;
  std::size_t offset_ = 0;
  std::optional<EnginePlan> plan_;
};

std::int64_t pixels(const Shape& image) { return image.count() / image[1]; }

}  // namespace

Kernel conv2d(const Site& site) {
  const auto s = site.attributes.as<Conv2d>();
  const Spec &x = site.inputs[0], &weight = site.inputs[1], &y = site.outputs[0];
  const bool biased = site.inputs.size() == 3;
  const DType bias_type = biased ? site.inputs[2].dtype : y.dtype;
  const auto conv = std::make_shared<Convolver>(
      site, Convolution{Pass::forward, s, x.shape, weight.shape, y.shape, y.dtype}, weight.dtype);
  const bool fused = (biased || s.relu) && conv->prepare_fused(biased);
  if (!fused) conv->prepare();
  // Engines take a bias of y's dtype only: another one is converted, behind all else.
  const bool converts = fused && bias_type != y.dtype;
  const std::size_t offset = aligned(conv->workspace_bytes());
  const std::size_t bytes = converts ? offset + conv->bytes({y.shape[1]}) : conv->workspace_bytes();
  return {[=, queue = Queue("conv2d", site), relu = s.relu, type = y.dtype, count = pixels(y.shape),
           channels = y.shape[1]](const Args& a) {
            void* bias = biased ? a.inputs[2] : nullptr;
            void* const w = conv->weight(queue, a.inputs[1], a);
            if (converts) {
              turn(queue, {bias, bias_type}, {a.workspace(offset), type}, 1, 1, channels);
              bias = a.workspace(offset);
            }
            conv->run(a, a.inputs[0], w, a.outputs[0], fused ? bias : nullptr);
            if (!fused)
              bias_relu(queue, {bias, bias_type}, relu, {a.outputs[0], type}, count, channels);
          },
          bytes};
}

Kernel conv2d_data(const Site& site) {
  const auto s = site.attributes.as<settings::Conv2dGradient>().conv;
  const Spec &dy = site.inputs[0], &weight = site.inputs[1], &dx = site.outputs[0];
  const auto conv = std::make_shared<Convolver>(
      site, Convolution{Pass::data, s, dx.shape, weight.shape, dy.shape, dy.dtype}, weight.dtype);
  conv->prepare();
  return {[conv, queue = Queue("conv2d_data", site)](const Args& a) {
            conv->run(a, a.outputs[0], conv->weight(queue, a.inputs[1], a), a.inputs[0]);
          },
          conv->workspace_bytes()};
}

Kernel conv2d_weights(const Site& site) {
  const auto s = site.attributes.as<settings::Conv2dGradient>().conv;
  const Spec &x = site.inputs[0], &dy = site.inputs[1], &weight = site.outputs[0];
  const auto conv = std::make_shared<Convolver>(
      site, Convolution{Pass::weights, s, x.shape, weight.shape, dy.shape, dy.dtype}, weight.dtype);
  conv->prepare();
  const bool biased = site.outputs.size() == 2;
  const std::size_t sums = biased ? bias_grad_bytes(pixels(dy.shape), dy.shape[1]) : 0;
  return {[=, queue = Queue("conv2d_weights", site), type = dy.dtype, count = pixels(dy.shape),
           channels = dy.shape[1]](const Args& a) {
            conv->run(a, a.inputs[0], conv->weight_gradient(a.outputs[0], a), a.inputs[1]);
            conv->store(queue, a.outputs[0], a);
            if (biased)  // when the workspace is free again
              bias_grad(queue, type, a.inputs[1], a.out<float>(1), count, channels, a.workspace());
          },
          std::max(conv->workspace_bytes(), sums)};
}

}  // namespace poolgrad::cuda
