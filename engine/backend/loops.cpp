// Loops over rows that several ops share.
#include "engine/backend/loops.h"

#include <algorithm>

namespace poolgrad::loops {
namespace {

constexpr std::int64_t kBlock = 64;  // rows that are added up before their sum is

/// Sums of kLanes neighbouring columns, in registers.
template <int kLanes>
[[gnu::always_inline]] inline void sum_lanes(const float* x, std::int64_t rows, std::int64_t stride,
                                             bool add, float* sum) {
  float total[kLanes] = {};
  for (std::int64_t begin = 0; begin < rows; begin += kBlock) {
    float part[kLanes] = {};
    const std::int64_t end = std::min(begin + kBlock, rows);
    for (std::int64_t row = begin; row < end; ++row) {
      for (int i = 0; i < kLanes; ++i) part[i] += x[row * stride + i];
    }
    for (int i = 0; i < kLanes; ++i) total[i] += part[i];
  }
  for (int i = 0; i < kLanes; ++i) sum[i] = add ? sum[i] + total[i] : total[i];
}

// Clang makes no copies of a function that a header has declared without them, so what the header
// declares only calls these.

POOLGRAD_CLONES
void add_values(const float* a, const float* b, float* y, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) y[i] = a[i] + b[i];
}

POOLGRAD_CLONES
void add_bias(const float* bias, bool relu, float* y, std::int64_t rows, std::int64_t columns) {
  for (std::int64_t row = 0; row < rows; ++row, y += columns) {
    if (bias != nullptr) {
      for (std::int64_t i = 0; i < columns; ++i) y[i] += bias[i];
    }
    if (relu) {
      for (std::int64_t i = 0; i < columns; ++i) y[i] = y[i] < 0.0F ? 0.0F : y[i];
    }
  }
}

/// Sixteen columns at a time, whose values then stay in the first cache.
POOLGRAD_CLONES
void turn_blocks(const float* x, const float* bias, bool relu, float* y, std::int64_t rows,
                 std::int64_t columns) {
  constexpr std::int64_t kColumns = 16;
  for (std::int64_t begin = 0; begin < columns; begin += kColumns) {
    const std::int64_t end = std::min(begin + kColumns, columns);
    for (std::int64_t row = 0; row < rows; ++row) {
      for (std::int64_t i = begin; i < end; ++i) {
        const float value = x[i * rows + row] + (bias != nullptr ? bias[i] : 0.0F);
        y[row * columns + i] = relu && value < 0.0F ? 0.0F : value;
      }
    }
  }
}

POOLGRAD_CLONES
void sum_columns(const float* x, std::int64_t rows, std::int64_t columns, std::int64_t stride,
                 bool add, float* sum) {
  std::int64_t i = 0;
  for (; i + 64 <= columns; i += 64) sum_lanes<64>(x + i, rows, stride, add, sum + i);
  for (; i + 16 <= columns; i += 16) sum_lanes<16>(x + i, rows, stride, add, sum + i);
  for (; i + 4 <= columns; i += 4) sum_lanes<4>(x + i, rows, stride, add, sum + i);
  for (; i < columns; ++i) sum_lanes<1>(x + i, rows, stride, add, sum + i);
}

}  // namespace

void add(const float* a, const float* b, float* y, std::int64_t count) {
  add_values(a, b, y, count);
}

void bias_relu(const float* bias, bool relu, float* y, std::int64_t rows, std::int64_t columns) {
  add_bias(bias, relu, y, rows, columns);
}

void turn(const float* x, const float* bias, bool relu, float* y, std::int64_t rows,
          std::int64_t columns) {
  turn_blocks(x, bias, relu, y, rows, columns);
}

void sum_rows(const float* x, std::int64_t rows, std::int64_t columns, std::int64_t stride,
              bool add, float* sum) {
  sum_columns(x, rows, columns, stride, add, sum);
}

}  // namespace poolgrad::loops
