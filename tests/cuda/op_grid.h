// The op grid: every op that has a CUDA side, with its gradient, in small programs that are run on
// the CPU and on a device, the same body for a device of the host's and for a GPU.
#pragma once

#include <functional>
#include <set>
#include <string>
#include <vector>

#include "engine/program.h"

namespace poolgrad::testing {

/// What a Place appends: answers what is read and compared.
using Builder = std::function<std::vector<Tensor>(Graph&, std::span<const Tensor> parameters)>;

/// Numbers of which all is made. Whole ones: sums of their products are exact, whatever is added
/// first, so that a device must give the CPU's bits; with biases of k + 1/2 no sum is 0, where a
/// ReLU would decide by rounding. Distinct ones: no two are near each other, nor near 0.
enum class Numbers : std::uint8_t { whole, distinct };

/// A place of the grid.
struct Place {
  std::string name;
  std::vector<Shape> shapes;  // of the parameters
  Builder build;
  /// How far values may be off, as a share of the largest of their tensor. 0: not a bit.
  double tolerance = 0.0;
  Numbers numbers = Numbers::distinct;
  std::int64_t limit = 1;  // labels and indices are below it
  std::int64_t rows = 0;   // that count; 0: all
  bool gradient = true;    // also that of the first result, by each parameter
};

[[nodiscard]] std::vector<Place> op_grid();

/// The CPU's way that is nearest to a device's: whole batches, updates of their own, plain sums.
[[nodiscard]] Options plain_cpu();

/// Runs a place on the CPU and on the device, with and without fusing, and CHECKs that they agree.
/// Answers which ops the device ran. With `kept` a half, fused alone, what the ops read and make of
/// the batch and products' weights are such, and values may differ by one rounding to it more than
/// the place says; where it says none, by none.
std::set<std::string> check_place(const Place& place, const Options& device,
                                  DType kept = DType::f32);

/// The same with one training step of each optimizer, three times.
std::set<std::string> check_updates(const Options& device);

}  // namespace poolgrad::testing
