// Programs: feeds, views, modes, errors, and what happens when something goes wrong in the middle.
#include "engine/program.h"

#include <algorithm>
#include <numeric>

#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/ops.h"
#include "memory/adaptors.h"

namespace poolgrad {
namespace {

/// Fails when an element is negative, and writes x + 1 elsewhere.
constexpr OpDef kPicky{
    .name = "picky",
    .infer = same_as_first,
    .cuts = row_by_row<1>,
    .cpu = [](const Site& site) -> Kernel {
      return {[n = site.inputs[0].shape.count()](const Args& a) {
        for (std::int64_t i = 0; i < n; ++i) {
          if (a.in<float>(0)[i] < 0) throw ArgumentError("picky: a negative number");
          a.out<float>()[i] = a.in<float>(0)[i] + 1.0F;
        }
      }};
    },
};

constexpr std::int64_t kRows = 64, kColumns = 1024;

struct Net {
  Graph graph;
  Tensor x = graph.input({{kRows, kColumns}}, "x"), hidden = relu(x),
         out = graph.add(kPicky, {add(relu(graph.add(kPicky, {hidden})[0]), hidden)})[0];

  [[nodiscard]] Program compile(const Options& options = {}) {
    return poolgrad::compile(graph, {{"run", {out}}}, options);
  }
};

struct alignas(64) Values {
  std::array<float, kRows * kColumns> data{};
  Values() { std::iota(data.begin(), data.end(), 0.0F); }
  [[nodiscard]] ArrayView view(std::int64_t rows = kRows) {
    return ArrayView::of(std::span<float>(data).first(static_cast<std::size_t>(rows * kColumns)),
                         {rows, kColumns}, DType::f32);
  }
};

template <typename F>
void each_mode(const F& test) {
  for (const Memory memory : {Memory::planned, Memory::pooled, Memory::direct}) {
    for (const int threads : {1, 2, 3}) {
      for (const bool team : {false, true}) {
        CAPTURE(to_string(memory));
        CAPTURE(threads);
        CAPTURE(team);
        test(Options{.memory = memory, .threads = threads, .use_team = team, .adaptive = false});
      }
    }
  }
}

TEST_CASE("run: every memory mode, team or alone, computes the same and gives back all it took") {
  const auto values = std::make_unique<Values>();
  each_mode([&](Options options) {
    Net net;
    memory::HostResource heap;
    memory::Statistics counted(heap);
    memory::Poison poison(counted);
    options.resource = &poison;
    {
      Program program = net.compile(options);
      for (int i = 0; i < 3; ++i) program.run("run", std::vector<Feed>{{net.x, values->view()}});
      const auto out = program.view(net.out).as<float>();
      bool right = true;
      for (std::size_t i = 0; i < out.size(); ++i)
        right = right && out[i] == 2.0F * values->data[i] + 2.0F;
      CHECK(right);
    }
    CHECK(counted.live_bytes() == 0);
    if (options.memory == Memory::planned) CHECK(counted.allocations() == 1);
  });
}

TEST_CASE("run: a kernel's error reaches the caller, on any member, and the next run is right") {
  const auto values = std::make_unique<Values>(), bad = std::make_unique<Values>();
  each_mode([&](const Options& options) {
    for (const std::size_t place : {std::size_t{3}, bad->data.size() - 1}) {
      Net net;
      // relu hides a negative input from picky, so it is put behind it
      Graph graph;
      const Tensor x = graph.input({{kRows, kColumns}}, "x");
      const Tensor out = relu(graph.add(kPicky, {x})[0]);
      Program program = poolgrad::compile(graph, {{"run", {out}}}, options);
      bad->data[place] = -1.0F;
      CHECK_THROWS_WITH_AS(program.run("run", std::vector<Feed>{{x, bad->view()}}),
                           "picky: a negative number", ArgumentError);
      bad->data[place] = static_cast<float>(place);
      program.run("run", std::vector<Feed>{{x, values->view()}});
      CHECK(program.view(out).as<float>()[7] == 8.0F);
    }
  });
}

TEST_CASE(
    "feeds: aligned ones are read where they lie, others copied and converted, short ones cut") {
  const auto values = std::make_unique<Values>();
  Net net;
  Program program = net.compile();
  program.run("run", std::vector<Feed>{{net.x, values->view()}});
  CHECK(program.view(net.x).as<float>()[5] == 0.0F);  // not copied
  CHECK(program.view(net.out).as<float>()[5] == 12.0F);

  std::vector<std::int32_t> integers(kRows * kColumns, 3);
  program.run("run", std::vector<Feed>{{net.x, ArrayView::of(std::span(integers), {kRows, kColumns},
                                                             DType::i32)}});
  CHECK(program.view(net.out).as<float>()[5] == 8.0F);

  program.run("run", std::vector<Feed>{{net.x, values->view(2)}});
  CHECK(program.view(net.out).as<float>()[5] == 12.0F);
  CHECK(program.view(net.out).as<float>()[2 * kColumns] == 8.0F);  // an old row
}

TEST_CASE("feeds: bytes lent for one run are not read in the next") {
  auto values = std::make_unique<Values>();
  Net net;
  Program program = net.compile();
  program.run("run", std::vector<Feed>{{net.x, values->view()}});
  std::ranges::fill(values->data, 7.0F);
  values.reset();
  program.run("run");
  CHECK(program.view(net.out).as<float>()[5] == 2.0F);  // of the slot's own zeros
}

TEST_CASE("feeds: what does not fit is refused before anything runs") {
  const auto values = std::make_unique<Values>();
  Net net;
  Program program = net.compile();
  ArrayView wide = values->view();
  wide.shape = {kRows / 2, kColumns * 2}, wide.strides = {kColumns * 2, 1};
  CHECK_THROWS_WITH_AS(
      program.run("run", std::vector<Feed>{{net.x, wide}}),
      "run: [32, 2048] does not fit input 'x' [64, 1024]; only the first axis may be shorter",
      ShapeError);
  CHECK_THROWS_WITH_AS(program.run("train"), "program: no entry 'train'; there are 'run'",
                       ArgumentError);
  CHECK_THROWS_AS(program.run("run", std::vector<Feed>{{net.out, values->view()}}), ArgumentError);
}

TEST_CASE("view: planned bytes are not lent; the error says what to do") {
  Net net;
  const Program program = net.compile();
  CHECK_THROWS_WITH_AS((void)program.view(net.hidden),
                       doctest::Contains("has bytes the plan reuses; call keep("), ExportError);
}

TEST_CASE("view: roots that are views of each other, or of a parameter, have values of their own") {
  Graph graph;
  const Tensor w = graph.parameter({2, 3}, Init::constant(2.0F), "w");
  const Tensor flat = reshape(w, {6}), twice = add(flat, flat), square = reshape(twice, {3, 2});
  const Tensor again = reshape(square, {1, 6}), last = add(again, again);
  Program program = compile(graph, {{"run", {flat, twice, square, again, last}}});
  program.run("run");
  const auto all_are = [&](Tensor tensor, float value) {
    return std::ranges::all_of(program.view(tensor).as<float>(),
                               [&](float each) { return each == value; });
  };
  CHECK(all_are(w, 2.0F));
  CHECK(all_are(flat, 2.0F));
  CHECK(all_are(twice, 4.0F));
  CHECK(all_are(square, 4.0F));
  CHECK(all_are(again, 4.0F));
  CHECK(all_are(last, 8.0F));
}

TEST_CASE("columns: one flat array, parts on 64 bytes, gaps zero") {
  Graph graph;
  const Tensor a = graph.parameter({3}, Init::constant(1.0F), "a"),
               b = graph.parameter({20}, Init::constant(2.0F), "b"), out = add(a, a);
  (void)b;
  const Program program = compile(graph, {{"run", {out}}});
  const ArrayView flat = program.column("parameters");
  CHECK(flat.shape == Shape{16 + 32});
  CHECK(flat.as<float>()[2] == 1.0F);
  CHECK(flat.as<float>()[3] == 0.0F);
  CHECK(flat.as<float>()[16] == 2.0F);
  CHECK(program.find("parameters", "b").data == program.view(b).data);
}

TEST_CASE("share: a second program uses the first one's parameters, which outlive it") {
  Graph small, large;
  const auto build = [](Graph& graph, std::int64_t batch) {
    const Tensor x = graph.input({{batch, 4}}, "x");
    return std::pair{x, linear(x, graph.parameter({4, 4}, Init::constant(0.5F), "w"))};
  };
  const auto [x1, y1] = build(small, 2);
  const auto [x2, y2] = build(large, 8);
  auto first = std::make_unique<Program>(compile(small, {{"run", {y1}}}));
  Program second = compile(large, {{"run", {y2}}}, {.share = first.get()});
  CHECK(second.find("parameters", "w").data == first->find("parameters", "w").data);
  CHECK(second.blueprint().column_bytes("parameters") == 64);
  first->find("parameters", "w").as<float>()[0] = 2.0F;
  first.reset();
  alignas(64) std::array<float, 32> ones{};
  ones.fill(1.0F);
  second.run("run",
             std::vector<Feed>{{x2, ArrayView::of(std::span<float>(ones), {8, 4}, DType::f32)}});
  CHECK(second.view(y2).as<float>()[0] == 3.5F);
}

TEST_CASE("peak: measured is predicted, in bytes, and the guard behind the arena stays") {
  const auto values = std::make_unique<Values>();
  each_mode([&](Options options) {
    Net net;
    options.guard_bytes = 4096;
    Program program = net.compile(options);
    program.watch_peak();
    program.run("run", std::vector<Feed>{{net.x, values->view()}});
    if (options.memory == Memory::planned || options.threads == 1) {
      CHECK(program.measured_peak_bytes() == program.blueprint().predicted_peak_bytes());
    } else {
      CHECK(program.measured_peak_bytes() <= program.blueprint().predicted_peak_bytes());
    }
    CHECK(program.guards_intact());
  });
}

TEST_CASE("limits: an arena over the limit is refused before any allocation") {
  Net net;
  memory::HostResource heap;
  memory::Statistics counted(heap);
  CHECK_THROWS_WITH_AS((void)net.compile({.resource = &counted, .memory_limit_bytes = 1 << 19}),
                       "compile: planned memory of 1.0 MiB is more than the limit of 0.5 MiB; take "
                       "a smaller batch or "
                       "raise the limit",
                       MemoryError);
  CHECK(counted.allocations() == 0);
  memory::FailAt failing(heap, 1);
  CHECK_THROWS_WITH_AS((void)net.compile({.resource = &failing}),
                       doctest::Contains("program: no arena of"), MemoryError);
}

TEST_CASE("modes: when any allocation of a run fails, nothing leaks and the next run is right") {
  const auto values = std::make_unique<Values>();
  for (const int threads : {1, 2}) {
    std::size_t all = 0;
    for (std::size_t nth = 0; nth <= all; ++nth) {
      CAPTURE(nth);
      Net net;
      memory::HostResource heap;
      memory::Statistics counted(heap);
      memory::FailAt failing(counted, nth == 0 ? 0 : nth + 1);  // the first is the arena
      {
        Program program =
            net.compile({.memory = Memory::direct, .resource = &failing, .threads = threads});
        const std::size_t before = counted.live_bytes();
        if (nth == 0) {
          program.run("run", std::vector<Feed>{{net.x, values->view()}});
          all = failing.allocations() - 1;
        } else {
          CHECK_THROWS_AS(program.run("run", std::vector<Feed>{{net.x, values->view()}}),
                          std::bad_alloc);
        }
        CHECK(counted.live_bytes() == before);
        program.run("run", std::vector<Feed>{{net.x, values->view()}});
        CHECK(program.view(net.out).as<float>()[5] == 12.0F);
      }
      CHECK(counted.live_bytes() == 0);
    }
    CHECK(all >= 2);
  }
}

TEST_CASE("errors: foreign roots and impossible settings are named at compile") {
  Net net;
  CHECK_THROWS_WITH_AS((void)net.compile({.threads = 0}), "compile: 0 threads; choose 1 to 256",
                       ArgumentError);
  Graph other;
  CHECK_THROWS_AS((void)compile(other, {{"run", {net.out}}}), ArgumentError);
  CHECK_THROWS_WITH_AS((void)compile(net.graph, {{"a", {net.out}}, {"a", {net.out}}}),
                       "compile: two entries are called 'a'", ArgumentError);
}

TEST_CASE("run: a program that is running refuses a second caller") {
  Net net;
  Program program = net.compile();
  const auto values = std::make_unique<Values>();
  const std::vector<Feed> feeds{{net.x, values->view()}};
  bool refused = false;
  const Observer again{.before = [&](const Entry&, const Step&) {
    try {
      program.run("run", feeds);
    } catch (const DeviceError&) {
      refused = true;
    }
  }};
  program.run("run", feeds, &again);
  CHECK(refused);
  CHECK_NOTHROW(program.run("run", feeds));
}

#if !defined(__SANITIZE_THREAD__)
TEST_CASE("fork: a program works on in the child, with a team of its own") {
  Net net;
  Program program = net.compile({.threads = 2});
  const auto values = std::make_unique<Values>();
  const std::vector<Feed> feeds{{net.x, values->view()}};
  program.run("run", feeds);
  const pid_t child = fork();
  if (child == 0) {
    program.run("run", feeds);
    _exit(program.view(net.out).as<float>()[5] == 12.0F ? 0 : 1);
  }
  int status = -1;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
}
#endif

}  // namespace
}  // namespace poolgrad
