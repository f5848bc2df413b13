// cuDNN's graph API: operations are described, and of the engines that can do them one is chosen.
// The C interface behind a destructor, a check of each status, and a search; which operations there
// are is not known here.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include <cudnn.h>

namespace poolgrad::cuda {

/// A backend descriptor, destroyed with it. Those that are set in another one live on in it.
class Descriptor {
 public:
  explicit Descriptor(cudnnBackendDescriptorType_t type);
  Descriptor(Descriptor&& other) noexcept;
  Descriptor& operator=(Descriptor&& other) noexcept;
  ~Descriptor();

  /// One value or several of a type that must be the attribute's. Throws DeviceError.
  template <typename T>
  void set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, const T& value) {
    set(name, type, 1, &value);
  }
  template <typename T>
  void set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
           std::span<const T> values) {
    set(name, type, static_cast<std::int64_t>(values.size()), values.data());
  }
  void set(cudnnBackendAttributeName_t name, const Descriptor& value);
  void set(cudnnBackendAttributeName_t name, std::span<const Descriptor> values);
  /// No more is set. Throws DeviceError where cuDNN cannot do what was asked.
  void finalize();

  [[nodiscard]] cudnnBackendDescriptor_t get() const { return descriptor_; }

 private:
  void set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, std::int64_t count,
           const void* values);

  cudnnBackendDescriptor_t descriptor_ = nullptr;
};

/// The GPU that a plan is for: that of a handle, or in its absence one that is only described, of
/// which cuDNN 9.8 and later can tell what it would do. Such plans cannot be run.
struct Target {
  cudnnHandle_t handle = nullptr;
  const Descriptor* properties = nullptr;
};

/// Of a device that is not there, from the JSON that cuDNN makes of one.
[[nodiscard]] Descriptor described_device(const std::string& json);

/// What an engine may do. None gives other bits in another run, or adds up in less than f32.
struct Wishes {
  bool tensor_cores = false;  // of f32 operands: they are rounded to TF32
  bool tiles = false;         // Winograd's, and FFT
  bool compiled = false;      // has its kernel made by NVRTC, which takes seconds
  std::size_t most_workspace = std::size_t{256} << 20;
};

/// Operations made ready: one engine and its workspace.
class EnginePlan {
 public:
  EnginePlan(Descriptor plan, std::int64_t engine);

  [[nodiscard]] std::size_t workspace_bytes() const { return workspace_bytes_; }
  /// Its number among cuDNN's engines for such operations; for reports.
  [[nodiscard]] std::int64_t engine() const { return engine_; }

  /// Puts the work on the handle's stream, with the addresses of the tensors of these numbers.
  void run(cudnnHandle_t handle, std::span<const std::int64_t> tensors,
           std::span<void* const> addresses, void* workspace) const;

 private:
  Descriptor plan_;
  std::int64_t engine_;
  std::size_t workspace_bytes_;
};

/// The first plan in the order of cuDNN's heuristics that the wishes allow and that can be built;
/// nothing where there is none.
[[nodiscard]] std::optional<EnginePlan> best_plan(const Target& target,
                                                  std::span<const Descriptor> operations,
                                                  const Wishes& wishes);

/// Throws DeviceError with the call, its status and what cuDNN says of it.
void check_networks(cudnnStatus_t status, const char* call);

}  // namespace poolgrad::cuda
