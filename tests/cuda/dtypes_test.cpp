// Each of our kernels' bodies, node by node beside the CPU's in f32: in every dtype, on odd sizes,
// and at addresses that no word is aligned to. All of a kernel but its launch.
#include <cmath>
#include <random>

#include <doctest/doctest.h>

#include "engine/array.h"
#include "engine/autograd.h"
#include "engine/cuda/context.h"
#include "engine/half.h"
#include "engine/ops.h"
#include "engine/passes/passes.h"
#include "tests/cuda/device_kernels.h"
#include "tests/engine/ops/evaluate.h"

namespace poolgrad {
namespace {

using testing::Evaluation, testing::Value;

std::vector<float> noise(std::int64_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<float> values(static_cast<std::size_t>(count));
  for (float& value : values) value = static_cast<float>(random() % 4001) / 1000.0F - 2.0F;
  return values;
}

/// Values as they are after a place in memory of that dtype.
Value converted(const Value& from, DType dtype) {
  Value to(from.spec);
  to.spec.dtype = dtype;
  to.bytes = testing::Buffer(to.spec.bytes());
  const auto view = [](const Value& v) {
    const Shape flat{v.spec.shape.count()};
    return ArrayView{
        const_cast<std::byte*>(v.bytes.data()), flat, Spec{flat}.strides(), v.spec.dtype, {}, {}};
  };
  copy(view(from), view(to));
  return to;
}

std::vector<double> numbers(const Value& value) {
  const Value wide = converted(value, DType::f64);
  return {wide.as<double>().begin(), wide.as<double>().end()};
}

bool is_float(DType dtype) { return dtype == DType::f32 || is_half(dtype); }

/// As `kernel` makes them with all operands `shift` values from where they would be aligned.
std::vector<Value> made_by(const Kernel& kernel, const std::vector<Value>& inputs,
                           const std::vector<Spec>& outputs, std::size_t shift) {
  std::vector<testing::Buffer> buffers;
  std::vector<void*> in, out;
  const auto place = [&](const Spec& spec) {
    return buffers.emplace_back(spec.bytes() + 64).data() + shift * size_of(spec.dtype);
  };
  buffers.reserve(inputs.size() + outputs.size());
  for (const Value& value : inputs) {
    in.push_back(place(value.spec));
    std::memcpy(in.back(), value.bytes.data(), value.spec.bytes());
  }
  for (const Spec& spec : outputs) out.push_back(place(spec));
  testing::Buffer workspace(kernel.workspace_bytes);
  void* const scratch = workspace.data();
  kernel.run({in.data(), out.data(), &scratch});
  std::vector<Value> results;
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    results.emplace_back(outputs[i]);
    std::memcpy(results.back().bytes.data(), out[i], outputs[i].bytes());
  }
  return results;
}

/// How far a result may be off, as a share of its largest value: f32 is added up in other orders,
/// halves are rounded once more.
double tolerance_of(DType dtype) {
  switch (dtype) {
    case DType::f16:
      return 0x1p-11 + 2e-5;
    case DType::bf16:
      return 0x1p-8 + 2e-5;
    case DType::f32:
    case DType::f64:  // added up in f32 in part, with signs that cancel
      return 2e-5;
    default:
      return 0.0;
  }
}

/// `mixed`: streams come as halves but are made f32, or the other way round.
void check_node(const Node& node, std::vector<Value> inputs, DType dtype, bool mixed,
                std::size_t shift) {
  const auto makers = testing::own_kernels();
  const auto maker = makers.find(std::string(node.op->name));
  if (maker == makers.end() || node.op->view != nullptr) return;
  CAPTURE(node.op->name);
  inputs = testing::in_wanted_layouts(*node.op, inputs);
  // Rows of the batch are what streams; parameters and statistics stay f32.
  std::vector<Value> halves = inputs;
  std::vector<Spec> seen, wide;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const Shape& shape = inputs[i].spec.shape;
    const bool streams = shape.rank() >= 2 && inputs[i].spec.dtype == DType::f32 &&
                         node.op->updates == 0 && node.op->name != "softmax_cross_entropy_grad";
    if (streams) {
      halves[i] = converted(inputs[i], mixed && i == 1 ? DType::f32 : dtype);
      inputs[i] = converted(halves[i], DType::f32);
    }
    wide.push_back(inputs[i].spec);
    seen.push_back(halves[i].spec);
  }
  std::vector<Spec> outputs = node.op->infer({wide, {}, node.attributes});
  for (Spec& spec : outputs) {
    if (spec.dtype == DType::f32 && spec.shape.rank() >= 2 && !node.op->precise && !mixed)
      spec.dtype = dtype;
    if (node.op->any_dtype && is_float(spec.dtype)) spec.dtype = dtype;
  }
  if (node.op->any_dtype && mixed) return;
  cuda::Fault fault;
  cuda::Context context;
  context.fault = &fault;
  Site site{seen, outputs, node.attributes};
  site.context = &context;
  const std::vector<Value> expected = testing::run_op(*node.op, node.attributes, inputs);
  if (node.op->updates > 0) return;  // op_grid has them
  std::vector<Value> made = made_by(maker->second(site), halves, outputs, shift);
  CHECK(fault.taken == 0);
  for (std::size_t k = 0; k < made.size(); ++k) {
    CAPTURE(k);
    const std::vector<double> right = numbers(expected[k]);
    const std::vector<double> ours = numbers(testing::in_layout(made[k], Layout::row_major));
    double largest = 1.0, gap = 0.0;
    for (std::size_t i = 0; i < right.size(); ++i) {
      largest = std::max(largest, std::abs(right[i]));
      const double apart = std::abs(right[i] - ours[i]);
      gap = std::isnan(apart) ? INFINITY : std::max(gap, apart);
    }
    CHECK(gap <= tolerance_of(outputs[k].dtype) * largest);
  }
}

