// HostStream: the CPU's stream, a thread that does what is queued, in order.
#pragma once

#include <cstddef>
#include <memory>
#include <utility>

#include "memory/stream.h"
#include "memory/work.h"

namespace poolgrad::memory {

/// A worker thread and its queue. It waits by spinning for some 20 µs, then sleeps in the kernel.
/// Safe to use from several threads.
///
/// When work throws, what stands behind it is dropped instead of called, until synchronize() has
/// thrown the exception; waits for events are kept even then, so that order holds.
///
/// After a fork the child's copy has no thread: events of it count as done (nobody in the child
/// works for it), enqueue() and synchronize() throw std::runtime_error, and it may be destroyed.
class HostStream {
 public:
  HostStream();
  HostStream(const HostStream&) = delete;
  HostStream& operator=(const HostStream&) = delete;
  /// Waits until all work is done; what it threw is lost.
  ~HostStream();

  /// For handles of other languages: the stream is now the caller's to keep, and this object must
  /// not be used any more. HostStream(that) is it again.
  [[nodiscard]] Stream release();
  explicit HostStream(Stream released);

  /// Valid as long as this lives. What Stream and Event say of streams holds for it.
  [[nodiscard]] Stream stream() const;

  /// Queues a function of no arguments, called once and then destroyed on the worker. Does not
  /// wait. Allocates only where it captures more than 48 bytes, or the queue has never been so
  /// long.
  template <typename F>
  void enqueue(F&& work) {
    push(Work(std::forward<F>(work)));
  }

  /// Waits until all work queued so far is done. Throws the first exception of it, if any. Must not
  /// be called on the worker itself, which throws std::logic_error.
  void synchronize();

  class State;

 private:
  void push(Work work);

  std::unique_ptr<State> state_;
};

}  // namespace poolgrad::memory
