// poolgrad train: data, plan, loop, checkpoints.
#include <algorithm>
#include <cmath>
#include <iomanip>
#include <iostream>

#include "cli/checkpoints.h"
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
#include "train/fit.h"

namespace poolgrad::cli {
namespace {

constexpr int kProfileSteps = 50;
constexpr std::size_t kGuardBytes = 4096;  // behind the arena, looked at after training

struct TrainFlags {
  PlanFlags plan;
  std::string data = train::kFashionMnist;
  int epochs = 5;
  int save_every = 1;
  std::string save, resume, weights;
  bool json = false, profile = false;
};

/// Where a run begins: fresh, or with a file. It is looked into before anything large is taken, and
/// read when all fits.
struct Start {
  std::string flag{}, path{};  // empty: fresh
  train::Checkpoint seen{};    // without data
  train::Position at{};

  explicit Start(const TrainFlags& flags)
      : flag(!flags.resume.empty()    ? "--resume"
             : !flags.weights.empty() ? "--weights"
                                      : ""),
        path(flags.resume + flags.weights) {
    if (!path.empty()) seen = look_into(path);
  }
  [[nodiscard]] bool resumes() const { return flag == "--resume"; }
  [[nodiscard]] std::string name() const { return named(flag, path); }

  void check(const train::Task& task, const TrainFlags& flags, std::int64_t samples) {
    if (flag == "--weights") check_weights(task, seen.arrays, name());
    if (!resumes()) return;
    at = position_for(task, flags.plan, samples, seen, name());
    if (at.epochs >= flags.epochs)
      throw ArgumentError(text("--epochs: ", name(), " has had ", at.epochs, " of ", flags.epochs,
                               "; take more, or measure it by --weights ", path, " --epochs 0"));
  }

  /// `rate`: what was typed, or nothing.
  void load(const train::Task& task, Program& program, std::optional<float> rate) const {
    if (flag == "--weights") restore_weights(task, program, read_checkpoint(path).arrays, name());
    if (!resumes()) return;
    restore(task, program, read_checkpoint(path), name());
    if (rate)
      program.write(task.training.rate, ArrayView::of(std::span(&*rate, 1), {}, DType::f32));
  }
};

/// Writes the file of --save as often as --save-every says, and at the end where more was done.
class Saver {
 public:
  Saver(const TrainFlags& flags, const train::Task& task, const Program& program)
      : flags_(flags), task_(task), program_(program) {}

  void after_epoch(const train::Position& at) {
    if (flags_.save_every > 0 && at.epochs % flags_.save_every == 0) save(at);
  }
  void save(const train::Position& at) {
    if (flags_.save.empty() || saved_ == at) return;
    save_checkpoint(flags_.save, task_, program_, at, flags_.plan, flags_.epochs);
    saved_ = at;
  }

