// minimize(): makes a loss into a training entry.
#pragma once

#include <optional>

#include "engine/compile.h"
#include "train/grad_scaler.h"
#include "train/optimizer.h"

namespace poolgrad::train {

/// When updates run: each as soon as its gradient is final (lowest peak), or one over whole columns
/// (one launch; what clipping by the global norm or an all-reduce needs). Both give the same bits
/// with Options::fuse_updates off, which only the first can use.
enum class Updates : std::uint8_t { at_gradient, whole_column };

struct MinimizeOptions {
  Updates updates = Updates::at_gradient;
  /// Gradients get the column "gradients", in the order of the parameters, and stay after each
  /// step: as they were made, times the loss scale and not clipped.
  bool keep_gradients = false;
  /// What f16 needs (Options::precision). Like clipping it needs all gradients before the first
  /// update, so none of these is done by the product that makes its gradient.
  std::optional<GradScaler> grad_scaler{};
  /// All gradients together are shortened to this norm where theirs is larger, as by
  /// torch.nn.utils.clip_grad_norm_.
  std::optional<float> clip_grad_norm{};
};

/// Throws ArgumentError for an impossible setting, naming it.
void check(const MinimizeOptions& options);

struct Training {
  Optimizer optimizer{};
  MinimizeOptions options{};
  Tensor loss{};                    // [] f32: the loss before the update
  Tensor rate{};                    // [] f32, persistent: write it to change the learning rate
  Tensor scale{};                   // [] f32, persistent: the gradient of the loss itself
  Tensor skipped{};                 // [] i64, with a grad_scaler: how many steps changed nothing
  std::vector<Tensor> gradients{};  // with keep_gradients: one per parameter

  /// `also` are further tensors to be computed and kept (logits, a count of right answers).
  [[nodiscard]] EntryPoint entry(std::string name = "train", std::vector<Tensor> also = {}) const;

  std::function<std::vector<int>(Graph&)> append{};  // backward and update nodes, for the entry
};

/// Over all tensors in the column "parameters" of the loss's graph. Reserves moments, learning
/// rate, step counter, loss scale and gradients now; nodes are appended when the entry is compiled,
/// since fusing comes first. Throws ArgumentError for bad settings, ShapeError when the loss is no
/// scalar or there are no parameters.
[[nodiscard]] Training minimize(Tensor loss, const Optimizer& optimizer,
                                const MinimizeOptions& options = {});

}  // namespace poolgrad::train
