// Jobs on two worker threads, which open the memory for as long as they run.
#include "tests/cuda/fake_launcher.h"

#include <algorithm>
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

struct Copy {
  void* to;
  const void* from;
  std::size_t bytes;
};

void copy_in_turn(void* stream, void* to, const void* from, std::size_t bytes) {
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

}  // namespace

void* FakeMemory::allocate_on(memory::Stream, std::size_t bytes, std::size_t) {
  Blocks& all = blocks();
  const std::lock_guard lock(all.mutex);
  ++calls_;
  void* data = ::mmap(nullptr, pages(bytes), all.open > 0 ? PROT_READ | PROT_WRITE : PROT_NONE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) throw memory::OutOfMemory("fake: no memory", bytes);
  all.bytes[data] = pages(bytes);
  return data;
}

void FakeMemory::deallocate_on(memory::Stream stream, void* data, std::size_t, std::size_t) {
  stream.synchronize();  // as cudaFree waits for the device
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
    ops.record = [](void* event, void* stream) {
      names().say("record " + names().of(stream));
      host_ops().record(event, real(stream));
    };
    ops.make_wait = [](void* stream, void* event) {
      names().say(names().of(stream) + " waits");
      host_ops().make_wait(real(stream), event);
    };
    ops.enqueue = [](void* stream, void (*work)(void*), void* data) {
      host_ops().enqueue(real(stream), work, data);
    };
    ops.synchronize = [](void* stream) { host_ops().synchronize(real(stream)); };
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
  if (!recording_) ++counts_.copies;
  put([=] { std::memcpy(to, from, bytes); }, stream == work());
}

void FakeLauncher::fill(void* to, std::byte value, std::size_t bytes, memory::Stream stream) {
  put([=] { std::memset(to, std::to_integer<int>(value), bytes); }, stream == work());
}

void FakeLauncher::begin_recording() {
  ++counts_.recorded;
  recording_ = std::make_shared<std::vector<Job>>();
}

Launcher::Recording FakeLauncher::end_recording() { return std::exchange(recording_, nullptr); }

void FakeLauncher::replay(const Recording& recording) {
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
