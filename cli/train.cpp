// poolgrad train: data, plan, loop, weights file.
#include <algorithm>
#include <iomanip>
#include <iostream>

#include "cli/commands.h"
#include "cli/flags.h"
#include "cli/interrupt.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/tuning.h"
#include "engine/report.h"
#include "interop/atomic_file.h"
#include "interop/safetensors.h"
#include "memory/allocation_count.h"
#include "memory/system.h"
#include "train/fit.h"

namespace poolgrad::cli {
namespace {

constexpr int kProfileSteps = 50;
constexpr std::size_t kGuardBytes = 4096;  // behind the arena, looked at after training

struct TrainFlags {
  PlanFlags plan;
  std::string data = train::kFashionMnist;
  int epochs = 5;
  std::string save;
  bool json = false, profile = false;
};

void save(const std::string& path, train::Task& task, const Program& program) {
  std::vector<NamedArray> arrays;
  for (const char* column : {"parameters", "statistics"}) {
    for (const Tensor& tensor : task.graph->column(column))
      arrays.push_back({task.graph->name(tensor.id), program.read(tensor)});
  }
  interop::write_safetensors(path, arrays, {{"format", "pt"}});
}

void print_epoch(const TrainFlags& flags, const train::EpochReport& epoch) {
  if (flags.json) {
    print_line(std::cout, {{"event", "epoch"},
                           {"epoch", epoch.epoch},
                           {"train_loss", epoch.train_loss},
                           {"test_accuracy", epoch.test_accuracy},
                           {"seconds", epoch.seconds}});
    return;
  }
  std::cout << std::fixed << std::setprecision(4) << "epoch " << epoch.epoch << "/" << flags.epochs
            << "  loss " << epoch.train_loss << "  accuracy " << epoch.train_accuracy
            << "  test accuracy " << epoch.test_accuracy << "  " << std::setprecision(1)
            << epoch.seconds << " s" << std::endl;
}

double per_step(std::size_t count, const train::FitResult& result) {
  return static_cast<double>(count) / static_cast<double>(std::max<std::int64_t>(result.steps, 1));
}

/// Null where nobody counts: a zero would be a claim.
Json counted(double count) { return memory::counting() ? Json(count) : Json(); }

Json done_event(const train::FitResult& result) {
  const memory::AllocationCounts& counts = result.allocations;
  return {{"event", "done"},
          {"test_accuracy", result.epochs.back().test_accuracy},
          {"images_per_s", result.images_per_second},
          {"allocations_in_loop", memory::counting() ? Json(counts.ours) : Json()},
          {"library_allocations_per_step", counted(per_step(counts.library, result))},
          {"library_bytes_per_step", counted(per_step(counts.library_bytes, result))},
          {"predicted_peak_bytes", result.predicted_peak_bytes},
          {"measured_peak_bytes", result.measured_peak_bytes}};
}

void print_done(const train::FitResult& result) {
  const memory::AllocationCounts& counts = result.allocations;
  std::cout << std::fixed << std::setprecision(4) << "test accuracy "
            << result.epochs.back().test_accuracy << ", " << std::setprecision(0)
            << result.images_per_second << " images/s in " << result.steps << " steps\n";
  if (memory::counting()) {
    std::cout << "allocations in the loop: " << counts.ours << " by poolgrad; by libraries "
              << std::setprecision(1) << per_step(counts.library, result) << " per step, "
              << per_step(counts.library_bytes, result) << " bytes (the largest "
              << counts.largest_library_bytes << ")\n";
  } else {
    std::cout << "allocations in the loop: not counted in this build\n";
  }
  const bool equal = result.predicted_peak_bytes == result.measured_peak_bytes;
  std::cout << "peak: measured " << grouped(result.measured_peak_bytes) << " bytes, predicted "
            << grouped(result.predicted_peak_bytes) << (equal ? ": equal\n" : "\n");
}

void print_interrupted(const TrainFlags& flags, const train::FitResult& result) {
  if (flags.json) {
    print_line(std::cout, {{"event", "interrupted"},
                           {"epochs", result.epochs.size()},
                           {"steps", result.steps},
                           {"saved", flags.save.empty() ? Json() : Json(flags.save)}});
    return;
  }
  std::cout << "interrupted after " << result.steps << " steps\n";
}

train::FitResult fit(const TrainFlags& flags, const train::Task& task, Program& program,
                     const train::Split& data) {
  const Interrupt interrupt;
  Progress progress(stdout, flags.epochs);
  train::FitCallbacks callbacks;
  if (!flags.json) callbacks.on_step = [&](const train::StepReport& step) { progress.show(step); };
  callbacks.on_epoch = [&](const train::EpochReport& epoch) {
    progress.clear();
    print_epoch(flags, epoch);
  };
  callbacks.should_stop = [&] { return interrupt.requested(); };
  try {
    const train::FitResult result =
        train::fit(task, program, data,
                   {flags.epochs, flags.plan.seed, flags.profile ? kProfileSteps : 0}, callbacks);
    progress.clear();
    return result;
  } catch (...) {
    progress.clear();
    throw;
  }
}

/// What can be known to be wrong before anything large is read or taken.
void check_early(const TrainFlags& flags) {
  if (flags.epochs < 1) throw ArgumentError(text("--epochs: ", flags.epochs, "; take 1 or more"));
  if (flags.plan.batch < 1)
    throw ArgumentError(text("--batch: ", flags.plan.batch, "; take 1 or more"));
  (void)task_spec(flags.plan, {1, 28, 28}, 10);
  (void)program_options(flags.plan);
  if (!flags.save.empty()) const interop::AtomicFile writable(flags.save);
}

int train_command(const TrainFlags& flags) {
  check_early(flags);
  const train::Split data = train::read_mnist(flags.data);
  if (flags.plan.batch > data.train.count()) {
    throw ArgumentError(text("--batch: ", flags.plan.batch, " is more than the ",
                             data.train.count(), " samples in '", flags.data, "'; take at most ",
                             data.train.count()));
  }
  train::TaskSpec spec = task_spec(flags.plan, data.train.sample_shape(), data.train.classes);
  spec.tables = train::tables_of(data);
  Options options = program_options(flags.plan);
  const bool on_cpu = options.device.kind == Device::Kind::cpu;
  if (on_cpu) options.guard_bytes = kGuardBytes;
  if (on_cpu && options.memory_limit_bytes == 0)
    options.memory_limit_bytes = memory::available_bytes();

  train::Task task = train::make_task(spec);
  Blueprint blueprint = train::draft_task(spec, task, options);
  save_tuning(flags.plan.tune, options);
  if (flags.json) {
    print_line(std::cout, plan_event(blueprint));
  } else {
    print_plan(std::cout, blueprint);
  }
  Program program(std::move(blueprint));
  const train::FitResult result = fit(flags, task, program, data);
  if (!result.guards_intact)
    throw DeviceError("a kernel wrote behind the arena's end; please report this as a bug");

  if (!flags.save.empty()) save(flags.save, task, program);
  if (result.interrupted) {
    print_interrupted(flags, result);
  } else if (flags.json) {
    print_line(std::cout, done_event(result));
    if (result.profile) print_line(std::cout, profile_event(*result.profile));
  } else {
    print_done(result);
    if (result.profile) std::cout << describe(*result.profile);
  }
  if (!flags.save.empty() && !flags.json) std::cout << "weights saved to " << flags.save << "\n";
  return result.interrupted ? kInterrupted : kSuccess;
}

}  // namespace

void add_train(CLI::App& app, int& exit_code) {
  CLI::App* command =
      app.add_subcommand("train", "Train a model on Fashion-MNIST or its relatives");
  auto flags = std::make_shared<TrainFlags>();
  command->add_option("--data", flags->data, "folder with the four IDX files, plain or .gz")
      ->capture_default_str()
      ->type_name("DIR");
  command->add_option("--epochs", flags->epochs, "times through the data")
      ->capture_default_str()
      ->type_name("N");
  add_plan_flags(*command, flags->plan);
  command->add_option("--save", flags->save, "write the weights here, named as in PyTorch")
      ->type_name("FILE.safetensors");
  command->add_flag("--profile", flags->profile,
                    "then time 50 more steps node by node, which change nothing");
  command->add_flag("--json", flags->json, "one JSON object per line instead of text");
  command->footer(
      "The profile sums up nodes by op and layer, over all threads: parts of one layer's work\n"
      "count as calls. Below it stands what each thread did: kernels, waiting for others, the\n"
      "rest.\n"
      "Without --memory-limit the limit is what the machine and its control group have free.\n"
      "--tune FILE chooses the kernels of products and convolutions by measured times instead of\n"
      "rules. What FILE lacks is timed before training, in a second or two, and added: the next\n"
      "run with it has the same kernels, plan and bits.\n"
      "Ctrl-C finishes the step, writes the file of --save and exits with 130.\n"
      "\n"
      "Examples:\n"
      "  poolgrad train --model mlp --hidden 256,128 --optimizer sgd --lr 0.1 --momentum 0.9\n"
      "  poolgrad train --model cnn --epochs 3 --save cnn.safetensors\n"
      "  poolgrad train --model cnn --epochs 1 --batch 128 --profile\n"
      "  poolgrad train --model resnet --blocks 3 --width 16 --batch 128\n"
      "  poolgrad train --model unet --epochs 1\n"
      "  poolgrad train --model cnn --epochs 1 --batch 128 --tune here.tune\n"
      "  poolgrad train --model mlp --threads 1 --read-ahead\n"
      "  poolgrad train --model chain --lr 3e-4\n"
      "  poolgrad train --model cnn --batch 512 --memory-limit 64MiB --json");
  command->callback([flags, &exit_code] { exit_code = train_command(*flags); });
}

}  // namespace poolgrad::cli