 private:
  const TrainFlags& flags_;
  const train::Task& task_;
  const Program& program_;
  std::optional<train::Position> saved_;
};

/// Only where there is a loss scale.
void add_scaling(Json& event, const std::optional<train::Scaling>& scaling) {
  if (!scaling) return;
  event["loss_scale"] = scaling->scale;
  event["skipped_steps"] = scaling->skipped;
}

void print_epoch(const TrainFlags& flags, const train::EpochReport& epoch) {
  if (flags.json) {
    Json event{{"event", "epoch"},
               {"epoch", epoch.epoch},
               {"train_loss", epoch.train_loss},
               {"test_accuracy", epoch.test_accuracy},
               {"seconds", epoch.seconds}};
    add_scaling(event, epoch.scaling);
    print_line(std::cout, event);
    return;
  }
  std::cout << std::fixed << std::setprecision(4) << "epoch " << epoch.epoch << "/" << flags.epochs
            << "  ";
  if (std::isnan(epoch.train_loss)) {  // all of its steps were done elsewhere
    std::cout << "trained elsewhere";
  } else {
    std::cout << "loss " << epoch.train_loss << "  accuracy " << epoch.train_accuracy;
  }
  std::cout << "  test accuracy " << epoch.test_accuracy << "  " << std::setprecision(1)
            << epoch.seconds << " s";
  if (epoch.scaling && epoch.scaling->skipped > 0)
    std::cout << "  skipped " << epoch.scaling->skipped << " steps so far";
  std::cout << std::endl;
}

double per_step(std::size_t count, const train::FitResult& result) {
  return static_cast<double>(count) / static_cast<double>(std::max<std::int64_t>(result.steps, 1));
}

/// Null where nobody counts: a zero would be a claim.
Json counted(double count) { return memory::counting() ? Json(count) : Json(); }

Json done_event(const train::FitResult& result) {
  const memory::AllocationCounts& counts = result.allocations;
  Json event{{"event", "done"},
             {"test_accuracy", result.epochs.back().test_accuracy},
             {"images_per_s", result.images_per_second},
             {"allocations_in_loop", memory::counting() ? Json(counts.ours) : Json()},
             {"library_allocations_per_step", counted(per_step(counts.library, result))},
             {"library_bytes_per_step", counted(per_step(counts.library_bytes, result))},
             {"predicted_peak_bytes", result.predicted_peak_bytes},
             {"measured_peak_bytes", result.measured_peak_bytes}};
  add_scaling(event, result.scaling);
  return event;
}

void print_done(const train::FitResult& result) {
  const memory::AllocationCounts& counts = result.allocations;
  std::cout << std::fixed << std::setprecision(4) << "test accuracy "
            << result.epochs.back().test_accuracy << ", " << std::setprecision(0)
            << result.images_per_second << " images/s in " << result.steps << " steps\n";
  if (result.scaling) {
    std::cout << std::defaultfloat << std::setprecision(9) << "loss scale " << result.scaling->scale
              << " at the end; " << result.scaling->skipped
              << " steps were skipped on the way there\n"
              << std::fixed;
  }
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

void print_start(const TrainFlags& flags, const Start& start) {
  if (start.resumes() && flags.json) {
    print_line(std::cout,
               {{"event", "resumed"}, {"epochs", start.at.epochs}, {"steps", start.at.steps}});
  } else if (start.resumes()) {
    std::cout << start.path << " goes on after " << start.at.epochs << " epochs and "
              << start.at.steps << " steps" << std::endl;
  } else if (!start.path.empty() && !flags.json) {
    std::cout << "weights are those of " << start.path << std::endl;
  }
}

train::FitResult fit(const TrainFlags& flags, const train::Task& task, Program& program,
                     const train::Split& data, const train::Position& from, Saver& saver) {
  const Interrupt interrupt;
  const double begun = static_cast<double>(from.epochs * from.samples + from.steps * from.batch) /
                       static_cast<double>(data.train.count() * flags.epochs);
  Progress progress(stdout, flags.epochs, begun);
  train::FitCallbacks callbacks;
  if (!flags.json) callbacks.on_step = [&](const train::StepReport& step) { progress.show(step); };
  callbacks.on_epoch = [&](const train::EpochReport& epoch) {
    progress.clear();
    print_epoch(flags, epoch);
    saver.after_epoch(epoch.at);
  };
  callbacks.should_stop = [&] { return interrupt.requested(); };
  try {
    const train::FitResult result = train::fit(
        task, program, data,
        {flags.epochs, flags.plan.seed, flags.profile ? kProfileSteps : 0, from}, callbacks);
    progress.clear();
    return result;
  } catch (...) {
    progress.clear();
    throw;
  }
}

/// What can be known to be wrong before anything large is read or taken.
void check_early(const TrainFlags& flags) {
  const int least = flags.weights.empty() ? 1 : 0;
  if (flags.epochs < least)
    throw ArgumentError(text("--epochs: ", flags.epochs, "; take ", least, " or more"));
  if (flags.save_every < 0)
    throw ArgumentError(text("--save-every: ", flags.save_every, "; take 0 or more"));
  if (flags.plan.batch < 1)
    throw ArgumentError(text("--batch: ", flags.plan.batch, "; take 1 or more"));
  (void)task_spec(flags.plan, {1, 28, 28}, 10);
  (void)program_options(flags.plan);
  if (!flags.save.empty()) const interop::AtomicFile writable(flags.save);
}

/// Of the weights as they are.
int evaluate(const TrainFlags& flags, const train::Task& task, Program& program,
             const train::Split& data) {
  const train::Measured measured = train::evaluate(task, program, data);
  if (flags.json) {
    print_line(std::cout, {{"event", "evaluated"},
                           {"test_loss", measured.loss},
                           {"test_accuracy", measured.accuracy}});
  } else {
    std::cout << std::fixed << std::setprecision(4) << "test accuracy " << measured.accuracy
              << ", loss " << measured.loss << "\n";
  }
  return kSuccess;
}

int train_command(CLI::App& command, TrainFlags& flags) {
  Start start(flags);
  if (start.resumes()) take_flags(command, flags.plan, start.seen, start.name());
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
  if (options.memory_limit_bytes == 0) options.memory_limit_bytes = train::available_bytes(options);

  const train::Task task = train::make_task(spec);
  start.check(task, flags, data.train.count());
  Blueprint blueprint = train::draft_task(spec, task, options);
  save_tuning(flags.plan.tune, options);
  if (flags.json) {
    print_line(std::cout, plan_event(blueprint));
  } else {
    print_plan(std::cout, blueprint);
  }
  Program program(std::move(blueprint));
  const bool new_rate = command.get_option("--lr")->count() > 0;
  start.load(task, program,
             new_rate ? std::optional(static_cast<float>(flags.plan.rate)) : std::nullopt);
  print_start(flags, start);
  if (start.resumes()) tell_of_other_bits(start.seen, options);
  if (flags.epochs == 0) return evaluate(flags, task, program, data);
  Saver saver(flags, task, program);
  const train::FitResult result = fit(flags, task, program, data, start.at, saver);
  if (!result.guards_intact)
    throw DeviceError("a kernel wrote behind the arena's end; please report this as a bug");

  saver.save(result.at);
  if (result.interrupted) {
    print_interrupted(flags, result);
  } else if (flags.json) {
    print_line(std::cout, done_event(result));
    if (result.profile) print_line(std::cout, profile_event(*result.profile));
  } else {
    print_done(result);
    if (result.profile) std::cout << describe(*result.profile);
  }
  if (!flags.save.empty() && !flags.json) std::cout << "saved to " << flags.save << "\n";
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
  command
      ->add_option("--epochs", flags->epochs, "times through the data, those before --resume too")
      ->capture_default_str()
      ->type_name("N");
  add_plan_flags(*command, flags->plan);
  CLI::Option* save =
      command->add_option("--save", flags->save, "write weights and state here, to go on from")
          ->type_name("FILE.safetensors");
  command
      ->add_option("--save-every", flags->save_every,
                   "after so many epochs each, and at the end; 0: only then")
      ->capture_default_str()
      ->type_name("EPOCHS")
      ->needs(save);
  CLI::Option* resume =
      command
          ->add_option("--resume", flags->resume,
                       "go on where this file of --save ends, with its flags and the same bits")
          ->type_name("FILE.safetensors");
  command
      ->add_option("--weights", flags->weights,
                   "begin with the weights in this file, of --save or PyTorch")
      ->type_name("FILE.safetensors")
      ->excludes(resume);
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
      "The file of --save has the weights under PyTorch's names and behind \"optimizer.\" what "
      "else\n"
      "training goes on from; a new one takes the old one's place whole, so that whoever is "
      "killed\n"
      "leaves that of the last epoch. Ctrl-C finishes the step, writes it and exits with 130.\n"
      "--resume takes model, optimizer, batch, seed, threads and epochs from the file; --epochs,\n"
      "--lr, --threads and --chunks may be said anew, and --tune and --device must be said again.\n"
      "--precision f16 scales the loss, so that small gradients do not vanish: a step with one "
      "that\n"
      "is not finite changes nothing and halves the scale, 2000 good ones double it.\n"
      "--weights begins anew with moments of 0; with --epochs 0 it only measures.\n"
      "\n"
      "Examples:\n"
      "  poolgrad train --model mlp --hidden 256,128 --optimizer sgd --lr 0.1 --momentum 0.9\n"
      "  poolgrad train --model cnn --epochs 3 --save cnn.safetensors\n"
      "  poolgrad train --resume cnn.safetensors --epochs 5 --save cnn.safetensors\n"
      "  poolgrad train --model cnn --weights cnn.safetensors --epochs 0\n"
      "  poolgrad train --model cnn --epochs 1 --batch 128 --profile\n"
      "  poolgrad train --model resnet --blocks 3 --width 16 --batch 128\n"
      "  poolgrad train --model unet --epochs 1\n"
      "  poolgrad train --model cnn --epochs 1 --batch 128 --tune here.tune\n"
      "  poolgrad train --model mlp --threads 1 --read-ahead\n"
      "  poolgrad train --model chain --lr 3e-4\n"
      "  poolgrad train --model cnn --batch 512 --memory-limit 64MiB --json");
  command->callback([command, flags, &exit_code] { exit_code = train_command(*command, *flags); });
}

}  // namespace poolgrad::cli
