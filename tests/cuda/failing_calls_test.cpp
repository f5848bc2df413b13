// Every call that a short training makes of a device fails once, in turn: the error says which, and
// the program goes on, or says at each further call that it cannot. Nothing stays behind.
#include <chrono>
#include <cstring>
#include <functional>
#include <optional>
#include <thread>

#include <doctest/doctest.h>

#include "models/mlp.h"
#include "tests/cuda/small_network.h"
#include "train/task.h"

namespace poolgrad {
namespace {

using testing::alive, testing::FailingCall, testing::FakeLauncher, testing::FakeStream;
using testing::Batch, testing::kBatch, testing::Network, testing::on, testing::on_cpu;

/// One thing that is asked of a program, and what is to be seen then.
struct Action {
  std::string begins;  // what the error begins with
  std::function<std::vector<float>(Program&)> act;
};

std::vector<float> values(const Program& program, Tensor tensor) {
  const ArrayView view = program.read(tensor);
  return {view.as<float>().begin(), view.as<float>().end()};
}

std::vector<Action> short_training(Network& n, FakeStream& other) {
  std::vector<Action> actions;
  const Tensor weight = n.graph.column("parameters")[0];
  const auto add = [&](const std::string& begins, auto act) {
    actions.push_back({begins, [act](Program& program) -> std::vector<float> {
                         if constexpr (std::is_void_v<decltype(act(program))>) {
                           act(program);
                           return {};
                         } else {
                           return act(program);
                         }
                       }});
  };
  for (int i = 0; i < 4; ++i) {  // the first, a recording of each side, a replay
    add("run: 'train': ",
        [&n, i](Program& p) { p.run("train", Batch(i, kBatch - i % 2).feeds(n)); });
    add(text("read: tensor ", n.loss.id, ": "), [&n](Program& p) { return values(p, n.loss); });
  }
  // What is not fed is brought along on a device; the CPU is fed it again.
  const auto run = [&n](Program& p, const char* entry, const Batch& batch, std::size_t feeds) {
    const std::vector<Feed> all = batch.feeds(n);
    p.run(entry, std::span(all).first(p.blueprint().options.launcher ? feeds : all.size()));
  };
  add("run: 'evaluate': ", [run](Program& p) { run(p, "evaluate", Batch(3, kBatch - 1), 0); });
  add("run: 'train': ", [run](Program& p) { run(p, "train", Batch(3, kBatch - 1), 1); });
  add(text("read: '", n.graph.name(weight.id), "': "),
      [weight](Program& p) { return values(p, weight); });
  add("read: 'x': ", [&n](Program& p) { (void)p.read(n.x); });
  add("write: 'rate': ", [&n](Program& p) {
    const float rate = 0.01F;
    p.write(n.training.rate, ArrayView::of(std::span(&rate, 1), {}, DType::f32));
  });
  const auto x = std::make_shared<ArrayView>();
  add("to_device: ", [&n, x](Program& p) {
    static const Batch batch(7, kBatch);
    *x = p.to_device(batch.feeds(n)[0].values);
  });
  add("run: 'train': ", [&n, x](Program& p) {
    if (x->data == nullptr) return p.synchronize();  // there was none to be had
    static const Batch batch(7, kBatch);
    const std::vector<Feed> feeds{{n.x, *x}, batch.feeds(n)[1]};
    p.run("train", feeds);
  });
  add("wait_for: ", [&other](Program& p) {
    if (p.blueprint().options.launcher) p.wait_for(other.stream());
  });
  add("run: 'train': ", [run](Program& p) { run(p, "train", Batch(7, kBatch), 0); });
  add("make_wait: ", [&other](Program& p) {
    if (p.blueprint().options.launcher) p.make_wait(other.stream());
  });
  add("synchronize: ", [x](Program& p) {
    p.synchronize();
    *x = {};
  });
  add(text("read: '", n.graph.name(weight.id), "': "),
      [weight](Program& p) { return values(p, weight); });
  return actions;
}

/// All that steps leave for later steps.
std::vector<Tensor> lasting(const Program& program, Network& n) {
  const TensorTable& tensors = program.blueprint().tensors;
  std::vector<Tensor> result;
  for (int id = 0; id < tensors.size(); ++id) {
    const std::string& column = tensors.column[static_cast<std::size_t>(id)];
    if (tensors.persistent(id) && column != "inputs" && column != "kept")
      result.push_back({&n.graph, id});
  }
  return result;
}

/// The error's text, and that it is one of ours; nothing where there is none.
std::optional<std::string> error_of(const std::function<void()>& act) {
  try {
    act();
  } catch (const DeviceError& error) {
    return error.what();
  } catch (const MemoryError& error) {
    return error.what();
  }
  return {};
}

void check_text(const std::string& what, const std::string& begins, const std::string& call) {
  CAPTURE(what);
  CHECK(what.find(call) != std::string::npos);
  const bool memory = call == "cudaMalloc" || call == "cudaHostAlloc";
  CHECK(what.find(memory ? " refused " : " failed: cudaErrorUnknown, unknown error") !=
        std::string::npos);
  const bool prepared = call == "cudaFuncGetAttributes";
  CHECK(what.starts_with(prepared ? "op '" : begins));
  if (prepared || call == "cudaLaunchKernel") {
    CHECK(what.find("op '") != std::string::npos);
    CHECK(what.find("' of [") != std::string::npos);
  }
}

/// As it is before the call that failed; a step that was done in part is said to be, and what it
/// may have changed is put back.
void restore(Program& program, const Program& reference, Network& n, const std::string& what) {
  const bool in_part =
      what.find(" nodes were done, ") != std::string::npos || what.starts_with("write: ");
  for (const Tensor tensor : lasting(reference, n)) {
    const ArrayView expected = reference.view(tensor);
    if (in_part) program.write(tensor, expected);
    const ArrayView found = program.read(tensor);
    CHECK(std::memcmp(found.data, expected.data, expected.bytes()) == 0);
  }
}

/// Without feeds it runs on what it says it was fed: all of it on one side.
void check_feeds(Program& program, Program& reference, Network& n) {
  const ArrayView x = program.read(n.x), labels = program.read(n.labels);
  const Tensor count{&n.graph, n.graph.rows_id()};
  const std::int64_t rows = program.read(count).as<std::int32_t>()[0];
  std::vector<Feed> feeds{{n.x, x}, {n.labels, labels}};
  for (Feed& feed : feeds) feed.values.shape[0] = rows;
  reference.run("evaluate", feeds);
  program.run("evaluate");
  CHECK(values(program, n.loss) == values(reference, n.loss));
}

void rest(void*) { std::this_thread::sleep_for(std::chrono::microseconds(300)); }

void check_alive(const testing::Alive& before) {
  const testing::Alive now = alive();
  CHECK(now.blocks == before.blocks);
  CHECK(now.pinned == before.pinned);
  CHECK(now.events == before.events);
  CHECK(now.recordings == before.recordings);
}

/// Whether call number `nth` was made, and failed.
bool train(std::size_t nth, Memory memory) {
  Network n;
  FakeStream other("other");
  const testing::Alive before = alive();
  const FailingCall failing(nth);
  {
    const auto launcher = std::make_shared<FakeLauncher>();
    Options options = on(launcher);
    options.memory = memory;
    Program reference = n.compiled(on_cpu());
    std::optional<Program> program;
    const auto begin = [&] { program.emplace(n.compiled(options)); };
    if (const auto what = error_of(begin)) {
      check_text(*what, "program: ", FailingCall::failed());
      begin();
    }
    for (const Action& action : short_training(n, other)) {
      std::vector<float> seen;
      const auto act = [&] { seen = action.act(*program); };
      launcher->work().enqueue(rest, nullptr);
      if (const auto what = error_of(act)) {
        if (action.begins != "to_device: " || FailingCall::failed() != "cudaMalloc") {
          CHECK(memory::Event(launcher->work()).done());  // so bytes may go, and be fed anew
          CHECK(memory::Event(launcher->copies()).done());
        }
        check_text(*what, action.begins, FailingCall::failed());
        restore(*program, reference, n, *what);
        if (what->starts_with("run: ")) check_feeds(*program, reference, n);
        act();
      }
      CAPTURE(action.begins);
      CHECK(seen == action.act(reference));
    }
    CHECK(launcher->open_ranges() == 0);
  }
  check_alive(before);
  return !FailingCall::failed().empty();
}

TEST_CASE("device: when any one call fails, the error says which, and training goes on") {
  for (const Memory memory : {Memory::planned, Memory::direct}) {
    CAPTURE(to_string(memory));
    std::size_t nth = 1;
    for (bool failed = true; failed; ++nth) {
      CAPTURE(nth);
      failed = train(nth, memory);
    }
    CHECK(nth > 100);
  }
}

TEST_CASE("device: when all calls fail from one on, each says so, and what there was is freed") {
  Network n;
  FakeStream other("other");
  for (std::size_t nth = 1; nth < 190; nth += 3) {
    CAPTURE(nth);
    const testing::Alive before = alive();
    const FailingCall failing(nth, /*lasting=*/true);
    {
      const auto launcher = std::make_shared<FakeLauncher>();
      std::optional<Program> program;
      std::optional<std::string> what =
          error_of([&] { program.emplace(n.compiled(on(launcher))); });
      for (const Action& action : short_training(n, other)) {
        if (!program) break;
        const auto again = error_of([&] { (void)action.act(*program); });
        if (what) CHECK(again);
        if (again) what = again;
      }
      REQUIRE(what);
      CAPTURE(*what);
      CHECK(what->find("cuda") != std::string::npos);
    }
    check_alive(before);
  }
}

TEST_CASE("device: memory that it has not is told with who asked, and what is free") {
  Graph graph;
  const Tensor x = graph.input({{1 << 10, 1 << 17}}, "x");  // two slots of half the device
  try {
    (void)compile(graph, {{"run", {relu(x)}}}, on(std::make_shared<FakeLauncher>()));
    FAIL("no error");
  } catch (const MemoryError& error) {
    const std::string what = error.what();
    CAPTURE(what);
    CHECK(what.starts_with("program: no arena of "));
    CHECK(what.ends_with(
        text(" of ", testing::FakeMemory::kBytes, " are free; free memory or ask for less")));
  }
}

TEST_CASE("device: training that is larger than what is free names the batch that fits") {
  const train::TaskSpec spec{.model = models::mlp(784, std::array<std::int64_t, 1>{64}, 10),
                             .sample = {1, 28, 28},
                             .batch = 1 << 18,
                             .optimizer = train::Sgd{}};
  Options options = on(std::make_shared<FakeLauncher>());
  options.memory_limit_bytes = train::available_bytes(options);
  CHECK(options.memory_limit_bytes == testing::FakeMemory::kBytes);
  const train::Task task = train::make_task(spec);
  CHECK_THROWS_WITH_AS(
      (void)draft_task(spec, task, options),
      doctest::Contains("but the limit is 1.0 GiB (1073741824 bytes); the largest batch that "
                        "fits is "),
      MemoryError);
}

}  // namespace
}  // namespace poolgrad
