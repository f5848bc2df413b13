// What stands before and after cuDNN's engines, as loops on the host.
#include "engine/cuda/helpers.h"

#include <vector>

#include <doctest/doctest.h>

#include "engine/half.h"

namespace poolgrad {
namespace {

using cuda::Queue;

Queue queue() {
  const Attributes none;
  return Queue("test", Site{.inputs = {}, .outputs = {}, .attributes = none});
}

template <typename T>
std::vector<T> counted(std::size_t count) {
  std::vector<T> values;
  for (std::size_t i = 0; i < count; ++i) values.push_back(static_cast<T>(static_cast<float>(i)));
  return values;
}

template <typename T>
void check_turn(DType dtype) {
  constexpr std::int64_t kImages = 2, kRows = 3, kColumns = 4;
  const std::vector<float> from = counted<float>(24);
  std::vector<T> to(24);
  cuda::turn(queue(), {from.data(), DType::f32}, {to.data(), dtype}, kImages, kRows, kColumns);
  for (std::int64_t i = 0; i < kImages; ++i) {
    for (std::int64_t r = 0; r < kRows; ++r) {
      for (std::int64_t c = 0; c < kColumns; ++c)
        CHECK(static_cast<float>(to[static_cast<std::size_t>((i * kColumns + c) * kRows + r)]) ==
              from[static_cast<std::size_t>((i * kRows + r) * kColumns + c)]);
    }
  }
  std::vector<float> back(24);
  cuda::turn(queue(), {to.data(), dtype}, {back.data(), DType::f32}, kImages, kColumns, kRows);
  CHECK(back == from);
}

TEST_CASE("helpers: weights are turned and converted, and come back") {
  check_turn<float>(DType::f32);
  check_turn<f16>(DType::f16);
  check_turn<bf16>(DType::bf16);
}

TEST_CASE("helpers: a bias of any dtype is added to values of any, then ReLU") {
  std::vector<bf16> y{bf16(1.0F), bf16(-3.0F), bf16(0.5F), bf16(2.0F)};
  const std::vector<float> bias{-2.0F, 1.0F};
  cuda::bias_relu(queue(), {bias.data(), DType::f32}, true, {y.data(), DType::bf16}, 2, 2);
  CHECK(std::vector<float>(y.begin(), y.end()) == std::vector<float>{0.0F, 0.0F, 0.0F, 3.0F});
  cuda::bias_relu(queue(), {nullptr, DType::f32}, false, {nullptr, DType::f32}, 2, 2);
}

TEST_CASE("helpers: a bias's gradient is the sum by channel, in f64 until it is rounded once") {
  const std::vector<f16> dy = counted<f16>(600);
  std::vector<std::byte> workspace(cuda::bias_grad_bytes(200, 3));
  std::vector<float> sums(3);
  cuda::bias_grad(queue(), DType::f16, dy.data(), sums.data(), 200, 3, workspace.data());
  CHECK(sums == std::vector<float>{59700.0F, 59900.0F, 60100.0F});
}

TEST_CASE("helpers: integers are refused") {
  CHECK_THROWS_WITH_AS(cuda::turn(queue(), {nullptr, DType::i32}, {nullptr, DType::f32}, 1, 1, 1),
                       "no CUDA kernel for values of int32", DeviceError);
}

}  // namespace
}  // namespace poolgrad
