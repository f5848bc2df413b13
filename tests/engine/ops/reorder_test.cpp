// reorder, its view relabel, and duplicate.
#include <cstring>

#include <doctest/doctest.h>

#include "engine/ops.h"
#include "tests/engine/gradient.h"
#include "tests/engine/ops/evaluate.h"

namespace poolgrad {
namespace {

TEST_CASE(
    "reorder: both ways move every value to where its strides say, for every size of element") {
  for (const DType dtype : {DType::f32, DType::u8, DType::f16, DType::i64}) {
    for (const Shape& shape : {Shape{2, 3, 5, 4}, Shape{1, 33, 7, 7}, Shape{3, 16, 17, 2}}) {
      CAPTURE(to_string(dtype));
      CAPTURE(to_string(shape));
      Graph graph;
      const Tensor x = graph.input({shape, dtype}, "x");
      const Tensor y = reorder(x, Layout::channels_last);
      CHECK(y.spec().layout == Layout::channels_last);
      const Tensor z = reorder(y, Layout::row_major);
      REQUIRE(graph.nodes.size() == 2);
      testing::Value value(x.spec());
      for (std::size_t i = 0; i < x.spec().bytes(); ++i)
        value.bytes.data()[i] = static_cast<std::byte>(i * 7 % 251);
      // run_op() turns outputs back into row-major by strides: it must undo what the kernel did.
      const auto there = testing::run_op(*graph.nodes[0].op, graph.nodes[0].attributes, {value});
      CHECK(std::memcmp(there[0].bytes.data(), value.bytes.data(), value.spec.bytes()) == 0);
      testing::Value last(y.spec());
      const std::size_t size = size_of(dtype);
      for (std::int64_t n = 0, to = 0; n < shape[0]; ++n) {
        for (std::int64_t hw = 0; hw < shape[2] * shape[3]; ++hw) {
          for (std::int64_t c = 0; c < shape[1]; ++c, ++to) {
            const std::int64_t from = (n * shape[1] + c) * shape[2] * shape[3] + hw;
            std::memcpy(last.bytes.data() + static_cast<std::size_t>(to) * size,
                        value.bytes.data() + static_cast<std::size_t>(from) * size, size);
          }
        }
      }
      const auto back = testing::run_op(*graph.nodes[1].op, graph.nodes[1].attributes, {last});
      CHECK(back[0].spec == z.spec());
      CHECK(std::memcmp(back[0].bytes.data(), value.bytes.data(), value.spec.bytes()) == 0);
    }
  }
}

TEST_CASE(
    "reorder: is a view where both orders agree, and nothing where the layout is there already") {
  Graph graph;
  const Tensor gray = graph.input({{2, 1, 5, 5}}, "gray"), pixel = graph.input({{2, 7, 1, 1}}, "p");
  CHECK(reorder(gray, Layout::row_major) == gray);
  (void)reorder(gray, Layout::channels_last);
  (void)reorder(pixel, Layout::channels_last);
  CHECK(static_cast<bool>(graph.nodes[0].op->view));
  CHECK(static_cast<bool>(graph.nodes[1].op->view));
  CHECK_THROWS_AS(reorder(graph.input({{2, 3}}, "m"), Layout::channels_last), ShapeError);
}

TEST_CASE("duplicate: has the same values, and its gradient is that of the copy") {
  CHECK(testing::gradient_gap(duplicate, {3, 4}, /*seed=*/1) < 1e-3);
}

}  // namespace
}  // namespace poolgrad
