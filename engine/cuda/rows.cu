// Sums over rows, what looks at whole rows (the loss, its gradient, right answers), and gathering
// them. A sum is made by one group in a fixed order: no atomics on floats.
#include "engine/cuda/kernels.h"
#include "engine/cuda/launch.h"
#include "engine/ops/expressions.h"
#include "engine/ops/settings.h"

namespace poolgrad::cuda {
namespace {

/// How many of `n` rows from `first` on are among the first `rows` of the batch.
POOLGRAD_BOTH inline std::int64_t counting(std::int64_t rows, std::int64_t first, std::int64_t n) {
  const std::int64_t here = rows - first;
  return here < 0 ? 0 : here < n ? here : n;
}

// ---- sum_rows

struct SumRows {
  const float* x;
  std::int64_t rows, stride;
  float* sum;
  POOLGRAD_BOTH void operator()(std::int64_t column, const Group& group) const {
    const auto value = [this, column](std::int64_t row) { return x[row * stride + column]; };
    const float total = group.sum<float>(rows, value);
    group.each(1, [this, column, total](std::int64_t) { sum[column] = total; });
  }
};

// ---- softmax_cross_entropy

struct Loss {
  const float* x;
  const std::int64_t* labels;
  const std::int32_t* rows;
  std::int64_t first, n, classes;
  float* p;
  double* losses;
  Fault* fault;
  const char* op;

  POOLGRAD_BOTH void operator()(std::int64_t row) const {
    const float* from = x + row * classes;
    float* to = p + row * classes;
    losses[row] = 0.0;
    const std::int64_t label = labels[row];
    const bool counts = row < counting(*rows, first, n), known = label >= 0 && label < classes;
    if (counts && !known) raise(fault, Fault::Kind::label, op, first + row, label, classes);
    if (!counts || !known) {
      for (std::int64_t i = 0; i < classes; ++i) to[i] = 0.0F;
      return;
    }
    float top = from[0];
    for (std::int64_t i = 1; i < classes; ++i) top = from[i] > top ? from[i] : top;
    const double at_label = from[label] - top;
    float sum = 0.0F;
    for (std::int64_t i = 0; i < classes; ++i) {
      to[i] = expressions::exponential(from[i] - top);
      sum += to[i];
    }
    const float scale = 1.0F / sum;
    for (std::int64_t i = 0; i < classes; ++i) to[i] *= scale;
    losses[row] = std::log(sum) - at_label;
  }
};

POOLGRAD_BOTH inline float scale_of(Reduction reduction, std::int64_t rows) {
  return reduction == Reduction::mean ? 1.0F / static_cast<float>(rows) : 1.0F;
}

struct SumLosses {
  const double* losses;
  const std::int32_t* rows;
  std::int64_t n;
  Reduction reduction;
  float* loss;
  POOLGRAD_BOTH void operator()(std::int64_t, const Group& group) const {
    const auto value = [this](std::int64_t row) { return losses[row]; };
    const double total = group.sum<double>(n, value);
    group.each(1, [this, total](std::int64_t) {
      *loss = static_cast<float>(total * static_cast<double>(scale_of(reduction, *rows)));
    });
  }
};

/// dlogits may be p.
struct LossGrad {
  const float* p;
  const std::int64_t* labels;
  const std::int32_t* rows;
  const float* dy;
  std::int64_t first, n, classes;
  Reduction reduction;
  float* dx;
  POOLGRAD_BOTH void operator()(std::int64_t i) const {
    const std::int64_t row = i / classes, at = i % classes;
    const float scale = *dy * scale_of(reduction, *rows);
    const float off = at == labels[row] ? 1.0F : 0.0F;
    dx[i] = row < counting(*rows, first, n) ? (p[i] - off) * scale : 0.0F;
  }
};

// ---- count_correct

struct CountCorrect {
  const float* x;
  const std::int64_t* labels;
  const std::int32_t* rows;
  std::int64_t first, n, classes, *result;
  Fault* fault;
  const char* op;

