// The places, and how one is run twice and compared.
#include "tests/cuda/op_grid.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <random>

#include <doctest/doctest.h>

#include "engine/autograd.h"
#include "engine/ops.h"
#include "tests/engine/small_images.h"
#include "train/minimize.h"
#include "train/updates.h"

namespace poolgrad::testing {
namespace {

// ---- numbers

std::vector<float> distinct(std::int64_t count, unsigned seed) {
  std::vector<float> values(static_cast<std::size_t>(count));
  for (std::int64_t i = 0; i < count; ++i)
    values[static_cast<std::size_t>(i)] =
        (static_cast<float>(2 * i - count) + 0.5F) / static_cast<float>(count);
  std::shuffle(values.begin(), values.end(), std::mt19937(seed));
  return values;
}

std::vector<float> whole(const Shape& shape, unsigned seed) {
  std::vector<float> values(static_cast<std::size_t>(shape.count()));
  std::mt19937 random(seed);
  const float shift = shape.rank() == 1 ? 0.5F : 0.0F;  // a bias
  for (float& value : values) value = static_cast<float>(random() % 7) - 3.0F + shift;
  return values;
}

std::vector<float> numbers_for(const Place& place, const Shape& shape, unsigned seed) {
  return place.numbers == Numbers::whole ? whole(shape, seed) : distinct(shape.count(), seed);
}

template <typename T>
std::vector<T> counting(std::int64_t count, std::int64_t limit) {
  std::vector<T> values(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < values.size(); ++i)
    values[i] = static_cast<T>(static_cast<std::int64_t>(i * 7) % limit);
  return values;
}

// ---- programs

/// Σ y · slopes, so that y's gradient is `slopes` itself. Nothing reads it: it is never run.
constexpr OpDef kAgainst{
    .name = "against",  // y, slopes -> []
    .infer = [](const Site&) -> std::vector<Spec> { return {Spec{}}; },
    .backward = [](const Backward& b) -> std::vector<Tensor> {
      return {b.inputs[1], {}};
    },
};

/// A place's graph: what it reads, and what is compared.
struct Problem {
  Graph graph;
  std::vector<Tensor> parameters, results;

  Problem(const Place& place, DType kept) {
    std::vector<Tensor> read;
    for (const Shape& shape : place.shapes) {
      const Tensor parameter = graph.parameter(shape, {}, text("p", parameters.size()));
      parameters.push_back(parameter);
      const bool half = is_half(kept) && shape.rank() > 1;  // as Options::precision goes on with
      read.push_back(half ? cast(cast(parameter, kept), DType::f32) : parameter);
    }
    results = place.build(graph, read);
    if (!place.gradient) return;
    const Spec y = results[0].spec();
    const Tensor slopes = graph.input(y, "slopes", y.shape.rank() > 0 && graph.rows_id() >= 0);
    const Tensor one = graph.state({{}}, Init::constant(1.0F), "one", "settings");
    const Tensor loss = graph.add(kAgainst, {results[0], slopes})[0];
    for (const Tensor& gradient : differentiate(loss, parameters, one))
      if (gradient && gradient != slopes) results.push_back(gradient);
  }
};

/// What a program is given: the same for each.
class Values {
 public:
  Values(const Place& place, Problem& problem) {
    unsigned seed = 1;
    for (const Tensor& parameter : problem.parameters)
      floats_[parameter.id] = numbers_for(place, parameter.shape(), seed++);
    for (const std::string column : {"inputs", "lent"}) {
      for (const Tensor& tensor : problem.graph.column(column)) {
        if (tensor.id == problem.graph.rows_id()) continue;
        const Spec& spec = tensor.spec();
        if (spec.dtype == DType::f32)
          floats_[tensor.id] = numbers_for(place, spec.shape, seed++);
        else if (spec.dtype == DType::u8)
          bytes_[tensor.id] = counting<std::uint8_t>(spec.shape.count(), 251);
        else if (spec.dtype == DType::i32)
          ints_[tensor.id] = counting<std::int32_t>(spec.shape.count(), place.limit);
        else
          longs_[tensor.id] = counting<std::int64_t>(spec.shape.count(), place.limit);
      }
    }
    rows_ = place.rows;
  }

