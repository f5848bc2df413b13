// Jobs on two worker threads, which open the memory for as long as they run.
#include "tests/cuda/fake_launcher.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <mutex>
#include <stdexcept>

#include <sys/mman.h>

#include "engine/backend/halves.h"
#include "engine/cuda/fault.h"

namespace poolgrad::testing {
namespace {

std::size_t pages(std::size_t bytes) {
  return memory::aligned(std::max<std::size_t>(bytes, 1), 4096);
}

struct Blocks {
  std::mutex mutex;
  std::map<void*, std::size_t> bytes;
  int open = 0;
};
Blocks& blocks() {
  static auto* const all = new Blocks;
  return *all;
}

/// Who is who, and what they were asked.
class Names {
 public:
  void add(void* handle, std::string name) {
    const std::lock_guard lock(mutex_);
    names_[handle] = std::move(name);
  }
  std::string of(void* handle) {
    const std::lock_guard lock(mutex_);
    const auto number = reinterpret_cast<std::uintptr_t>(handle);
    return number == 1 ? "legacy" : number == 2 ? "per-thread" : names_[handle];
  }
  void say(std::string what) {
    const std::lock_guard lock(mutex_);
    said_.push_back(std::move(what));
  }
  std::vector<std::string> take() {
    const std::lock_guard lock(mutex_);
    return std::exchange(said_, {});
  }

 private:
  std::mutex mutex_;
  std::map<void*, std::string> names_;
  std::vector<std::string> said_;
};
Names& names() {
  static auto* const all = new Names;
  return *all;
}

/// A thread behind every number.
void* real(void* handle) {
  static auto* const legacy = new memory::HostStream;
  static auto* const per_thread = new memory::HostStream;
  const auto number = reinterpret_cast<std::uintptr_t>(handle);
  if (number == 0) throw std::logic_error("fake: there is no stream 0");
  return number == 1 ? legacy->stream().handle : number == 2 ? per_thread->stream().handle : handle;
}

const memory::StreamOps& host_ops() {
  static const memory::StreamOps ops = *memory::HostStream().stream().ops;
  return ops;
}

/// What is to fail, and what is alive.
struct Faults {
  std::mutex mutex;
  bool armed = false, lasting = false;
  std::size_t nth = 0, calls = 0;
  std::string failed;
  std::atomic<std::size_t> pinned = 0, events = 0, recordings = 0;
};
Faults& faults() {
  static auto* const all = new Faults;
  return *all;
}

/// Whether this call is to fail.
bool fails(const char* call) {
  Faults& f = faults();
  const std::lock_guard lock(f.mutex);
  if (!f.armed) return false;
  const std::size_t number = ++f.calls;
  if (number != f.nth && !(f.lasting && f.nth > 0 && number > f.nth)) return false;
  if (f.failed.empty()) f.failed = call;
  return true;
}

void ask(const char* call) {
  if (fails(call))
    throw memory::CudaError(text("cuda: ", call, " failed: cudaErrorUnknown, unknown error"));
}

/// `wait()`, and then what it is said to have found.
template <typename F>
void ask_after(const char* call, const F& wait) {
  wait();
  ask(call);
}

class FakePinned final : public memory::Resource {
 public:
  void* allocate_on(memory::Stream stream, std::size_t bytes, std::size_t alignment) override {
    if (fails("cudaHostAlloc"))
      throw memory::OutOfMemory(text("fake: cudaHostAlloc refused ", bytes, " bytes"), bytes);
    ++faults().pinned;
    return host_.allocate_on(stream, bytes, alignment);
  }
  void deallocate_on(memory::Stream stream, void* data, std::size_t bytes,
                     std::size_t alignment) override {
    --faults().pinned;
    host_.deallocate_on(stream, data, bytes, alignment);
  }

