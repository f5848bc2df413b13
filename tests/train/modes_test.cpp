// The same training, whatever is switched: memory modes, passes, teams, delays, poison. Bits are
// compared where the design promises bits, and rounding where sums are added up in another order.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <limits>
#include <sstream>
#include <thread>

#include <doctest/doctest.h>

#include "engine/ops.h"
#include "engine/program.h"
#include "engine/tuning.h"
#include "memory/adaptors.h"
#include "tests/engine/small_images.h"
#include "tests/repeat.h"
#include "train/minimize.h"

namespace poolgrad {
namespace {

using testing::gap, testing::SmallImages;

std::size_t row(int id) { return static_cast<std::size_t>(id); }

constexpr std::int64_t kBatch = 64, kSide = 16;

/// A small CNN, large enough that everything is cut: convolutions into chunks, linear layers among
/// members. Without its convolutions, weights are worth keeping with the members.
struct Net {
  Graph graph;
  Tensor x, y, hidden, loss;
  train::Training training;

  explicit Net(const train::Optimizer& optimizer = train::Sgd{.rate = 0.05F, .momentum = 0.9F},
               const train::MinimizeOptions& options = {}, bool keep = false,
               std::int64_t batch = kBatch, bool images = true) {
    x = graph.input({{batch, 1, kSide, kSide}}, "x");
    y = graph.input({{batch}, DType::i64}, "y");
    const auto conv = [&](Tensor t, std::int64_t out, const char* name) {
      const Graph::Layer layer(graph, name);
      const std::int64_t fan_in = t.shape()[1] * 9;
      const Tensor w =
          graph.parameter({out, t.shape()[1], 3, 3}, Init::kaiming_uniform(fan_in, 1), "weight");
      return conv2d(t, w, graph.parameter({out}, Init::kaiming_uniform(fan_in, 1), "bias"),
                    {.padding = {1, 1}});
    };
    const auto dense = [&](Tensor t, std::int64_t out, const char* name) {
      const Graph::Layer layer(graph, name);
      const std::int64_t fan_in = t.shape()[1];
      const Tensor w = graph.parameter({out, fan_in}, Init::kaiming_uniform(fan_in, 1), "weight");
      return linear(t, w, graph.parameter({out}, Init::kaiming_uniform(fan_in, 1), "bias"));
    };
    Tensor t = x;
    if (images) {
      hidden = max_pool2d(relu(conv(x, 16, "conv1")));
      t = max_pool2d(relu(conv(hidden, 32, "conv2")));
    }
    t = relu(dense(flatten(t), 96, "fc1"));
    loss = softmax_cross_entropy(dense(t, 10, "fc2"), y);
    if (keep) graph.keep(hidden);
    training = train::minimize(loss, optimizer, options);
  }
};

/// Losses of all steps, then the weights. Every third batch is a short one.
std::vector<float> trained(const Net& net, const Options& options, int steps = 12,
                           const std::function<Observer(const Program&)>& observe = {}) {
  SmallImages images(kBatch, kSide);
  Options always = options;
  always.adaptive = false;  // the team runs every step
  Program program = compile(net.graph, {net.training.entry("train")}, always);
  const Observer observer = observe ? observe(program) : Observer{};
  std::vector<float> result;
  for (int i = 0; i < steps; ++i) {
    program.run("train", images.feeds(net.x, net.y, i % 3 == 2 ? 37 : kBatch),
                observe ? &observer : nullptr);
    result.push_back(program.view(net.training.loss).as<float>()[0]);
  }
  const auto weights = program.column("parameters").as<float>();
  result.insert(result.end(), weights.begin(), weights.end());
  return result;
}

/// Fills what dies with NaN. Shared bytes only where one thread runs all: others may still be at
/// it.
Observer poison(const Program& program, bool alone) {
  return {.before = {}, .after = [&program, alone](const Entry& entry, const Step& step) {
            const auto fill = [&](int s) {
              const Storage& storage = entry.storages.all[row(s)];
              std::fill_n(static_cast<float*>(program.address(entry, s)), storage.bytes / 4,
                          std::numeric_limits<float>::quiet_NaN());
            };
            for (const int s : step.dead) fill(s);
            if (!alone || &step != &entry.steps.back()) return;
            for (const Edge& edge : entry.edges) {
              for (const int s : edge.dead) fill(s);
            }
          }};
}

TEST_CASE("training: the loss falls") {
  const Net net;
  const std::vector<float> losses = trained(net, {}, 60);
  CHECK(losses[0] > 2.2F);
  CHECK(losses[57] < 0.6F * losses[0]);
}

TEST_CASE(
    "training: memory modes, passes and who runs it change no bit in many steps, freed bytes "
    "poisoned") {
  const Net net;
  for (const int threads : {1, 2}) {
    CAPTURE(threads);
    constexpr int kSteps = testing::times(200, 20);
    memory::HostResource heap;
    const Options options{.threads = threads};
    const std::vector<float> bits = trained(net, options, kSteps);
    const auto same = [&](auto change) {
      memory::Poison poisoned(heap);
      Options other = options;
      other.resource = &poisoned;
      change(other);
      return trained(net, other, kSteps) == bits;
    };
    CHECK(same([](Options&) {}));
    CHECK(same([](Options& o) { o.use_team = false; }));
    CHECK(same([](Options& o) { o.memory = Memory::pooled; }));
    CHECK(same([](Options& o) { o.memory = Memory::direct; }));
    CHECK(same([](Options& o) { o.memory = Memory::direct, o.use_team = false; }));
    CHECK(same([](Options& o) { o.in_place = false; }));
    CHECK(same([](Options& o) { o.schedule = false; }));
    CHECK(same([](Options& o) { o.order = false; }));
    CHECK(same([](Options& o) { o.layout = false; }));
    CHECK(same([](Options& o) { o.layout = o.schedule = o.in_place = false; }));
    CHECK(trained(net, options, kSteps, [](const Program& p) { return poison(p, false); }) == bits);
    Options alone = options;
    alone.use_team = false;
    CHECK(trained(net, alone, kSteps, [](const Program& p) { return poison(p, true); }) == bits);
  }
}

TEST_CASE("fuse: changes no bit where nothing is done in chunks, and rounding elsewhere") {
  const Net net;
  for (const int threads : {1, 2}) {
    const Options on{.threads = threads, .chunks = 1, .features = false};
    Options off = on;
    off.fuse = false;
    CHECK(trained(net, off) == trained(net, on));
    CHECK(gap(trained(net, {.threads = threads, .fuse = false}),
              trained(net, {.threads = threads})) < 2e-5);
  }
}

TEST_CASE(
    "fuse_updates: products are made on top of weights or momentum, which changes rounding alone") {
  for (const float momentum : {0.0F, 0.9F}) {
    const Net net(train::Sgd{.rate = 0.05F, .momentum = momentum});
    for (const int threads : {1, 2}) {
      const Options on{.threads = threads}, off{.threads = threads, .fuse_updates = false};
      CHECK(gap(trained(net, on), trained(net, off)) < 2e-5);
      const auto products = [&](const Options& options) {
        const Blueprint blueprint = draft(net.graph, {net.training.entry("train")}, options);
        return std::ranges::count_if(blueprint.entries[0].graph->nodes, [](const Node& node) {
          return node.op->name == "matmul_add";
        });
      };
      CHECK(products(off) == 0);
      CHECK(products(on) == 2 * threads);  // fc1 and fc2 in as many parts as members
    }
  }
}

TEST_CASE(
    "training: updates at the gradient and over whole columns, kept gradients, kept activations: "
    "same bits") {
  for (const train::Optimizer& optimizer :
       {train::Optimizer(
            train::Sgd{.rate = 0.05F, .momentum = 0.9F, .weight_decay = 1e-3F, .nesterov = true}),
        train::Optimizer(train::Adam{}), train::Optimizer(train::AdamW{})}) {
    for (const int threads : {1, 2}) {
      // Where updates are elsewhere, weights are not cut along features.
      const Options options{.threads = threads, .features = false};
      const std::vector<float> bits = trained(Net(optimizer), options);
      using train::Updates;
      CHECK(trained(Net(optimizer, {.updates = Updates::whole_column}), options) == bits);
      CHECK(trained(Net(optimizer, {.keep_gradients = true}), options) == bits);
      CHECK(trained(Net(optimizer, {.updates = Updates::whole_column, .keep_gradients = true}),
                    options) == bits);
      CHECK(trained(Net(optimizer, {}, /*keep=*/true), options) == bits);
      // Adam divides a gradient by its size: rounding counts where a gradient is next to nothing.
      CHECK(gap(trained(Net(optimizer), {.threads = threads}), bits) < 3e-4);
    }
  }
}

/// `tuning` with all choices `candidate`, where it has a time.
std::shared_ptr<Tuning> forced(const Tuning& tuning, const std::string& candidate) {
  std::istringstream table(tuning.text());
  std::string changed;
  for (std::string line; std::getline(table, line);) {
    const std::size_t time = line.find(" | " + candidate + " ");
    if (time != std::string::npos && line[time + candidate.size() + 4] != '-') {
      const std::size_t from = line.find(" | ", line.find(" | ") + 1) + 3;
      line.replace(from, line.find(" | ", from) - from, candidate);
    }
    changed += line + '\n';
  }
  return std::make_shared<Tuning>(Tuning::parse(changed, "forced"));
}

TEST_CASE("tuning: whatever a table chooses changes rounding alone, the same in every mode") {
  const Net net;
  for (const int threads : {1, 2}) {
    CAPTURE(threads);
    const std::vector<float> plain = trained(net, {.threads = threads});
    const auto with = [&](const std::shared_ptr<Tuning>& tuning, Memory memory = Memory::planned) {
      return Options{.memory = memory, .threads = threads, .tuning = tuning};
    };
    const auto measured = std::make_shared<Tuning>();
    const std::vector<float> tuned = trained(net, with(measured));
    CHECK(measured->size() >= 5);
    CHECK(gap(tuned, plain) < 2e-5);
    CHECK(trained(net, with(measured)) == tuned);
    for (const char* candidate : {"eigen", "onednn", "turned", "unfolded", "winograd"}) {
      CAPTURE(candidate);
      const auto table = forced(*measured, candidate);
      const std::vector<float> bits = trained(net, with(table));
      CHECK(gap(bits, plain) < 2e-5);
      CHECK(bits == trained(net, with(table, Memory::direct)));
      CHECK(table->spent.problems == 0);
      // What is planned is what runs: workspaces of other sizes, too.
      Options watched = with(table);
      watched.guard_bytes = 4096;
      Program program = compile(net.graph, {net.training.entry("train")}, watched);
      SmallImages images(kBatch, kSide);
      program.watch_peak();
      program.run("train", images.feeds(net.x, net.y, kBatch));
      CHECK(program.measured_peak_bytes() == program.blueprint().predicted_peak_bytes());
      CHECK(program.guards_intact());
    }
  }
}

TEST_CASE("winograd: tiles change the rounding of convolutions alone") {
  const Net net;
  for (const int threads : {1, 2}) {
    const std::vector<float> tiles = trained(net, {.threads = threads});
    const std::vector<float> plain = trained(net, {.threads = threads, .winograd = false});
    CHECK(tiles != plain);
    CHECK(gap(tiles, plain) < 2e-5);
  }
}

TEST_CASE("features: weights that stay with their members change the rounding of sums alone") {
  for (const train::Optimizer& optimizer :
       {train::Optimizer(train::Sgd{.rate = 0.05F}),
        train::Optimizer(train::Sgd{.rate = 0.05F, .momentum = 0.9F}),
        train::Optimizer(train::Sgd{.rate = 0.05F, .weight_decay = 1e-3F}),
        train::Optimizer(train::Adam{})}) {
    const Net net(optimizer, {}, false, kBatch, /*images=*/false);
    for (const int threads : {2, 3, 4, 6, 8}) {
      CAPTURE(threads);
      const Options on{.threads = threads};
      Options off = on, alone = on, pooled = on;
      off.features = false, alone.use_team = false, pooled.memory = Memory::pooled;
      const std::vector<float> bits = trained(net, on);
      CHECK((bits == trained(net, off)) == (threads == 8));  // 96 features are too few for 8
      CHECK(gap(bits, trained(net, off)) < 2e-5);
      CHECK(bits == trained(net, alone));
      CHECK(bits == trained(net, pooled));
    }
  }
}

TEST_CASE("split: parts change the rounding of sums and nothing else, short batches included") {
  const Net net;
  const std::vector<float> whole = trained(net, {.threads = 1, .chunks = 1});
  struct Split {
    int threads, chunks;
  };
  for (const Split split : {Split{1, 4}, {2, 1}, {2, 4}, {2, 7}, {3, 2}, {4, 4}, {8, 2}}) {
    CAPTURE(split.threads);
    CAPTURE(split.chunks);
    CHECK(gap(trained(net, {.threads = split.threads, .chunks = split.chunks}), whole) < 2e-5);
  }
}

TEST_CASE("team: delays before nodes change no bit") {
  const Net net;
  for (const int threads : {2, 3}) {
    for (const Memory memory : {Memory::planned, Memory::pooled, Memory::direct}) {
      const Options options{.memory = memory, .threads = threads, .chunks = 4};
      Options alone = options;
      alone.use_team = false;
      const std::vector<float> bits = trained(net, alone);
      std::atomic<unsigned> state = 1;
      const auto delay = [&](const Program&) {
        return Observer{.before = [&](const Entry&, const Step&) {
          const unsigned random = (state += 0x9E3779B9U) * 2654435761U >> 16U;
          if (random % 16 == 0)
            std::this_thread::sleep_for(std::chrono::microseconds(random % 200));
        }};
      };
      CHECK(trained(net, options, 12, delay) == bits);
    }
  }
}

struct Touch {
  std::ptrdiff_t begin, end;
  bool writes;
};

/// What a step touches, by addresses alone: from the entry's nodes and where tensors lie, without
/// storages' lifetimes, requests or the plan.
std::vector<Touch> touches(const Program& program, const Entry& entry, const Step& step) {
  const Node& node = entry.graph->nodes[row(step.node)];
  std::vector<Touch> result;
  const auto touch = [&](int storage, std::ptrdiff_t offset, std::size_t bytes, bool writes) {
    const auto base = reinterpret_cast<std::ptrdiff_t>(program.address(entry, storage)) + offset;
    result.push_back({base, base + static_cast<std::ptrdiff_t>(bytes), writes});
  };
  for (const auto* ids : {&node.inputs, &node.outputs}) {
    for (const int id : *ids) {
      const Spec& spec = entry.graph->tensors.spec[row(id)];
      const std::int64_t rows = spec.pitch == 0 ? 1 : spec.shape[0];
      for (std::int64_t i = 0; i < rows; ++i) {
        touch(entry.storages.of[row(id)],
              entry.storages.begin[row(id)] + i * spec.pitch * static_cast<int>(sizeof(float)),
              static_cast<std::size_t>(spec.shape.count() / rows) * size_of(spec.dtype),
              ids == &node.outputs);
      }
    }
  }
  if (step.workspace >= 0) touch(step.workspace, 0, step.kernel->workspace_bytes, true);
  return result;
}

std::string first_race(const Program& program, const Entry& entry) {
  for (const Step& a : entry.steps) {
    for (const Step& b : entry.steps) {
      if (a.member >= b.member || a.phase != b.phase) continue;
      for (const Touch& x : touches(program, entry, a)) {
        for (const Touch& y : touches(program, entry, b)) {
          if (x.begin < y.end && y.begin < x.end && (x.writes || y.writes))
            return text("node ", a.node, " and node ", b.node, " race");
        }
      }
    }
  }
  return "";
}

TEST_CASE("plan: no two members touch the same bytes between two barriers") {
  for (const bool keep : {false, true}) {
    for (const int threads : {2, 4}) {
      for (const int chunks : {1, 4}) {
        const Net net(train::Sgd{.rate = 0.05F, .momentum = 0.9F}, {}, keep);
        const Program program =
            compile(net.graph, {net.training.entry("train"), {"evaluate", {net.loss}}},
                    {.threads = threads, .chunks = chunks});
        for (const Entry& entry : program.blueprint().entries)
          CHECK(first_race(program, entry) == "");
      }
    }
  }
}

TEST_CASE("chunks: activations die early, equal nodes share kernels, barriers stay few") {
  const Net net(train::Sgd{.rate = 0.05F, .momentum = 0.9F}, {}, false, /*batch=*/512);
  const auto drafted = [&](int chunks) {
    return draft(net.graph, {net.training.entry("train")}, {.threads = 2, .chunks = chunks});
  };
  const Blueprint whole = drafted(1), parts = drafted(8);
  const Entry &few = whole.entries[0], &many = parts.entries[0];
  CHECK(few.edges.size() <= 6);
  CHECK(many.edges.size() <= 8);
  CHECK(many.steps.size() > 2 * few.steps.size());
  CHECK(many.kernels < few.kernels + 40);
  CHECK(2 * parts.scratch_bytes < whole.scratch_bytes);
}

TEST_CASE("peak: measured equals predicted for every mode, number of threads and pass setting") {
  SmallImages images(kBatch, kSide);
  for (const int threads : {1, 2, 3}) {
    for (const bool passes : {true, false}) {
      const Net net;
      Program program = compile(net.graph, {net.training.entry("train")},
                                {.threads = threads,
                                 .fuse = passes,
                                 .layout = passes,
                                 .schedule = passes,
                                 .in_place = passes,
                                 .order = passes,
                                 .guard_bytes = 4096});
      program.watch_peak();
      for (int i = 0; i < 3; ++i) program.run("train", images.feeds(net.x, net.y, kBatch));
      CHECK(program.measured_peak_bytes() == program.blueprint().predicted_peak_bytes());
      CHECK(program.guards_intact());
    }
  }
}

}  // namespace
}  // namespace poolgrad
