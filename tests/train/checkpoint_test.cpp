// What is saved and restored goes on as if nothing had happened; what does not fit changes nothing.
#include "train/checkpoint.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include <doctest/doctest.h>

#include "engine/ops.h"
#include "tests/train/clusters.h"
#include "train/fit.h"

namespace poolgrad::train {
namespace {

constexpr std::int64_t kHidden = 8;

/// Whatever keeps something beside weights: running statistics, dropout's place in its numbers.
Tensor model(Graph& graph, Tensor x, bool training) {
  std::vector<Tensor> p = graph.column("parameters"), s = graph.column("statistics");
  if (p.empty()) {
    const Init four = Init::kaiming_uniform(4, 7), eight = Init::kaiming_uniform(kHidden, 7);
    p = {graph.parameter({kHidden, 4}, four, "0.weight"),
         graph.parameter({kHidden}, Init::constant(1.0F), "1.weight"),
         graph.parameter({kHidden}, Init::constant(0.0F), "1.bias"),
         graph.parameter({3, kHidden}, eight, "4.weight"), graph.parameter({3}, eight, "4.bias")};
    s = {graph.state({{kHidden}}, Init::constant(0.0F), "1.running_mean", "statistics"),
         graph.state({{kHidden}}, Init::constant(1.0F), "1.running_var", "statistics"),
         graph.state({{}, DType::i64}, {}, "1.num_batches_tracked", "statistics")};
  }
  const RunningStatistics running{s[0], s[1], s[2]};
  const Tensor image = reshape(linear(x, p[0], {}), {x.shape()[0], kHidden, 1, 1});
  Tensor y = training ? batch_norm(image, p[1], p[2], running)
                      : batch_norm_fixed(image, p[1], p[2], running);
  y = relu(flatten(y));
  return linear(training ? dropout(y, 0.25, 3) : y, p[3], p[4]);
}

const Optimizer kOptimizers[] = {Sgd{.rate = 0.05F, .momentum = 0.9F}, Adam{.rate = 0.02F},
                                 AdamW{.rate = 0.02F}};

TaskSpec spec(const Problem& problem, const Optimizer& optimizer, std::int64_t batch = 16) {
  return {.model = model,
          .sample = {4},
          .batch = batch,
          .optimizer = optimizer,
          .tables = tables_of(problem.data)};
}

/// A checkpoint on bytes of its own, as one that comes from a file.
struct Saved {
  Checkpoint checkpoint;
  std::vector<std::vector<std::byte>> bytes;

