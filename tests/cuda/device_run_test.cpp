// Programs on a device of the host's: what is fed, recorded, replayed and answered.
#include <algorithm>
#include <array>
#include <memory>

#include <doctest/doctest.h>

#include "engine/profile.h"
#include "tests/cuda/small_network.h"

namespace poolgrad {
namespace {

using testing::FakeLauncher, testing::Network, testing::Batch, testing::kBatch;
using testing::on, testing::on_cpu, testing::scalar;

std::int64_t rows_at(int step) { return step % 3 == 2 ? kBatch - 2 : kBatch; }

std::vector<float> losses(Network& network, const Options& options, int steps) {
  Program program = network.compiled(options);
  std::vector<float> result;
  for (int step = 0; step < steps; ++step) {
    const Batch batch(step, rows_at(step));
    program.run("train", batch.feeds(network));
    result.push_back(scalar(program, network.loss));
    result.push_back(static_cast<float>(program.read(network.correct).as<std::int64_t>()[0]));
  }
  const ArrayView weights = program.read(network.graph.column("parameters")[0]);
  result.insert(result.end(), weights.as<float>().begin(), weights.as<float>().end());
  return result;
}

TEST_CASE("device: training gives the CPU's bits, in all modes of memory") {
  Network network;
  const std::vector<float> expected = losses(network, on_cpu(), 12);
  for (const Memory memory : {Memory::planned, Memory::pooled, Memory::direct}) {
    CAPTURE(to_string(memory));
    Options options = on(std::make_shared<FakeLauncher>());
    options.memory = memory;
    CHECK(losses(network, options, 12) == expected);
  }
}

TEST_CASE("device: a ReLU's values are kept there, and not bits, which have kernels of the CPU's") {
  Graph graph;
  const Tensor x = graph.input({{32, 1, 16, 16}}, "x");
  const Tensor weight = graph.parameter({8, 1, 3, 3}, Init::kaiming_uniform(9, 1), "weight");
  const Tensor y = relu(conv2d(x, weight, {}, {.padding = {1, 1}}));
  const Tensor labels = graph.input({{32}, DType::i64}, "labels");
  const train::Training training = train::minimize(
      softmax_cross_entropy(flatten(global_avg_pool2d(y)), labels), train::Sgd{.rate = 0.1F});
  const auto keeps_signs = [&](const Options& options) {
    const Blueprint blueprint = draft(graph, {training.entry("train")}, options);
    return std::ranges::any_of(blueprint.entry("train").graph->nodes,
                               [](const Node& node) { return node.op->name == "relu_signs"; });
  };
  CHECK(keeps_signs(on_cpu()));
  CHECK_FALSE(keeps_signs(on(std::make_shared<FakeLauncher>())));
}

TEST_CASE("device: a step is recorded once per side, and then replayed and nothing else") {
  Network network;
  const auto launcher = std::make_shared<FakeLauncher>();
  Program program = network.compiled(on(launcher));
  const auto step = [&](int i) { program.run("train", Batch(i, kBatch).feeds(network)); };
  step(0);  // issued one by one: libraries load what they need
  CHECK(launcher->counts().recorded == 0);
  CHECK(launcher->counts().kernels > 5);
  step(1);
  step(2);
  const FakeLauncher::Counts before = launcher->counts();
  CHECK(before.recorded == 2);
  for (int i = 3; i < 13; ++i) step(i);
  const FakeLauncher::Counts after = launcher->counts();
  CHECK(after.replayed - before.replayed == 10);
  CHECK(after.copies - before.copies == 20);  // x and labels; rows are as many as before
  CHECK(after.recorded == before.recorded);
  CHECK(after.kernels == before.kernels);
  CHECK(after.memory == before.memory);
}

TEST_CASE(
    "device: without replay each step is put on the stream node by node, with the same bits") {
  Network network;
  const auto launcher = std::make_shared<FakeLauncher>();
  Options options = on(launcher);
  const std::vector<float> expected = losses(network, options, 6);
  const FakeLauncher::Counts before = launcher->counts();
  options.replay = false;
  CHECK(losses(network, options, 6) == expected);
  const FakeLauncher::Counts after = launcher->counts();
  const Blueprint blueprint =
      draft(network.graph, {network.training.entry("train", {network.correct})}, options);
  CHECK(after.replayed == before.replayed);
  CHECK(after.recorded == before.recorded);
  CHECK(after.kernels - before.kernels == 6 * std::ssize(blueprint.entry("train").steps));
}

TEST_CASE("device: profilers see entries, and in them ops and layers while nodes are issued") {
  Network network;
  const auto launcher = std::make_shared<FakeLauncher>();
  Program program = network.compiled(on(launcher));
  const auto step = [&](int i) { program.run("train", Batch(i, kBatch).feeds(network)); };
  step(0);
  const std::vector<std::string> first = launcher->ranges();
  CHECK(first.front() == "train");
  CHECK(first.size() == 1 + program.blueprint().entry("train").steps.size());
  CHECK(std::ranges::count(first, "  matmul (0)") ==
        1);  // of the weight: a ReLU absorbed the other
  CHECK(std::ranges::count(first, "  matmul (1)") == 3);
  CHECK(std::ranges::count(first, "  adam (1)") == 2);
  step(1);
  step(2);
  const std::size_t recorded = launcher->ranges().size();
  step(3);
  CHECK(launcher->ranges().size() == recorded + 1);
  CHECK(launcher->ranges().back() == "train");
  const Observer broken{{}, [](const Entry&, const Step&) { throw ArgumentError("stop"); }};
  CHECK_THROWS_AS(program.run("train", Batch(4, kBatch).feeds(network), &broken), ArgumentError);
  CHECK(launcher->open_ranges() == 0);
}

TEST_CASE("device: steps that nobody waits for keep their order and their feeds") {
  Network network;
  const std::vector<float> expected = losses(network, on_cpu(), 40);
  Program program = network.compiled(on(std::make_shared<FakeLauncher>()));
  for (int i = 0; i < 40; ++i) {
    Batch batch(i, rows_at(i));
    program.run("train", batch.feeds(network));
    std::fill(batch.x.begin(), batch.x.end(), 1e9F);  // the caller's again
  }
  CHECK(scalar(program, network.loss) == expected[78]);
}

TEST_CASE("device: what is not fed is what was fed last, whichever side comes next") {
  Network network;
  Program program = network.compiled(on(std::make_shared<FakeLauncher>()));
  Program other = network.compiled(on_cpu());
  const Batch first(0, kBatch), second(1, kBatch);
  const auto expected = [&](const Batch& x, const Batch& labels) {
    const std::vector<Feed> both{x.feeds(network)[0], labels.feeds(network)[1]};
    other.run("evaluate", both);
    return scalar(other, network.loss);
  };
  const auto feed = [&](const Batch& batch, std::size_t slot) {
    const Feed one = batch.feeds(network)[slot];
    program.run("evaluate", {&one, 1});
    return scalar(program, network.loss);
  };
  program.run("evaluate", first.feeds(network));
  for (int i = 0; i < 4; ++i) CHECK(feed(second, 0) == expected(second, first));
  for (int i = 0; i < 3; ++i) {
    program.run("evaluate");
    CHECK(scalar(program, network.loss) == expected(second, first));
  }
  CHECK(feed(second, 1) == expected(second, second));
  program.write(network.x, first.feeds(network)[0].values);
  program.run("evaluate");
  CHECK(scalar(program, network.loss) == expected(first, second));
  CHECK(feed(first, 1) == expected(first, first));
}

TEST_CASE("device: a refused feed changes nothing, and an input is read as it was fed last") {
  Network network;
  Program program = network.compiled(on(std::make_shared<FakeLauncher>()));
  const Batch first(0, kBatch), second(1, kBatch);
  program.run("evaluate", first.feeds(network));
  const float expected = scalar(program, network.loss);
  std::array<std::int32_t, kBatch> labels{};
  ArrayView there = ArrayView::of(std::span(labels.data(), kBatch), {kBatch}, DType::i32);
  there.place = {memory::Space::cuda, 0};  // where nothing is converted
  const std::vector<Feed> feeds{second.feeds(network)[0], {network.labels, there}};
  CHECK_THROWS_AS(program.run("evaluate", feeds), ArgumentError);
  program.run("evaluate");
  CHECK(scalar(program, network.loss) == expected);
  for (const Batch& batch : {first, second, first}) {
    program.run("evaluate", batch.feeds(network));
    const ArrayView x = program.read(network.x);
    CHECK(std::ranges::equal(x.as<float>(), batch.x));
  }
}

TEST_CASE("device: values that a step has just made can be fed to the next one") {
  Graph graph;
  const Tensor x = graph.input({{1, 5000}}, "x"), y = add(x, x);
  Program program = compile(graph, {{"run", {y}}}, on(std::make_shared<FakeLauncher>()));
  const std::vector<float> ones(5000, 1.0F);
  const Feed from_host{x, ArrayView::of(std::span(ones), {1, 5000}, DType::f32)};
  program.run("run", {&from_host, 1});
  for (int i = 0; i < 20; ++i) {
    const Feed from_device{x, program.view(y)};
    program.run("run", {&from_device, 1});
  }
  const ArrayView result = program.read(y);
  CHECK(std::ranges::count(result.as<float>(), 2097152.0F) == 5000);
}

TEST_CASE("device: only a feed from the program's own bytes waits for the step before") {
  Graph graph;
  const Tensor x = graph.input({{1, 500}}, "x"), y = add(x, x);
  Program program = compile(graph, {{"run", {y}}}, on(std::make_shared<FakeLauncher>()));
  const std::vector<float> ones(500, 1.0F);
  const ArrayView there = program.to_device(ArrayView::of(std::span(ones), {1, 500}, DType::f32));
  ArrayView own = program.view(y);
  own.stream = {};  // as who knows of no stream says it
  const auto waits = [&](const ArrayView& values) {
    (void)testing::what_streams_did();
    const Feed feed{x, values};
    program.run("run", {&feed, 1});
    return std::ranges::count(testing::what_streams_did(), "copies waits");
  };
  for (int i = 0; i < 3; ++i) (void)waits(there);
  CHECK(waits(there) == 1);  // until the slot has been read
  CHECK(waits(own) == 2);
}

TEST_CASE("device: a program goes on after it was moved") {
  Network network;
  const std::vector<float> expected = losses(network, on_cpu(), 6);
  auto first = std::make_unique<Program>(network.compiled(on(std::make_shared<FakeLauncher>())));
  const auto step = [&](Program& program, int i) {
    program.run("train", Batch(i, rows_at(i)).feeds(network));
  };
  for (int i = 0; i < 3; ++i) step(*first, i);
  Program second = std::move(*first);
  first.reset();
  for (int i = 3; i < 6; ++i) step(second, i);
  CHECK(scalar(second, network.loss) == expected[10]);
}

TEST_CASE("device: a profile puts back what its steps have changed") {
  Network network;
  Program program = network.compiled(on(std::make_shared<FakeLauncher>()));
  const auto values = [&](Tensor tensor) {
    const ArrayView view = program.read(tensor);
    return std::vector<float>(view.as<float>().begin(), view.as<float>().end());
  };
  const Batch batch(0, kBatch);
  program.run("train", batch.feeds(network));
  const Tensor weight = network.graph.column("parameters")[0];
  const std::vector<float> before = values(weight), loss = values(network.loss);
  CHECK(profile(program, "train", batch.feeds(network), 2).steps == 2);
  CHECK(values(weight) == before);
  CHECK(values(network.loss) == loss);
}

TEST_CASE("device: the learning rate is written, and weights are read, between steps") {
  Network network(train::Sgd{.rate = 0.1F});
  Program program = network.compiled(on(std::make_shared<FakeLauncher>()));
  const Tensor weight = network.graph.column("parameters")[0];
  const auto values = [&] {
    const ArrayView view = program.read(weight);
    return std::vector<float>(view.as<float>().begin(), view.as<float>().end());
  };
  for (int i = 0; i < 4; ++i) program.run("train", Batch(i, kBatch).feeds(network));
  const std::vector<float> before = values();
  const float zero = 0.0F;
  program.write(network.training.rate, ArrayView::of(std::span(&zero, 1), {}, DType::f32));
  for (int i = 0; i < 3; ++i) program.run("train", Batch(i, kBatch).feeds(network));
  CHECK(values() == before);
}

TEST_CASE("device: a lent table lies on the device, and another one is recorded anew") {
  Graph graph;
  const Tensor table = graph.lent({{3, 2}}, "table");
  const Tensor indices = graph.input({{2}, DType::i32}, "indices");
  const Tensor y = gather(table, indices);
  const auto launcher = std::make_shared<FakeLauncher>();
  Program program = compile(graph, {{"run", {y}}}, on(launcher));
  const std::vector<std::int32_t> numbers{2, 0};
  const auto run = [&] {
    const Feed feed{indices, ArrayView::of(std::span(numbers), {2}, DType::i32)};
    for (int i = 0; i < 4; ++i) program.run("run", {&feed, 1});
    const ArrayView result = program.read(y);
    return std::vector<float>(result.as<float>().begin(), result.as<float>().end());
  };
  const std::vector<float> one{0, 1, 2, 3, 4, 5}, two{10, 11, 12, 13, 14, 15};
  const auto lend = [&](const std::vector<float>& values) {
    program.lend(table, program.to_device(ArrayView::of(std::span(values), {3, 2}, DType::f32)));
  };
  CHECK_THROWS_AS((void)run(), ArgumentError);
  lend(one);
  CHECK(run() == std::vector<float>{4, 5, 0, 1});
  const int recorded = launcher->counts().recorded;
  lend(two);
  CHECK(run() == std::vector<float>{14, 15, 10, 11});
  CHECK(launcher->counts().recorded == recorded + 2);
}

TEST_CASE("device: the plan holds a second slot per input, and the peak is as predicted") {
  Network network;
  Program program = network.compiled(on(std::make_shared<FakeLauncher>()));
  const Blueprint& blueprint = program.blueprint();
  std::size_t columns = 0, inputs = 0;
  for (int id = 0; id < blueprint.tensors.size(); ++id) {
    const auto i = static_cast<std::size_t>(id);
    const std::size_t bytes = memory::aligned(blueprint.tensors.spec[i].bytes());
    if (blueprint.tensors.persistent(id)) columns += bytes;
    if (blueprint.tensors.column[i] == "inputs") inputs += bytes;
  }
  CHECK(blueprint.persistent_bytes == columns + inputs);
  program.watch_peak();
  for (int i = 0; i < 3; ++i) program.run("train", Batch(i, kBatch).feeds(network));
  CHECK(program.measured_peak_bytes() == blueprint.predicted_peak_bytes());
}

TEST_CASE("device: an observer sees each node, and host memory is refused") {
  Network network;
  const auto launcher = std::make_shared<FakeLauncher>();
  Program program = network.compiled(on(launcher));
  std::size_t seen = 0;
  const Observer observer{{}, [&](const Entry&, const Step&) { ++seen; }};
  program.run("train", Batch(0, kBatch).feeds(network), &observer);
  CHECK(seen == program.blueprint().entry("train").steps.size());
  memory::HostResource host;
  Options options = on(launcher);
  options.resource = &host;
  CHECK_THROWS_WITH_AS((void)network.compiled(options),
                       "program: the resource gives host memory but the program runs on the "
                       "device; name another resource or none",
                       ArgumentError);
}

}  // namespace
}  // namespace poolgrad
