// poolgrad's training step as a peer among others: the networks, weights and order of the data that
// networks.py says, and nothing computed that the others do not compute.
#include <algorithm>
#include <random>

#include "bench/peers/turns.h"
#include "bench/workload.h"
#include "engine/machine.h"
#include "engine/report.h"

using namespace poolgrad;
using peers::Json;

namespace {

/// With a flag "nudgeSEED": changes each weight by a last bit or two, as torch_step.py does, with
/// other numbers.
void nudge(std::span<float> weights, const std::vector<std::string>& flags) {
  for (const std::string& flag : flags) {
    if (!flag.starts_with("nudge")) continue;
    std::mt19937_64 bits(std::stoul(flag.substr(5)));
    std::normal_distribution<double> normal;
    for (float& weight : weights) weight = static_cast<float>(weight * (1 + 2e-7 * normal(bits)));
  }
}

/// Copies the weights into the parameters, which come in the same order.
void set_weights(Program& program, Graph& graph, std::span<float> weights) {
  const std::vector<Tensor> parameters = graph.column("parameters");
  std::size_t wanted = 0;
  for (const Tensor& parameter : parameters)
    wanted += static_cast<std::size_t>(parameter.shape().count());
  if (wanted != weights.size())
    throw std::runtime_error(text("poolgrad_step: the parameters are ", wanted,
                                  " values but networks.py has ", weights.size()));
  for (const Tensor& parameter : parameters) {
    const auto count = static_cast<std::size_t>(parameter.shape().count());
    const Shape& shape = parameter.shape();
    program.write(parameter, ArrayView::of(weights.first(count), shape, DType::f32));
    weights = weights.subspan(count);
  }
}

/// Bytes of parameters and of what the optimizer keeps.
std::size_t kept_by_training(const Blueprint& blueprint) {
  std::size_t bytes = 0;
  for (const ReportRow& row : report(blueprint, "train"))
    if (row.persistent && (row.role == Role::parameter || row.role == Role::moment))
      bytes += row.bytes;
  return bytes;
}

bool has(const peers::Arguments& given, const char* flag) {
  return std::ranges::count(given.flags, flag) > 0;
}

/// With a flag "cuda" on GPU 0, whose products may round to TF32 with "tf32"; with "bf16"
/// activations in two bytes; with "plain" no convolution by Winograd's tiles.
Options options_of(const peers::Arguments& given) {
  Options options{.threads = given.threads, .winograd = !has(given, "plain")};
  if (has(given, "cuda")) options.device = Device::cuda(0);
  options.device.tensor_float = has(given, "tf32");
  if (has(given, "bf16")) options.precision = DType::bf16;
  return options;
}

void work(const peers::Arguments& given) {
  const bool on_device = has(given, "cuda");
  const train::Task task = train::make_task(bench::spec_of(given.network, given.batch, on_device));
  Program program = compile(*task.graph, {task.training.entry()}, options_of(given));
  peers::Data data = peers::read_data(given.folder, given.network);
  nudge(data.weights, given.flags);
  set_weights(program, *task.graph, data.weights);

  const ArrayView images =
      program.to_device(ArrayView::of(data.images, {peers::kImages, peers::kPixels}, DType::f32));
  const ArrayView labels =
      program.to_device(ArrayView::of(std::span(data.labels), {peers::kImages}, DType::i64));
  const peers::Training training{
      [&](std::int64_t i) { program.run("train", bench::feeds(task, images, labels, i)); },
      [&] { return program.read(task.training.loss).as<float>()[0]; }};

  const Blueprint& blueprint = program.blueprint();
  const Entry& entry = blueprint.entry("train");
  const std::size_t kept = kept_by_training(blueprint);
  const std::string library = on_device ? "CUDA" : kernel_library();
  const Json facts{{"versions", {"poolgrad on " + library}},
                   {"instruction_set", instruction_set()},
                   {"nodes", entry.steps.size()},
                   {"phases", entry.edges.size()},
                   {"lower_bound_bytes", blueprint.lower_bound_bytes() - kept}};
  peers::serve(training, facts, [&] {
    program.watch_peak();
    training.step(0);
    return Json{{"peak_bytes", program.measured_peak_bytes() - kept},
                {"peak_how", "changed bytes of the arena, input slots counted"},
                {"held_bytes", program.arena_bytes() + images.bytes() + labels.bytes()}};
  });
}

}  // namespace

int main(int argc, char** argv) { return peers::guarded(argc, argv, work); }
