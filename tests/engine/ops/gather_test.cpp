// What gather picks, converts and refuses, and that a program reads a lent table where it lies.
#include <algorithm>
#include <numeric>
#include <random>

#include <doctest/doctest.h>

#include "engine/ops.h"
#include "engine/program.h"
#include "tests/engine/ops/evaluate.h"

namespace poolgrad {
namespace {

using testing::Evaluation, testing::Value;

Value indices_of(const std::vector<std::int32_t>& rows) {
  Value value({{static_cast<std::int64_t>(rows.size())}, DType::i32});
  std::ranges::copy(rows, value.as<std::int32_t>().begin());
  return value;
}

/// gather() of a table that counts 0, 1, 2, ... in elements of T.
template <typename T>
Value gathered(DType dtype, const Shape& shape, const std::vector<std::int32_t>& rows,
               const Gather& how, std::int32_t counted) {
  Graph graph;
  const Tensor table = graph.lent({shape, dtype}, "table");
  const Tensor indices = graph.input({{static_cast<std::int64_t>(rows.size())}, DType::i32}, "i");
  const Tensor y = gather(table, indices, how);
  Evaluation run(graph);
  Value values({shape, dtype});
  std::iota(values.as<T>().begin(), values.as<T>().end(), T{});
  run.set(table, values);
  run.set(indices, indices_of(rows));
  run.set(graph.rows(), testing::scalar(counted));
  run.run();
  return run[y];
}

TEST_CASE("gather: rows by their numbers, and zeros in rows that do not count") {
  const Value y = gathered<float>(DType::f32, {5, 2, 3}, {4, 0, 4, 1}, {}, 3);
  CHECK(y.spec == Spec{{4, 2, 3}, DType::f32});
  for (std::size_t i = 0; i < 6; ++i) {
    CHECK(y.as<float>()[i] == static_cast<float>(24 + i));
    CHECK(y.as<float>()[6 + i] == static_cast<float>(i));
    CHECK(y.as<float>()[12 + i] == static_cast<float>(24 + i));
    CHECK(y.as<float>()[18 + i] == 0.0F);
  }
}

TEST_CASE("gather: labels of any integers become int64") {
  const std::vector<std::int32_t> rows{7, 3};
  const Gather numbers{DType::i64};
  for (const Value& y : {gathered<std::uint8_t>(DType::u8, {9}, rows, numbers, 2),
                         gathered<std::int32_t>(DType::i32, {9}, rows, numbers, 2),
                         gathered<std::int64_t>(DType::i64, {9}, rows, numbers, 2)}) {
    CHECK(y.as<std::int64_t>()[0] == 7);
    CHECK(y.as<std::int64_t>()[1] == 3);
  }
}

TEST_CASE("gather: pixels become what NumPy makes of them, byte by byte") {
  const Value y = gathered<std::uint8_t>(DType::u8, {1, 256}, {0}, {DType::f32, 255.0F}, 1);
  for (std::size_t i = 0; i < 256; ++i) CHECK(y.as<float>()[i] == static_cast<float>(i) / 255.0F);
  const Value z = gathered<float>(DType::f32, {1, 256}, {0}, {DType::f32, 255.0F}, 1);
  CHECK(z.same_bits(y));
}

TEST_CASE("gather: what does not fit is refused while building") {
  Graph graph;
  const Tensor table = graph.lent({{5, 2}, DType::u8}, "table");
  const Tensor indices = graph.input({{3}, DType::i32}, "i");
  CHECK_THROWS_WITH_AS(gather(table, graph.input({{3}}, "x")),
                       "gather: table [5, 2] and indices [3] of float32; they must be [n, ...] and "
                       "[batch] of int32",
                       ShapeError);
  CHECK_THROWS_WITH_AS(gather(table, indices, {DType::f64}),
                       "gather: uint8 does not become float64; uint8 and float32 become float32, "
                       "uint8, int32 and int64 int64",
                       ShapeError);
  CHECK_THROWS_WITH_AS(gather(table, indices, {DType::i64, 2.0F}),
                       "gather: divisor 2 of int64; only floats are divided", ArgumentError);
  CHECK_THROWS_AS(gather(table, indices, {DType::f32, 0.0F}), ArgumentError);
}

struct Picker {
  Graph graph;
  Tensor table = graph.lent({{40, 600}, DType::u8}, "table");
  Tensor indices = graph.input({{32}, DType::i32}, "indices");
  Tensor weight = graph.parameter({64, 600}, Init::kaiming_uniform(600, 1), "weight");
  Tensor y = linear(gather(table, indices, {DType::f32, 255.0F}), weight);
};

struct Bytes {
  std::vector<std::uint8_t> values = std::vector<std::uint8_t>(40 * 600);
  Bytes() {
    std::mt19937 random(1);
    for (std::uint8_t& value : values) value = static_cast<std::uint8_t>(random());
  }
  ArrayView view() { return ArrayView::of(std::span(values), {40, 600}, DType::u8); }
};

TEST_CASE("lend: a table takes no bytes of the arena, is read in place and can be changed") {
  Bytes bytes;
  std::vector<std::int32_t> rows(32);
  std::iota(rows.begin(), rows.end(), 8);
  for (const int threads : {1, 2, 3}) {
    std::vector<float> first;  // of other threads the sums may be rounded in other ways
    for (const Memory memory : {Memory::planned, Memory::pooled}) {
      Picker net;
      Program program =
          compile(net.graph, {{"run", {net.y}}}, {.memory = memory, .threads = threads});
      CHECK(program.blueprint().persistent_bytes == 64 * 600 * 4 + 32 * 64 * 4 + 32 * 4 + 64);
      program.lend(net.table, bytes.view());
      CHECK(program.view(net.table).data == bytes.values.data());
      const Feed feed{net.indices, ArrayView::of(std::span(rows), {32}, DType::i32)};
      program.run("run", {&feed, 1});
      const auto y = program.view(net.y).as<float>();
      if (first.empty()) first.assign(y.begin(), y.end());
      CHECK(std::vector(y.begin(), y.end()) == first);
      Bytes other;
      std::ranges::fill(other.values, std::uint8_t{0});
      program.lend(net.table, other.view());
      program.run("run", {&feed, 1});
      CHECK(std::ranges::all_of(y, [](float value) { return value == 0.0F; }));
    }
  }
}

TEST_CASE("gather: each member gathers what it reads, and nobody waits for it") {
  Picker net;
  const Blueprint blueprint = draft(net.graph, {{"run", {net.y}}}, {.threads = 2});
  const Entry& entry = blueprint.entries[0];
  CHECK(std::ranges::count_if(entry.graph->nodes,
                              [](const Node& node) { return node.op->name == "gather"; }) == 2);
  CHECK(entry.edges.size() == 1);
}

TEST_CASE("lend: what is not the table's shape, nobody's table, or not lent at all") {
  Bytes bytes;
  Picker net;
  Program program = compile(net.graph, {{"run", {net.y}}}, {.threads = 2});
  ArrayView view = bytes.view();
  view.shape = {30, 800};
  CHECK_THROWS_WITH_AS(program.lend(net.table, view),
                       "lend: [30, 800] of uint8 does not fit table 'table' [40, 600] of uint8; it "
                       "must be dense and equal, since nothing is copied",
                       ShapeError);
  view = bytes.view();
  view.place.space = memory::Space::cuda;
  CHECK_THROWS_WITH_AS(program.lend(net.table, view),
                       "lend: table 'table' lies on cuda:0 but the program runs on cpu; copy it "
                       "there by to_device()",
                       ArgumentError);
  CHECK_THROWS_AS(program.lend(net.weight, bytes.view()), ArgumentError);
  CHECK_THROWS_WITH_AS(program.run("run"),
                       "run: entry 'run' reads table 'table', which nobody lent; call "
                       "Program::lend() first",
                       ArgumentError);
  CHECK_THROWS_AS((void)program.view(net.table), ExportError);
}

TEST_CASE("gather: an index outside the table ends the run and names itself") {
  Bytes bytes;
  Picker net;
  Program program = compile(net.graph, {{"run", {net.y}}}, {.threads = 2});
  program.lend(net.table, bytes.view());
  std::vector<std::int32_t> rows(32);
  rows[30] = 40;
  const Feed feed{net.indices, ArrayView::of(std::span(rows), {32}, DType::i32)};
  CHECK_THROWS_WITH_AS(program.run("run", {&feed, 1}),
                       "gather: index 40 in row 30 is not in [0, 40); the table has 40 rows",
                       ArgumentError);
  const Feed fewer{net.indices, ArrayView::of(std::span(rows).first(30), {30}, DType::i32)};
  program.run("run", {&fewer, 1});  // rows that do not count are not looked at
}

}  // namespace
}  // namespace poolgrad
