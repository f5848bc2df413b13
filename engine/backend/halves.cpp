// Loops that convert, and the kernel around a kernel.
#include "engine/backend/halves.h"

#include <algorithm>
#include <array>

#include "engine/backend/loops.h"
#include "engine/half.h"
#include "memory/alignment.h"

namespace poolgrad::halves {
namespace {

POOLGRAD_CLONES
void widen_f16(const f16* from, float* to, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) to[i] = half::f16_value(from[i].bits);
}

POOLGRAD_CLONES
void widen_bf16(const bf16* from, float* to, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) to[i] = half::bf16_value(from[i].bits);
}

POOLGRAD_CLONES
void narrow_f16(const float* from, f16* to, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) to[i].bits = half::f16_bits(from[i]);
}

POOLGRAD_CLONES
void narrow_bf16(const float* from, bf16* to, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) to[i].bits = half::bf16_bits(from[i]);
}

constexpr std::size_t kMostOperands = 16;
constexpr std::size_t kNowhere = static_cast<std::size_t>(-1);

Spec as_floats(Spec spec) {
  if (!is_half(spec.dtype)) return spec;
  spec.dtype = DType::f32;
  spec.pitch = 0;
  return spec;
}

/// Where the floats of each operand lie in the workspace; nowhere: it is used as it is.
struct Places {
  std::array<std::size_t, kMostOperands> inputs{}, outputs{};
  std::size_t bytes = 0;

  Places(const OpDef& op, const Site& site) {
    for (std::size_t i = 0; i < site.inputs.size(); ++i) inputs[i] = place(site.inputs[i]);
    for (std::size_t i = 0; i < site.outputs.size(); ++i) {
      const Spec& made = site.outputs[i];
      const std::size_t over = i < static_cast<std::size_t>(op.updates) ? i
                               : i == 0 && op.overwrites >= 0
                                   ? static_cast<std::size_t>(op.overwrites)
                                   : kNowhere;
      const bool there = over != kNowhere && is_half(made.dtype) && inputs[over] != kNowhere &&
                         site.inputs[over].shape == made.shape;
      outputs[i] = there ? inputs[over] : place(made);
    }
  }

 private:
  std::size_t place(const Spec& spec) {
    if (!is_half(spec.dtype)) return kNowhere;
    const std::size_t at = bytes;
    bytes += memory::aligned(as_floats(spec).bytes());
    return at;
  }
};

/// The dense floats of a tensor, which may itself have a pitch.
struct Copy {
  Spec half;
  Stretches stretches;

  explicit Copy(const Spec& spec) : half(spec), stretches(two(spec, as_floats(spec))) {}

  void in(const void* from, float* to) const {
    stretches.each([&](std::int64_t count, const auto& at) {
      widen(half.dtype, static_cast<const std::uint16_t*>(from) + at[0], to + at[1], count);
    });
  }
  void out(const float* from, void* to) const {
    stretches.each([&](std::int64_t count, const auto& at) {
      narrow(half.dtype, from + at[1], static_cast<std::uint16_t*>(to) + at[0], count);
    });
  }

 private:
  static Stretches two(const Spec& spec, const Spec& dense) { return Stretches{&spec, &dense}; }
};

std::vector<Copy> copies(std::span<const Spec> specs) {
  std::vector<Copy> result;
  for (const Spec& spec : specs) result.emplace_back(spec);
  return result;
}

}  // namespace

void widen(DType dtype, const void* from, float* to, std::int64_t count) {
  if (dtype == DType::f16) return widen_f16(static_cast<const f16*>(from), to, count);
  widen_bf16(static_cast<const bf16*>(from), to, count);
}

void narrow(DType dtype, const float* from, void* to, std::int64_t count) {
  if (dtype == DType::f16) return narrow_f16(from, static_cast<f16*>(to), count);
  narrow_bf16(from, static_cast<bf16*>(to), count);
}

bool any(const Site& site) {
  const auto has = [](std::span<const Spec> specs) {
    return std::ranges::any_of(specs, is_half, &Spec::dtype);
  };
  return has(site.inputs) || has(site.outputs);
}

Kernel kernel(const OpDef& op, const Site& site, const std::function<Kernel(const Site&)>& make) {
  if (site.inputs.size() > kMostOperands || site.outputs.size() > kMostOperands)
    throw ShapeError(text(op.name, ": ", site.inputs.size(), " inputs of which some are halves; ",
                          kMostOperands, " are the most"));
  std::vector<Spec> inputs, outputs;
  std::ranges::transform(site.inputs, std::back_inserter(inputs), as_floats);
  std::ranges::transform(site.outputs, std::back_inserter(outputs), as_floats);
  Site wide = site;
  wide.inputs = inputs, wide.outputs = outputs;
  const Kernel inner = make(wide);
  const Places at(op, site);
  return {[inner, at, in = copies(site.inputs), out = copies(site.outputs)](const Args& a) {
            std::array<void*, kMostOperands> from, to;
            const auto floats = [&](std::size_t place) {
              return reinterpret_cast<float*>(a.workspace(place));
            };
            for (std::size_t i = 0; i < in.size(); ++i) {
              from[i] = a.inputs[i];
              if (at.inputs[i] == kNowhere) continue;
              from[i] = floats(at.inputs[i]);
              in[i].in(a.inputs[i], floats(at.inputs[i]));
            }
            for (std::size_t i = 0; i < out.size(); ++i)
              to[i] = at.outputs[i] == kNowhere ? a.outputs[i] : floats(at.outputs[i]);
            void* const scratch = a.workspace(at.bytes);
            inner.run({.inputs = from.data(), .outputs = to.data(), .scratch = &scratch});
            for (std::size_t i = 0; i < out.size(); ++i) {
              if (at.outputs[i] != kNowhere) out[i].out(floats(at.outputs[i]), a.outputs[i]);
            }
          },
          at.bytes + inner.workspace_bytes};
}

}  // namespace poolgrad::halves
