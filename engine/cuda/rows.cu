// Sums over rows, what looks at whole rows (the loss, its gradient, right answers), and gathering
// them. Sums are made in a fixed order: no atomics on floats.
#include "engine/cuda/cast.h"
#include "engine/cuda/column_sums.h"
#include "engine/cuda/kernels.h"
#include "engine/cuda/launch.h"
#include "engine/ops/expressions.h"
#include "engine/ops/settings.h"

namespace poolgrad::cuda {
namespace {

// ---- softmax_cross_entropy

/// A row by lanes, which read it three times: it is short enough for the nearest cache, and the
/// exponentials are cheaper than writing them down.
template <typename T>
struct Loss {
  const T* x;
  const std::int64_t* labels;
  Counting counting;
  std::int64_t classes;
  float* p;  // whatever x is
  double* losses;
  Fault* fault;
  const char* op;

  POOLGRAD_BOTH void operator()(std::int64_t row, const Lanes& lanes) const {
    const T* const from = x + row * classes;
    float* const to = p + row * classes;
    const std::int64_t label = labels[row];
    const bool counts = row < counting.count(), known = label >= 0 && label < classes;
    if (!counts || !known) {
      lanes.each(classes, [&](std::int64_t i) { to[i] = 0.0F; });
      lanes.each(1, [&](std::int64_t) {
        losses[row] = 0.0;
        if (counts) raise(fault, Fault::Kind::label, op, counting.first + row, label, classes);
      });
      return;
    }
    const auto value = [&](std::int64_t i) { return static_cast<float>(from[i]); };
    const float top =
        lanes.reduce(classes, value(0), value, [](float a, float b) { return b > a ? b : a; });
    const auto power = [&](std::int64_t i) { return expressions::exponential(value(i) - top); };
    const float sum = lanes.reduce(classes, 0.0F, power, [](float a, float b) { return a + b; });
    const float scale = 1.0F / sum;
    lanes.each(classes, [&](std::int64_t i) { to[i] = power(i) * scale; });
    lanes.each(1, [&](std::int64_t) {
      losses[row] = static_cast<double>(std::log(sum)) - static_cast<double>(value(label) - top);
    });
  }
};

POOLGRAD_BOTH inline float scale_of(Reduction reduction, std::int64_t rows) {
  return reduction == Reduction::mean ? 1.0F / static_cast<float>(rows) : 1.0F;
}

struct ToLoss {
  const std::int32_t* rows;
  Reduction reduction;
  float* loss;
  POOLGRAD_BOTH void operator()(std::int64_t, std::int64_t, const double* sums) const {
    *loss = static_cast<float>(sums[0] * static_cast<double>(scale_of(reduction, *rows)));
  }
};

/// dlogits may be p.
template <typename T>
struct LossGrad {
  const T* p;
  const std::int64_t* labels;
  Counting counting;
  const float* dy;
  std::int64_t classes;
  Reduction reduction;
  T* dx;
  POOLGRAD_BOTH void operator()(std::int64_t column, const Steps& s) const {
    const float scale = *dy * scale_of(reduction, *counting.rows);
    const std::int64_t count = counting.count();
    for (std::int64_t row = s.first; row < counting.n; row += s.step) {
      const std::int64_t i = row * classes + column;
      const float off = column == labels[row] ? 1.0F : 0.0F;
      dx[i] = static_cast<T>(row < count ? (static_cast<float>(p[i]) - off) * scale : 0.0F);
    }
  }
};

// ---- count_correct

/// right [row] = 1 where the largest value is the label's.
template <typename T>
struct Right {
  const T* x;
  const std::int64_t* labels;
  Counting counting;
  std::int64_t classes;
  double* right;
  Fault* fault;
  const char* op;

  POOLGRAD_BOTH void operator()(std::int64_t row, const Lanes& lanes) const {
    const T* const from = x + row * classes;
    const std::int64_t label = labels[row];
    const bool counts = row < counting.count(), known = label >= 0 && label < classes;
    const float best = known ? static_cast<float>(from[label]) : 0.0F;
    const auto below = [&](std::int64_t i) {
      return expressions::below(static_cast<float>(from[i]), i, best, label) ? 1 : 0;
    };
    const int all =
        counts && known ? lanes.reduce(classes, 1, below, [](int a, int b) { return a & b; }) : 0;
    lanes.each(1, [&](std::int64_t) {
      right[row] = all;
      if (counts && !known)
        raise(fault, Fault::Kind::label, op, counting.first + row, label, classes);
    });
  }
};

struct ToCount {
  std::int64_t* result;
  POOLGRAD_BOTH void operator()(std::int64_t, std::int64_t, const double* sums) const {
    *result = static_cast<std::int64_t>(sums[0]);
  }
};

/// Values of rows, which kernels make and a sum takes. They stand first in the workspace.
struct OfRows {
  std::int64_t n;
  ColumnSums sums;

  explicit OfRows(std::int64_t rows) : n(rows), sums(rows, 1) {}
  [[nodiscard]] std::size_t bytes() const {
    return memory::aligned(static_cast<std::size_t>(n) * sizeof(double));
  }
  [[nodiscard]] std::size_t workspace_bytes() const { return bytes() + sums.workspace_bytes(1); }
  [[nodiscard]] static double* at(const Args& a) {
    return reinterpret_cast<double*>(a.workspace());
  }
  template <typename Give>
  void sum(const Queue& queue, const Args& a, const Give& give) const {
    sums.run(queue, Counting{n}, Plain<double>{at(a)}, {}, a.workspace(bytes()), give);
  }
};

// ---- gather

/// N columns of the rows that indices name, converted; 0 where none is named.
template <typename From, typename To, int N>
struct GatherRows {
  const From* table;
  const std::int32_t* indices;
  Counting counting;
  std::int64_t width, in_table;
  float divisor;
  To* to;
  Fault* fault;
  const char* op;

