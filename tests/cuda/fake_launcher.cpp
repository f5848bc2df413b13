// Jobs on two worker threads, which open the memory for as long as they run.
#include "tests/cuda/fake_launcher.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>

#include <sys/mman.h>

#include "engine/cuda/fault.h"

namespace poolgrad::testing {
namespace {
std::size_t pages(std::size_t bytes) {
  return memory::aligned(std::max<std::size_t>(bytes, 1), 4096);
}
}  // namespace

void* FakeMemory::allocate_on(memory::Stream, std::size_t bytes, std::size_t) {
  const std::lock_guard lock(mutex_);
  ++calls_;
  void* data = ::mmap(nullptr, pages(bytes), open_ > 0 ? PROT_READ | PROT_WRITE : PROT_NONE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) throw memory::OutOfMemory("fake: no memory", bytes);
  blocks_[data] = pages(bytes);
  return data;
}

void FakeMemory::deallocate_on(memory::Stream stream, void* data, std::size_t, std::size_t) {
  stream.synchronize();  // as cudaFree waits for the device
  const std::lock_guard lock(mutex_);
  ++calls_;
  ::munmap(data, blocks_.at(data));
  blocks_.erase(data);
}

void FakeMemory::open() {
  const std::lock_guard lock(mutex_);
  if (open_++ > 0) return;
  for (const auto& [data, bytes] : blocks_) ::mprotect(data, bytes, PROT_READ | PROT_WRITE);
}

void FakeMemory::close() {
  const std::lock_guard lock(mutex_);
  if (--open_ > 0) return;
  for (const auto& [data, bytes] : blocks_) ::mprotect(data, bytes, PROT_NONE);
}

FakeLauncher::~FakeLauncher() = default;

FakeLauncher::Job FakeLauncher::opened(Job job) {
  return [memory = memory_, job = std::move(job)] {
    memory->open();
    try {
      job();
    } catch (...) {
      memory->close();
      throw;
    }
    memory->close();
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
  Kernel kernel = maker != makers_.end() ? maker->second(here) : op.cpu(here);
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
