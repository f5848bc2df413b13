// A ring of entries under a lock, and two counters that only go up: what was queued, what is done.
#include "memory/host_stream.h"

#include <atomic>
#include <cstdint>
#include <exception>
#include <mutex>
#include <stdexcept>
#include <thread>
#include <vector>

#include "memory/forks.h"

namespace poolgrad::memory {
namespace {

constexpr int kSpins = 2000;  // about 20 µs

void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

/// Waits until `number` is at least `least`, and answers it.
std::uint64_t wait_for(const std::atomic<std::uint64_t>& number, std::uint64_t least) {
  for (int spin = 0;; ++spin) {
    const std::uint64_t now = number.load(std::memory_order_acquire);
    if (now >= least) return now;
    if (spin < kSpins) {
      pause();
    } else {
      number.wait(now, std::memory_order_acquire);
    }
  }
}

/// How far a stream has come: kept by its events too, which may outlive it.
struct Progress {
  std::atomic<std::uint64_t> done = 0;
  unsigned made_in = forks();

  [[nodiscard]] bool forked() const { return made_in != forks(); }
};

/// An event is a number of entries of a stream.
struct Moment {
  std::shared_ptr<const Progress> of;
  std::uint64_t number = 0;

  [[nodiscard]] bool done() const {
    return of == nullptr || of->done.load(std::memory_order_acquire) >= number || of->forked();
  }
  void wait() const {
    if (!done()) wait_for(of->done, number);
  }
};

}  // namespace

class HostStream::State {
 public:
  State() : progress_(std::make_shared<Progress>()), ring_(64), thread_([this] { work(); }) {}
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  // Who has no memory for one more entry cannot stop the worker: the process ends.
  ~State() {  // NOLINT(bugprone-exception-escape)
    stop_ = true;
    push([] {}, /*always=*/true);
    thread_.join();
  }

  [[nodiscard]] bool forked() const { return progress_->forked(); }

  [[nodiscard]] Moment now() const { return {progress_, queued_.load(std::memory_order_acquire)}; }
  void record(Moment& moment) const {
    if (moment.of != progress_) moment.of = progress_;
    moment.number = queued_.load(std::memory_order_acquire);
  }

  /// `always`: even behind work that threw.
  void push(Work work, bool always = false) {
    refuse_in_child();
    {
      const std::lock_guard lock(mutex_);
      if (count_ == ring_.size()) grow();
      ring_[(first_ + count_) & (ring_.size() - 1)] = {std::move(work), always};
      ++count_;
      queued_.fetch_add(1, std::memory_order_release);
    }
    queued_.notify_one();  // no system call where the worker is awake
  }

  void synchronize() {
    refuse_in_child();
    if (std::this_thread::get_id() == thread_.get_id()) {
      throw std::logic_error(
          "host stream: its own work called synchronize(), which would wait for itself; call it "
          "from another thread");
    }
    now().wait();
    std::exception_ptr failure;
    {
      const std::lock_guard lock(mutex_);
      failure.swap(failure_);
      failed_ = false;
    }
    if (failure) std::rethrow_exception(failure);
  }

 private:
  struct Entry {
    Work work;
    bool always = false;
  };

  void refuse_in_child() const {
    if (forked()) {
      throw std::runtime_error(
          "host stream: this process was forked off from the one that made the stream, whose "
          "thread is not here; make another one");
    }
  }

  void grow() {
    std::vector<Entry> larger(2 * ring_.size());
    for (std::size_t i = 0; i < count_; ++i)
      larger[i] = std::move(ring_[(first_ + i) & (count_ - 1)]);
    ring_.swap(larger);
    first_ = 0;
  }

  void work() {
    for (std::uint64_t next = 1;; ++next) {
      wait_for(queued_, next);
      {
        Entry entry = pop();
        if (entry.always || !failed_) call(entry.work);
      }  // what it captured is gone before it counts as done
      progress_->done.fetch_add(1, std::memory_order_acq_rel);
      progress_->done.notify_all();
      if (stop_ && next == queued_.load(std::memory_order_acquire)) return;
    }
  }

  Entry pop() {
    const std::lock_guard lock(mutex_);
    Entry entry = std::move(ring_[first_]);
    first_ = (first_ + 1) & (ring_.size() - 1);
    --count_;
    return entry;
  }

  void call(Work& work) {
    try {
      work();
    } catch (...) {
      const std::lock_guard lock(mutex_);
      failure_ = std::current_exception();
      failed_ = true;
    }
  }

  std::shared_ptr<Progress> progress_;
  std::mutex mutex_;
  std::vector<Entry> ring_;  // a power of two
  std::size_t first_ = 0, count_ = 0;
  std::exception_ptr failure_;
  std::atomic<bool> failed_ = false;
  std::atomic<bool> stop_ = false;
  std::atomic<std::uint64_t> queued_ = 0;
  std::thread thread_;  // last: it begins when all else is there
};

namespace {

HostStream::State& state(void* stream) { return *static_cast<HostStream::State*>(stream); }
Moment& moment(void* event) { return *static_cast<Moment*>(event); }

constexpr StreamOps kHostOps{
    .name = "host",
    .make_event = [](int) -> void* { return new Moment; },
    .free_event = [](void* event) noexcept { delete &moment(event); },
    .record = [](void* event, void* stream) { state(stream).record(moment(event)); },
    .done = [](void* event) { return moment(event).done(); },
    .await = [](void* event) { moment(event).wait(); },
    .make_wait =
        [](void* stream, void* event) {
          if (moment(event).done()) return;
          state(stream).push([awaited = moment(event)] { awaited.wait(); }, /*always=*/true);
        },
    .enqueue = [](void* stream, void (*work)(void*),
                  void* data) { state(stream).push([work, data] { work(data); }); },
    .synchronize = [](void* stream) { state(stream).synchronize(); },
};

}  // namespace

HostStream::HostStream() : state_(std::make_unique<State>()) {}

HostStream::HostStream(Stream released) : state_(&state(released.handle)) {}

Stream HostStream::release() {
  const Stream result = stream();
  static_cast<void>(state_.release());
  return result;
}

HostStream::~HostStream() {
  if (state_ != nullptr && state_->forked())
    static_cast<void>(state_.release());  // its thread cannot be joined
}

Stream HostStream::stream() const { return {state_.get(), &kHostOps}; }

void HostStream::push(Work work) { state_->push(std::move(work)); }

void HostStream::synchronize() { state_->synchronize(); }

}  // namespace poolgrad::memory
