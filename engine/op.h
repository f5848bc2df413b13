// OpDef: all there is to know about an op. Nodes point at it: no enum, no registry, no switch.
#pragma once

#include <cstring>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "engine/error.h"
#include "engine/tensor.h"
#include "memory/arena.h"
#include "memory/stream.h"

namespace poolgrad {

namespace cuda {
struct Context;  // engine/cuda/context.h
}

/// An op's own settings (stride, padding, ...): any small plain struct, kept in the node by value.
/// as<T>() asserts that T is what was put in: each T has its own equal<T>.
class Attributes {
 public:
  Attributes() = default;
  template <typename T>
  requires(std::is_trivially_copyable_v<T> && !std::is_same_v<T, Attributes>)
      Attributes(const T& value)
      : equal_(&equal<T>) {
    static_assert(sizeof(T) <= kBytes);
    std::memcpy(bytes_, &value, sizeof(T));
  }
  template <typename T>
  [[nodiscard]] T as() const {
    assert(equal_ == &equal<T>);
    T value;
    std::memcpy(&value, bytes_, sizeof(T));
    return value;
  }
  bool operator==(const Attributes& other) const {
    return equal_ == other.equal_ && (equal_ == nullptr || equal_(*this, other));
  }

 private:
  static constexpr std::size_t kBytes = 96;
  template <typename T>
  static bool equal(const Attributes& a, const Attributes& b) {
    return a.as<T>() == b.as<T>();
  }

  bool (*equal_)(const Attributes&, const Attributes&) = nullptr;
  alignas(8) std::byte bytes_[kBytes]{};
};

struct Device {
  enum class Kind : std::uint8_t { cpu, cuda } kind = Kind::cpu;
  int index = 0;
  bool tensor_float = false;  // products on a GPU may round their operands to TF32
  memory::Stream stream{};    // where kernels put their work; the default: they do it themselves

  /// The GPU of that number, as CUDA counts them. Whether there is one is seen by draft().
  [[nodiscard]] static Device cuda(int index = 0) { return {.kind = Kind::cuda, .index = index}; }
  /// "cpu", "cuda" or "cuda:N"; nothing for any other name.
  [[nodiscard]] static std::optional<Device> named(std::string_view name);
};

/// An op at one place of a graph: what infer(), view(), cuts() and cpu() are told.
struct Site {
  std::span<const Spec> inputs;
  std::span<const Spec> outputs;  // empty while infer() runs
  const Attributes& attributes;
  Device device{};
  bool winograd = true;                    // where convolutions may go by tiles
  const cuda::Context* context = nullptr;  // of a CUDA device
  /// Of a device: what the addresses of all operands are multiples of, in bytes.
  std::size_t alignment = memory::kAlignment;
};

/// Rows [begin, end) of axis 0.
struct Rows {
  std::int64_t begin = 0, end = 0;
  [[nodiscard]] std::int64_t count() const { return end - begin; }
  bool operator==(const Rows&) const = default;
};

/// What becomes of an operand when an op's work is done in parts.
enum class Share : std::uint8_t {
  whole,    // every part sees all of it
  rows,     // each part has rows of its own
  columns,  // each part has columns of its own, of a matrix: Spec::pitch where it is not dense
  sum,      // an output that every part adds to; such outputs come first
};

/// One way to do an op's work in parts: the same op on rows or columns of its operands, as many of
/// each, in any order.
struct Cut {
  std::vector<Share> inputs{}, outputs{};  // past the end: whole
  /// The attributes of a part, where they say which rows these are (a mask, a counter).
  Attributes (*part)(const Attributes&, Rows) = nullptr;

  [[nodiscard]] Share input(std::size_t i) const { return at(inputs, i); }
  [[nodiscard]] Share output(std::size_t i) const { return at(outputs, i); }

 private:
  static Share at(const std::vector<Share>& shares, std::size_t i) {
    return i < shares.size() ? shares[i] : Share::whole;
  }
};

/// The addresses a kernel works on, in the op's order. Bound before the first step when planned.
struct Args {
  void* const* inputs = nullptr;
  void* const* outputs = nullptr;
  void* const* scratch = nullptr;

  template <typename T>
  [[nodiscard]] const T* in(int i) const {
    return static_cast<const T*>(inputs[i]);
  }
  template <typename T>
  [[nodiscard]] T* out(int i = 0) const {
    return static_cast<T*>(outputs[i]);
  }
  [[nodiscard]] std::byte* workspace(std::size_t offset = 0) const {
    return static_cast<std::byte*>(*scratch) + offset;
  }
};

/// A launch made ready for one site: sizes, primitives and algorithms are captured in `run`, which
/// only adds addresses. No allocation of ours, no synchronisation.
struct Kernel {
  std::function<void(const Args&)> run;
  std::size_t workspace_bytes = 0;  // planned like any tensor, alive while the node runs
};

/// One implementation of an op for one site.
struct Candidate {
  std::string_view name;                        // one word, as tables of times have it
  std::function<std::optional<Kernel>()> make;  // nothing where it cannot do this
};

/// All that may do an op's work at one site, in the order of a written rule: a pure function of
/// shapes and instruction set. One of them can do anything.
struct Candidates {
  std::string problem;  // what their times depend on, in words, without '|' and line ends
  std::vector<Candidate> best_first;
};

/// Of the first candidate that has one.
[[nodiscard]] inline Kernel best(const Candidates& candidates) {
  for (const Candidate& candidate : candidates.best_first) {
    if (auto kernel = candidate.make()) return *kernel;
  }
  throw DeviceError(text("no candidate can do ", candidates.problem));
}

/// What backward() is told. dy[i] is empty where no gradient reaches output i.
struct Backward {
  std::span<const Tensor> inputs;
  std::span<const Tensor> outputs;
  std::span<const Tensor> dy;
  const Attributes& attributes;
};

struct Node;

struct OpDef {
  std::string_view name;