  Saved(const Task& task, const Program& program, const Position* at)
      : checkpoint(train::checkpoint(task, program, at)) {
    for (NamedArray& named : checkpoint.arrays) {
      const auto* from = static_cast<const std::byte*>(named.array.data);
      bytes.emplace_back(from, from + named.array.bytes());
      named.array.data = bytes.back().data();
      named.array.owner = nullptr;
    }
  }
  NamedArray& at(std::string_view name) {
    return *std::ranges::find(checkpoint.arrays, name, &NamedArray::name);
  }
  bool operator==(const Saved& other) const { return bytes == other.bytes; }
};

/// All that a program keeps after so many epochs; with `stop` cut after so many steps, and gone on
/// with by another program.
struct Trained {
  std::vector<std::vector<std::byte>> bytes;
  std::vector<double> losses;
};
Trained trained(const TaskSpec& what, const Split& data, int stop, int threads) {
  Trained result;
  Position from;
  std::optional<Saved> saved;
  for (const bool go_on : {false, true}) {
    if (go_on && stop == 0) break;
    const Task task = make_task(what);
    Program program = compile(*task.graph, task.entries, {.threads = threads});
    if (saved) restore(task, program, saved->checkpoint, "saved");
    int steps = 0;
    const FitResult done =
        fit(task, program, data, {.epochs = 3, .seed = 5, .from = from},
            {.should_stop = [&] { return !go_on && stop > 0 && ++steps == stop; }});
    CHECK(done.interrupted == (stop > 0 && !go_on));
    for (const EpochReport& epoch : done.epochs) {
      result.losses.push_back(epoch.train_loss);
      result.losses.push_back(epoch.test_loss);
      result.losses.push_back(epoch.train_accuracy);
    }
    saved.emplace(task, program, &done.at);
    from = *position_in(saved->checkpoint, "saved");
    CHECK(from == done.at);
  }
  result.bytes = saved->bytes;
  return result;
}

TEST_CASE("checkpoint: stopped anywhere and gone on with, training gives the same bits") {
  const Problem problem;  // 7 steps an epoch; should_stop is asked twice more in its test
  for (const Optimizer& optimizer : kOptimizers) {
    for (const int threads : {1, 2}) {
      for (const bool ahead : {false, true}) {
        CAPTURE(to_string(optimizer));
        CAPTURE(threads);
        CAPTURE(ahead);
        TaskSpec what = spec(problem, optimizer);
        what.read_ahead = ahead;
        const Trained whole = trained(what, problem.data, 0, threads);
        for (const int stop : {1, 3, 7, 8, 10, 18}) {
          CAPTURE(stop);
          const Trained parts = trained(what, problem.data, stop, threads);
          CHECK(parts.bytes == whole.bytes);
          CHECK(parts.losses == whole.losses);
        }
      }
    }
  }
}

TEST_CASE("checkpoint: a loss scale goes on where it was, between two skipped steps, too") {
  Problem problem;
  problem.train.samples[7] = std::numeric_limits<float>::infinity();  // the loss of a batch is NaN
  TaskSpec what = spec(problem, Adam{.rate = 0.02F});
  what.model = [](Graph& graph, Tensor x, bool) {  // running statistics would become NaN
    std::vector<Tensor> p = graph.column("parameters");
    if (p.empty()) p = {graph.parameter({3, 4}, Init::kaiming_uniform(4, 7), "weight")};
    return linear(x, p[0]);
  };
  what.minimize = {.grad_scaler = GradScaler{.init_scale = 0x1p127F, .growth_interval = 3},
                   .clip_grad_norm = 0.25F};
  for (const Updates updates : {Updates::at_gradient, Updates::whole_column}) {
    what.minimize.updates = updates;
    const Trained whole = trained(what, problem.data, 0, 2);
    for (const int stop : {1, 3, 7, 8, 10, 18}) {
      CAPTURE(stop);
      const Trained parts = trained(what, problem.data, stop, 2);
      CHECK(parts.bytes == whole.bytes);
      CHECK(parts.losses == whole.losses);
    }
  }
}

TEST_CASE("checkpoint: another loss scale or clipping is refused by name; none is as before") {
  const Problem problem;
  const auto task_with = [&](const MinimizeOptions& options) {
    TaskSpec what = spec(problem, Sgd{});
    what.minimize = options;
    return make_task(what);
  };
  const Task plain = task_with({}), scaled = task_with({.grad_scaler = GradScaler{}}),
             clipped = task_with({.clip_grad_norm = 0.5F});
  const Program program = compile(*plain.graph, plain.entries);
  Saved saved(plain, program, nullptr);
  CHECK_THROWS_WITH_AS(check(scaled, saved.checkpoint, "saved"),
                       "saved: it was saved with loss scale none but here is from 65536, times 2 "
                       "after 2000 steps, times 0.5; make them equal",
                       ArgumentError);
  CHECK_THROWS_WITH_AS(check(clipped, saved.checkpoint, "saved"),
                       "saved: it was saved with clip_grad_norm none but here is 0.5; make them "
                       "equal",
                       ArgumentError);
  for (const char* silent : {"poolgrad.grad_scaler", "poolgrad.clip_grad_norm"})
    saved.checkpoint.about.erase(silent);  // as all were before there were these
  CHECK_NOTHROW(check(plain, saved.checkpoint, "saved"));
  CHECK_THROWS_AS(check(scaled, saved.checkpoint, "saved"), ArgumentError);
  CHECK_THROWS_AS(check(clipped, saved.checkpoint, "saved"), ArgumentError);
}

TEST_CASE("checkpoint: an epoch and one more are two, at any step of the report") {
  const Problem problem;
  const TaskSpec what = spec(problem, Adam{});
  const Task task = make_task(what);
  Program one = compile(*task.graph, task.entries), two = compile(*task.graph, task.entries);
  (void)fit(task, two, problem.data, {.epochs = 2});
  Position at;
  (void)fit(task, one, problem.data, {.epochs = 1},
            {.on_epoch = [&](const EpochReport& epoch) { at = epoch.at; }});
  CHECK(at.epochs == 1);
  CHECK(at.steps == 0);
  std::int64_t first = 0;
  const FitResult rest =
      fit(task, one, problem.data, {.epochs = 2, .from = at}, {.on_step = [&](const StepReport& s) {
            if (first++ == 0) CHECK(s.epoch == 2);
          }});
  CHECK(rest.steps == 7);
  CHECK(rest.epochs.size() == 1);
  CHECK(rest.epochs[0].epoch == 2);
  CHECK(Saved(task, one, nullptr) == Saved(task, two, nullptr));
}

TEST_CASE("checkpoint: weights have a state_dict's names, all else is the optimizer's") {
  const Problem problem;
  const auto names = [&](const Optimizer& optimizer, Updates updates) {
    TaskSpec what = spec(problem, optimizer);
    what.minimize.updates = updates;
    const Task task = make_task(what);
    const Program program = compile(*task.graph, task.entries);
    std::vector<std::string> result;
    for (const NamedArray& named : checkpoint(task, program).arrays) result.push_back(named.name);
    return result;
  };
  const std::vector<std::string> plain{
      "0.weight",       "1.weight",       "1.bias",         "4.weight",
      "4.bias",         "1.running_mean", "1.running_var",  "1.num_batches_tracked",
      "optimizer.step", "optimizer.rate", "optimizer.scale"};
  CHECK(names(Sgd{}, Updates::at_gradient) == plain);
  CHECK(names(Sgd{}, Updates::whole_column) == plain);
  CHECK(names(Sgd{.momentum = 0.9F}, Updates::at_gradient).size() == plain.size() + 5);
  const std::vector<std::string> adam = names(Adam{}, Updates::at_gradient);
  CHECK(adam.size() == plain.size() + 10);
  CHECK(std::ranges::count(adam, "optimizer.adam.first.0.weight") == 1);
  CHECK(std::ranges::count(adam, "optimizer.adam.second.4.bias") == 1);
}

TEST_CASE("checkpoint: a changed learning rate goes on with the rest") {
  const Problem problem;
  const Task task = make_task(spec(problem, Sgd{.rate = 0.5F}));
  Program program = compile(*task.graph, task.entries), other = compile(*task.graph, task.entries);
  program.view(task.training.rate).as<float>()[0] = 0.125F;
  const Saved saved(task, program, nullptr);
  CHECK_FALSE(position_in(saved.checkpoint, "saved").has_value());
  restore(task, other, saved.checkpoint, "saved");
  CHECK(other.view(task.training.rate).as<float>()[0] == 0.125F);
}

TEST_CASE("checkpoint: weights alone begin another training") {
  const Problem problem;
  const Task task = make_task(spec(problem, Adam{}));
  Program program = compile(*task.graph, task.entries);
  const FitResult result = fit(task, program, problem.data, {.epochs = 3});
  const Saved saved(task, program, &result.at);

  const Task other = make_task(spec(problem, Sgd{}));
  Program tuned = compile(*other.graph, other.entries);
  restore_weights(other, tuned, saved.checkpoint.arrays, "saved");
  const Measured measured = evaluate(other, tuned, problem.data);
  CHECK(measured.loss == result.epochs.back().test_loss);
  CHECK(measured.accuracy == result.epochs.back().test_accuracy);
  CHECK(tuned.view(other.graph->step()).as<std::int64_t>()[0] == 0);

  std::vector<NamedArray> stranger = saved.checkpoint.arrays;
  stranger.push_back(stranger[0]);
  stranger.back().name = "9.weight";
  CHECK_THROWS_WITH_AS(
      check_weights(other, stranger, "w.safetensors"),
      "w.safetensors: '9.weight' in it has no place here; it was saved with another model or "
      "optimizer",
      ArgumentError);
}

// ---- what is refused

/// What restoring says; after it the program is as it was.
template <typename Error>
std::string refused(const Task& task, const Checkpoint& from) {
  Program program = compile(*task.graph, task.entries);
  const Saved before(task, program, nullptr);
  std::string what;
  try {
    restore(task, program, from, "f");
  } catch (const Error& error) {
    what = error.what();
  }
  CHECK(before == Saved(task, program, nullptr));
  return what;
}

TEST_CASE("checkpoint: another optimizer, model or format is refused, and nothing is changed") {
  const Problem problem;
  const Task task = make_task(spec(problem, Adam{}));
  Program program = compile(*task.graph, task.entries);
  const FitResult result = fit(task, program, problem.data, {.epochs = 1});
  const Saved saved(task, program, &result.at);

  CHECK(
      refused<ArgumentError>(make_task(spec(problem, AdamW{})), saved.checkpoint) ==
      "f: it was saved with adam with betas 0.9 and 0.999, epsilon 1e-08, weight decay 0 but here "
      "is adamw with betas 0.9 and 0.999, epsilon 1e-08, weight decay 0.01; make them equal");
  CHECK(refused<ArgumentError>(make_task(spec(problem, Adam{.beta1 = 0.95})), saved.checkpoint) !=
        "");

  Checkpoint changed = saved.checkpoint;
  CHECK(changed.about["poolgrad.dropout"] == "0.25 (seed 3)");
  changed.about["poolgrad.dropout"] = "0.5 (seed 3)";
  CHECK(refused<ArgumentError>(task, changed) ==
        "f: it was saved with dropout 0.5 (seed 3) but here is 0.25 (seed 3); make them equal");
  changed = saved.checkpoint;
  std::erase_if(changed.arrays, [](const NamedArray& a) { return a.name == "4.bias"; });
  CHECK(refused<ArgumentError>(task, changed) ==
        "f: there is no '4.bias' in it; it was saved with another model or optimizer");
  changed = saved.checkpoint;
  changed.arrays.push_back({"optimizer.other", changed.arrays[0].array});
  CHECK(refused<ArgumentError>(task, changed) ==
        "f: 'optimizer.other' in it has no place here; it was saved with another model or "
        "optimizer");
  changed = saved.checkpoint;
  changed.arrays[0].array.shape = {4, kHidden};
  CHECK(refused<ArgumentError>(task, changed) ==
        "f: '0.weight' is [4, 8] of float32 in it but [8, 4] of float32 here; it was saved with "
        "another model");
  changed = saved.checkpoint;
  changed.arrays[0].array.dtype = DType::i32;
  CHECK(refused<ArgumentError>(task, changed) ==
        "f: '0.weight' is [8, 4] of int32 in it but [8, 4] of float32 here; it was saved with "
        "another model");
  changed = saved.checkpoint;
  changed.about = {{"format", "pt"}};
  CHECK(refused<FileError>(task, changed) ==
        "f: it holds weights but no training to go on with; take its weights alone");
  changed.about["poolgrad.checkpoint"] = "2";
  CHECK(
      refused<FileError>(task, changed) ==
      "f: it is a checkpoint of format 2 but this poolgrad knows 1; take the poolgrad it is from");
}

TEST_CASE("checkpoint: values that no training has are refused, and nothing is changed") {
  const Problem problem;
  const Task task = make_task(spec(problem, Adam{}));
  Program program = compile(*task.graph, task.entries);
  const auto with = [&](const char* name, auto value) {
    Saved saved(task, program, nullptr);
    std::memcpy(saved.at(name).array.data, &value, sizeof value);
    return refused<FileError>(task, saved.checkpoint);
  };
  const std::string step = "f: 'optimizer.step' has a value that it never takes";
  CHECK(with("optimizer.step", std::int64_t{-1}) == step);
  CHECK(with("optimizer.step", std::numeric_limits<std::int64_t>::max()) == step);
  CHECK(with("1.num_batches_tracked", std::int64_t{-1}) != "");
  CHECK(with("optimizer.rate", -1.0F) == "f: 'optimizer.rate' has a value that it never takes");
  CHECK(with("optimizer.rate", std::numeric_limits<float>::quiet_NaN()) != "");
  CHECK(with("optimizer.scale", std::numeric_limits<float>::infinity()) != "");
  Saved possible(task, program, nullptr);
  possible.at("optimizer.step").array.as<std::int64_t>()[0] = 3;
  CHECK_NOTHROW(restore(task, program, possible.checkpoint, "f"));
}

TEST_CASE("checkpoint: text that is no position is refused") {
  const Problem problem;
  const Task task = make_task(spec(problem, Sgd{}));
  const Program program = compile(*task.graph, task.entries);
  const Position at{.epochs = 1, .seed = 2, .samples = 100, .batch = 16};
  const Checkpoint right = checkpoint(task, program, &at);
  CHECK(*position_in(right, "f") == at);
  for (const char* wrong : {"", "x", "1x", "99999999999999999999", " 1"}) {
    CAPTURE(wrong);
    Checkpoint changed = right;
    changed.about["poolgrad.epochs"] = wrong;
    CHECK_THROWS_WITH_AS(
        (void)position_in(changed, "f"),
        text("f: its text has '", wrong, "' for 'poolgrad.epochs', which is no number").c_str(),
        FileError);
  }
  Checkpoint changed = right;
  changed.about.erase("poolgrad.seed");
  CHECK_THROWS_WITH_AS((void)position_in(changed, "f"), "f: its text lacks 'poolgrad.seed'",
                       FileError);
}

TEST_CASE("checkpoint: a position of other data, or where no training comes, is refused") {
  const Problem problem;
  const Task task = make_task(spec(problem, Sgd{}));
  Program program = compile(*task.graph, task.entries);
  const Position right{.epochs = 1, .seed = 2, .samples = 100, .batch = 16};
  const auto begins = [&](const Position& at, int epochs = 3) -> std::string {
    try {
      (void)fit(task, program, problem.data, {.epochs = epochs, .seed = 2, .from = at});
    } catch (const ArgumentError& error) {
      return error.what();
    }
    return "";
  };
  CHECK(begins(right) == "");
  CHECK(begins(right, 1) == "fit: 1 epochs, but 1 were done before; take more");
  Position at = right;
  at.samples = 99;
  CHECK(begins(at) ==
        "fit: it is on its way through 99 samples in batches of 16 with seed 2 but here are 100 in "
        "batches of 16 with seed 2; make them equal");
  at = right;
  at.batch = 0;
  CHECK(begins(at) != "");
  at = right;
  at.seed = 3;
  CHECK(begins(at) != "");
  at = right;
  at.steps = 8;
  CHECK(begins(at) ==
        "fit: it is at step 8 of 7 after 1 epochs with 0 of 0 right and a loss of 0 in all, where "
        "no training comes; it is damaged");
  for (const Position& wrong :
       {Position{.steps = -1}, Position{.epochs = -1}, Position{.steps = 2, .measured = 33},
        Position{.steps = 2, .measured = 8, .correct = 9},
        Position{.steps = 1, .loss_sum = std::numeric_limits<double>::quiet_NaN()},
        Position{.epochs = std::int64_t{1} << 40}}) {
    Position moved = wrong;
    moved.seed = 2;
    moved.samples = 100;
    moved.batch = 16;
    CHECK(begins(moved) != "");
  }
}

}  // namespace
}  // namespace poolgrad::train
