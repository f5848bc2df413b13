// The ways in which a training step can come by a device's bytes, and what each of them costs. The
// device is CUDA's, or a test's.
#pragma once

#include <atomic>
#include <functional>
#include <iosfwd>
#include <memory>
#include <string_view>
#include <vector>

#include "bench/workload.h"
#include "engine/launcher.h"
#include "memory/adaptors.h"

namespace poolgrad::bench {

/// A device, and what gives its bytes.
struct DeviceParts {
  std::shared_ptr<Launcher> launcher;
  std::shared_ptr<memory::Resource> malloc;              // a call of the driver each time
  std::shared_ptr<memory::Resource> malloc_async;        // from the driver's own pool
  std::shared_ptr<memory::Resource> malloc_async_keeps;  // from one that gives nothing back
  std::function<std::size_t()> memory_calls;             // of the driver, for memory, so far
  std::function<std::size_t()> used_bytes;               // of the device's memory, by everybody
};

/// GPU 0. Throws DeviceError where there is none.
[[nodiscard]] DeviceParts cuda_parts();

/// Counts requests, and while asked to adds up for how long they hold the calling thread.
class Timed final : public memory::Adaptor {
 public:
  using Adaptor::Adaptor;

  [[nodiscard]] void* allocate_on(memory::Stream stream, std::size_t bytes,
                                  std::size_t alignment) override;
  void deallocate_on(memory::Stream stream, void* data, std::size_t bytes,
                     std::size_t alignment) override;

  [[nodiscard]] std::size_t requests() const { return requests_; }  // both kinds
  [[nodiscard]] double seconds() const { return 1e-9 * static_cast<double>(nanoseconds_); }
  void take_time(bool on) { on_ = on; }

 private:
  template <typename F>
  auto timed(const F& call);

  std::atomic<std::size_t> requests_ = 0;
  std::atomic<std::int64_t> nanoseconds_ = 0;
  std::atomic<bool> on_ = false;
};

/// One way, by its name:
///   cuda_malloc, cuda_malloc_async, cuda_malloc_async_keeps   each tensor, when it is born
///   cuda_pool                                                 the same, from memory::Pool
///   cuda_arena                          all planned; a step is put on the stream node by node
///   cuda_arena_graph                    all planned; a step is recorded once and replayed
class DeviceSide {
 public:
  /// Throws ArgumentError for another name.
  DeviceSide(std::string_view name, DeviceParts parts);

  /// Of a program whose bytes come this way. The side must outlive it.
  [[nodiscard]] Options options() const;
  [[nodiscard]] Timed& resource() const { return *resource_; }
  [[nodiscard]] const DeviceParts& parts() const { return parts_; }

 private:
  DeviceParts parts_;
  Memory memory_;
  bool replay_;
  std::unique_ptr<memory::Resource> pool_;
  std::unique_ptr<Timed> resource_;
};
[[nodiscard]] bool is_device_side(std::string_view name);

/// Trains that way: prints a JSON line of facts, and then for each line of `in` one of a window of
/// so many seconds, followed by a shorter one in which requests are timed.
void serve(const DeviceSide& side, const train::TaskSpec& spec, Samples& samples,
           double window_seconds, std::istream& in, std::ostream& out);

}  // namespace poolgrad::bench