  [[nodiscard]] ArrayView of(Tensor tensor) {
    const Shape& shape = tensor.shape();
    switch (tensor.spec().dtype) {
      case DType::f32:
        return ArrayView::of(std::span(floats_.at(tensor.id)), shape, DType::f32);
      case DType::u8:
        return ArrayView::of(std::span(bytes_.at(tensor.id)), shape, DType::u8);
      case DType::i32:
        return ArrayView::of(std::span(ints_.at(tensor.id)), shape, DType::i32);
      default:
        return ArrayView::of(std::span(longs_.at(tensor.id)), shape, DType::i64);
    }
  }

  void give(Program& program, Problem& problem) {
    for (const Tensor& parameter : problem.parameters) program.write(parameter, of(parameter));
    for (const Tensor& table : problem.graph.column("lent"))
      program.lend(table, program.to_device(of(table)));
  }

  [[nodiscard]] std::vector<Feed> feeds(Problem& problem) {
    std::vector<Feed> result;
    for (const Tensor& slot : problem.graph.column("inputs")) {
      if (slot.id == problem.graph.rows_id()) continue;
      ArrayView values = of(slot);
      const bool batched = problem.graph.tensors.unbatched[static_cast<std::size_t>(slot.id)] == 0;
      if (rows_ > 0 && batched && values.shape.rank() > 0) values.shape[0] = rows_;
      result.push_back({slot, values});
    }
    return result;
  }

 private:
  std::map<int, std::vector<float>> floats_;
  std::map<int, std::vector<std::uint8_t>> bytes_;
  std::map<int, std::vector<std::int32_t>> ints_;
  std::map<int, std::vector<std::int64_t>> longs_;
  std::int64_t rows_ = 0;
};

/// In row-major order, whatever the tensor's.
std::vector<float> read(const Program& program, Tensor tensor) {
  const ArrayView values = program.read(tensor);
  const auto count = static_cast<std::size_t>(values.shape.count());
  if (values.dtype == DType::i64) {
    std::vector<std::int64_t> dense(count);
    copy(values, ArrayView::of(std::span(dense), values.shape, DType::i64));
    return {dense.begin(), dense.end()};
  }
  std::vector<float> dense(count);
  copy(values, ArrayView::of(std::span(dense), values.shape, DType::f32));
  return dense;
}

/// The largest gap as a share of the largest value.
double share_off(const std::vector<float>& expected, const std::vector<float>& got) {
  double largest = 1e-6;
  for (const float value : expected) largest = std::max<double>(largest, std::abs(value));
  return gap(expected, got) / largest;
}

void note_ops(const Blueprint& blueprint, std::set<std::string>& ops) {
  for (const Entry& entry : blueprint.entries)
    for (const Step& step : entry.steps)
      ops.emplace(entry.graph->nodes[static_cast<std::size_t>(step.node)].op->name);
}

/// All results, then what the ops keep from step to step, after three runs.
std::vector<std::vector<float>> results(const Place& place, const Options& options,
                                        std::set<std::string>* ops = nullptr) {
  Problem problem(place, options.precision);
  Program program = compile(problem.graph, {{"run", problem.results}}, options);
  Values values(place, problem);
  values.give(program, problem);
  // Three times: one by one, recorded for one side, recorded for the other.
  for (int i = 0; i < 3; ++i) program.run("run", values.feeds(problem));
  std::vector<std::vector<float>> all;
  for (const Tensor& tensor : problem.results) all.push_back(read(program, tensor));
  for (const Tensor& tensor : problem.graph.column("statistics"))
    all.push_back(read(program, tensor));
  if (ops != nullptr) note_ops(program.blueprint(), *ops);
  return all;
}

// ---- the grid

using Some = std::span<const Tensor>;

/// A place whose builder needs no more than the parameters, alone and with a ReLU after it.
class Grid {
 public:
  std::vector<Place> places;

