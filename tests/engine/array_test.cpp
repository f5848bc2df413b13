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
  const std::vector<std::uint16_t> half(3);
  CHECK_THROWS_WITH_AS(copy(ArrayView::of(std::span(half), {3}, DType::bf16),
                            ArrayView::of(std::span(wide), {3}, DType::i64)),
                       "copy: bfloat16 does not convert to int64; convert the values first",
                       ArgumentError);
  CHECK_THROWS_WITH_AS(copy(ArrayView::of(std::span(labels).first(2), {2}, DType::i32),
                            ArrayView::of(std::span(wide), {3}, DType::i64)),
                       "copy: from [2] to [3]; shapes must be equal", ShapeError);
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
