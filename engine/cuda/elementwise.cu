// Each value of the result from those at the same place, or moved: ReLU, sums, copies in other
// orders, dropout.
#include "engine/cuda/cast.h"
#include "engine/cuda/kernels.h"
#include "engine/cuda/launch.h"
#include "engine/cuda/turn.h"
#include "engine/ops/expressions.h"
#include "engine/ops/settings.h"
#include "engine/random_bits.h"

namespace poolgrad::cuda {
namespace {

template <typename T>
struct Relu {
  const T* x;
  T* y;
  template <int N>
  POOLGRAD_BOTH void at(std::int64_t i) const {
    auto values = load<N>(x + i);
    for (int k = 0; k < N; ++k) values[k] = expressions::relu(values[k]);
    store(y + i, values);
  }
};

template <typename T>
struct ReluGrad {
  const T *y, *dy;
  T* dx;
  template <int N>
  POOLGRAD_BOTH void at(std::int64_t i) const {
    const auto out = load<N>(y + i);
    auto slopes = load<N>(dy + i);
    for (int k = 0; k < N; ++k) slopes[k] = expressions::relu_grad(out[k], slopes[k]);
    store(dx + i, slopes);
  }
};

template <typename T>
struct Add {
  const T *left, *right;
  T* y;
  template <int N>
  POOLGRAD_BOTH void at(std::int64_t i) const {
    auto sums = load<N>(left + i);
    const auto others = load<N>(right + i);
    for (int k = 0; k < N; ++k) sums[k] += others[k];
    store(y + i, sums);
  }
};

template <typename T>
Kernel add_of(const Site& site) {
  return {[queue = Queue("add", site), count = site.outputs[0].shape.count()](const Args& a) {
    const bool by_words = aligned({a.inputs[0], a.inputs[1], a.outputs[0]});
    each_value<kFit<T>>(queue, count, by_words, Add<T>{a.in<T>(0), a.in<T>(1), a.out<T>()});
  }};
}

struct alignas(kWord) Word {
  std::uint64_t halves[2];
};

/// A column of lines, those of one array further apart than those of the other; in words.
template <typename W>
struct CopyLines {
  const W* from;
  W* to;
  std::int64_t lines, from_line, to_line;
  POOLGRAD_BOTH void operator()(std::int64_t column, const Steps& s) const {
    for (std::int64_t line = s.first; line < lines; line += s.step)
      to[line * to_line + column] = from[line * from_line + column];
  }
};

/// Where lines begin and how long they are, in bytes.
struct Lines {
  std::int64_t count, bytes, from_line, to_line;
};

/// By the largest words that fit lines and addresses.
void copy_lines(const Queue& queue, const Lines& l, const std::byte* from, std::byte* to) {
  const std::uint64_t bits = reinterpret_cast<std::uintptr_t>(from) |
                             reinterpret_cast<std::uintptr_t>(to) |
                             static_cast<std::uint64_t>(l.bytes | l.from_line | l.to_line);
  const auto by = [&]<typename W>(Of<W>) {
    const auto size = static_cast<std::int64_t>(sizeof(W));
    each_column(queue, l.count, l.bytes / size,
                CopyLines<W>{reinterpret_cast<const W*>(from), reinterpret_cast<W*>(to), l.count,
                             l.from_line / size, l.to_line / size});
  };
  if (bits % 16 == 0) return by(Of<Word>{});
  if (bits % 4 == 0) return by(Of<std::uint32_t>{});
  if (bits % 2 == 0) return by(Of<std::uint16_t>{});
  by(Of<std::uint8_t>{});
}

/// Bytes of a tensor as lines: `count` combinations of the axes that lie before `axis`, and what
/// one step along it takes.
struct Along {
  std::int64_t count = 1, step_bytes;

