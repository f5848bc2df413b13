// Sums by column of a matrix with few columns or many, over rows that may be millions: parts of the
// rows by a group each, then the parts. For .cu files.
//
// A thread adds up short runs of rows in f32 and runs, threads and parts in f64: f64 alone would
// take longer than the memory on all GPUs but those for data centres. So a sum is off by at most
// kRun · 2^-24 of the sum of what is added up without its sign.
#pragma once

#include "engine/cuda/launch.h"

namespace poolgrad::cuda {

inline constexpr int kRun = 16;

/// Rows `first`, `first + step`, ... of one column, `count` of them, from 1 to kRun: where they
/// lie, in values from the start of the matrix.
struct Run {
  std::int64_t first, step;
  int count;
};

/// The rows that count: of `n` images from row `first` of the batch on, those among the first
/// `*rows`; times `pixels`. Without `rows` all.
struct Counting {
  std::int64_t n, pixels = 1, first = 0;
  const std::int32_t* rows = nullptr;

  POOLGRAD_BOTH std::int64_t count() const {
    if (rows == nullptr) return n * pixels;
    const std::int64_t here = *rows - first;
    return (here < 0 ? 0 : here < n ? here : n) * pixels;
  }
};

/// `Value` says what is added up: it has kSums, how many sums there are of a column, and
/// run<N>(run, column, sums) adds those of N columns to sums [kSums, N].
template <int N, typename Value, typename Give>
struct SumColumns {
  static constexpr int kSums = Value::kSums, kWidth = kWarp / N;

  Counting rows;
  std::int64_t columns, stride, tiles, parts;
  int width;  // of a tile, in N columns
  Value value;
  Give give;

  POOLGRAD_BOTH void operator()(std::int64_t i, const Group& group) const {
    const std::int64_t part = i / tiles, tile = i % tiles * width * N, count = rows.count();
    const std::int64_t begin = count * part / parts, end = count * (part + 1) / parts;
    const int lanes = kThreads / width;
    const auto own = [&](int t, double* sums) {
      const std::int64_t column = tile + t % width * N;
      if (column >= columns) return;
      for (std::int64_t row = begin + t / width; row < end; row += kRun * lanes) {
        const std::int64_t left = (end - row + lanes - 1) / lanes;
        value.template run<N>(
            {row * stride + column, lanes * stride, static_cast<int>(left < kRun ? left : kRun)},
            column, sums);
      }
    };
    group.template sums<kSums * N, kWidth>(width, own, [&](int c, const double* sums) {
      for (int k = 0; k < N && tile + c * N < columns; ++k) {
        double of_column[kSums];
        for (int s = 0; s < kSums; ++s) of_column[s] = sums[s * N + k];
        give(part, tile + c * N + k, of_column);
      }
    });
  }
};

/// The matrix itself.
template <typename T>
struct Plain {
  static constexpr int kSums = 1;
  const T* x;

  template <int N>
  POOLGRAD_BOTH void run(const Run& run, std::int64_t, double* sums) const {
    Few<Wide<T>, N> sum{};
    for (int k = 0; k < run.count; ++k) {
      const auto next = load<N>(x + run.first + k * run.step);
      for (int j = 0; j < N; ++j) sum[j] += next[j];
    }
    for (int j = 0; j < N; ++j) sums[j] += static_cast<double>(sum[j]);
  }
};

/// to [column] = its only sum.
struct ToFloat {
  float* to;
  POOLGRAD_BOTH void operator()(std::int64_t, std::int64_t column, const double* sums) const {
    to[column] = static_cast<float>(sums[0]);
  }
};

/// Sums of parts, [parts, columns, kSums], and what adds them up.
template <int kOf>
struct Parts {
  static constexpr int kSums = kOf;
  double* sums;
  std::int64_t columns;

  POOLGRAD_BOTH void operator()(std::int64_t part, std::int64_t column, const double* of) const {
    for (int s = 0; s < kSums; ++s) sums[(part * columns + column) * kSums + s] = of[s];
  }
  template <int N>
  POOLGRAD_BOTH void run(const Run& run, std::int64_t, double* of) const {
    for (int k = 0; k < run.count; ++k) {
      for (int s = 0; s < kSums; ++s) of[s] += sums[(run.first + k * run.step) * kSums + s];
    }
  }
};

/// How the work is cut up. Of the shape alone: the order of adding up is the same on all devices.
class ColumnSums {
 public:
  /// Rows of `stride` values; 0: they lie end to end.
  ColumnSums(std::int64_t rows, std::int64_t columns, std::int64_t stride = 0)
      : columns_(columns),
        stride_(stride == 0 ? columns : stride),
        chunk_(columns % 4 == 0 ? 4 : 1) {
    const Tiles tiles(columns, chunk_, kWarp / chunk_);
    const std::int64_t in_two_runs = 2 * kRun * kThreads / tiles.width;
    parts_ = std::clamp<std::int64_t>(
        std::min((rows + in_two_runs - 1) / in_two_runs, kMostGroups / tiles.count), 1,
        kMostGroups);
  }

  [[nodiscard]] std::size_t workspace_bytes(int sums) const {
    return parts_ == 1 ? 0 : static_cast<std::size_t>(parts_ * columns_ * sums) * sizeof(double);
  }

  /// give(0, column, sums) is told each column's sums. `addresses`: of what `value` reads.
  template <typename Value, typename Give>
  void run(const Queue& queue, const Counting& rows, const Value& value,
           std::initializer_list<const void*> addresses, std::byte* workspace,
           const Give& give) const {
    if (parts_ == 1) return launch(queue, rows, value, addresses, give);
    const Parts<Value::kSums> parts{reinterpret_cast<double*>(workspace), columns_};
    launch(queue, rows, value, addresses, parts);
    const Tiles tiles(columns_, 1, 4);
    each_group(queue, tiles.count,
               SumColumns<1, Parts<Value::kSums>, Give>{
                   {parts_}, columns_, columns_, tiles.count, 1, tiles.width, parts, give});
  }

 private:
  static constexpr std::int64_t kMostGroups = 512;

  struct Tiles {
    int width;
    std::int64_t count;
    Tiles(std::int64_t columns, int chunk, int most)
        : width(std::min(static_cast<int>(lanes_for(columns / chunk)), most)),
          count((columns / chunk + width - 1) / width) {}
  };

  template <typename Value, typename Give>
  void launch(const Queue& queue, const Counting& rows, const Value& value,
              std::initializer_list<const void*> addresses, const Give& give) const {
    const auto by = [&]<int N>(Width<N>) {
      const Tiles tiles(columns_, N, kWarp / N);
      each_group(queue, tiles.count * parts_,
                 SumColumns<N, Value, Give>{rows, columns_, stride_, tiles.count, parts_,
                                            tiles.width, value, give});
    };
    by_width<4>(columns_ % 4 == 0 ? stride_ : 1, addresses, by);
  }

  std::int64_t columns_, stride_, parts_;
  int chunk_;
};

}  // namespace poolgrad::cuda