  POOLGRAD_BOTH void operator()(std::int64_t, const Group& group) const {
    const auto right = [this](std::int64_t row) -> std::int64_t {
      const std::int64_t label = labels[row];
      if (label >= 0 && label < classes)
        return expressions::correct(x + row * classes, classes, label) ? 1 : 0;
      raise(fault, Fault::Kind::label, op, first + row, label, classes);
      return 0;
    };
    const std::int64_t total = group.sum<std::int64_t>(counting(*rows, first, n), right);
    group.each(1, [this, total](std::int64_t) { *result = total; });
  }
};

// ---- gather

POOLGRAD_BOTH inline float converted(float value, float divisor, const float*) {
  return value / divisor;
}
POOLGRAD_BOTH inline float converted(std::uint8_t value, float divisor, const float*) {
  return static_cast<float>(value) / divisor;
}
template <typename From>
POOLGRAD_BOTH std::int64_t converted(From value, float, const std::int64_t*) {
  return static_cast<std::int64_t>(value);
}

template <typename From, typename To>
struct GatherRows {
  const From* table;
  const std::int32_t *indices, *rows;
  std::int64_t first, n, width, count;  // of the table: count
  float divisor;
  To* to;
  Fault* fault;
  const char* op;

  POOLGRAD_BOTH void operator()(std::int64_t i) const {
    const std::int64_t row = i / width;
    to[i] = To{};
    if (row >= counting(*rows, first, n)) return;
    const std::int64_t index = indices[row];
    if (index >= 0 && index < count) {
      to[i] = converted(table[index * width + i % width], divisor, static_cast<const To*>(nullptr));
    } else {
      raise(fault, Fault::Kind::index, op, first + row, index, count);
    }
  }
};

template <typename From, typename To>
Kernel gather_of(const Site& site) {
  const Shape &table = site.inputs[0].shape, &y = site.outputs[0].shape;
  return {[queue = Queue("gather", site), n = y[0], width = y.count() / y[0], count = table[0],
           s = site.attributes.as<settings::GatherRows>(),
           fault = site.context->fault](const Args& a) {
    each(queue, n * width,
         GatherRows<From, To>{a.in<From>(0), a.in<std::int32_t>(1), a.in<std::int32_t>(2), s.first,
                              n, width, count, s.how.divisor, a.out<To>(), fault, queue.op});
  }};
}

}  // namespace

Kernel sum_rows(const Site& site) {
  const Spec& x = site.inputs[0];
  return {[queue = Queue("sum_rows", site), rows = x.shape[0], columns = x.shape[1],
           stride = x.strides()[0]](const Args& a) {
    each_group(queue, columns, SumRows{a.in<float>(0), rows, stride, a.out<float>()});
  }};
}

Kernel softmax_cross_entropy(const Site& site) {
  const Shape& logits = site.inputs[0].shape;
  const std::int64_t n = logits[0], classes = logits[1];
  return {[queue = Queue("softmax_cross_entropy", site), n, classes,
           s = site.attributes.as<settings::SoftmaxCrossEntropy>(),
           fault = site.context->fault](const Args& a) {
            auto* const losses = reinterpret_cast<double*>(a.workspace());
            const auto* rows = a.in<std::int32_t>(2);
            each(queue, n,
                 Loss{a.in<float>(0), a.in<std::int64_t>(1), rows, s.first, n, classes,
                      a.out<float>(1), losses, fault, queue.op});
            each_group(queue, 1, SumLosses{losses, rows, n, s.reduction, a.out<float>(0)});
          },
          static_cast<std::size_t>(n) * sizeof(double)};
}

Kernel softmax_cross_entropy_grad(const Site& site) {
  const Shape& shape = site.inputs[0].shape;
  return {[queue = Queue("softmax_cross_entropy_grad", site), n = shape[0], classes = shape[1],
           s = site.attributes.as<settings::SoftmaxCrossEntropy>()](const Args& a) {
    each(queue, n * classes,
         LossGrad{a.in<float>(0), a.in<std::int64_t>(1), a.in<std::int32_t>(2), a.in<float>(3),
                  s.first, n, classes, s.reduction, a.out<float>()});
  }};
}

Kernel count_correct(const Site& site) {
  const Shape& logits = site.inputs[0].shape;
  return {[queue = Queue("count_correct", site), n = logits[0], classes = logits[1],
           first = site.attributes.as<settings::CountCorrect>().first,
           fault = site.context->fault](const Args& a) {
    each_group(queue, 1,
               CountCorrect{a.in<float>(0), a.in<std::int64_t>(1), a.in<std::int32_t>(2), first, n,
                            classes, a.out<std::int64_t>(), fault, queue.op});
  }};
}

Kernel gather(const Site& site) {
  const DType from = site.inputs[0].dtype;
  if (site.outputs[0].dtype == DType::f32)
    return from == DType::u8 ? gather_of<std::uint8_t, float>(site) : gather_of<float, float>(site);
  if (from == DType::u8) return gather_of<std::uint8_t, std::int64_t>(site);
  if (from == DType::i32) return gather_of<std::int32_t, std::int64_t>(site);
  return gather_of<std::int64_t, std::int64_t>(site);
}

}  // namespace poolgrad::cuda