struct Way {
  DType dtype;
  bool mixed;
  std::size_t shift;
};
constexpr std::array<Way, 6> kWays{{{DType::f32, false, 0},
                                    {DType::f32, false, 1},
                                    {DType::f16, false, 0},
                                    {DType::bf16, false, 0},
                                    {DType::bf16, false, 1},
                                    {DType::f16, true, 0}}};

void check_graph(Graph& graph, std::int64_t rows, std::int64_t classes) {
  Evaluation run(graph);
  unsigned seed = 0;
  for (int id = 0; id < graph.tensors.size(); ++id) {
    const Tensor tensor = graph.handle(id);
    if (!graph.tensors.persistent(id)) continue;
    Value value(tensor.spec());
    const std::int64_t count = tensor.shape().count();
    switch (tensor.spec().dtype) {
      case DType::f32:
        std::ranges::copy(noise(count, ++seed), value.as<float>().begin());
        if (graph.name(id) == "variance")
          for (float& v : value.as<float>()) v = std::abs(v) + 0.5F;
        break;
      case DType::i64:
        for (std::int64_t i = 0; i < count; ++i)
          value.as<std::int64_t>()[static_cast<std::size_t>(i)] = i * 7 % classes;
        break;
      case DType::i32:
        for (std::int64_t i = 0; i < count; ++i)
          value.as<std::int32_t>()[static_cast<std::size_t>(i)] =
              id == graph.rows_id() ? static_cast<std::int32_t>(rows)
                                    : static_cast<std::int32_t>(i * 5 % 11);
        break;
      default:
        for (std::int64_t i = 0; i < count; ++i)
          value.as<std::uint8_t>()[static_cast<std::size_t>(i)] = static_cast<std::uint8_t>(i * 3);
    }
    run.set(tensor, value);
  }
  run.run();
  for (const Way& way : kWays) {
    CAPTURE(way.dtype);
    CAPTURE(way.mixed);
    CAPTURE(way.shift);
    for (const Node& node : graph.nodes)
      check_node(node, run.inputs(node), way.dtype, way.mixed, way.shift);
  }
}

