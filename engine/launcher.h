// Launcher: what a program asks of a device that has memory and queues of its own. CUDA's is
// cuda/launcher.h; tests have one on threads of the host, which writes down what was asked.
#pragma once

#include <memory>
#include <string>

#include "engine/op.h"
#include "memory/cuda.h"
#include "memory/resource.h"

namespace poolgrad {

/// Work put on a stream is done in order, later; addresses are the device's unless it says host.
/// Failed calls are memory::CudaErrors, or DeviceErrors, that name the call and its status.
class Launcher {
 public:
  virtual ~Launcher() = default;

  /// The op's kernel on this device: what it does is put on `site.device.stream`. Throws
  /// DeviceError where the op has none.
  [[nodiscard]] virtual Kernel prepare(const OpDef& op, const Site& site) = 0;

  /// Where programs get their bytes unless the caller names a resource, and host memory from and to
  /// which copies need not wait. free_bytes(): what the former has left, by the device's own word.
  [[nodiscard]] virtual std::shared_ptr<memory::Resource> memory() = 0;
  [[nodiscard]] virtual std::shared_ptr<memory::Resource> pinned() = 0;
  [[nodiscard]] virtual std::size_t free_bytes() = 0;

  /// One queue for kernels, and one for feeds, which then cross while kernels run.
  [[nodiscard]] virtual memory::Stream work() const = 0;
  [[nodiscard]] virtual memory::Stream copies() const = 0;

  /// Between host and device, or on the device.
  virtual void copy(void* to, const void* from, std::size_t bytes, memory::Stream stream) = 0;
  virtual void fill(void* to, std::byte value, std::size_t bytes, memory::Stream stream) = 0;

  /// Between the two, what is put on work() is written down instead of done, with the addresses
  /// that it has now. Nothing may be waited for meanwhile.
  using Recording = std::shared_ptr<void>;
  virtual void begin_recording() = 0;
  [[nodiscard]] virtual Recording end_recording() = 0;
  /// Puts all of it on work() at once.
  virtual void replay(const Recording& recording) = 0;

  /// For profilers: what is put on the streams between begin_range() and its end_range() is shown
  /// under a name that was made once. Ranges lie within each other. By default there are none.
  using RangeName = const void*;
  [[nodiscard]] virtual RangeName name_range(const std::string&) { return nullptr; }
  virtual void begin_range(RangeName) {}
  virtual void end_range() {}

  /// Throws what kernels could not: an ArgumentError for a label or an index out of range in what
  /// work() has done so far. To be asked when it is idle.
  virtual void check() = 0;
};

/// Waits for both queues, whatever they say: before bytes go that work may still touch.
inline void settle(const Launcher& launcher) noexcept {
  for (const memory::Stream stream : {launcher.copies(), launcher.work()}) {
    try {
      stream.synchronize();
    } catch (...) {  // what failed before is on its way already, or nobody is left to be told
    }
  }
}

/// `work()`. Where a call fails, nothing that it put on a queue is on its way any more, and the
/// DeviceError begins with `what()`, which was being done.
template <typename What, typename Work>
decltype(auto) settled(const Launcher& launcher, const What& what, const Work& work) {
  try {
    return work();
  } catch (const memory::CudaError& error) {
    settle(launcher);
    throw DeviceError(text(what(), ": ", error.what()));
  } catch (...) {
    settle(launcher);
    throw;
  }
}

}  // namespace poolgrad
