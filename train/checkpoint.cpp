// Nothing of a checkpoint is believed before it was compared with the task.
#include "train/checkpoint.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <set>

#include "engine/machine.h"
#include "engine/ops/settings.h"
#include "engine/tuning.h"

namespace poolgrad::train {
namespace {

constexpr std::string_view kState = "optimizer.";  // before the names of all that is no weight
constexpr const char* kFormat = "1";
constexpr std::int64_t kMostSteps = std::int64_t{1} << 53U;

/// Made or fed anew by each run, or somebody else's.
bool passing(const std::string& column) {
  return column.empty() || column == "inputs" || column == "lent" || column == "kept" ||
         column == "gradients";
}
bool weight(const std::string& column) { return column == "parameters" || column == "statistics"; }

struct Kept {
  std::string name;
  Tensor tensor;
};

/// What a program of the task keeps from step to step; weights first.
std::vector<Kept> kept(const Task& task, bool weights_only = false) {
  Graph& graph = *task.graph;
  std::vector<Kept> result;
  for (const bool weights : {true, false}) {
    if (weights_only && !weights) continue;
    for (int id = 0; id < graph.tensors.size(); ++id) {
      const std::string& column = graph.tensors.column[static_cast<std::size_t>(id)];
      if (passing(column) || weight(column) != weights) continue;
      result.push_back({text(weights ? "" : kState, graph.name(id)), graph.handle(id)});
    }
  }
  return result;
}

std::string shown(const Shape& shape, DType dtype) { return text(shape, " of ", dtype); }

using ByName = std::map<std::string_view, const ArrayView*>;

/// The arrays by name, once they are known to be exactly those.
ByName matched(const std::vector<Kept>& wanted, std::span<const NamedArray> arrays,
               std::string_view name, bool weights_only) {
  ByName found;
  for (const NamedArray& named : arrays) found[named.name] = &named.array;
  std::set<std::string_view> known;
  for (const auto& [key, tensor] : wanted) {
    known.insert(key);
    const auto at = found.find(key);
    if (at == found.end())
      throw ArgumentError(text(name, ": there is no '", key,
                               "' in it; it was saved with another model or optimizer"));
    const ArrayView& array = *at->second;
    const Spec& spec = tensor.spec();
    if (array.shape != spec.shape || array.dtype != spec.dtype)
      throw ArgumentError(text(name, ": '", key, "' is ", shown(array.shape, array.dtype),
                               " in it but ", shown(spec.shape, spec.dtype),
                               " here; it was saved with another model"));
  }
  for (const auto& [key, array] : found) {
    if (!known.contains(key) && !(weights_only && key.starts_with(kState)))
      throw ArgumentError(text(name, ": '", key,
                               "' in it has no place here; it was saved with another model or "
                               "optimizer"));
  }
  return found;
}

/// Counters count up and settings multiply: a number that neither can be would only show later.
void check_values(const std::vector<Kept>& wanted, const ByName& arrays, std::string_view name) {
  for (const auto& [key, tensor] : wanted) {
    if (tensor.shape().rank() != 0) continue;
    const ArrayView& array = *arrays.at(key);
    bool possible = true;
    if (array.dtype == DType::i64) {
      const std::int64_t count = array.as<std::int64_t>()[0];
      possible = count >= 0 && count <= kMostSteps;
    } else if (array.dtype == DType::f32) {
      const float value = array.as<float>()[0];
      possible = std::isfinite(value) && value >= 0.0F;
    }
    if (!possible) throw FileError(text(name, ": '", key, "' has a value that it never takes"));
  }
}

template <typename T>
std::string digits(T value) {
  char buffer[64];
  const auto [end, error] = std::to_chars(buffer, buffer + sizeof buffer, value);
  return {buffer, end};
}

/// A number of the text, whole.
template <typename T>
T number(const Checkpoint& from, const char* key, std::string_view name) {
  const auto at = from.about.find(key);
  T value{};
  if (at == from.about.end()) throw FileError(text(name, ": its text lacks '", key, "'"));
  const std::string& typed = at->second;
  const auto [end, error] = std::from_chars(typed.data(), typed.data() + typed.size(), value);
  if (error != std::errc() || end != typed.data() + typed.size())
    throw FileError(text(name, ": its text has '", typed, "' for '", key, "', which is no number"));
  return value;
}

/// "0.5 (seed 1), 0.1 (seed 1)": what is drawn follows from it, and from the step.
std::string dropout_of(const Task& task) {
  std::string result;
  for (const Node& node : task.graph->nodes) {
    if (node.op->name != "dropout") continue;
    const auto drawn = node.attributes.as<settings::Dropout>();
    result += text(result.empty() ? "" : ", ", digits(drawn.p), " (seed ", drawn.seed, ")");
  }
  return result.empty() ? "none" : result;
}

std::string scaler_of(const Task& task) {
  const auto& scaler = task.training.options.grad_scaler;
  return scaler ? to_string(*scaler) : "none";
}
std::string clip_of(const Task& task) {
  const auto& norm = task.training.options.clip_grad_norm;
  return norm ? digits(*norm) : "none";
}

/// `what` names it in the text; `here` is the task's. A text that does not say it means `silent`.
void check_same(const Checkpoint& from, const std::string& what, const std::string& here,
                const char* with, std::string_view name, const char* silent = "nothing") {
  const auto at = from.about.find("poolgrad." + what);
  const std::string saved = at == from.about.end() ? silent : at->second;
  if (saved != here)
    throw ArgumentError(text(name, ": it was saved with ", with, saved, " but here is ", here,
                             "; make them equal"));
}

void check_format(const Checkpoint& from, std::string_view name) {
  const auto version = from.about.find("poolgrad.checkpoint");
  if (version == from.about.end())
    throw FileError(
        text(name, ": it holds weights but no training to go on with; take its weights alone"));
  if (version->second != kFormat)
    throw FileError(text(name, ": it is a checkpoint of format ", version->second,
                         " but this poolgrad knows ", kFormat, "; take the poolgrad it is from"));
}

}  // namespace

void check(const Position& at, const Position& order, std::string_view name) {
  if (at.seed != order.seed || at.samples != order.samples || at.batch != order.batch)
    throw ArgumentError(text(name, ": it is on its way through ", at.samples,
                             " samples in batches of ", at.batch, " with seed ", at.seed,
                             " but here are ", order.samples, " in batches of ", order.batch,
                             " with seed ", order.seed, "; make them equal"));
  const std::int64_t per_epoch = (order.samples + order.batch - 1) / order.batch;
  const bool possible = at.epochs >= 0 && at.epochs < std::numeric_limits<std::int32_t>::max() &&
                        at.steps >= 0 && at.steps <= per_epoch && at.correct >= 0 &&
                        at.correct <= at.measured &&
                        at.measured <= std::min(at.steps * at.batch, at.samples) &&
                        std::isfinite(at.loss_sum) && at.loss_sum >= 0.0;
  if (!possible)
    throw ArgumentError(text(name, ": it is at step ", at.steps, " of ", per_epoch, " after ",
                             at.epochs, " epochs with ", at.correct, " of ", at.measured,
                             " right and a loss of ", at.loss_sum,
                             " in all, where no training comes; it is damaged"));
}

std::map<std::string, std::string> rounding(const poolgrad::Options& options) {
  return {{"poolgrad.kernels", kernels_run_on()},
          {"poolgrad.threads", digits(options.threads)},
          {"poolgrad.tuned", options.tuning ? options.tuning->used() : "no"}};
}

Checkpoint checkpoint(const Task& task, const Program& program, const Position* at) {
  Checkpoint result;
  for (const auto& [name, tensor] : kept(task))
    result.arrays.push_back({name, program.read(tensor)});
  result.about = {{"format", "pt"},
                  {"poolgrad.checkpoint", kFormat},
                  {"poolgrad.optimizer", to_string(task.training.optimizer)},
                  {"poolgrad.dropout", dropout_of(task)},
                  {"poolgrad.grad_scaler", scaler_of(task)},
                  {"poolgrad.clip_grad_norm", clip_of(task)}};
  result.about.merge(rounding(program.blueprint().options));
  if (at == nullptr) return result;
  result.about.insert({{"poolgrad.epochs", digits(at->epochs)},
                       {"poolgrad.steps", digits(at->steps)},
                       {"poolgrad.measured", digits(at->measured)},
                       {"poolgrad.loss_sum", digits(at->loss_sum)},
                       {"poolgrad.correct", digits(at->correct)},
                       {"poolgrad.seed", digits(at->seed)},
                       {"poolgrad.samples", digits(at->samples)},
                       {"poolgrad.batch", digits(at->batch)}});
  return result;
}

std::optional<Position> position_in(const Checkpoint& from, std::string_view name) {
  check_format(from, name);
  if (!from.about.contains("poolgrad.epochs")) return {};
  return Position{.epochs = number<std::int64_t>(from, "poolgrad.epochs", name),
                  .steps = number<std::int64_t>(from, "poolgrad.steps", name),
                  .measured = number<std::int64_t>(from, "poolgrad.measured", name),
                  .loss_sum = number<double>(from, "poolgrad.loss_sum", name),
                  .correct = number<std::int64_t>(from, "poolgrad.correct", name),
                  .seed = number<std::uint64_t>(from, "poolgrad.seed", name),
                  .samples = number<std::int64_t>(from, "poolgrad.samples", name),
                  .batch = number<std::int64_t>(from, "poolgrad.batch", name)};
}

void check(const Task& task, const Checkpoint& from, std::string_view name) {
  if (!from.about.empty()) {
    check_format(from, name);
    check_same(from, "optimizer", to_string(task.training.optimizer), "", name);
    check_same(from, "grad_scaler", scaler_of(task), "loss scale ", name, "none");
    check_same(from, "clip_grad_norm", clip_of(task), "clip_grad_norm ", name, "none");
  }
  (void)matched(kept(task), from.arrays, name, /*weights_only=*/false);
  if (!from.about.empty()) check_same(from, "dropout", dropout_of(task), "dropout ", name);
}

void check_weights(const Task& task, std::span<const NamedArray> arrays, std::string_view name) {
  (void)matched(kept(task, true), arrays, name, /*weights_only=*/true);
}

void restore(const Task& task, Program& program, const Checkpoint& from, std::string_view name) {
  check(task, from, name);
  const std::vector<Kept> wanted = kept(task);
  const ByName arrays = matched(wanted, from.arrays, name, /*weights_only=*/false);
  check_values(wanted, arrays, name);
  for (const auto& [key, tensor] : wanted) program.write(tensor, *arrays.at(key));
}

void restore_weights(const Task& task, Program& program, std::span<const NamedArray> arrays,
                     std::string_view name) {
  const std::vector<Kept> wanted = kept(task, true);
  const ByName found = matched(wanted, arrays, name, /*weights_only=*/true);
  check_values(wanted, found, name);
  for (const auto& [key, tensor] : wanted) program.write(tensor, *found.at(key));
}

}  // namespace poolgrad::train
