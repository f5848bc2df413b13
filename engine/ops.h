// One builder per op. Definitions that other ops absorb are named here too.
#pragma once

#include "engine/graph.h"

namespace poolgrad {

extern const OpDef kRelu, kAdd;

// ---- views: no bytes move

/// Row-major order of elements; counts must agree.
Tensor reshape(Tensor x, const Shape& shape);
/// [n, a, b, ...] -> [n, a·b·...].
Tensor flatten(Tensor x);
/// Rows [begin, end) of axis 0. No gradient.
Tensor slice(Tensor x, std::int64_t begin, std::int64_t end);
/// Columns [begin, end) of a matrix, as far apart as before: only for ops that take Share::columns.
/// No gradient.
Tensor slice_columns(Tensor x, std::int64_t begin, std::int64_t end);
/// What slices of axis 0 were, end to end. Producers write into their part. No gradient.
Tensor join(const std::vector<Tensor>& parts);
/// One flat tensor over `parts`, each on 64 bytes: a column as one tensor. No gradient.
Tensor pack(const std::vector<Tensor>& parts);
/// x, once `others` have been computed.
Tensor after(Tensor x, const std::vector<Tensor>& others);

// ---- moves

/// x in another layout; x itself where it has it, a view where the bytes agree.
Tensor reorder(Tensor x, Layout layout);
/// The same values in bytes of their own.
Tensor duplicate(Tensor x);

/// The same values as f32, f16 or bf16, rounded to the nearest; x itself where it is that already.
/// The gradient is cast back.
Tensor cast(Tensor x, DType dtype);

/// Tensors that follow each other along `axis`, which may be negative: counted from the end. As
/// torch.concat. They are copied, so join() is better where no gradient is wanted.
Tensor concat(const std::vector<Tensor>& tensors, int axis);
struct Gather {
  DType dtype = DType::f32;  // what is made
  float divisor = 1.0F;      // of floats: 255 makes 0 to 1 of bytes
  bool operator==(const Gather&) const = default;
};
/// table [n, ...], indices [batch] (i32) -> [batch, ...]: the table's rows of those numbers,
/// converted and divided; 0 beyond the first rows() rows. u8 and f32 become f32, u8, i32 and i64
/// become i64. An index outside [0, n) in a row that counts is an ArgumentError of run(). Each
/// member gathers what it will read itself, so the table may be a Graph::lent() one as large as a
/// data set.
Tensor gather(Tensor table, Tensor indices, const Gather& how = {});

// ---- arithmetic

/// left + right, equal shapes.
Tensor add(Tensor left, Tensor right);
Tensor relu(Tensor x);
/// [n, k] -> [k], the sum of all rows.
Tensor sum_rows(Tensor x);
/// left [m, k] · right [k, n] -> [m, n]; with `transpose`, right is stored [n, k]. Bias [n] may be
/// empty.
Tensor matmul(Tensor left, Tensor right, Tensor bias = {}, bool transpose = false);
/// x [n, in] · weight [out, in] transposed + bias [out] -> [n, out]. Bias may be empty.
Tensor linear(Tensor x, Tensor weight, Tensor bias = {});

struct Conv2d {
  std::array<std::int32_t, 2> stride{1, 1}, padding{0, 0}, dilation{1, 1};  // height, width
  std::int32_t groups = 1;
  bool relu = false;  // set by fusing
  bool operator==(const Conv2d&) const = default;
};
/// Cross-correlation, as PyTorch's conv2d: x [n, c, h, w], weight [o, c / groups, kh, kw], bias [o]
/// or empty -> [n, o, oh, ow] with oh = (h + 2·padding − dilation·(kh − 1) − 1) / stride + 1,
/// rounded down.
Tensor conv2d(Tensor x, Tensor weight, Tensor bias = {}, const Conv2d& settings = {});

struct Pool2d {
  std::array<std::int32_t, 2> size{2, 2}, stride{2, 2}, padding{0, 0};  // height, width
  bool operator==(const Pool2d&) const = default;
};
/// [n, c, h, w] -> [n, c, oh, ow]; windows of at most 16 x 16, padding at most half a window. Of
/// equal values the first wins.
Tensor max_pool2d(Tensor x, const Pool2d& settings = {});
/// As PyTorch's avg_pool2d with count_include_pad: padding counts as zeros.
Tensor avg_pool2d(Tensor x, const Pool2d& settings = {});
/// [n, c, h, w] -> [n, c, h · factor, w · factor], by height and width: every value becomes a
/// window of equal ones, as PyTorch's nearest upsampling by whole factors.
Tensor upsample_nearest2d(Tensor x, const std::array<std::int32_t, 2>& factor = {2, 2});
/// [n, c, h, w] -> [n, c, 1, 1], the mean of each channel.
Tensor global_avg_pool2d(Tensor x);

// ---- normalization, by the statistics of each channel

struct BatchNorm {
  double epsilon = 1e-5, momentum = 0.1;  // added to the variance; share of a new batch
  bool operator==(const BatchNorm&) const = default;
};
/// mean [c], variance [c] and how many batches they have seen, [] i64; all persistent.
struct RunningStatistics {
  Tensor mean{}, variance{}, batches{};
};
/// As PyTorch's batch_norm in training: x [n, c, h, w], weight [c], bias [c] -> [n, c, h, w]. Mean
/// and variance are those of the first rows() rows; in others y is 0. Running statistics, which may
/// be empty, are moved by whatever entry needs y. One value per channel is a ShapeError, and an
/// ArgumentError of run() where only a batch is so short.
Tensor batch_norm(Tensor x, Tensor weight, Tensor bias, const RunningStatistics& running = {},
                  const BatchNorm& settings = {});
/// The same with mean and variance that are given, in all rows. No gradient.
Tensor batch_norm_fixed(Tensor x, Tensor weight, Tensor bias, const RunningStatistics& running,
                        const BatchNorm& settings = {});

// ---- regularization

/// x / (1 − p), or 0 with probability `p`, elementwise: what training does. Which elements are
/// dropped follows from `seed`, how many dropouts the graph had before, step() and the place in the
/// batch (of images channels-last), on any number of threads and after a resume. Where no training
/// entry counts the steps, all runs drop the same.
Tensor dropout(Tensor x, double p, std::uint64_t seed = 0);

// ---- losses and measures, over the first rows() rows

enum class Reduction : std::uint8_t { mean, sum };
/// logits [n, k], labels [n] (i64) -> []: −log softmax(logits)[label], over the first rows() rows;
/// other rows get gradient 0. A label outside [0, k) in a row that counts is an ArgumentError of
/// run().
Tensor softmax_cross_entropy(Tensor logits, Tensor labels, Reduction reduction = Reduction::mean);
/// logits [n, k], labels [n] (i64) -> [] i64: how many of the first rows() rows have their largest
/// logit (the first of equals) at the label.
Tensor count_correct(Tensor logits, Tensor labels);

}  // namespace poolgrad