  Along(const Spec& spec, int axis) : step_bytes(static_cast<std::int64_t>(size_of(spec.dtype))) {
    constexpr int kChannelsLast[4] = {0, 3, 1, 2};  // where an axis lies
    const bool last = spec.layout == Layout::channels_last;
    const auto place = [&](int a) { return last ? kChannelsLast[a] : a; };
    for (int a = 0; a < spec.shape.rank(); ++a) {
      if (place(a) < place(axis)) count *= spec.shape[a];
      if (place(a) > place(axis)) step_bytes *= spec.shape[a];
    }
  }
};

/// Each index draws four numbers: those of one counter, which belong to elements 16 apart.
template <typename T>
struct Dropout {
  const T* x;
  T* y;
  const std::int64_t* step;
  std::uint64_t seed;
  std::int64_t node, begin, end;  // elements of the whole batch
  settings::DropoutRule rule;
  POOLGRAD_BOTH void operator()(std::int64_t i) const {
    const std::int64_t counter = begin / 64 * 16 + i;
    const Philox::ctr_type four = random_bits(seed, expressions::dropout_stream(node, *step),
                                              static_cast<std::uint64_t>(counter));
    for (int k = 0; k < 4; ++k) {
      const std::int64_t at = counter / 16 * 64 + k * 16 + counter % 16;
      if (at < begin || at >= end) continue;
      y[at - begin] = static_cast<T>(expressions::dropped(four.v[k], rule.drop, rule.scale,
                                                          static_cast<float>(x[at - begin])));
    }
  }
};

}  // namespace

Kernel relu(const Site& site) {
  return by_dtype(site, {{0}, {0}}, [&]<typename T>(Of<T>) -> Kernel {
    return {[queue = Queue("relu", site), count = site.outputs[0].shape.count()](const Args& a) {
      each_value<kFit<T>>(queue, count, aligned({a.inputs[0], a.outputs[0]}),
                          Relu<T>{a.in<T>(0), a.out<T>()});
    }};
  });
}

Kernel relu_grad(const Site& site) {
  return by_dtype(site, {{0, 1}, {0}}, [&]<typename T>(Of<T>) -> Kernel {
    return {
        [queue = Queue("relu_grad", site), count = site.outputs[0].shape.count()](const Args& a) {
          each_value<kFit<T>>(queue, count, aligned({a.inputs[0], a.inputs[1], a.outputs[0]}),
                              ReluGrad<T>{a.in<T>(0), a.in<T>(1), a.out<T>()});
        }};
  });
}

Kernel add(const Site& site) {
  if (site.inputs[0].dtype == DType::i64) return add_of<std::int64_t>(site);
  if (site.inputs[0].dtype == DType::f64) return add_of<double>(site);
  return by_dtype(site, {{0, 1}, {0}}, [&]<typename T>(Of<T>) { return add_of<T>(site); });
}

Kernel duplicate(const Site& site) {
  const auto bytes = static_cast<std::int64_t>(site.outputs[0].bytes());
  return {[queue = Queue("duplicate", site), bytes](const Args& a) {
    copy_lines(queue, {1, bytes, bytes, bytes}, a.in<std::byte>(0), a.out<std::byte>());
  }};
}

/// An image is a matrix [c, h·w] row-major and [h·w, c] channels-last.
Kernel reorder(const Site& site) {
  const Spec& to = site.outputs[0];
  std::int64_t rows = to.shape[1], columns = to.shape[2] * to.shape[3];
  if (to.layout == Layout::row_major) std::swap(rows, columns);
  return {[queue = Queue("reorder", site), bytes = size_of(to.dtype), images = to.shape[0], rows,
           columns](const Args& a) {
    turn_words(queue, bytes, images, rows, columns, a.inputs[0], a.outputs[0]);
  }};
}

Kernel concat(const Site& site) {
  const int axis = site.attributes.as<settings::Along>().axis;
  const Along along(site.outputs[0], axis);
  const std::int64_t line = site.outputs[0].shape[axis] * along.step_bytes;
  std::vector<std::int64_t> bytes;  // in a line, by tensor
  for (const Spec& part : site.inputs) bytes.push_back(part.shape[axis] * along.step_bytes);
  return {[queue = Queue("concat", site), count = along.count, line, bytes](const Args& a) {
    std::byte* to = a.out<std::byte>();
    for (std::size_t i = 0; i < bytes.size(); to += bytes[i++])
      copy_lines(queue, {count, bytes[i], bytes[i], line}, a.in<std::byte>(static_cast<int>(i)),
                 to);
  }};
}

Kernel concat_part(const Site& site) {
  const auto s = site.attributes.as<settings::Along>();
  const Along along(site.inputs[0], s.axis);
  const std::int64_t bytes = s.count * along.step_bytes, begin = s.begin * along.step_bytes,
                     line = site.inputs[0].shape[s.axis] * along.step_bytes;
  return {[queue = Queue("concat_grad", site), lines = Lines{along.count, bytes, line, bytes},
           begin](const Args& a) {
    copy_lines(queue, lines, a.in<std::byte>(0) + begin, a.out<std::byte>());
  }};
}

Kernel dropout(const Site& site) {
  const auto s = site.attributes.as<settings::Dropout>();
  const Shape& shape = site.inputs[0].shape;
  const std::int64_t count = shape.count();
  const std::int64_t begin = shape.rank() == 0 ? 0 : s.first * (count / shape[0]);
  const std::int64_t counters = ((begin + count + 63) / 64 - begin / 64) * 16;
  return by_dtype(site, {{0}, {0}}, [&]<typename T>(Of<T>) -> Kernel {
    return {[=, queue = Queue("dropout", site), rule = settings::DropoutRule(s.p)](const Args& a) {
      each(queue, counters,
           Dropout<T>{a.in<T>(0), a.out<T>(), a.in<std::int64_t>(1), s.seed, s.node, begin,
                      begin + count, rule});
    }};
  });
}

}  // namespace poolgrad::cuda
