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

constexpr std::size_t kPixels = peers::kPixels;

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

void work(const peers::Arguments& given) {
  const train::Task task = train::make_task(bench::spec_of(given.network, given.batch));
  Program program = compile(
      *task.graph, {task.training.entry()},
      {.threads = given.threads, .winograd = std::ranges::count(given.flags, "plain") == 0});
  peers::Data data = peers::read_data(given.folder, given.network);
  nudge(data.weights, given.flags);
  set_weights(program, *task.graph, data.weights);

  const std::span<float> images = data.images;
  const std::span<std::int64_t> labels = data.labels;
  const Shape& shape = task.samples.shape();
  const float* loss = program.view(task.training.loss).as<float>().data();
  const auto step = [&](std::int64_t i) {
    const auto first = static_cast<std::size_t>(peers::first_image(i, given.batch));
    const auto rows = static_cast<std::size_t>(given.batch);
    const std::array<Feed, 2> feeds{
        Feed{task.samples,
             ArrayView::of(images.subspan(first * kPixels, rows * kPixels), shape, DType::f32)},
        Feed{task.labels, ArrayView::of(labels.subspan(first, rows), {given.batch}, DType::i64)}};
    program.run("train", feeds);
    return *loss;
  };

  const Blueprint& blueprint = program.blueprint();
  const Entry& entry = blueprint.entry("train");
  const std::size_t kept = kept_by_training(blueprint);
  const Json facts{{"versions", {"poolgrad on " + kernel_library()}},
                   {"instruction_set", instruction_set()},
                   {"nodes", entry.steps.size()},
                   {"phases", entry.edges.size()},
                   {"lower_bound_bytes", blueprint.lower_bound_bytes() - kept}};
  peers::serve(step, facts, [&] {
    program.watch_peak();
    step(0);
    return Json{{"peak_bytes", program.measured_peak_bytes() - kept},
                {"peak_how", "changed bytes of the arena, input slots counted"}};
  });
}

}  // namespace

int main(int argc, char** argv) { return peers::guarded(argc, argv, work); }