  POOLGRAD_BOTH void operator()(std::int64_t column, const Steps& s) const {
    const std::int64_t count = counting.count();
    for (std::int64_t row = s.first; row < counting.n; row += s.step) {
      const std::int64_t index = row < count ? indices[row] : 0;
      const bool known = index >= 0 && index < in_table;
      if (!known) raise(fault, Fault::Kind::index, op, counting.first + row, index, in_table);
      Few<Wide<To>, N> values{};
      if (row < count && known) {
        const auto found = load<N>(table + index * width + column * N);
        for (int k = 0; k < N; ++k) values[k] = converted(found[k]);
      }
      store(to + row * width + column * N, values);
    }
  }

  template <typename V>
  POOLGRAD_BOTH Wide<To> converted(V value) const {
    if constexpr (std::is_same_v<Wide<To>, float>) {
      return static_cast<float>(value) / divisor;
    } else {
      return static_cast<To>(value);
    }
  }
};

template <typename From, typename To>
Kernel gather_of(const Site& site) {
  const Shape &table = site.inputs[0].shape, &y = site.outputs[0].shape;
  return {[queue = Queue("gather", site), n = y[0], width = y.count() / y[0], in_table = table[0],
           s = site.attributes.as<settings::GatherRows>(),
           fault = site.context->fault](const Args& a) {
    const Counting counting{n, 1, s.first, a.in<std::int32_t>(2)};
    by_width<kFit<To>>(width, {a.inputs[0], a.outputs[0]}, [&]<int N>(Width<N>) {
      each_column(queue, n, width / N,
                  GatherRows<From, To, N>{a.in<From>(0), a.in<std::int32_t>(1), counting, width,
                                          in_table, s.how.divisor, a.out<To>(), fault, queue.op});
    });
  }};
}

}  // namespace

Kernel sum_rows(const Site& site) {
  const Spec& x = site.inputs[0];
  const std::int64_t rows = x.shape[0];
  const ColumnSums sums(rows, x.shape[1], x.strides()[0]);
  return by_dtype(site, {{0}, {}}, [&]<typename T>(Of<T>) -> Kernel {
    return {[queue = Queue("sum_rows", site), rows, sums](const Args& a) {
              sums.run(queue, Counting{rows}, Plain<T>{a.in<T>(0)}, {a.inputs[0]}, a.workspace(),
                       ToFloat{a.out<float>()});
            },
            sums.workspace_bytes(1)};
  });
}

Kernel softmax_cross_entropy(const Site& site) {
  const Shape& logits = site.inputs[0].shape;
  const OfRows losses(logits[0]);
  return by_dtype(site, {{0}, {}}, [&]<typename T>(Of<T>) -> Kernel {
    return {[queue = Queue("softmax_cross_entropy", site), losses, classes = logits[1],
             s = site.attributes.as<settings::SoftmaxCrossEntropy>(),
             fault = site.context->fault](const Args& a) {
              const auto* rows = a.in<std::int32_t>(2);
              each_row(queue, losses.n, classes,
                       Loss<T>{a.in<T>(0),
                               a.in<std::int64_t>(1),
                               {losses.n, 1, s.first, rows},
                               classes,
                               a.out<float>(1),
                               OfRows::at(a),
                               fault,
                               queue.op});
              losses.sum(queue, a, ToLoss{rows, s.reduction, a.out<float>(0)});
            },
            losses.workspace_bytes()};
  });
}

Kernel softmax_cross_entropy_grad(const Site& site) {
  const Shape& shape = site.inputs[0].shape;
  return by_dtype(site, {{0}, {0}}, [&]<typename T>(Of<T>) -> Kernel {
    return {[queue = Queue("softmax_cross_entropy_grad", site), n = shape[0], classes = shape[1],
             s = site.attributes.as<settings::SoftmaxCrossEntropy>()](const Args& a) {
      const Counting counting{n, 1, s.first, a.in<std::int32_t>(2)};
      each_column(queue, n, classes,
                  LossGrad<T>{a.in<T>(0), a.in<std::int64_t>(1), counting, a.in<float>(3), classes,
                              s.reduction, a.out<T>()});
    }};
  });
}

Kernel count_correct(const Site& site) {
  const Shape& logits = site.inputs[0].shape;
  const OfRows right(logits[0]);
  return by_dtype(site, {{0}, {}}, [&]<typename T>(Of<T>) -> Kernel {
    return {[queue = Queue("count_correct", site), right, classes = logits[1],
             first = site.attributes.as<settings::CountCorrect>().first,
             fault = site.context->fault](const Args& a) {
              const Counting counting{right.n, 1, first, a.in<std::int32_t>(2)};
              each_row(queue, right.n, classes,
                       Right<T>{a.in<T>(0), a.in<std::int64_t>(1), counting, classes, OfRows::at(a),
                                fault, queue.op});
              right.sum(queue, a, ToCount{a.out<std::int64_t>()});
            },
            right.workspace_bytes()};
  });
}

Kernel gather(const Site& site) {
  const DType from = site.inputs[0].dtype, to = site.outputs[0].dtype;
  if (to == DType::i64) {
    if (from == DType::u8) return gather_of<std::uint8_t, std::int64_t>(site);
    if (from == DType::i32) return gather_of<std::int32_t, std::int64_t>(site);
    return gather_of<std::int64_t, std::int64_t>(site);
  }
  return by_dtype(to, [&]<typename To>(Of<To>) {
    if (from == DType::u8) return gather_of<std::uint8_t, To>(site);
    return by_dtype(from, [&]<typename From>(Of<From>) { return gather_of<From, To>(site); });
  });
}

}  // namespace poolgrad::cuda
