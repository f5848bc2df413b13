// poolgrad.optim and poolgrad.amp: optimizers and loss scales as settings, under torch's names.
#include <charconv>
#include <cstdlib>

#include "engine/error.h"
#include "python/bindings/bindings.h"
#include "train/grad_scaler.h"
#include "train/optimizer.h"

namespace poolgrad::python {

double shortest(float value) {
  char digits[32] = {};
  (void)std::to_chars(digits, digits + sizeof digits - 1, value);
  return std::strtod(digits, nullptr);
}

namespace {

template <typename T>
void init(T* self, const T& settings) {
  train::check(settings);
  new (self) T(settings);
}

template <typename T>
std::pair<double, double> betas_of(const T& s) {
  return {s.beta1, s.beta2};
}

template <typename T>
void bind_adam(nb::module_& module, const char* name, float weight_decay, const char* doc) {
  using Betas = std::pair<double, double>;
  nb::class_<T>(module, name, doc)
      .def(
          "__init__",
          [](T* self, float lr, Betas betas, float eps, float decay) {
            init(self, T{lr, betas.first, betas.second, eps, decay});
          },
          nb::kw_only(), "lr"_a = 1e-3, "betas"_a = std::pair(0.9, 0.999), "eps"_a = 1e-8,
          "weight_decay"_a = shortest(weight_decay))
      .def_prop_ro("lr", [](const T& s) { return shortest(s.rate); })
      .def_prop_ro("betas", betas_of<T>)
      .def_prop_ro("eps", [](const T& s) { return shortest(s.epsilon); })
      .def_prop_ro("weight_decay", [](const T& s) { return shortest(s.weight_decay); })
      .def("__repr__", [name = std::string(name)](const T& s) {
        return text(name, "(lr=", s.rate, ", betas=(", s.beta1, ", ", s.beta2, "), eps=", s.epsilon,
                    ", weight_decay=", s.weight_decay, ")");
      });
}

}  // namespace

void bind_optimizers(nb::module_& module) {
  using train::Sgd;
  nb::class_<Sgd>(module, "SGD", "torch.optim.SGD's arithmetic and names.")
      .def(
          "__init__",
          [](Sgd* self, float lr, float momentum, float weight_decay, bool nesterov) {
            init(self, Sgd{lr, momentum, weight_decay, nesterov});
          },
          nb::kw_only(), "lr"_a = 1e-3, "momentum"_a = 0.0, "weight_decay"_a = 0.0,
          "nesterov"_a = false)
      .def_prop_ro("lr", [](const Sgd& s) { return shortest(s.rate); })
      .def_prop_ro("momentum", [](const Sgd& s) { return shortest(s.momentum); })
      .def_prop_ro("weight_decay", [](const Sgd& s) { return shortest(s.weight_decay); })
      .def_ro("nesterov", &Sgd::nesterov)
      .def("__repr__", [](const Sgd& s) {
        return text("SGD(lr=", s.rate, ", momentum=", s.momentum, ", weight_decay=", s.weight_decay,
                    ", nesterov=", s.nesterov ? "True" : "False", ")");
      });
  using train::GradScaler;
  nb::class_<GradScaler>(
      module, "GradScaler",
      "The settings of a loss scale, as torch.amp.GradScaler has them: for "
      "compile(grad_scaler=...).\n\n"
      "A step with a gradient that is not finite changes nothing and multiplies the scale by "
      "backoff_factor;\ngrowth_interval others on end multiply it by growth_factor. With both "
      "factors 1 it stays.")
      .def(
          "__init__",
          [](GradScaler* self, float init_scale, float growth_factor, float backoff_factor,
             std::int64_t growth_interval) {
            init(self, GradScaler{init_scale, growth_factor, backoff_factor, growth_interval});
          },
          nb::kw_only(), "init_scale"_a = 65536.0, "growth_factor"_a = 2.0,
          "backoff_factor"_a = 0.5, "growth_interval"_a = 2000)
      .def_prop_ro("init_scale", [](const GradScaler& s) { return shortest(s.init_scale); })
      .def_prop_ro("growth_factor", [](const GradScaler& s) { return shortest(s.growth_factor); })
      .def_prop_ro("backoff_factor", [](const GradScaler& s) { return shortest(s.backoff_factor); })
      .def_ro("growth_interval", &GradScaler::growth_interval)
      .def("__repr__", [](const GradScaler& s) {
        return text("GradScaler(init_scale=", s.init_scale, ", growth_factor=", s.growth_factor,
                    ", backoff_factor=", s.backoff_factor, ", growth_interval=", s.growth_interval,
                    ")");
      });
  bind_adam<train::Adam>(module, "Adam", 0.0F, "torch.optim.Adam's arithmetic and names.");
  bind_adam<train::AdamW>(module, "AdamW", 1e-2F, "torch.optim.AdamW's arithmetic and names.");
}

}  // namespace poolgrad::python
