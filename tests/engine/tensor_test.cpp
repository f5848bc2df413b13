// Shapes, strides and names: what every message and every export rests on.
#include "engine/tensor.h"

#include <limits>

#include <doctest/doctest.h>

#include "engine/error.h"

namespace poolgrad {
namespace {

TEST_CASE("shape: prints as PyTorch does and refuses a seventh axis") {
  CHECK(to_string(Shape{32, 784}) == "[32, 784]");
  CHECK(to_string(Shape{}) == "[]");
  CHECK(Shape{}.count() == 1);
  CHECK_THROWS_WITH_AS((Shape{1, 2, 3, 4, 5, 6, 7}), "shape: 7 axes, but 6 are the most",
                       ShapeError);
}

TEST_CASE("strides: row-major and channels-last orders hold every element once") {
  const Spec row_major{{2, 3, 4, 5}},
      channels_last{{2, 3, 4, 5}, DType::f32, Layout::channels_last};
  CHECK(row_major.strides() == Shape{60, 20, 5, 1});
  CHECK(channels_last.strides() == Shape{60, 1, 15, 3});
  CHECK(row_major.bytes() == 480);
}

TEST_CASE(
    "extents: below one, or more bytes than can be counted, is an error that shows the shape") {
  CHECK_THROWS_WITH_AS(check_extents({{32, 0}}, "input 'x'"),
                       "input 'x': shape [32, 0] has an extent below 1", ShapeError);
  const std::int64_t huge = std::numeric_limits<std::int64_t>::max() / 4;
  CHECK_NOTHROW(check_extents({{huge}}, "x"));
  CHECK_THROWS_AS(check_extents({{huge, 2}}, "x"), ShapeError);
  CHECK_THROWS_AS(check_extents({{huge}, DType::f64}, "x"), ShapeError);
}

}  // namespace
}  // namespace poolgrad
