// A device made of the host: kernels and copies are put on worker threads, and its memory can be
// touched by them alone. Counts what it is asked for, and fails on demand.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "engine/cuda/context.h"
#include "engine/launcher.h"
#include "memory/host_stream.h"

namespace poolgrad::testing {

/// Fault injection: while it lives, call number `nth` (from 1; 0: none) to all fake devices fails
/// as CUDA's do, and where `lasting` all behind it. Waits wait before they fail, and what gives
/// back never fails.
class FailingCall {
 public:
  explicit FailingCall(std::size_t nth, bool lasting = false);
  FailingCall(const FailingCall&) = delete;
  FailingCall& operator=(const FailingCall&) = delete;
  ~FailingCall();

  /// Calls so far, and the one that failed first: "cudaMemcpyAsync"; empty: none has.
  [[nodiscard]] static std::size_t calls();
  [[nodiscard]] static std::string failed();
};

/// What fake devices have given and not got back.
struct Alive {
  std::size_t blocks = 0, pinned = 0, events = 0, recordings = 0;
};
[[nodiscard]] Alive alive();

/// Host memory that claims to be a device's. While nobody has devices' memory open, touching it is
/// a fault of the process.
class FakeMemory final : public memory::Resource {
 public:
  [[nodiscard]] void* allocate_on(memory::Stream stream, std::size_t bytes,
                                  std::size_t alignment) override;
  void deallocate_on(memory::Stream stream, void* data, std::size_t bytes,
                     std::size_t alignment) override;
  [[nodiscard]] memory::Place place() const override { return {memory::Space::cuda, 0}; }

  static constexpr std::size_t kBytes = std::size_t{1} << 30;  // what such a device has in all

  /// All of it, of all resources of this kind.
  static void open();
  static void close();
  [[nodiscard]] int calls() const { return calls_; }

 private:
  std::atomic<int> calls_ = 0;
};

/// A stream of the fake device, as its own and other libraries' are. Those numbered 1 and 2 are
/// there from the start.
class FakeStream {
 public:
  explicit FakeStream(std::string name);

  [[nodiscard]] memory::Stream stream() const { return {host_.stream().handle, ops()}; }
  /// As other libraries pass it on.
  [[nodiscard]] std::int64_t number() const {
    return reinterpret_cast<std::intptr_t>(host_.stream().handle);
  }
  template <typename F>
  void enqueue(F&& work) {
    host_.enqueue(std::forward<F>(work));
  }
  void synchronize() { host_.synchronize(); }

  static const memory::StreamOps* ops();

 private:
  memory::HostStream host_;
};

/// What was asked of fake streams since the last call, in order: "record work", "other waits".
[[nodiscard]] std::vector<std::string> what_streams_did();

class FakeLauncher final : public Launcher {
 public:
  using Maker = Kernel (*)(const Site&);

  /// Ops named in `makers` have those kernels, all others the CPU's.
  explicit FakeLauncher(std::map<std::string, Maker> makers = {}) : makers_(std::move(makers)) {
    context_.fault = &fault_;
  }
  ~FakeLauncher() override;

  Kernel prepare(const OpDef& op, const Site& site) override;
  std::shared_ptr<memory::Resource> memory() override { return memory_; }
  std::shared_ptr<memory::Resource> pinned() override;
  std::size_t free_bytes() override;
  [[nodiscard]] memory::Stream work() const override { return work_.stream(); }
  [[nodiscard]] memory::Stream copies() const override { return copies_.stream(); }
  void copy(void* to, const void* from, std::size_t bytes, memory::Stream stream) override;
  void fill(void* to, std::byte value, std::size_t bytes, memory::Stream stream) override;
  void begin_recording() override;
  [[nodiscard]] Recording end_recording() override;
  void replay(const Recording& recording) override;
  [[nodiscard]] RangeName name_range(const std::string& name) override {
    return &*names_.insert(name).first;
  }
  void begin_range(RangeName name) override;
  void end_range() override { --open_ranges_; }
  void check() override;

  /// Names of the ranges begun so far, deeper ones further in, and how many are open.
  [[nodiscard]] const std::vector<std::string>& ranges() const { return ranges_; }
  [[nodiscard]] int open_ranges() const { return open_ranges_; }

  /// How often so far: kernels put on the stream one by one, copies outside of recordings,
  /// recordings begun and replayed, and calls for memory.
  struct Counts {
    int kernels = 0, copies = 0, recorded = 0, replayed = 0, memory = 0;
    bool operator==(const Counts&) const = default;
  };
  [[nodiscard]] Counts counts() const {
    Counts counts = counts_;
    counts.memory = memory_->calls();
    return counts;
  }

 private:
  using Job = std::function<void()>;
  void put(Job job, bool on_work);
  [[nodiscard]] Job opened(Job job);

  std::map<std::string, Maker> makers_;
  std::shared_ptr<FakeMemory> memory_ = std::make_shared<FakeMemory>();
  mutable FakeStream work_{"work"}, copies_{"copies"};
  std::shared_ptr<std::vector<Job>> recording_;
  cuda::Fault fault_;
  cuda::Context context_;
  Counts counts_;
  std::set<std::string> names_;
  std::vector<std::string> ranges_;
  int open_ranges_ = 0;
};

}  // namespace poolgrad::testing
