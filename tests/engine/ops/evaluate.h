// Runs nodes one by one, every tensor in bytes of its own: what ops are tested with. No plan, no
// passes, no team: the only code of the engine that it trusts is OpDef.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "engine/graph.h"

namespace poolgrad::testing {

/// Bytes on 64 bytes, which a vector keeps when it is copied, and some behind them that nobody may
/// change.
class Buffer {
 public:
  Buffer() = default;
  /// Filled with 0xff: NaN for floats, far out of range for labels.
  explicit Buffer(std::size_t bytes);
  [[nodiscard]] std::byte* data() { return reinterpret_cast<std::byte*>(lines_.data()); }
  [[nodiscard]] const std::byte* data() const {
    return reinterpret_cast<const std::byte*>(lines_.data());
  }
  /// Whether all behind the first `bytes` are as they were.
  [[nodiscard]] bool intact_behind(std::size_t bytes) const;

 private:
  struct alignas(64) Line {
    std::byte bytes[64];
  };
  std::vector<Line> lines_;
};

/// A tensor's values, always row-major.
struct Value {
  Spec spec;
  Buffer bytes;

  Value() = default;
  explicit Value(const Spec& s) : spec(s), bytes(s.bytes()) {}

  template <typename T>
  [[nodiscard]] std::span<T> as() {
    return {reinterpret_cast<T*>(bytes.data()), static_cast<std::size_t>(spec.shape.count())};
  }
  template <typename T>
  [[nodiscard]] std::span<const T> as() const {
    return {reinterpret_cast<const T*>(bytes.data()), static_cast<std::size_t>(spec.shape.count())};
  }
  /// Rows [begin, end) of axis 0.
  [[nodiscard]] Value rows(std::int64_t begin, std::int64_t end) const;
  /// Columns [begin, end) of a matrix, as far apart as they were.
  [[nodiscard]] Value columns(std::int64_t begin, std::int64_t end) const;
  /// Puts rows or columns where they were, or would have been.
  void put_rows(const Value& part, std::int64_t begin);
  void put_columns(const Value& part, std::int64_t begin);
  [[nodiscard]] bool same_bits(const Value& other) const;
};

[[nodiscard]] Value floats(const Shape& shape, std::span<const float> values);
[[nodiscard]] Value labels(const std::vector<std::int64_t>& values);
[[nodiscard]] Value scalar(std::int32_t value);

/// Different values, `spacing` apart and around 0 but never it, shuffled: no two are close to a
/// tie.
[[nodiscard]] std::vector<float> spread(std::int64_t count, unsigned seed, float spacing = 0.05F);

/// max |a - b| / max(1, max |b|), f32.
[[nodiscard]] double difference(const Value& a, const Value& b);

/// The same values in another order of bytes.
[[nodiscard]] Value in_layout(const Value& from, Layout layout);
/// Images as the op wants them.
[[nodiscard]] std::vector<Value> in_wanted_layouts(const OpDef& op, std::vector<Value> inputs);

/// What one op answers. Inputs come in the layout that it wants. `alias`: output 0 takes the bytes
/// of the input that it may overwrite. Throws std::logic_error when the kernel writes beyond its
/// workspace or an output.
[[nodiscard]] std::vector<Value> run_op(const OpDef& op, const Attributes& attributes,
                                        const std::vector<Value>& inputs, bool alias = false);
/// The same with a kernel that is given.
[[nodiscard]] std::vector<Value> run_kernel(const Kernel& kernel, const std::vector<Value>& inputs,
                                            const std::vector<Spec>& outputs);

/// The values of all tensors of a graph.
class Evaluation {
 public:
  explicit Evaluation(Graph& graph) : graph_(graph) {}

  /// A tensor that no node makes.
  void set(Tensor tensor, Value value);
  void set(Tensor tensor, std::span<const float> values);
  /// Runs the first `nodes` nodes; all by default.
  void run(std::size_t nodes = SIZE_MAX);
  [[nodiscard]] const Value& operator[](Tensor tensor) const {
    return values_[static_cast<std::size_t>(tensor.id)];
  }
  [[nodiscard]] std::vector<Value> inputs(const Node& node) const;

 private:
  Graph& graph_;
  std::vector<Value> values_;
};

}  // namespace poolgrad::testing
