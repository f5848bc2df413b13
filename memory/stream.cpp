// What streams and events of all kinds have in common: the calling thread needs no waiting, and two
// kinds wait for each other by way of it.
#include "memory/stream.h"

#include <cstring>
#include <memory>
#include <utility>

namespace poolgrad::memory {
namespace {

void enter(const StreamOps& ops) {
  if (ops.enter != nullptr) ops.enter(ops.device);
}

struct Copy {
  void* to;
  const void* from;
  std::size_t bytes;
};

}  // namespace

void Stream::wait(const Event& event) const {
  if (event.ops_ == nullptr) return;
  if (same_kind({nullptr, event.ops_})) {
    enter(*ops);
    ops->make_wait(handle, event.handle_);
  } else {
    event.wait();
  }
}

void Stream::enqueue(void (*work)(void*), void* data) const {
  ops != nullptr ? ops->enqueue(handle, work, data) : work(data);
}

void Stream::copy(void* to, const void* from, std::size_t bytes) const {
  if (bytes == 0) return;
  if (ops == nullptr) {
    std::memcpy(to, from, bytes);
  } else if (ops->copy != nullptr) {
    enter(*ops);
    ops->copy(handle, to, from, bytes);
  } else {
    auto job = std::make_unique<Copy>(Copy{to, from, bytes});
    const auto work = [](void* data) {
      const std::unique_ptr<Copy> copy(static_cast<Copy*>(data));
      std::memcpy(copy->to, copy->from, copy->bytes);
    };
    ops->enqueue(handle, work, job.get());
    (void)job.release();  // the work's
  }
}

void Stream::synchronize() const {
  if (ops == nullptr) return;
  enter(*ops);
  ops->synchronize(handle);
}

Event::Event(Event&& other) noexcept
    : ops_(std::exchange(other.ops_, nullptr)), handle_(std::exchange(other.handle_, nullptr)) {}

Event& Event::operator=(Event&& other) noexcept {
  std::swap(ops_, other.ops_);
  std::swap(handle_, other.handle_);
  return *this;
}

Event::~Event() {
  if (ops_ != nullptr) ops_->free_event(handle_);
}

void Event::record(Stream stream) {
  if (ops_ != stream.ops) {
    Event fresh;
    if (stream.ops != nullptr) fresh.handle_ = stream.ops->make_event(stream.ops->device);
    fresh.ops_ = stream.ops;
    *this = std::move(fresh);
  }
  if (ops_ == nullptr) return;
  enter(*ops_);
  ops_->record(handle_, stream.handle);
}

bool Event::done() const { return ops_ == nullptr || ops_->done(handle_); }

void Event::wait() const {
  if (ops_ != nullptr) ops_->await(handle_);
}

}  // namespace poolgrad::memory
