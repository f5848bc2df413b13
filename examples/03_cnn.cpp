// The CNN on Fashion-MNIST: data, task, plan, fit().
//
// Reads the four IDX files from the folder given, or from where Debian's dataset-fashion-mnist puts
// them. The second argument is how many epochs (1).
#include <cstdio>
#include <cstdlib>
#include <exception>

#include "engine/machine.h"
#include "engine/program.h"
#include "engine/report.h"
#include "models/cnn.h"
#include "train/fit.h"

using namespace poolgrad;

namespace {

void run(const char* folder, int epochs) {
  // Columns of bytes: each step picks its rows and makes floats of them, on their way into the
  // arena.
  const train::Split data = train::read_mnist(folder);

  // A model is a function that appends nodes; a task adds loss, optimizer and the entries "train"
  // and "evaluate", which take their batches from tables as large as the data. Still no tensor has
  // bytes.
  const train::TaskSpec spec{.model = models::cnn(),
                             .sample = data.train.sample_shape(),
                             .batch = 64,
                             .optimizer = train::Adam{.rate = 1e-3F},
                             .tables = train::tables_of(data)};
  const train::Task task = train::make_task(spec);

  // The plan is known before anything is taken: the peak, and a bound that no plan can beat.
  Blueprint blueprint = draft_task(spec, task, {.threads = usable_cores()});
  std::printf("%s\n", describe(blueprint, "train").c_str());

  // One allocation, then the loop. Callbacks are called between steps.
  Program program(std::move(blueprint));
  const train::FitResult result =
      train::fit(task, program, data, {.epochs = epochs, .seed = 0},
                 {.on_epoch = [](const train::EpochReport& epoch) {
                   std::printf("epoch %d  loss %.4f  test accuracy %.4f  %.1f s\n", epoch.epoch,
                               epoch.train_loss, epoch.test_accuracy, epoch.seconds);
                 }});
  std::printf("%.0f images/s; peak measured %zu bytes, predicted %zu\n", result.images_per_second,
              result.measured_peak_bytes, result.predicted_peak_bytes);

  // A weight is a view of the arena: it keeps the arena alive, and training on would change it.
  for (const Tensor& parameter : task.graph->column("parameters")) {
    const std::span<float> values = program.view(parameter).as<float>();
    std::printf("%-9s %-16s first value %+.4f\n", task.graph->name(parameter.id).c_str(),
                to_string(parameter.shape()).c_str(), static_cast<double>(values[0]));
  }
}

}  // namespace

int main(int argc, char** argv) {
  try {
    run(argc > 1 ? argv[1] : train::kFashionMnist, argc > 2 ? std::atoi(argv[2]) : 1);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "03_cnn: %s\n", error.what());
    return 1;
  }
}
