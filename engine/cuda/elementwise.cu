// One value of the result per index: ReLU, sums, copies in other orders, dropout.
#include "engine/cuda/kernels.h"
#include "engine/cuda/launch.h"
#include "engine/cuda/turn.h"
#include "engine/ops/expressions.h"
#include "engine/ops/settings.h"
#include "engine/random_bits.h"

namespace poolgrad::cuda {
namespace {

struct Relu {
  const float* x;
  float* y;
  POOLGRAD_BOTH void operator()(std::int64_t i) const { y[i] = expressions::relu(x[i]); }
};

struct ReluGrad {
  const float *y, *dy;
  float* dx;
  POOLGRAD_BOTH void operator()(std::int64_t i) const {
    dx[i] = expressions::relu_grad(y[i], dy[i]);
  }
};

template <typename T>
struct Add {
  const T *left, *right;
  T* y;
  POOLGRAD_BOTH void operator()(std::int64_t i) const { y[i] = left[i] + right[i]; }
};

template <typename T>
Kernel add_of(const Site& site) {
  return {[queue = Queue("add", site), count = site.outputs[0].shape.count()](const Args& a) {
    each(queue, count, Add<T>{a.in<T>(0), a.in<T>(1), a.out<T>()});
  }};
}

/// Lines of `words`, those of one array further apart than those of the other.
template <typename Word>
struct CopyLines {
  const Word* from;
  Word* to;
  std::int64_t words, from_line, to_line;
  POOLGRAD_BOTH void operator()(std::int64_t i) const {
    const std::int64_t line = i / words, at = i % words;
    to[line * to_line + at] = from[line * from_line + at];
  }
};

/// Where lines begin and how long they are, in bytes.
struct Lines {
  std::int64_t count, bytes, from_line, to_line;
};

void copy_lines(const Queue& queue, const Lines& l, const std::byte* from, std::byte* to) {
  const auto by = [&]<typename Word>(const Word*) {
    const auto size = static_cast<std::int64_t>(sizeof(Word));
    each(queue, l.count * (l.bytes / size),
         CopyLines<Word>{reinterpret_cast<const Word*>(from), reinterpret_cast<Word*>(to),
                         l.bytes / size, l.from_line / size, l.to_line / size});
  };
  const bool words = l.bytes % 4 == 0 && l.from_line % 4 == 0 && l.to_line % 4 == 0;
  if (words && reinterpret_cast<std::uintptr_t>(from) % 4 == 0 &&
      reinterpret_cast<std::uintptr_t>(to) % 4 == 0) {
    by(static_cast<const std::uint32_t*>(nullptr));
  } else {
    by(static_cast<const std::uint8_t*>(nullptr));
  }
}

template <typename Word>
Kernel turn(const Site& site) {
  const Spec& to = site.outputs[0];
  std::int64_t rows = to.shape[1], columns = to.shape[2] * to.shape[3];
  if (to.layout == Layout::row_major) {
    const std::int64_t channels = rows;
    rows = columns;
    columns = channels;
  }
  return {[queue = Queue("reorder", site), count = to.shape.count(), rows, columns](const Args& a) {
    each(queue, count, Turn<Word>{a.in<Word>(0), a.out<Word>(), rows, columns});
  }};
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
struct Dropout {
  const float* x;
  float* y;
  const std::int64_t* step;
  std::uint64_t seed;
  std::int64_t node, begin, end;  // elements of the whole batch
  settings::DropoutRule rule;
  POOLGRAD_BOTH void operator()(std::int64_t i) const {
    const std::int64_t first_counter = begin / 64 * 16 + i;
    const Philox::ctr_type four = random_bits(seed, expressions::dropout_stream(node, *step),
                                              static_cast<std::uint64_t>(first_counter));
    for (int k = 0; k < 4; ++k) {
      const std::int64_t at = first_counter / 16 * 64 + k * 16 + first_counter % 16;
      if (at < begin || at >= end) continue;
      y[at - begin] = expressions::dropped(four.v[k], rule.drop, rule.scale, x[at - begin]);
    }
  }
};

}  // namespace

Kernel relu(const Site& site) {
  return {[queue = Queue("relu", site), count = site.outputs[0].shape.count()](const Args& a) {
    each(queue, count, Relu{a.in<float>(0), a.out<float>()});
  }};
}

Kernel relu_grad(const Site& site) {
  return {[queue = Queue("relu_grad", site), count = site.outputs[0].shape.count()](const Args& a) {
    each(queue, count, ReluGrad{a.in<float>(0), a.in<float>(1), a.out<float>()});
  }};
}

Kernel add(const Site& site) {
  if (site.inputs[0].dtype == DType::i64) return add_of<std::int64_t>(site);
  if (site.inputs[0].dtype == DType::f64) return add_of<double>(site);
  return add_of<float>(site);
}

Kernel duplicate(const Site& site) {
  const auto bytes = static_cast<std::int64_t>(site.outputs[0].bytes());
  return {[queue = Queue("duplicate", site), bytes](const Args& a) {
    copy_lines(queue, {1, bytes, bytes, bytes}, a.in<std::byte>(0), a.out<std::byte>());
  }};
}

Kernel reorder(const Site& site) {
  switch (size_of(site.outputs[0].dtype)) {
    case 1:
      return turn<std::uint8_t>(site);
    case 2:
      return turn<std::uint16_t>(site);
    case 4:
      return turn<std::uint32_t>(site);
    default:
      return turn<std::uint64_t>(site);
  }
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
  return {[=, queue = Queue("dropout", site), rule = settings::DropoutRule(s.p)](const Args& a) {
    each(queue, counters,
         Dropout{a.in<float>(0), a.out<float>(), a.in<std::int64_t>(1), s.seed, s.node, begin,
                 begin + count, rule});
  }};
}

}  // namespace poolgrad::cuda
