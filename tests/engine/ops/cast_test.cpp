// cast: what rounding is, half_test.cpp says; here that every pair of dtypes goes through it.
#include <algorithm>

#include <doctest/doctest.h>

#include "engine/autograd.h"
#include "engine/half.h"
#include "engine/ops.h"
#include "tests/engine/ops/evaluate.h"

namespace poolgrad {
namespace {

using testing::Evaluation, testing::Value;

TEST_CASE("cast: f32, f16 and bf16 become each other, rounded to the nearest") {
  Graph graph;
  const std::int64_t count = 3001;  // more than a block, and no multiple of a vector
  const Tensor x = graph.input({{count}}, "x");
  const Tensor h = cast(x, DType::f16), b = cast(x, DType::bf16);
  const Tensor h_to_b = cast(h, DType::bf16), b_to_h = cast(b, DType::f16),
               back = cast(b, DType::f32);
  CHECK(cast(x, DType::f32) == x);
  Evaluation run(graph);
  const std::vector<float> values = testing::spread(count, 3, 0.37F);
  run.set(x, values);
  run.run();
  for (std::size_t i = 0; i < values.size(); ++i) {
    const f16 as_f16(values[i]);
    const bf16 as_bf16(values[i]);
    CAPTURE(values[i]);
    REQUIRE(run[h].as<std::uint16_t>()[i] == as_f16.bits);
    REQUIRE(run[b].as<std::uint16_t>()[i] == as_bf16.bits);
    REQUIRE(run[h_to_b].as<std::uint16_t>()[i] == bf16(static_cast<float>(as_f16)).bits);
    REQUIRE(run[b_to_h].as<std::uint16_t>()[i] == f16(static_cast<float>(as_bf16)).bits);
    REQUIRE(run[back].as<float>()[i] == static_cast<float>(as_bf16));
  }
}

TEST_CASE("cast: the gradient is cast back") {
  Graph graph;
  const Tensor w = graph.parameter({4, 3}, {}, "w"), x = graph.input({{5, 3}}, "x");
  const Tensor y = linear(cast(x, DType::bf16), cast(w, DType::bf16));
  CHECK(y.spec().dtype == DType::bf16);
  const Tensor labels = graph.input({{5}, DType::i64}, "labels");
  const Tensor loss = softmax_cross_entropy(y, labels);
  CHECK(loss.spec().dtype == DType::f32);
  const std::vector wanted{w};
  const auto grads = differentiate(loss, wanted, graph.input({{}}, "one"));
  CHECK(grads[0].spec() == w.spec());
}

TEST_CASE("cast: the error names both dtypes") {
  Graph graph;
  CHECK_THROWS_WITH_AS(
      cast(graph.input({{2}, DType::i64}, "x"), DType::f16),
      "cast: int64 does not become float16; float32, float16 and bfloat16 become each other",
      ShapeError);
}

}  // namespace
}  // namespace poolgrad
