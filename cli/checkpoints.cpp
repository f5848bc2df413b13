// What a file says is held against the command line: no flag of it is taken that names a file or a
// device.
#include "cli/checkpoints.h"

#include <array>
#include <charconv>
#include <iostream>

#include "interop/safetensors.h"

namespace poolgrad::cli {
namespace {

const std::string kPrefix = "poolgrad.flag.";

/// The first ones decide what is trained in which order; the others, how sums are rounded and how
/// long it takes.
constexpr std::array kDecisive{"model",        "hidden",    "blocks",         "width",
                               "batch",        "optimizer", "momentum",       "nesterov",
                               "weight-decay", "seed",      "clip-grad-norm", "loss-scale"};
constexpr std::array kFree{"threads", "chunks", "no-winograd", "epochs", "precision"};

template <typename T>
std::string digits(T value) {
  char buffer[64];
  const auto [end, error] = std::to_chars(buffer, buffer + sizeof buffer, value);
  return {buffer, end};
}

std::string joined(const std::vector<std::int64_t>& numbers) {
  std::string result;
  for (const std::int64_t number : numbers) result += (result.empty() ? "" : ",") + digits(number);
  return result;
}

/// Each flag as it may be typed; those that were not said and follow from others are left out.
std::map<std::string, std::string> typed(const PlanFlags& flags) {
  std::map<std::string, std::string> result{
      {"model", flags.model},       {"batch", digits(flags.batch)}, {"optimizer", flags.optimizer},
      {"seed", digits(flags.seed)}, {"chunks", flags.chunks},       {"precision", flags.precision}};
  const auto optional = [&](const char* name, const auto& value) {
    if (value) result[name] = digits(*value);
  };
  if (!flags.hidden.empty()) result["hidden"] = joined(flags.hidden);
  optional("blocks", flags.blocks);
  optional("width", flags.width);
  optional("momentum", flags.momentum);
  optional("weight-decay", flags.weight_decay);
  optional("clip-grad-norm", flags.clip_grad_norm);
  optional("loss-scale", flags.loss_scale);
  optional("threads", flags.threads);
  if (flags.nesterov) result["nesterov"] = "true";
  if (flags.no_winograd) result["no-winograd"] = "true";
  return result;
}

std::string text_of(const train::Checkpoint& from, const std::string& key) {
  const auto at = from.about.find(key);
  return at == from.about.end() ? "" : at->second;
}

void take(CLI::Option& option, const std::string& value, const std::string& name) {
  try {
    option.add_result(value);
    option.run_callback();
  } catch (const CLI::Error&) {
    throw FileError(text(name, ": its text has '", value, "' for ", option.get_name(),
                         ", which nobody can type; it is damaged"));
  }
}

train::Checkpoint checkpoint_of(interop::Safetensors file) {
  return {std::move(file.arrays), std::move(file.metadata)};
}

}  // namespace

std::string named(const std::string& flag, const std::string& path) {
  return text(flag, " ", path);
}

train::Checkpoint look_into(const std::string& path) {
  return checkpoint_of(interop::inspect_safetensors(path));
}

train::Checkpoint read_checkpoint(const std::string& path) {
  return checkpoint_of(interop::read_safetensors(path));
}

void take_flags(CLI::App& command, const PlanFlags& flags, const train::Checkpoint& from,
                const std::string& name) {
  std::map<std::string, std::string> here = typed(flags);
  const auto given = [&](const std::string& flag) {
    return command.get_option("--" + flag)->count() > 0;
  };
  for (const char* flag : kDecisive) {
    const std::string saved = text_of(from, kPrefix + flag);
    if (saved.empty() || !given(flag) || here[flag] == saved) continue;
    throw ArgumentError(text("--", flag, ": '", here[flag], "', but ", name, " goes on with '",
                             saved, "'; leave it out, or begin anew with --weights"));
  }
  const auto take_all = [&](const auto& flags_to_take) {
    for (const std::string flag : flags_to_take) {
      const std::string saved = text_of(from, kPrefix + flag);
      if (!saved.empty() && !given(flag)) take(*command.get_option("--" + flag), saved, name);
    }
  };
  take_all(kDecisive);
  take_all(kFree);
  const auto most = static_cast<std::int64_t>(from.arrays.size());
  if (flags.blocks.value_or(0) > most || std::ssize(flags.hidden) > most)
    throw FileError(text(name, ": it has ", most, " arrays, too few for the model that it names; ",
                         "it is damaged"));
}

train::Position position_for(const train::Task& task, const PlanFlags& flags, std::int64_t samples,
                             const train::Checkpoint& from, const std::string& name) {
  const std::optional<train::Position> at = train::position_in(from, name);
  if (!at)
    throw ArgumentError(text(name,
                             ": it does not say which samples come next, as whoever wrote it "
                             "had an order of its own; begin anew with --weights"));
  train::check(task, from, name);
  train::check(*at, {.seed = flags.seed, .samples = samples, .batch = flags.batch}, name);
  return *at;
}

void tell_of_other_bits(const train::Checkpoint& from, const Options& options) {
  const auto sentence = [](const auto& value_of) {
    const std::string tuned = value_of("poolgrad.tuned");
    return text(value_of("poolgrad.threads"), " threads and ", value_of("poolgrad.kernels"),
                tuned == "no" ? ", chosen by rule" : text(", chosen by table (", tuned, ")"));
  };
  const std::map<std::string, std::string> now = train::rounding(options);
  const std::string before = sentence([&](const char* key) { return text_of(from, key); });
  const std::string here = sentence([&](const char* key) { return now.at(key); });
  if (before == here) return;
  std::cerr << "poolgrad: the run so far had " << before << "; this one has " << here
            << ", and rounds sums otherwise" << std::endl;
}

void save_checkpoint(const std::string& path, const train::Task& task, const Program& program,
                     const train::Position& at, const PlanFlags& flags, int epochs) {
  train::Checkpoint saved = train::checkpoint(task, program, &at);
  for (const auto& [flag, value] : typed(flags)) saved.about[kPrefix + flag] = value;
  saved.about[kPrefix + "threads"] = digits(program.blueprint().options.threads);
  saved.about[kPrefix + "epochs"] = digits(epochs);
  interop::write_safetensors(path, saved.arrays, saved.about);
}

}  // namespace poolgrad::cli
