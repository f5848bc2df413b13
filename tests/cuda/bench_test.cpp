// The benches' sides on a device, on one of the host's: what each asks for in a step, exactly.
#include <sstream>

#include <doctest/doctest.h>

#include "bench/device_sides.h"
#include "tests/cuda/fake_launcher.h"

namespace poolgrad {
namespace {

using testing::FakeLauncher, testing::FakeMemory;

/// A device whose memory counts per kind.
struct Fake {
  std::shared_ptr<FakeLauncher> launcher = std::make_shared<FakeLauncher>();
  std::shared_ptr<FakeMemory> malloc = std::make_shared<FakeMemory>(),
                              async = std::make_shared<FakeMemory>(),
                              keeps = std::make_shared<FakeMemory>();

  [[nodiscard]] bench::DeviceParts parts() const {
    return {launcher,
            malloc,
            async,
            keeps,
            [this] { return std::size_t(calls()); },
            [] { return std::size_t{0}; }};
  }
  [[nodiscard]] int calls() const {
    return malloc->calls() + async->calls() + keeps->calls() + launcher->counts().memory;
  }
};

struct Expected {
  const char* name;
  std::shared_ptr<FakeMemory> Fake::*from;
  bool requests, driver, replay;
};
constexpr Expected kExpected[] = {
    {"cuda_malloc", &Fake::malloc, true, true, false},
    {"cuda_malloc_async", &Fake::async, true, true, false},
    {"cuda_malloc_async_keeps", &Fake::keeps, true, true, false},
    {"cuda_pool", &Fake::malloc, true, false, false},
    {"cuda_arena", &Fake::malloc, false, false, false},
    {"cuda_arena_graph", &Fake::malloc, false, false, true},
};

/// How many blocks a step takes if it takes each by itself.
int planned(const Entry& entry) {
  return static_cast<int>(std::ranges::count_if(
      entry.requests, [](const memory::Request& request) { return request.bytes > 0; }));
}

TEST_CASE("bench: each side on a device asks for what it says, and all train alike") {
  bench::Samples samples;
  std::vector<float> losses;
  for (const Expected& expected : kExpected) {
    CAPTURE(expected.name);
    Fake fake;
    const bench::DeviceSide side(expected.name, fake.parts());
    bench::Training training(bench::spec_of("mlp_small", 16, /*on_device=*/true), side.options(),
                             samples);
    for (int i = 0; i < 4; ++i) training.step();  // both sides of the slots are recorded
    training.wait();

    constexpr int kSteps = 5;
    const std::size_t requests = side.resource().requests();
    const int there = (fake.*expected.from)->calls(), all = fake.calls();
    const FakeLauncher::Counts before = fake.launcher->counts();
    for (int i = 0; i < kSteps; ++i) training.step();
    losses.push_back(training.loss());
    const FakeLauncher::Counts after = fake.launcher->counts();

    const int pairs = planned(training.entry()), nodes = int(training.entry().steps.size());
    CHECK(pairs > 3);
    CHECK(int(side.resource().requests() - requests) ==
          (expected.requests ? 2 * pairs * kSteps : 0));
    CHECK((fake.*expected.from)->calls() - there == (expected.driver ? 2 * pairs * kSteps : 0));
    CHECK(fake.calls() - all == (expected.driver ? 2 * pairs * kSteps : 0));
    CHECK(after.replayed - before.replayed == (expected.replay ? kSteps : 0));
    CHECK(after.kernels - before.kernels == (expected.replay ? 0 : nodes * kSteps));
  }
  CHECK(losses == std::vector<float>(std::size(kExpected), losses[0]));
}

TEST_CASE("bench: a served side tells its facts, then a window per line of input") {
  Fake fake;
  bench::Samples samples;
  const bench::DeviceSide side("cuda_malloc", fake.parts());
  std::istringstream in("\n\n");
  std::ostringstream out;
  bench::serve(side, bench::spec_of("mlp_small", 16, true), samples, /*window_seconds=*/0.01, in,
               out);
  std::istringstream lines(out.str());
  std::vector<nlohmann::json> told;
  for (std::string line; std::getline(lines, line);) told.push_back(nlohmann::json::parse(line));
  REQUIRE(told.size() == 3);
  CHECK(told[0]["peak_bytes"] == told[0]["predicted_peak_bytes"]);
  for (const int i : {1, 2}) {
    CHECK(told[i]["requests_per_step"] == told[i]["driver_calls_per_step"]);
    CHECK(told[i]["requests_per_step"] > 0);
    CHECK(told[i]["in_requests_us"] > 0.0);
  }
}

TEST_CASE("bench: requests are timed only while asked to, failed ones too") {
  FakeMemory memory;
  memory::FailAt second(memory, 2);
  bench::Timed timed(second);
  timed.deallocate(timed.allocate(64), 64);
  CHECK(timed.requests() == 2);
  CHECK(timed.seconds() == 0.0);
  timed.take_time(true);
  CHECK_THROWS_AS((void)timed.allocate(64), memory::OutOfMemory);
  CHECK(timed.requests() == 3);
  CHECK(timed.seconds() > 0.0);
}

TEST_CASE("bench: an unknown side is refused with the names of all") {
  CHECK_FALSE(bench::is_device_side("planned"));
  CHECK_THROWS_WITH_AS(bench::DeviceSide("cuda_arenas", Fake().parts()),
                       "bench: no side 'cuda_arenas' on a device; there are cuda_malloc, "
                       "cuda_malloc_async, cuda_malloc_async_keeps, cuda_pool, cuda_arena, "
                       "cuda_arena_graph",
                       ArgumentError);
}

}  // namespace
}  // namespace poolgrad