  /// Checks the inputs and answers one Spec per output. The only place that throws ShapeError for
  /// this op. Called again by the pass `layout` once the inputs' layouts are settled.
  std::vector<Spec> (*infer)(const Site&);

  /// One gradient per input, empty where there is none. Appends ordinary nodes; what they mention
  /// stays alive. Absent: differentiate() throws when a gradient would have to pass.
  std::vector<Tensor> (*backward)(const Backward&) = nullptr;

  /// The layout that each of the first inputs must have where it is an image [n, c, h, w]. Where
  /// nothing is said, input 0 comes as it is and other images come in the layout of input 0.
  std::array<std::optional<Layout>, 4> wants{};

  /// May: output 0 can take over the bytes of this input when nobody reads it later.
  int overwrites = -1;

  /// Must: output i *is* input i, changed in place, for i < updates. Whoever reads the old value
  /// runs before; whoever wants the new one reads the output.
  int updates = 0;

  /// Must: the op moves nothing. Where input i begins, in bytes from the start of output 0; inputs
  /// past the end of the answer share nothing. Such an op has no kernel.
  std::vector<std::ptrdiff_t> (*view)(const Site&) = nullptr;

  /// The attributes with which this op also does the work of `next`, its only reader (fusion).
  std::optional<Attributes> (*absorb)(const Node& self, const Node& next) = nullptr;

  /// The attributes with which this op also does the work of `previous`, which makes its only input
  /// and has one input itself. Asked before absorb: what stands between two ops goes where it saves
  /// most.
  std::optional<Attributes> (*absorb_input)(const Node& self, const Node& previous) = nullptr;

  /// May: the backward pass makes the outputs again instead of having them kept. For ops that cost
  /// little and whose inputs the backward pass keeps anyway.
  bool recompute = false;

  /// infer() and the kernels take any dtype, as they move values and compute nothing. All other ops
  /// know f32 alone: what is kept as f16 or bf16 they see as if it were f32 (graph.h: infer(),
  /// backend/halves.h).
  bool any_dtype = false;

  /// In a program of halves (passes::precision) it reads what there is and makes f32: losses,
  /// statistics, sums over the batch.
  bool precise = false;

  /// Multiplications and additions of the plain sum, for the modelled cost (cost.h): Winograd's
  /// tiles do fewer. Absent: so few that moving the bytes is the work.
  std::int64_t (*flops)(const Site&) = nullptr;

  /// How the work can be done in parts, best first. Absent: only as a whole.
  std::vector<Cut> (*cuts)(const Site&) = nullptr;

  /// The twin that adds to its `Share::sum` outputs instead of writing them: it takes them as its
  /// first inputs (`updates`), then what this op takes.
  const OpDef* adds = nullptr;

  /// The twin's attributes with which it makes keep · sum + this op's result, or with `by_rate`
  /// keep · sum − rate · result, the rate being its last input. Absent: it only adds.
  Attributes (*onto)(const Attributes&, float keep, bool by_rate) = nullptr;

  /// Of an update: which input is the gradient, and the nodes that do the same where the node that
  /// makes the gradient can make it on top of a tensor (see on_top()). No nodes: not with these
  /// attributes.
  int gradient = -1;
  std::vector<Node> (*with_maker)(const Node& self, const Node& maker) = nullptr;

  /// Called once at compile. Absent: no kernel on that device, and compile() says so. A kernel
  /// knows nothing of teams: it runs on the one thread that calls it.
  Kernel (*cpu)(const Site&) = nullptr;
  Kernel (*cuda)(const Site&) = nullptr;

  /// Where there are several implementations for the CPU: of these `cpu` takes the best() by rule,
  /// a program with a table of measured times (tuning.h) whatever was fastest.
  Candidates (*candidates)(const Site&) = nullptr;
};

/// cpu() of an op with candidates.
template <Candidates (*kCandidates)(const Site&)>
Kernel by_rule(const Site& site) {
  return best(kCandidates(site));
}

/// The cut of an op that treats each row of its first kInputs inputs alike.
template <std::size_t kInputs, std::size_t kOutputs = 1>
std::vector<Cut> row_by_row(const Site&) {
  return {{std::vector(kInputs, Share::rows), std::vector(kOutputs, Share::rows)}};
}

/// The cuts of an op that treats each value of its first kInputs inputs alike, which have one
/// shape. Its kernel goes by Stretches.
template <std::size_t kInputs, std::size_t kOutputs = 1>
std::vector<Cut> elementwise(const Site& site) {
  std::vector<Cut> cuts = row_by_row<kInputs, kOutputs>(site);
  if (site.inputs[0].shape.rank() == 2) {
    cuts.push_back({std::vector(kInputs, Share::columns), std::vector(kOutputs, Share::columns)});
  }
  return cuts;
}

/// The usual infer() of an elementwise op: the first input's spec.
inline std::vector<Spec> same_as_first(const Site& site) { return {site.inputs[0]}; }

/// Whether the .cu twins are part of this build: `.cuda = kCuda ? relu_cuda : nullptr`.
#ifdef POOLGRAD_CUDA
inline constexpr bool kCuda = true;
#else
inline constexpr bool kCuda = false;
#endif

}  // namespace poolgrad
