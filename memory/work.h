// Work: a function to be called once, with what it captured; small ones need no heap. What runs it
// is not here.
#pragma once

#include <cstddef>
#include <memory>
#include <type_traits>
#include <utility>

namespace poolgrad::memory {

/// Like std::function<void()>, but what it holds need only be movable, and up to 48 bytes of it lie
/// here.
class Work {
 public:
  Work() = default;

  template <typename F, typename = std::enable_if_t<!std::is_same_v<std::decay_t<F>, Work>>>
  Work(F&& function) {  // NOLINT(bugprone-forwarding-reference-overload): Work itself is ruled out
    using Function = std::decay_t<F>;
    if constexpr (sizeof(Function) <= kInlineBytes &&
                  alignof(Function) <= alignof(std::max_align_t) &&
                  std::is_nothrow_move_constructible_v<Function>) {
      new (bytes_) Function(std::forward<F>(function));
      does_ = [](Job job, void* self, void* to) {
        auto* const held = static_cast<Function*>(self);
        if (job == Job::call) return (*held)();
        if (job == Job::move) new (to) Function(std::move(*held));
        held->~Function();
      };
    } else {
      *this = [held = std::make_unique<Function>(std::forward<F>(function))] { (*held)(); };
    }
  }

  Work(Work&& other) noexcept { take(other); }
  Work& operator=(Work&& other) noexcept {
    if (this == &other) return *this;
    drop();
    take(other);
    return *this;
  }
  ~Work() { drop(); }

  void operator()() { does_(Job::call, bytes_, nullptr); }

 private:
  enum class Job { call, move, drop };
  static constexpr std::size_t kInlineBytes = 48;

  void take(Work& other) noexcept {
    does_ = std::exchange(other.does_, nullptr);
    if (does_ != nullptr) does_(Job::move, other.bytes_, bytes_);
  }
  void drop() noexcept {
    if (does_ != nullptr) std::exchange(does_, nullptr)(Job::drop, bytes_, nullptr);
  }

  alignas(std::max_align_t) std::byte bytes_[kInlineBytes];
  void (*does_)(Job, void* self, void* to) = nullptr;
};

}  // namespace poolgrad::memory
