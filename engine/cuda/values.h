// Values as kernels see them: several neighbours at once, f32 where memory holds 16 bits; and what
// finds out how many fit. For .cu files.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <type_traits>

#include "engine/cuda/both.h"
#include "engine/error.h"
#include "engine/half.h"
#include "engine/tensor.h"

namespace poolgrad::cuda {

/// What values of T are computed in.
template <typename T>
using Wide = std::conditional_t<std::is_same_v<T, f16> || std::is_same_v<T, bf16>, float, T>;

/// Bytes that one instruction moves, at most.
inline constexpr int kWord = 16;
template <typename T>
inline constexpr int kFit = kWord / static_cast<int>(sizeof(T));

template <typename A, int N>
struct Few {
  A v[N];
  POOLGRAD_BOTH A& operator[](int i) { return v[i]; }
  POOLGRAD_BOTH const A& operator[](int i) const { return v[i]; }
};

/// As they lie in memory: moved by as few instructions as may be.
template <typename T, int N>
struct alignas(N * sizeof(T) < kWord ? N * sizeof(T) : kWord) Packed {
  T v[N];
};

/// N neighbours from `from` on, which is aligned to as many bytes (16 at most).
template <int N, typename T>
POOLGRAD_BOTH inline Few<Wide<T>, N> load(const T* from) {
  const Packed<T, N> packed = *reinterpret_cast<const Packed<T, N>*>(from);
  Few<Wide<T>, N> few;
  for (int i = 0; i < N; ++i) few[i] = static_cast<Wide<T>>(packed.v[i]);
  return few;
}

/// The same one by one, wherever they lie: parameters stand end to end.
template <int N, typename T>
POOLGRAD_BOTH inline Few<Wide<T>, N> load_singly(const T* from) {
  Few<Wide<T>, N> few;
  for (int i = 0; i < N; ++i) few[i] = static_cast<Wide<T>>(from[i]);
  return few;
}

template <int N, typename T>
POOLGRAD_BOTH inline void store(T* to, const Few<Wide<T>, N>& few) {
  Packed<T, N> packed;
  for (int i = 0; i < N; ++i) packed.v[i] = static_cast<T>(few[i]);
  *reinterpret_cast<Packed<T, N>*>(to) = packed;
}

inline bool aligned(std::initializer_list<const void*> addresses) {
  for (const void* address : addresses) {
    if (reinterpret_cast<std::uintptr_t>(address) % kWord != 0) return false;
  }
  return true;
}

template <int N>
using Width = std::integral_constant<int, N>;

/// visit(Width<N>{}): N is kMost where rows of `columns` values can be moved by so many at a time,
/// else 1.
template <int kMost, typename F>
void by_width(std::int64_t columns, std::initializer_list<const void*> addresses, const F& visit) {
  if (columns % kMost == 0 && aligned(addresses)) {
    visit(Width<kMost>{});
  } else {
    visit(Width<1>{});
  }
}

template <typename T>
struct Of {
  using Type = T;
};

/// make(Of<T>{}) for the T that activations of a network are kept in.
template <typename F>
auto by_dtype(DType dtype, const F& make) {
  switch (dtype) {
    case DType::f32:
      return make(Of<float>{});
    case DType::f16:
      return make(Of<f16>{});
    case DType::bf16:
      return make(Of<bf16>{});
    default:
      throw DeviceError(text("no CUDA kernel for values of ", dtype));
  }
}

/// Divides by what is known before: by a multiplication and a shift where both are below 2^31.
class Divisor {
 public:
  explicit Divisor(std::int64_t by) : by_(by) {
    while (shift_ < 32 && by > std::int64_t{1} << shift_) ++shift_;
    if (shift_ > 31) return;
    const std::uint64_t one = 1;
    magic_ = static_cast<std::uint32_t>(
        ((one << 32) * ((one << shift_) - static_cast<std::uint64_t>(by))) /
            static_cast<std::uint64_t>(by) +
        1);
  }

  /// Of values that are not negative.
  [[nodiscard]] POOLGRAD_BOTH std::int64_t quotient(std::int64_t value) const {
    if (value > 0x7FFF'FFFF || shift_ > 31) return value / by_;
    const auto small = static_cast<std::uint32_t>(value);
#ifdef __CUDA_ARCH__
    const std::uint32_t high = __umulhi(small, magic_);
#else
    const auto high = static_cast<std::uint32_t>((std::uint64_t{small} * magic_) >> 32);
#endif
    return (high + small) >> shift_;
  }
  [[nodiscard]] POOLGRAD_BOTH std::int64_t by() const { return by_; }

 private:
  std::int64_t by_;
  std::uint32_t magic_ = 0;
  int shift_ = 0;
};

/// Takes the remainder off: value becomes the quotient.
POOLGRAD_BOTH inline std::int64_t split(std::int64_t& value, const Divisor& divisor) {
  const std::int64_t all = value;
  value = divisor.quotient(all);
  return all - value * divisor.by();
}

}  // namespace poolgrad::cuda