 private:
  memory::HostResource host_;
};

struct Copy {
  void* to;
  const void* from;
  std::size_t bytes;
};

void copy_in_turn(void* stream, void* to, const void* from, std::size_t bytes) {
  ask("cudaMemcpyAsync");
  names().say(names().of(stream) + " copies");
  host_ops().enqueue(
      real(stream),
      [](void* data) {
        const std::unique_ptr<Copy> copy(static_cast<Copy*>(data));
        FakeMemory::open();
        std::memcpy(copy->to, copy->from, copy->bytes);
        FakeMemory::close();
      },
      new Copy{to, from, bytes});
}

/// Of FakeMemory, with its lock held.
std::size_t free_now(const Blocks& all) {
  std::size_t used = 0;
  for (const auto& block : all.bytes) used += block.second;
  return FakeMemory::kBytes - used;
}

}  // namespace

FailingCall::FailingCall(std::size_t nth, bool lasting) {
  Faults& f = faults();
  const std::lock_guard lock(f.mutex);
  f.armed = true;
  f.lasting = lasting;
  f.nth = nth;
  f.calls = 0;
  f.failed.clear();
}

FailingCall::~FailingCall() {
  const std::lock_guard lock(faults().mutex);
  faults().armed = false;
}

std::size_t FailingCall::calls() {
  const std::lock_guard lock(faults().mutex);
  return faults().calls;
}

std::string FailingCall::failed() {
  const std::lock_guard lock(faults().mutex);
  return faults().failed;
}

Alive alive() {
  const Faults& f = faults();
  const std::lock_guard lock(blocks().mutex);
  return {blocks().bytes.size(), f.pinned, f.events, f.recordings};
}

void* FakeMemory::allocate_on(memory::Stream, std::size_t bytes, std::size_t) {
  Blocks& all = blocks();
  const std::lock_guard lock(all.mutex);
  ++calls_;
  if (const std::size_t free = free_now(all); fails("cudaMalloc") || pages(bytes) > free)
    throw memory::OutOfMemory(text("fake: cudaMalloc refused ", bytes, " bytes; ", free, " of ",
                                   kBytes, " are free; free memory or ask for less"),
                              bytes);
  void* data = ::mmap(nullptr, pages(bytes), all.open > 0 ? PROT_READ | PROT_WRITE : PROT_NONE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) throw memory::OutOfMemory("fake: no memory", bytes);
  all.bytes[data] = pages(bytes);
  return data;
}

void FakeMemory::deallocate_on(memory::Stream stream, void* data, std::size_t, std::size_t) {
  if (stream.ops != nullptr) host_ops().synchronize(real(stream.handle));  // in its order
  Blocks& all = blocks();
  const std::lock_guard lock(all.mutex);
  ++calls_;
  ::munmap(data, all.bytes.at(data));
  all.bytes.erase(data);
}

void FakeMemory::open() {
  Blocks& all = blocks();
  const std::lock_guard lock(all.mutex);
  if (all.open++ > 0) return;
  for (const auto& [data, bytes] : all.bytes) ::mprotect(data, bytes, PROT_READ | PROT_WRITE);
}

void FakeMemory::close() {
  Blocks& all = blocks();
  const std::lock_guard lock(all.mutex);
  if (--all.open > 0) return;
  for (const auto& [data, bytes] : all.bytes) ::mprotect(data, bytes, PROT_NONE);
}

FakeStream::FakeStream(std::string name) { names().add(host_.stream().handle, std::move(name)); }

const memory::StreamOps* FakeStream::ops() {
  static const memory::StreamOps made = [] {
    memory::StreamOps ops = host_ops();
    ops.name = "fake";
    ops.make_event = [](int device) {
      ask("cudaEventCreateWithFlags");
      ++faults().events;
      return host_ops().make_event(device);
    };
    ops.free_event = [](void* event) noexcept {
      --faults().events;
      host_ops().free_event(event);
    };
    ops.await = [](void* event) {
      ask_after("cudaEventSynchronize", [=] { host_ops().await(event); });
    };
    ops.record = [](void* event, void* stream) {
      ask("cudaEventRecord");
      names().say("record " + names().of(stream));
      host_ops().record(event, real(stream));
    };
    ops.make_wait = [](void* stream, void* event) {
      ask("cudaStreamWaitEvent");
      names().say(names().of(stream) + " waits");
      host_ops().make_wait(real(stream), event);
    };
    ops.enqueue = [](void* stream, void (*work)(void*), void* data) {
      host_ops().enqueue(real(stream), work, data);
    };
    ops.synchronize = [](void* stream) {
      ask_after("cudaStreamSynchronize", [=] { host_ops().synchronize(real(stream)); });
    };
    ops.copy = copy_in_turn;
    ops.memory = [](int) -> memory::Resource* {
      static auto* const all = new FakeMemory;  // arrays may outlive main()
      return all;
    };
    return ops;
  }();
  return &made;
}

std::vector<std::string> what_streams_did() { return names().take(); }

FakeLauncher::~FakeLauncher() = default;

std::shared_ptr<memory::Resource> FakeLauncher::pinned() { return std::make_shared<FakePinned>(); }

std::size_t FakeLauncher::free_bytes() {
  ask("cudaMemGetInfo");
  const std::lock_guard lock(blocks().mutex);
  return free_now(blocks());
}

FakeLauncher::Job FakeLauncher::opened(Job job) {
  return [job = std::move(job)] {
    FakeMemory::open();
    try {
      job();
    } catch (...) {
      FakeMemory::close();
      throw;
    }
    FakeMemory::close();
  };
}

void FakeLauncher::put(Job job, bool on_work) {
  if (recording_ && on_work) {
    recording_->push_back(opened(std::move(job)));
  } else if (recording_) {
    throw std::logic_error("fake: a copy on another stream while a step is recorded");
  } else {
    (on_work ? work_ : copies_).enqueue(opened(std::move(job)));
  }
}

Kernel FakeLauncher::prepare(const OpDef& op, const Site& site) {
  ask("cudaFuncGetAttributes");
  Site here = site;
  here.context = &context_;
  const auto maker = makers_.find(std::string(op.name));
  Kernel kernel;
  if (maker != makers_.end()) {
    kernel = maker->second(here);
  } else if (halves::any(site) && !op.any_dtype) {
    kernel = halves::kernel(op, here, [&](const Site& wide) { return op.cpu(wide); });
  } else {
    kernel = op.cpu(here);
  }
  const auto run = std::make_shared<std::function<void(const Args&)>>(std::move(kernel.run));
  const std::size_t inputs = site.inputs.size(), outputs = site.outputs.size();
  kernel.run = [this, run, inputs, outputs](const Args& a) {
    ask("cudaLaunchKernel");
    // As a real device does: the addresses are those of the launch, whatever is bound later.
    std::vector<void*> at(a.inputs, a.inputs + inputs);
    at.insert(at.end(), a.outputs, a.outputs + outputs);
    at.push_back(*a.scratch);
    if (!recording_) ++counts_.kernels;
    put(
        [run, at, inputs, outputs] {
          (*run)({at.data(), at.data() + inputs, at.data() + inputs + outputs});
        },
        /*on_work=*/true);
  };
  return kernel;
}

void FakeLauncher::copy(void* to, const void* from, std::size_t bytes, memory::Stream stream) {
  ask("cudaMemcpyAsync");
  if (!recording_) ++counts_.copies;
  put([=] { std::memcpy(to, from, bytes); }, stream == work());
}

void FakeLauncher::fill(void* to, std::byte value, std::size_t bytes, memory::Stream stream) {
  ask("cudaMemsetAsync");
  put([=] { std::memset(to, std::to_integer<int>(value), bytes); }, stream == work());
}

void FakeLauncher::begin_recording() {
  ask("cudaStreamBeginCapture");
  ++counts_.recorded;
  ++faults().recordings;
  recording_ = {new std::vector<Job>, [](std::vector<Job>* jobs) {
                  --faults().recordings;
                  delete jobs;
                }};
}

Launcher::Recording FakeLauncher::end_recording() {
  const auto made = std::exchange(recording_, nullptr);
  ask("cudaGraphInstantiate");
  return made;
}

void FakeLauncher::replay(const Recording& recording) {
  ask("cudaGraphLaunch");
  ++counts_.replayed;
  work_.enqueue([jobs = std::static_pointer_cast<std::vector<Job>>(recording)] {
    for (const Job& job : *jobs) job();
  });
}

void FakeLauncher::begin_range(RangeName name) {
  ranges_.push_back(std::string(static_cast<std::size_t>(2 * open_ranges_++), ' ') +
                    *static_cast<const std::string*>(name));
}

void FakeLauncher::check() {
  if (!cuda::reported(fault_)) return;
  work_.synchronize();
  cuda::throw_fault(fault_);
}

}  // namespace poolgrad::testing