TEST_CASE("cuda kernels on the host: matrices of odd sizes, in every dtype, aligned or not") {
  const std::vector<std::array<std::int64_t, 2>> sizes{
      {1, 1}, {1, 31}, {33, 2}, {31, 33}, {3, 257}, {257, 10}, {255, 64}, {9000, 3}, {2500, 64}};
  for (const auto& size : sizes) {
    const std::int64_t n = size[0], k = size[1];
    CAPTURE(n);
    CAPTURE(k);
    Graph graph;
    const Tensor x = graph.parameter({n, k}, {}, "x"), other = graph.parameter({n, k}, {}, "other");
    const Tensor labels = graph.input({{n}, DType::i64}, "labels");
    const Tensor picked = graph.input({{n}, DType::i32}, "picked");
    for (const DType dtype : {DType::f32, DType::u8})
      (void)gather(graph.input({{11, k}, dtype}, "table", false), picked, {DType::f32, 3.0F});
    (void)gather(graph.input({{11}, DType::i64}, "numbers", false), picked, {DType::i64, 1.0F});
    Tensor y = dropout(relu(add(x, duplicate(other))), 0.3);
    y = add(y, relu(x));
    (void)count_correct(y, labels);
    (void)sum_rows(y);
    (void)concat({y, x}, 1);
    (void)concat({y, x, x}, 0);
    const Tensor loss = softmax_cross_entropy(y, labels);
    const Tensor one = graph.input({{}}, "one");
    (void)differentiate(loss, graph.column("parameters"), one);
    check_graph(graph, n - n / 3, k);
  }
}

TEST_CASE("cuda kernels on the host: images of odd sizes, in every dtype, aligned or not") {
  const std::vector<Shape> sizes{{1, 1, 3, 2},    {2, 3, 5, 7},  {3, 8, 9, 9},
                                 {1, 16, 33, 31}, {5, 33, 4, 4}, {3, 64, 24, 24}};
  for (const Shape& shape : sizes) {
    CAPTURE(shape[1]);
    Graph graph;
    const Tensor image = graph.parameter(shape, {}, "x");
    const std::int64_t c = shape[1];
    const auto vector = [&](std::string_view name) { return graph.parameter({c}, {}, name); };
    (void)reorder(image, Layout::channels_last);
    Tensor y = relu(batch_norm(image, vector("weight"), vector("bias")));
    (void)relu(batch_norm_fixed(image, vector("weight"), vector("bias"),
                                {vector("mean"), vector("variance"), {}}));
    y = batch_norm(y, vector("weight"), vector("bias"));
    y = upsample_nearest2d(dropout(y, 0.4), {2, 3});
    y = concat({y, relu(y)}, 1);
    const Tensor most = max_pool2d(y, {{3, 3}, {2, 2}, {1, 1}});
    const Tensor tiles = max_pool2d(relu(y), {{2, 2}, {2, 2}, {0, 0}});
    const Tensor mean = avg_pool2d(y, {{2, 3}, {1, 2}, {1, 1}});
    std::vector<Tensor> flat{flatten(most), flatten(tiles), flatten(mean)};
    const Tensor joined = concat(flat, 1);
    const Tensor scores = linear(joined, graph.parameter({7, joined.shape()[1]}, {}, "last"));
    const Tensor labels = graph.input({{shape[0]}, DType::i64}, "labels");
    const Tensor loss = softmax_cross_entropy(scores, labels);
    passes::fuse(graph);
    const Tensor one = graph.input({{}}, "one");
    (void)differentiate(loss, graph.column("parameters"), one);
    check_graph(graph, std::max<std::int64_t>(1, shape[0] - 1), 7);
  }
}

}  // namespace
}  // namespace poolgrad
