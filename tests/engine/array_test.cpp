// Copies over every kind of stride, with conversion.
#include "engine/array.h"

#include <numeric>

#include <doctest/doctest.h>

#include "engine/error.h"

namespace poolgrad {
namespace {

TEST_CASE("copy: strided, reversed and repeated sources arrive in order") {
  std::vector<float> source(12), target(6);
  std::iota(source.begin(), source.end(), 0.0F);
  const ArrayView to = ArrayView::of(std::span(target), {2, 3}, DType::f32);
  ArrayView from = ArrayView::of(std::span(source).first(6), {2, 3}, DType::f32);
  from.strides = {1, 2};  // transposed
  copy(from, to);
  CHECK(target == std::vector<float>{0, 2, 4, 1, 3, 5});
  from.data = &source[5];
  from.strides = {-3, -1};
  copy(from, to);
  CHECK(target == std::vector<float>{5, 4, 3, 2, 1, 0});
  from.strides = {0, 1};
  copy(from, to);
  CHECK(target == std::vector<float>{5, 6, 7, 5, 6, 7});
}

TEST_CASE("copy: converts numbers, and says which dtypes it does not") {
  const std::vector<std::int32_t> labels{3, -1, 9};
  std::vector<std::int64_t> wide(3);
  copy(ArrayView::of(std::span(labels), {3}, DType::i32),
       ArrayView::of(std::span(wide), {3}, DType::i64));
  CHECK(wide == std::vector<std::int64_t>{3, -1, 9});
  std::vector<std::uint8_t> flags(3);
  CHECK_THROWS_WITH_AS(copy(ArrayView::of(std::span(labels), {3}, DType::i32),
                            ArrayView::of(std::span(flags), {3}, DType::boolean)),
                       "copy: int32 does not convert to bool; convert the values first",
                       ArgumentError);
  CHECK_THROWS_WITH_AS(copy(ArrayView::of(std::span(labels).first(2), {2}, DType::i32),
                            ArrayView::of(std::span(wide), {3}, DType::i64)),
                       "copy: from [2] to [3]; shapes must be equal", ShapeError);
}

TEST_CASE("copy: halves convert from and to every number, rounded once") {
  const std::vector<double> source{1.0, -0.5, 1.0 + 0x1p-11 + 0x1p-40, 3e9};
  std::vector<std::uint16_t> target(4);
  copy(ArrayView::of(std::span(source), {4}, DType::f64),
       ArrayView::of(std::span(target), {4}, DType::f16));
  CHECK(target == std::vector<std::uint16_t>{0x3C00, 0xB800, 0x3C01, 0x7C00});  // by float: 0x3C00
  copy(ArrayView::of(std::span(source), {4}, DType::f64),
       ArrayView::of(std::span(target), {4}, DType::bf16));
  CHECK(target == std::vector<std::uint16_t>{0x3F80, 0xBF00, 0x3F80, 0x4F33});
  std::vector<std::int64_t> back(3);
  copy(ArrayView::of(std::span(target).first(3), {3}, DType::bf16),
       ArrayView::of(std::span(back), {3}, DType::i64));
  CHECK(back == std::vector<std::int64_t>{1, 0, 1});
  const std::vector<std::int32_t> many{257, -3, (1 << 24) + (1 << 16) + 1};
  copy(ArrayView::of(std::span(many), {3}, DType::i32),
       ArrayView::of(std::span(target).first(3), {3}, DType::bf16));
  CHECK(std::vector(target.begin(), target.begin() + 3) ==
        std::vector<std::uint16_t>{0x4380, 0xC040, 0x4B81});  // 257 is a tie, the last is above one
}

TEST_CASE("row_major: strides of axes with one element do not matter") {
  ArrayView view;
  view.shape = {1, 4}, view.strides = {99, 1};
  CHECK(view.row_major());
  view.strides = {4, 2};
  CHECK_FALSE(view.row_major());
}

}  // namespace
}  // namespace poolgrad
