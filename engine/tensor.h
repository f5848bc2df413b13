// Tensors: handles into a table with one column per property. No bytes here: those come at compile.
#pragma once

#include <array>
#include <cassert>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <vector>

namespace poolgrad {

enum class DType : std::uint8_t { f32, f64, f16, bf16, i64, i32, u8, boolean };

constexpr std::size_t size_of(DType dtype) {
  constexpr std::array<std::size_t, 8> kBytes{4, 8, 2, 2, 8, 4, 1, 1};
  return kBytes[static_cast<std::size_t>(dtype)];
}

/// A float of two bytes (half.h).
constexpr bool is_half(DType dtype) { return dtype == DType::f16 || dtype == DType::bf16; }

/// "float32", "int64", ...: NumPy's and PyTorch's names.
[[nodiscard]] std::string to_string(DType dtype);

/// Extents by axis, at most six; {} is a scalar. A plain value that never allocates.
class Shape {
 public:
  static constexpr int kMaxRank = 6;

  Shape(std::initializer_list<std::int64_t> extents = {})
      : Shape(std::span(extents.begin(), extents.size())) {}
  /// Throws ShapeError for more than six axes.
  explicit Shape(std::span<const std::int64_t> extents);

  [[nodiscard]] int rank() const { return rank_; }
  [[nodiscard]] std::int64_t operator[](int axis) const {
    assert(axis >= 0 && axis < rank_);
    return extents_[static_cast<std::size_t>(axis)];
  }
  [[nodiscard]] std::int64_t& operator[](int axis) {
    assert(axis >= 0 && axis < rank_);
    return extents_[static_cast<std::size_t>(axis)];
  }
  [[nodiscard]] std::int64_t count() const {
    std::int64_t product = 1;
    for (int axis = 0; axis < rank_; ++axis) product *= (*this)[axis];
    return product;
  }
  [[nodiscard]] std::span<const std::int64_t> extents() const {
    return {extents_.data(), static_cast<std::size_t>(rank_)};
  }
  bool operator==(const Shape&) const = default;

 private:
  std::array<std::int64_t, kMaxRank> extents_{};
  int rank_ = 0;
};

[[nodiscard]] std::string to_string(const Shape& shape);  // [32, 784]

/// Order of a tensor's bytes. Only images [n, c, h, w] are ever channels-last.
/// Builders and autograd see logical shapes only: the pass `layout` settles this.
enum class Layout : std::uint8_t { row_major, channels_last };

/// All that a kernel must know of a tensor beside its address.
struct Spec {
  Shape shape;
  DType dtype = DType::f32;
  Layout layout = Layout::row_major;
  /// Values from one row to the next in some columns of a larger matrix; 0: dense, as all else is.
  std::int64_t pitch = 0;

  /// From the first to behind the last: with a pitch, what lies between the rows counts too.
  [[nodiscard]] std::size_t bytes() const {
    const std::int64_t values = pitch == 0 ? shape.count() : (shape[0] - 1) * pitch + shape[1];
    return static_cast<std::size_t>(values) * size_of(dtype);
  }
  [[nodiscard]] Shape strides() const;  // in elements, one per axis
  bool operator==(const Spec&) const = default;
};

/// Values that lie end to end in several tensors of one shape: all, where they are dense, else the
/// rows of a matrix one by one.
class Stretches {
 public:
  explicit Stretches(std::initializer_list<const Spec*> specs);

  /// visit(count, at): `count` values from at[i] on in the i-th tensor.
  template <typename F>
  void each(const F& visit) const {
    At at{};
    for (std::int64_t row = 0; row < rows_; ++row) {
      visit(length_, at);
      for (std::size_t i = 0; i < at.size(); ++i) at[i] += strides_[i];
    }
  }

 private:
  using At = std::array<std::int64_t, 5>;
  std::int64_t rows_ = 1, length_ = 0;
  At strides_{};
};

/// Throws ShapeError when an extent is below 1 or the bytes do not fit in 63 bits; `what` begins
/// the message.
void check_extents(const Spec& spec, std::string_view what);

struct Graph;

/// A handle: the graph that it was built in, and a row of its table. Rows are never renumbered.
struct Tensor {
  Graph* graph = nullptr;
  int id = -1;

  explicit operator bool() const { return graph != nullptr; }
  [[nodiscard]] const Spec& spec() const;
  [[nodiscard]] const Shape& shape() const { return spec().shape; }
  bool operator==(const Tensor&) const = default;
};

/// How compile() fills a persistent tensor: a value, so that equal graphs start from equal weights.
/// Uniform numbers come from Philox keyed by (seed, stream), whatever the device or thread count.
struct Init {
  enum class Kind : std::uint8_t { constant, uniform } kind = Kind::constant;
  float value = 0.0F;  // the constant, or the bound: uniform in [-value, value)
  std::uint64_t seed = 0;
  std::uint64_t stream = 0;  // which numbers of that seed; Graph::parameter() counts it up

  [[nodiscard]] static Init constant(float value) { return {.value = value}; }
  /// PyTorch's default for weights and biases of linear and convolution layers:
  /// uniform in ±1/sqrt(fan_in), which is kaiming_uniform_ with a = sqrt(5).
  [[nodiscard]] static Init kaiming_uniform(std::int64_t fan_in, std::uint64_t seed);
};

/// One row per tensor, one column per property.
///
/// `column` says where persistent bytes live: tensors of one column and dtype lie end to end in the
/// order of their rows ("parameters", "gradients", "adam.first", "inputs", "kept"). Empty: planned.
/// "lent": persistent, but its bytes are the caller's.
struct TensorTable {
  std::vector<Spec> spec;
  std::vector<std::string> name;  // "0.weight"; planned tensors mostly have none
  std::vector<std::string> column;
  std::vector<Init> init;
  std::vector<std::string> layer;  // whose: "0", "conv1"; empty outside layers
  std::vector<char> backward;      // made by differentiate(): a gradient
  std::vector<char> unbatched;     // an input whose first axis is not the batch

  int add(const Spec& row);
  [[nodiscard]] int size() const { return static_cast<int>(spec.size()); }
  [[nodiscard]] bool persistent(int id) const {
    return !column[static_cast<std::size_t>(id)].empty();
  }
  [[nodiscard]] bool lent(int id) const { return column[static_cast<std::size_t>(id)] == "lent"; }
};

}  // namespace poolgrad