  using Op = std::function<Tensor(Some)>;
  void add(const std::string& name, const std::vector<Shape>& shapes, const Op& op,
           double tolerance, Numbers numbers = Numbers::distinct) {
    std::string full = name;
    for (const Shape& shape : shapes) full += text(" ", shape);
    places.push_back(
        {full, shapes, [op](Graph&, Some p) { return std::vector{op(p)}; }, tolerance, numbers});
  }
  /// The op absorbs the ReLU, or a ReLU absorbs it, or neither.
  void add_with_relu(const std::string& name, const std::vector<Shape>& shapes, const Op& op,
                     double tolerance, Numbers numbers = Numbers::distinct) {
    add(name, shapes, op, tolerance, numbers);
    add(
        name + " relu", shapes, [op](Some p) { return relu(op(p)); }, tolerance, numbers);
  }
};

constexpr double kExact = 0.0;
constexpr double kSum = 2e-6;    // added up in another order
constexpr double kTiles = 2e-4;  // and perhaps through Winograd's tiles, which round more
constexpr double kNorm = 5e-5;   // statistics in another order, then quotients of them

void elementwise_places(Grid& grid) {
  const auto sum = [](Some p) { return add(p[0], p[1]); };
  for (const Shape& shape : {Shape{1}, Shape{7, 5}, Shape{3, 4, 5, 6}, Shape{65, 1031}}) {
    grid.add(
        "relu", {shape}, [](Some p) { return relu(p[0]); }, kExact);
    grid.add_with_relu("add", {shape, shape}, sum, kExact, Numbers::whole);
    grid.add(
        "x + x", {shape}, [](Some p) { return add(p[0], p[0]); }, kExact);
    grid.add(
        "duplicate", {shape}, [](Some p) { return relu(duplicate(p[0])); }, kExact);
    for (const DType dtype : {DType::bf16, DType::f16}) {
      grid.add(
          text("relu in ", dtype), {shape},
          [dtype](Some p) { return cast(relu(cast(p[0], dtype)), DType::f32); }, kExact);
    }
  }
  for (const double p : {0.0, 0.3, 0.9}) {
    for (const Shape& shape : {Shape{7, 5}, Shape{6, 16, 9, 8}, Shape{65, 1031}}) {
      grid.add_with_relu(
          text("dropout ", p), {shape}, [p](Some x) { return dropout(x[0], p, 5); }, kExact);
    }
  }
  for (const std::int64_t channels : {1, 3, 4, 32, 33}) {
    grid.add(
        "reorder by a pass", {{3, channels, 5, 37}},
        [](Some p) {
          return max_pool2d(relu(p[0]), {{1, 1}, {1, 1}});
        },
        kExact);
  }
  for (const int axis : {0, 1, 2, 3}) {
    std::vector<Shape> shapes(3, Shape{6, 4, 5, 3});
    shapes[1][axis] = 16;
    shapes[2][axis] = 1;
    grid.add(
        text("concat ", axis), shapes,
        [axis](Some p) {
          return concat({p[0], p[1], p[2]}, axis);
        },
        kExact);
    grid.add(
        text("concat of pools ", axis), shapes,
        [axis](Some p) {
          return concat({max_pool2d(p[0], {{1, 1}, {1, 1}}), relu(p[1]), p[2]}, axis);
        },
        kExact);
  }
  grid.add(
      "concat", {{3, 4}, {5, 4}},
      [](Some p) {
        return concat({p[0], p[1]}, 0);
      },
      kExact);
}

void product_places(Grid& grid) {
  for (const Shape& shape : {Shape{1, 1}, Shape{50, 17}, Shape{700, 130}, Shape{3000, 3}}) {
    for (const bool exact : {true, false}) {
      grid.places.push_back({.name = text("sum_rows ", shape),
                             .shapes = {shape},
                             .build = [](Graph&, Some p) { return std::vector{sum_rows(p[0])}; },
                             .tolerance = exact ? kExact : kSum,
                             .numbers = exact ? Numbers::whole : Numbers::distinct,
                             .gradient = false});
    }
  }
  const std::vector<std::array<std::int64_t, 3>> sizes{
      {1, 1, 1}, {1, 9, 5}, {8, 1, 3}, {5, 7, 3}, {33, 10, 128}, {64, 128, 784}, {100, 257, 300}};
  for (const auto& [m, n, k] : sizes) {
    for (const Numbers numbers : {Numbers::whole, Numbers::distinct}) {
      const bool exact = numbers == Numbers::whole;
      const double near = exact ? kExact : kSum * std::sqrt(static_cast<double>(k) + 10.0);
      grid.add(
          "matmul", {{m, k}, {k, n}}, [](Some p) { return matmul(p[0], p[1]); }, near, numbers);
      grid.add(
          "linear", {{m, k}, {n, k}}, [](Some p) { return linear(p[0], p[1]); }, near, numbers);
      grid.add(
          "linear", {{m, k}, {n, k}, {n}}, [](Some p) { return linear(p[0], p[1], p[2]); }, near,
          numbers);
      if (!exact) continue;  // else rounding decides about a ReLU
      grid.add(
          "linear relu", {{m, k}, {n, k}, {n}},
          [](Some p) { return relu(linear(p[0], p[1], p[2])); }, near, numbers);
    }
  }
}

void norm_places(Grid& grid) {
  for (const Shape& shape :
       {Shape{}, Shape{7, 5}, Shape{3, 4, 5, 6}, Shape{8193}, Shape{900, 333}}) {
    grid.places.push_back(
        {.name = text("sum_squares ", shape),
         .shapes = {shape},
         .build = [](Graph&, Some p) { return std::vector{train::sum_squares(p[0])}; },
         .tolerance = kSum,
         .gradient = false});
  }
}

void convolution(Grid& grid, const std::string& name, const Shape& x, const Shape& weight,
                 const Conv2d& s) {
  const Grid::Op plain = [s](Some p) { return conv2d(p[0], p[1], {}, s); },
                 biased = [s](Some p) { return conv2d(p[0], p[1], p[2], s); };
  const Shape bias{weight[0]};
  grid.add(name, {x, weight}, plain, kTiles);
  grid.add_with_relu(name + " bias", {x, weight, bias}, biased, kTiles, Numbers::whole);
}

void convolution_places(Grid& grid) {
  using Pair = std::array<std::int32_t, 2>;
  for (const Pair stride : {Pair{1, 1}, Pair{2, 1}, Pair{3, 2}}) {
    for (const Pair padding : {Pair{0, 0}, Pair{1, 2}}) {
      for (const Pair dilation : {Pair{1, 1}, Pair{2, 1}}) {
        for (const std::int32_t groups : {1, 2, 4}) {
          const Conv2d s{
              .stride = stride, .padding = padding, .dilation = dilation, .groups = groups};
          convolution(grid,
                      text("conv2d stride ", stride[0], stride[1], " padding ", padding[0],
                           padding[1], " dilation ", dilation[0], dilation[1], " groups ", groups),
                      {3, 8, 11, 10}, {12, 8 / groups, 3, 3}, s);
        }
      }
    }
  }
  for (const std::int64_t channels : {1, 3, 16, 31, 32, 33}) {
    for (const auto& [height, width] :
         {std::pair<std::int64_t, std::int64_t>{1, 1}, {3, 3}, {2, 5}}) {
      const Conv2d padded{.padding = {1, 1}};
      Conv2d depthwise = padded;
      depthwise.groups = static_cast<std::int32_t>(channels);
      convolution(grid, "conv2d", {2, channels, 7, 6}, {channels, channels, height, width}, padded);
      convolution(grid, "conv2d depthwise", {2, channels, 7, 6}, {channels, 1, height, width},
                  depthwise);
    }
  }
  convolution(grid, "conv2d of a batch", {32, 1, 28, 28}, {32, 1, 3, 3}, {.padding = {1, 1}});
}

void window_places(Grid& grid) {
  const std::vector<Pool2d> pools{{},
                                  {.size = {3, 3}, .stride = {2, 2}, .padding = {1, 1}},
                                  {.size = {2, 3}, .stride = {1, 2}, .padding = {1, 0}},
                                  {.size = {2, 2}, .stride = {3, 3}},
                                  {.size = {1, 1}, .stride = {2, 2}},
                                  {.size = {7, 6}, .stride = {7, 6}}};
  for (std::size_t i = 0; i < pools.size(); ++i) {
    for (const std::int64_t channels : {1, 3, 16, 21, 64}) {
      const Shape x{3, channels, 7, 6};
      const Pool2d s = pools[i];
      grid.add(
          text("max_pool2d ", i), {x}, [s](Some p) { return max_pool2d(p[0], s); }, kSum);
      grid.add(
          text("max_pool2d of relu ", i), {x}, [s](Some p) { return max_pool2d(relu(p[0]), s); },
          kSum);
      grid.add(
          text("avg_pool2d ", i), {x}, [s](Some p) { return avg_pool2d(p[0], s); }, kSum);
    }
  }
  for (const std::int64_t channels : {1, 3, 16, 21}) {
    const Shape x{3, channels, 5, 4};
    for (const std::array<std::int32_t, 2> factor :
         {std::array{1, 1}, std::array{2, 2}, std::array{3, 1}, std::array{2, 5}}) {
      grid.add(
          text("upsample_nearest2d ", factor[0], factor[1]), {x},
          [factor](Some p) { return upsample_nearest2d(p[0], factor); }, kSum);
    }
    grid.add(
        "global_avg_pool2d", {x}, [](Some p) { return global_avg_pool2d(p[0]); }, kSum);
  }
}

void batch_norm_places(Grid& grid) {
  for (const std::int64_t channels : {1, 3, 16, 33, 64}) {
    for (const Shape& x : {Shape{7, channels, 1, 1}, Shape{5, channels, 4, 3}}) {
      for (const std::int64_t rows : {std::int64_t{0}, std::int64_t{4}}) {
        for (const bool fused : {false, true}) {
          const Builder norm = [=](Graph& graph, Some p) {
            const RunningStatistics running{
                graph.state({{channels}}, Init::constant(0.25F), "mean", "statistics"),
                graph.state({{channels}}, Init::constant(1.0F), "variance", "statistics"),
                graph.state({{}, DType::i64}, {}, "batches", "statistics")};
            const Tensor y = batch_norm(p[0], p[1], p[2], running);
            return std::vector{fused ? relu(y) : y};
          };
          grid.places.push_back(
              {.name = text("batch_norm", fused ? " relu " : " ", x, " rows ", rows),
               .shapes = {x, {channels}, {channels}},
               .build = norm,
               .tolerance = kNorm,
               .rows = rows});
        }
      }
    }
    const Builder fixed = [=](Graph& graph, Some p) {
      const RunningStatistics running{
          graph.state({{channels}}, Init::constant(0.25F), "mean", "statistics"),
          graph.state({{channels}}, Init::constant(2.0F), "variance", "statistics"),
          {}};
      return std::vector{relu(batch_norm_fixed(p[0], p[1], p[2], running))};
    };
    grid.places.push_back({.name = text("batch_norm_fixed ", channels),
                           .shapes = {{5, channels, 4, 3}, {channels}, {channels}},
                           .build = fixed,
                           .tolerance = kSum,
                           .gradient = false});
  }
}

void loss_places(Grid& grid) {
  for (const std::int64_t classes : {1, 2, 10, 100, 1000}) {
    for (const Reduction reduction : {Reduction::mean, Reduction::sum}) {
      for (const std::int64_t rows : {1, 6, 9}) {
        grid.places.push_back({.name = text("softmax_cross_entropy of ", classes, ", rows ", rows),
                               .shapes = {{9, classes}},
                               .build =
                                   [=](Graph& graph, Some p) {
                                     const Tensor labels = graph.input({{9}, DType::i64}, "labels");
                                     return std::vector{
                                         softmax_cross_entropy(p[0], labels, reduction),
                                         count_correct(p[0], labels)};
                                   },
                               .tolerance = kNorm,
                               .limit = classes,
                               .rows = rows});
      }
    }
  }
}

void gather_places(Grid& grid) {
  struct Case {
    DType from;
    Gather how;
  };
  for (const Case& c :
       {Case{DType::u8, {DType::f32, 255.0F}}, Case{DType::f32, {}}, Case{DType::u8, {DType::i64}},
        Case{DType::i32, {DType::i64}}, Case{DType::i64, {DType::i64}}}) {
    for (const std::int64_t rows : {0, 5}) {
      for (const Shape& table : {Shape{23, 1, 7, 5}, Shape{23}, Shape{23, 784}}) {
        grid.places.push_back({.name = text("gather ", c.from, " to ", c.how.dtype, " ", table),
                               .shapes = {},
                               .build =
                                   [=](Graph& graph, Some) {
                                     const Tensor from = graph.lent({table, c.from}, "table");
                                     const Tensor which = graph.input({{9}, DType::i32}, "indices");
                                     return std::vector{gather(from, which, c.how)};
                                   },
                               .limit = 23,
                               .rows = rows,
                               .gradient = false});
      }
    }
  }
}

}  // namespace

std::vector<Place> op_grid() {
  Grid grid;
  elementwise_places(grid);
  product_places(grid);
  norm_places(grid);
  convolution_places(grid);
  window_places(grid);
  batch_norm_places(grid);
  loss_places(grid);
  gather_places(grid);
  return std::move(grid.places);
}

Options plain_cpu() {
  Options options;
  options.chunks = 1;
  options.use_team = options.fuse_updates = options.features = options.winograd = false;
  return options;
}

std::set<std::string> check_place(const Place& place, const Options& device, DType kept) {
  std::set<std::string> ops;
  const double rounding = kept == DType::bf16 ? 0x1p-7 : kept == DType::f16 ? 0x1p-10 : 0.0;
  const double tolerance = place.tolerance > 0.0 ? place.tolerance + rounding : 0.0;
  for (const bool fuse : {true, false}) {
    if (is_half(kept) && !fuse) continue;  // the same kernels, with one rounding more between them
    CAPTURE(place.name);
    CAPTURE(fuse);
    Options cpu = plain_cpu(), there = device;
    cpu.fuse = there.fuse = fuse;
    cpu.precision = there.precision = kept;
    const auto expected = results(place, cpu), got = results(place, there, &ops);
    REQUIRE(expected.size() == got.size());
    for (std::size_t i = 0; i < got.size(); ++i) {
      CAPTURE(i);  // which result: y, others, gradients, statistics
      CHECK(share_off(expected[i], got[i]) <= tolerance);
    }
  }
  return ops;
}

namespace {

struct Trained {
  std::vector<float> weights, scaler;
  std::set<std::string> ops;
};

/// Parameters after a few steps of a linear layer of 33 to 10, and what became of a loss scale.
/// With one, the third step overflows.
Trained trained(const train::Optimizer& optimizer, const train::MinimizeOptions& minimize,
                const Options& options) {
  Graph graph;
  const Tensor x = graph.input({{8, 33}}, "x");
  const Tensor labels = graph.input({{8}, DType::i64}, "labels");
  const Tensor y = linear(x, graph.parameter({10, 33}, Init::kaiming_uniform(33, 1), "weight"),
                          graph.parameter({10}, Init::kaiming_uniform(33, 2), "bias"));
  const train::Training training =
      train::minimize(softmax_cross_entropy(y, labels), optimizer, minimize);
  Program program = compile(graph, {training.entry("train")}, options);
  std::vector<float> values = distinct(8 * 33, 3);
  std::vector<std::int64_t> numbers = counting<std::int64_t>(8, 10);
  const std::vector<Feed> feeds{{x, ArrayView::of(std::span(values), {8, 33}, DType::f32)},
                                {labels, ArrayView::of(std::span(numbers), {8}, DType::i64)}};
  for (int i = 0; i < 5; ++i) {
    const float usual = values[7];
    if (i == 2 && minimize.grad_scaler) values[7] = std::numeric_limits<float>::infinity();
    program.run("train", feeds);
    program.synchronize();
    values[7] = usual;
  }
  Trained result;
  for (const char* column : {"parameters", "scaler"}) {
    for (const Tensor& tensor : graph.column(column)) {
      const std::vector<float> part = read(program, tensor);
      auto& all = column == std::string_view("scaler") ? result.scaler : result.weights;
      all.insert(all.end(), part.begin(), part.end());
    }
  }
  note_ops(program.blueprint(), result.ops);
  return result;
}

}  // namespace

std::set<std::string> check_updates(const Options& device) {
  const std::vector<train::Optimizer> optimizers{
      train::Sgd{.rate = 0.05F, .weight_decay = 0.01F},
      train::Sgd{.rate = 0.05F, .momentum = 0.9F, .weight_decay = 0.01F, .nesterov = true},
      train::Adam{.rate = 0.01F, .weight_decay = 0.01F}, train::AdamW{.rate = 0.01F}};
  std::vector<train::MinimizeOptions> ways;
  for (const train::Updates when : {train::Updates::at_gradient, train::Updates::whole_column}) {
    ways.push_back({.updates = when, .keep_gradients = true});
    ways.push_back({.updates = when,
                    .grad_scaler = train::GradScaler{.growth_interval = 2},
                    .clip_grad_norm = 0.1F});
  }
  std::set<std::string> ops;
  for (std::size_t i = 0; i < optimizers.size(); ++i) {
    for (const train::MinimizeOptions& minimize : ways) {
      CAPTURE(i);
      const Trained expected = trained(optimizers[i], minimize, plain_cpu());
      const Trained got = trained(optimizers[i], minimize, device);
      CHECK(share_off(expected.weights, got.weights) <= kNorm);
      CHECK(expected.scaler == got.scaler);
      ops.insert(got.ops.begin(), got.ops.end());
    }
  }
  return ops;
}

}  // namespace poolgrad::testing
