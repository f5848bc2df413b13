// From what was typed to what the engine is told.
#include "cli/flags.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <cmath>
#include <limits>

#include "cli/tuning.h"
#include "engine/machine.h"
#include "models/chain.h"
#include "models/cnn.h"
#include "models/mlp.h"
#include "models/resnet.h"
#include "models/unet.h"

namespace poolgrad::cli {
namespace {

[[noreturn]] void refuse(const std::string& flag, const std::string& typed,
                         const std::string& choices) {
  throw ArgumentError(text(flag, ": no '", typed, "'; choose ", choices));
}

constexpr std::array kModels{"mlp", "cnn", "resnet", "resnet20", "chain", "unet"};

/// "mlp, cnn, ... or unet".
std::string model_names() {
  std::string names = kModels.front();
  for (std::size_t i = 1; i < kModels.size(); ++i)
    names += text(i + 1 < kModels.size() ? ", " : " or ", kModels[i]);
  return names;
}

/// Of names that nobody has, and flags that belong to another model than the one that is named.
void check_model(const PlanFlags& flags) {
  if (std::ranges::find(kModels, flags.model) == kModels.end())
    refuse("--model", flags.model, model_names());
  const bool blocks = flags.model == "resnet";
  const bool width = blocks || flags.model == "chain" || flags.model == "unet";
  if (flags.model != "mlp" && !flags.hidden.empty()) {
    throw ArgumentError(text("--hidden: the ", flags.model,
                             blocks  ? " has --blocks and --width instead"
                             : width ? " has --width instead"
                                     : " has fixed widths",
                             "; leave it out or take --model mlp"));
  }
  if ((flags.blocks && !blocks) || (flags.width && !width)) {
    const bool of_blocks = flags.blocks && !blocks;
    throw ArgumentError(text("--", of_blocks ? "blocks" : "width", ": the ", flags.model,
                             " has none; leave it out or take --model resnet",
                             of_blocks ? "" : ", chain or unet"));
  }
}

train::Model model_of(const PlanFlags& flags, const Shape& sample, std::int64_t classes) {
  check_model(flags);
  const std::string& name = flags.model;
  const std::int64_t width = flags.width.value_or(16);
  if (name == "mlp") {
    const std::vector<std::int64_t> hidden =
        flags.hidden.empty() ? std::vector<std::int64_t>{128} : flags.hidden;
    return models::mlp(sample.count(), hidden, classes, flags.seed);
  }
  if (sample.rank() != 3)
    throw ArgumentError(text("--model: the ", name, " needs images but samples are ", sample,
                             "; take --model mlp"));
  if (name == "cnn") return models::cnn({sample[0], sample[1], sample[2]}, classes, flags.seed);
  if (name == "resnet") return models::resnet(flags.blocks.value_or(2), width, classes, flags.seed);
  if (name == "resnet20") return models::resnet(3, 16, classes, flags.seed);
  if (name == "chain") return models::chain(32, width, classes, flags.seed);
  return models::unet(width, classes, flags.seed);
}

train::Optimizer optimizer_of(const PlanFlags& flags) {
  const auto rate = static_cast<float>(flags.rate);
  const auto decay = [&](double usual) {
    return static_cast<float>(flags.weight_decay.value_or(usual));
  };
  if (flags.optimizer == "sgd") {
    return train::Sgd{.rate = rate,
                      .momentum = static_cast<float>(flags.momentum.value_or(0.0)),
                      .weight_decay = decay(0.0),
                      .nesterov = flags.nesterov};
  }
  if (flags.optimizer != "adam" && flags.optimizer != "adamw")
    refuse("--optimizer", flags.optimizer, "sgd, adam or adamw");
  if (flags.momentum || flags.nesterov) {
    throw ArgumentError(text("--", flags.momentum ? "momentum" : "nesterov", ": ", flags.optimizer,
                             " has none; leave it out or take --optimizer sgd"));
  }
  if (flags.optimizer == "adam") return train::Adam{.rate = rate, .weight_decay = decay(0.0)};
  return train::AdamW{.rate = rate, .weight_decay = decay(1e-2)};
}

int chunks_of(const PlanFlags& flags) {
  if (flags.chunks == "auto") return 0;
  int chunks = 0;
  const char* end = flags.chunks.data() + flags.chunks.size();
  const auto [read, error] = std::from_chars(flags.chunks.data(), end, chunks);
  if (error != std::errc() || read != end || chunks < 1)
    refuse("--chunks", flags.chunks, "auto or a number above 0");
  return chunks;
}

DType precision_of(const PlanFlags& flags) {
  if (flags.precision == "f32") return DType::f32;
  if (flags.precision == "bf16") return DType::bf16;
  if (flags.precision == "f16") return DType::f16;
  refuse("--precision", flags.precision, "f32, bf16 or f16");
}

Memory memory_of(const PlanFlags& flags) {
  for (const Memory memory : {Memory::planned, Memory::pooled, Memory::direct}) {
    if (flags.memory == to_string(memory)) return memory;
  }
  refuse("--memory", flags.memory, "planned, pooled or direct");
}

Device device_of(const PlanFlags& flags) {
  std::optional<Device> device = Device::named(flags.device);
  if (!device) refuse("--device", flags.device, "cpu, cuda or cuda:N");
  device->tensor_float = flags.allow_tf32;
  return *device;
}

/// CLI11 would take -1 for the largest number.
std::string seed_error(const std::string& typed) {
  std::uint64_t seed = 0;
  const char* end = typed.data() + typed.size();
  const auto [read, error] = std::from_chars(typed.data(), end, seed);
  if (error == std::errc() && read == end) return "";
  return text("'", typed, "' is no whole number from 0 to ",
              std::numeric_limits<std::uint64_t>::max());
}

train::MinimizeOptions minimize_of(const PlanFlags& flags) {
  train::MinimizeOptions options;
  if (device_of(flags).kind == Device::Kind::cuda)
    options.updates = train::Updates::whole_column;  // one launch for all parameters
  if (flags.clip_grad_norm) options.clip_grad_norm = static_cast<float>(*flags.clip_grad_norm);
  if (precision_of(flags) == DType::f16) options.grad_scaler = train::GradScaler{};
  if (!flags.loss_scale) return options;
  if (!options.grad_scaler)
    throw ArgumentError(text("--loss-scale: ", flags.precision,
                             " needs none; leave it out or take --precision f16"));
  options.grad_scaler = train::GradScaler::fixed(static_cast<float>(*flags.loss_scale));
  return options;
}

}  // namespace

std::vector<CLI::Option*> add_plan_flags(CLI::App& command, PlanFlags& flags) {
  std::vector<CLI::Option*> all;
  const auto add = [&](CLI::Option* option, const char* kind) {
    option->type_name(kind);
    all.push_back(option);
    return option;
  };
  add(command.add_option("--model", flags.model, model_names())->capture_default_str(), "NAME");
  add(command.add_option("--hidden", flags.hidden, "widths of the mlp's hidden layers [128]")
          ->delimiter(','),
      "N,N,...");
  add(command.add_option("--blocks", flags.blocks, "blocks in each of the resnet's stages [2]"),
      "N");
  add(command.add_option("--width", flags.width,
                         "channels of a resnet's or unet's first stage, or of the chain [16]"),
      "N");
  add(command.add_option("--batch", flags.batch, "samples in a step")->capture_default_str(), "N");
  add(command.add_option("--optimizer", flags.optimizer, "sgd, adam or adamw")
          ->capture_default_str(),
      "NAME");
  add(command.add_option("--lr", flags.rate, "learning rate")->capture_default_str(), "X");
  add(command.add_option("--momentum", flags.momentum, "of sgd [0]"), "X");
  all.push_back(command.add_flag("--nesterov", flags.nesterov, "sgd looks ahead by its momentum"));
  add(command.add_option("--weight-decay", flags.weight_decay,
                         "pull of the weights to zero [0; adamw: 0.01]"),
      "X");
  add(command.add_option("--clip-grad-norm", flags.clip_grad_norm,
                         "shorten all gradients together to this norm [none]"),
      "X");
  add(command.add_option("--seed", flags.seed, "of first weights and order of samples")
          ->capture_default_str()
          ->check(seed_error),
      "N");
  add(command.add_option("--threads", flags.threads, "members of the team [cores it may use]"),
      "N");
  add(command
          .add_option("--chunks", flags.chunks, "goes in which a member takes its part of a batch")
          ->capture_default_str(),
      "N|auto");
  add(command
          .add_option("--memory", flags.memory,
                      "planned (one arena), pooled, or direct (malloc for each tensor)")
          ->capture_default_str(),
      "MODE");
  add(command.add_option("--device", flags.device, "cpu, cuda or cuda:N")->capture_default_str(),
      "NAME");
  add(command
          .add_option("--precision", flags.precision,
                      "f32, or bf16 or f16: activations in half the bytes, which a deep network "
                      "gains from; weights and moments stay f32. Slower on a CPU")
          ->capture_default_str(),
      "NAME");
  add(command.add_option("--loss-scale", flags.loss_scale,
                         "of f16: stays at this [begins at 65536 and adapts]"),
      "X");
  all.push_back(command.add_flag("--allow-tf32", flags.allow_tf32,
                                 "on CUDA: products may round their operands to TF32"));
  all.push_back(command.add_flag("--no-winograd", flags.no_winograd,
                                 "convolve by plain sums, which are slower and round less"));
  add(command.add_option("--tune", flags.tune,
                         "choose kernels by the times in this table; time and add what it lacks"),
      "FILE");
  all.push_back(
      command.add_flag("--read-ahead", flags.read_ahead,
                       "gather the next batch on a thread of its own during a step, for a "
                       "second input slot; pays where a core is spare"));
  add(command.add_option("--budget", flags.budget,
                         "stay within this by computing some of the forward pass twice"),
      "BYTES");
  add(command.add_option("--memory-limit", flags.memory_limit,
                         "refuse to take more, e.g. 512MiB or 2GB"),
      "BYTES");
  return all;
}

train::TaskSpec task_spec(const PlanFlags& flags, const Shape& sample, std::int64_t classes) {
  const train::Optimizer optimizer = optimizer_of(flags);
  train::check(optimizer);
  const train::MinimizeOptions minimize = minimize_of(flags);
  train::check(minimize);
  return {.model = model_of(flags, sample, classes),
          .sample = sample,
          .batch = flags.batch,
          .optimizer = optimizer,
          .minimize = minimize,
          .read_ahead = flags.read_ahead};
}

Options program_options(const PlanFlags& flags) {
  Options options;
  options.device = device_of(flags);
  options.threads = flags.threads.value_or(usable_cores());
  options.chunks = chunks_of(flags);
  options.memory = memory_of(flags);
  options.precision = precision_of(flags);
  options.winograd = !flags.no_winograd;
  if (!flags.tune.empty()) options.tuning = open_tuning(flags.tune);
  if (!flags.budget.empty()) options.budget_bytes = parse_bytes(flags.budget, "--budget");
  if (!flags.memory_limit.empty())
    options.memory_limit_bytes = parse_bytes(flags.memory_limit, "--memory-limit");
  return options;
}

std::size_t parse_bytes(const std::string& typed, const std::string& flag) {
  const auto wrong = [&](const char* why) {
    return ArgumentError(
        text(flag, ": '", typed, "' ", why, "; write bytes as 4096, 512MiB or 2GB"));
  };
  double value = 0;
  const char* end = typed.data() + typed.size();
  const auto [read, error] = std::from_chars(typed.data(), end, value);
  if (error != std::errc()) throw wrong("is no number of bytes");
  std::string unit;
  for (const char c : std::string_view(read, end)) {
    if (c != ' ') unit += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  }
  if (!unit.empty() && unit.back() == 'b') unit.pop_back();
  constexpr std::string_view kPrefixes = "kmgt";
  if (!unit.empty()) {
    const std::size_t power = kPrefixes.find(unit[0]);
    const bool binary = unit.size() == 2 && unit[1] == 'i';
    if (power == std::string_view::npos || (unit.size() > 1 && !binary))
      throw wrong("has a unit that is none");
    value *= std::pow(binary ? 1024.0 : 1000.0, static_cast<double>(power + 1));
  }
  if (!(value >= 1) || value >= 9e18) throw wrong("is outside 1 byte to 8 EiB");
  return static_cast<std::size_t>(value);
}

}  // namespace poolgrad::cli
