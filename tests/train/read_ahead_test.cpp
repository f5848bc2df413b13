// Two slots in turn, and what goes wrong on the way.
#include "train/read_ahead.h"

#include <doctest/doctest.h>

#include "engine/ops.h"

namespace poolgrad::train {
namespace {

constexpr std::int64_t kCount = 20, kWidth = 16;

/// Sample i is i, i + 1, ... as bytes; its label is i modulo 3.
struct Bytes {
  std::vector<std::uint8_t> samples, labels;
  Dataset data;

  Bytes() {
    for (std::int64_t i = 0; i < kCount; ++i) {
      labels.push_back(static_cast<std::uint8_t>(i % 3));
      for (std::int64_t k = 0; k < kWidth; ++k) samples.push_back(static_cast<std::uint8_t>(i + k));
    }
    data = {ArrayView::of(std::span(samples), {kCount, kWidth}, DType::u8),
            ArrayView::of(std::span(labels), {kCount}, DType::u8), 3};
  }
};

struct Setup {
  Bytes bytes;
  Task task;
  Program program;

  Setup() : task(make_task(spec(bytes.data))), program(compile(*task.graph, task.entries)) {}

  static TaskSpec spec(const Dataset& data) {
    return {.model =
                [](Graph& graph, Tensor x, bool) {
                  std::vector<Tensor> p = graph.column("parameters");
                  if (p.empty())
                    p = {graph.parameter({3, kWidth}, Init::kaiming_uniform(kWidth, 1), "weight")};
                  return linear(x, p[0], {});
                },
            .sample = {kWidth},
            .batch = 4,
            .tables = tables_of({data, data}),
            .read_ahead = true};
  }
};

TEST_CASE("read ahead: batches come in turn into two slots, as gather would make them") {
  Setup s;
  ReadAhead ahead(s.program, s.task, s.bytes.data);
  const std::vector<std::int32_t> first{3, 0, 19, 7}, second{5, 5}, third{1, 2, 3, 4};
  CHECK_FALSE(ahead.pending());
  ahead.begin(first);
  CHECK(ahead.pending());
  const std::array<Feed, 2>& a = ahead.take();
  CHECK_FALSE(ahead.pending());
  ahead.begin(second);
  CHECK(a[0].slot.id == s.task.samples.id);
  CHECK(a[0].values.shape == Shape{4, kWidth});
  for (std::size_t i = 0; i < 4; ++i) {
    const auto number = static_cast<float>(first[i]);
    CHECK(a[0].values.as<float>()[i * kWidth + 5] == (number + 5.0F) / 255.0F);
    CHECK(a[1].values.as<std::int64_t>()[i] == first[i] % 3);
  }
  const std::array<Feed, 2>& b = ahead.take();
  CHECK(b[0].values.data != a[0].values.data);
  CHECK(b[0].slot.id == s.task.samples.id);
  CHECK(b[0].values.shape == Shape{2, kWidth});
  CHECK(b[1].values.shape == Shape{2});
  CHECK(b[0].values.as<float>()[kWidth] == 5.0F / 255.0F);
  ahead.begin(third);
  CHECK(ahead.take()[0].values.data == a[0].values.data);
}

TEST_CASE("read ahead: a row that the data has not is thrown where the batch is taken") {
  Setup s;
  ReadAhead ahead(s.program, s.task, s.bytes.data);
  const std::vector<std::int32_t> wrong{3, 20}, right{1};
  ahead.begin(wrong);
  CHECK_THROWS_WITH_AS((void)ahead.take(),
                       "gather: index 20 in row 1 is not in [0, 20); the table has 20 rows",
                       ArgumentError);
  ahead.begin(right);
  CHECK(ahead.take()[0].values.shape == Shape{1, kWidth});
}

TEST_CASE("read ahead: data of another shape is refused") {
  Setup s;
  Dataset narrow = s.bytes.data;
  narrow.samples.shape = {2 * kCount, kWidth / 2};
  narrow.samples.shape[0] = kCount;
  CHECK_THROWS_WITH_AS(ReadAhead(s.program, s.task, narrow),
                       "read_ahead: the data is [20, 8] but the task takes [20, 16]; make it with "
                       ".tables = tables_of(data)",
                       ShapeError);
}

}  // namespace
}  // namespace poolgrad::train
