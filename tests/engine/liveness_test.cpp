// Who shares bytes, for how long, and in which order nodes may run.
#include "engine/liveness.h"

#include <doctest/doctest.h>

#include "engine/ops.h"

namespace poolgrad {
namespace {

std::size_t row(Tensor tensor) { return static_cast<std::size_t>(tensor.id); }

// y = x + 1 in place, to stand for an update.
constexpr OpDef kIncrement{
    .name = "increment",
    .infer = same_as_first,
    .updates = 1,
    .cpu = [](const Site& site) -> Kernel {
      return {[n = site.inputs[0].shape.count()](const Args& a) {
        for (std::int64_t i = 0; i < n; ++i) a.out<float>()[i] += 1.0F;
      }};
    },
};

TEST_CASE("overwrites: bytes are taken over only when nobody reads the input later") {
  Graph graph;
  const Tensor x = graph.input({{100}}, "x"), y = relu(x), a = relu(y), b = add(a, y),
               out = add(b, a);
  const Storages apart = assign_storages(graph, false), shared = assign_storages(graph, true);
  CHECK(apart.of[row(b)] != apart.of[row(out)]);
  CHECK(shared.of[row(b)] == shared.of[row(out)]);
  CHECK(shared.of[row(a)] != shared.of[row(b)]);
  CHECK(shared.of[row(x)] != shared.of[row(y)]);  // what is persistent is never overwritten
}

TEST_CASE("storages: slices and joins share bytes at their offsets") {
  Graph graph;
  const Tensor x = graph.input({{10, 4}}, "x"), y = relu(x);
  const Tensor low = slice(y, 0, 3), high = slice(y, 3, 10);
  const Storages storages = assign_storages(graph, true);
  CHECK(storages.of[row(low)] == storages.of[row(y)]);
  CHECK(storages.of[row(high)] == storages.of[row(y)]);
  CHECK(storages.begin[row(low)] == 0);
  CHECK(storages.begin[row(high)] == 3 * 4 * 4);
  CHECK(storages.all[static_cast<std::size_t>(storages.of[row(y)])].bytes == 160);
}

TEST_CASE("storages: one tensor packed twice cannot lie in two places") {
  Graph graph;
  const Tensor x = relu(graph.input({{16}}, "x"));
  (void)pack({x, x});
  CHECK_THROWS_AS((void)assign_storages(graph, true), ShapeError);
}

TEST_CASE("order: readers of the old value come before its update, also through views") {
  Graph graph;
  const Tensor w = graph.state({{8, 2}}, {}, "w", "parameters");
  const Tensor reader = relu(slice(w, 4, 8));
  const Tensor updated = graph.add(kIncrement, {w})[0];
  CHECK(check_order(graph) == "");
  const Tensor late = relu(w);
  CHECK(check_order(graph) ==
        "relu: reads 'w' [8, 2] after increment changed it; read what increment() returned");
  (void)reader, (void)late, (void)updated;
}

TEST_CASE("order, phases: columns that lie between each other's rows do not meet") {
  for (const std::int64_t second : {3, 4, 5}) {
    CAPTURE(second);
    Graph graph;
    const Tensor w = graph.parameter({4, 8}, {}, "w");
    (void)graph.add(kIncrement, {slice_columns(w, 0, 4)});
    (void)relu(slice_columns(w, second, 8));
    graph.nodes.back().member = 1;
    CHECK((check_order(graph) == "") == (second >= 4));
    CHECK(phases(graph, assign_storages(graph, true)).back() == (second >= 4 ? 0 : 1));
  }
  Graph graph;
  const Tensor w = graph.parameter({4, 8}, {}, "w");
  (void)graph.add(kIncrement, {slice_columns(w, 0, 4)});
  (void)relu(slice(w, 1, 2));  // whole rows meet any columns
  CHECK(check_order(graph) != "");
}

TEST_CASE("phases: members meet only where one writes what another touches") {
  Graph graph;
  const Tensor x = graph.input({{4, 4}}, "x"), y = relu(x);
  const auto on = [&](int member) { graph.nodes.back().member = member; };
  on(0);
  const Tensor a = relu(slice(y, 0, 2));
  on(0);
  const Tensor b = relu(slice(y, 2, 4));
  on(1);
  (void)add(a, b);
  on(0);
  const Storages storages = assign_storages(graph, true);
  const std::vector<int> phase = phases(graph, storages);
  CHECK(phase[0] == 0);
  CHECK(phase.back() == 2);  // y before b, b before the sum
  CHECK(phase[2] == 0);      // a stays with its maker
}

}  // namespace
}  // namespace poolgrad
