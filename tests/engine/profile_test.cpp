// That a profile accounts for all of a step and changes nothing. How long things take is not
// tested.
#include "engine/profile.h"

#include <cmath>
#include <numeric>

#include <doctest/doctest.h>

#include "engine/ops.h"

namespace poolgrad {
namespace {

/// Two layers, cut among members, and a counter that each run advances.
struct Net {
  Graph graph;
  Tensor x = graph.input({{64, 256}}, "x");
  Tensor y, count;

  Net() {
    const auto dense = [&](Tensor t, std::int64_t out, const char* name) {
      const Graph::Layer layer(graph, name);
      const Tensor weight =
          graph.parameter({out, t.shape()[1]}, Init::kaiming_uniform(256, 1), "w");
      return relu(linear(t, weight));
    };
    y = dense(dense(x, 512, "first"), 128, "second");
    count = graph.step();
  }
};

constexpr OpDef kCountUp{
    .name = "count_up",
    .infer = same_as_first,
    .updates = 1,
    .cpu = [](const Site&) -> Kernel { return {[](const Args& a) { ++*a.out<std::int64_t>(); }}; },
};

TEST_CASE("profile: rows are the entry's nodes by op and layer, and their work is the nodes'") {
  for (const int threads : {1, 2}) {
    CAPTURE(threads);
    const Net net;
    Program program =
        compile(net.graph, {{"run", {net.y}}}, {.threads = threads, .adaptive = false});
    const Profile result = profile(program, "run", {}, /*steps=*/5);
    const Entry& entry = program.blueprint().entry("run");
    int calls = 0;
    double share = 0.0, flops = 0.0;
    for (const ProfileRow& row : result.rows) {
      calls += row.calls;
      share += row.share;
      flops += row.flops;
      CHECK(row.us >= 0.0);
      CHECK(row.op == "matmul");
      CHECK((row.layer == "first" || row.layer == "second"));
    }
    CHECK(result.rows.size() == 2);
    CHECK(calls == static_cast<int>(entry.steps.size()));
    CHECK(share == doctest::Approx(1.0));
    CHECK(flops == 2.0 * 64 * (256 * 512 + 512 * 128));
    CHECK(result.steps == 5);
    CHECK(result.members.size() == static_cast<std::size_t>(threads));
    const std::string text = describe(result, 1);
    CHECK(text.find("and 1 smaller ones") != std::string::npos);
    CHECK(text.find(threads == 1 ? "one thread: in kernels" : "member 1: in kernels") !=
          std::string::npos);
  }
}

TEST_CASE("time_steps: kernels, waiting and the rest of each member add up to the step") {
  for (const bool team : {true, false}) {
    const Net net;
    Program program =
        compile(net.graph, {{"run", {net.y}}}, {.threads = 3, .use_team = team, .adaptive = false});
    const Entry& entry = program.blueprint().entry("run");
    const StepTimes times =
        time_steps(entry, 4, [&](const Observer& observer) { program.run("run", {}, &observer); });
    REQUIRE(times.step_us.size() == 4);
    for (std::size_t s = 0; s < 4; ++s) {
      CHECK(times.members[s].size() == (team ? 3U : 1U));
      double busy = 0.0;
      for (const MemberTime& time : times.members[s]) {
        CHECK(time.busy_us + time.wait_us + time.rest_us == doctest::Approx(times.step_us[s]));
        if (!team) CHECK(time.wait_us == 0.0);
        busy += time.busy_us;
      }
      const std::vector<double>& nodes = times.node_us[s];
      CHECK(nodes.size() == entry.steps.size());
      CHECK(busy == doctest::Approx(std::accumulate(nodes.begin(), nodes.end(), 0.0)));
    }
    CHECK(times.median_step_us() > 0.0);
    CHECK(times.median_node_us().size() == entry.steps.size());
  }
}

TEST_CASE("profile: what its steps change is put back") {
  Net net;
  const Tensor counted = net.graph.add(kCountUp, {net.count})[0];
  Program program = compile(net.graph, {{"run", {counted}}});
  program.run("run");
  (void)profile(program, "run", {}, 3);
  CHECK(program.view(net.count).as<std::int64_t>()[0] == 1);
}

TEST_CASE("profile: no steps, and no such entry") {
  const Net net;
  Program program = compile(net.graph, {{"run", {net.y}}});
  CHECK_THROWS_WITH_AS((void)profile(program, "run", {}, 0), "profile: 0 steps; take 1 or more",
                       ArgumentError);
  CHECK_THROWS_AS((void)profile(program, "walk"), ArgumentError);
}

}  // namespace
}  // namespace poolgrad
