// What settings an optimizer may have, and how they read.
#include "train/optimizer.h"

#include <charconv>
#include <cmath>

#include "engine/error.h"

namespace poolgrad::train {
namespace {

void at_least_zero(const char* optimizer, const char* setting, double value) {
  if (std::isfinite(value) && value >= 0) return;
  throw ArgumentError(text(optimizer, ": ", setting, " is ", value, "; it must be 0 or more"));
}

/// A factor that a moment is multiplied by in each step.
void below_one(const char* optimizer, const char* setting, double value) {
  if (value >= 0 && value < 1) return;
  throw ArgumentError(
      text(optimizer, ": ", setting, " is ", value, "; it must be 0 or more and less than 1"));
}

void check_one(const Sgd& sgd) {
  at_least_zero("sgd", "learning rate", sgd.rate);
  at_least_zero("sgd", "weight decay", sgd.weight_decay);
  below_one("sgd", "momentum", sgd.momentum);
  if (sgd.nesterov && sgd.momentum == 0.0F)
    throw ArgumentError("sgd: nesterov needs a momentum above 0; set one or switch nesterov off");
}

void check_adam(const char* name, double rate, double beta1, double beta2, double epsilon,
                double weight_decay) {
  at_least_zero(name, "learning rate", rate);
  below_one(name, "beta1", beta1);
  below_one(name, "beta2", beta2);
  at_least_zero(name, "epsilon", epsilon);
  at_least_zero(name, "weight decay", weight_decay);
}

void check_one(const Adam& a) {
  check_adam("adam", a.rate, a.beta1, a.beta2, a.epsilon, a.weight_decay);
}

void check_one(const AdamW& a) {
  check_adam("adamw", a.rate, a.beta1, a.beta2, a.epsilon, a.weight_decay);
}

/// The shortest digits that are this number.
template <typename T>
std::string exact(T value) {
  char digits[32];
  const auto [end, error] = std::to_chars(digits, digits + sizeof digits, value);
  return {digits, end};
}

std::string describe(const Sgd& s) {
  return text("sgd with momentum ", exact(s.momentum), s.nesterov ? " (nesterov)" : "",
              ", weight decay ", exact(s.weight_decay));
}

template <typename T>
std::string describe_adam(const char* name, const T& a) {
  return text(name, " with betas ", exact(a.beta1), " and ", exact(a.beta2), ", epsilon ",
              exact(a.epsilon), ", weight decay ", exact(a.weight_decay));
}
std::string describe(const Adam& a) { return describe_adam("adam", a); }
std::string describe(const AdamW& a) { return describe_adam("adamw", a); }

}  // namespace

std::string to_string(const Optimizer& optimizer) {
  return std::visit([](const auto& settings) { return describe(settings); }, optimizer);
}

void check(const Optimizer& optimizer) {
  std::visit([](const auto& settings) { check_one(settings); }, optimizer);
}

}  // namespace poolgrad::train
